"""Spectra from estimated densities of eigenvalues, as stochastic Lanczos quadrature gives them.

| symbol | name | meaning |
|---|---|---|
| h | node | an eigenvalue of one run's tridiagonal matrix |
| w | weight | the share of the Hessian's eigenvalues that the node stands for |
| d | dim | the number of parameters |
| m | multiplicity | how many of them the node stands for |
| k | scale | what the loss was multiplied by |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_each, require_integer
from nqm_study.model.problems.law import MOST_DIM
from nqm_study.model.problems.spectrum import Spectrum

_TOLERANCE = 0.01
"""How far from 1 the weights of a run may sum."""

_LEAST_MODES = 1e-9
"""Fewer modes than this are a rounding error. Lanczos runs of more steps than there are different
eigenvalues end in such nodes, anywhere: as modes they would bound the learning rate."""

_SMALLEST_SCALED = 1e-150
"""The largest curvature of a spectrum that is rescaled is at least this, so that k^2 is finite."""

_IMAGINARY = 1e-5
"""Imaginary parts up to here, relative to the largest value, are rounding errors."""


@dataclass(frozen=True)
class DensitySpectrum:
    """A spectrum made from a density, and what was done to make it.

    Attributes:
        spectrum: the modes, of the largest curvature first.
        lost_mass: the share of the weight at nodes h <= 0, which were dropped.
        lost_modes: the same in modes, d times the share.
        scale: what the loss was multiplied by; 1.0 where it was not rescaled.
    """

    spectrum: Spectrum
    lost_mass: float
    lost_modes: float
    scale: float = 1.0

    @property
    def report(self) -> str:
        """What was done, in one line, with how to translate a rescaled problem back."""
        kept = float(np.sum(self.spectrum.multiplicity))
        text = (
            f"kept {kept:.6g} modes; dropped {self.lost_modes:.6g} modes "
            f"({100.0 * self.lost_mass:.3g} % of the weight) at curvatures of 0 or below; "
        )
        if self.scale == 1.0:
            return text + "the loss is as measured"
        return text + (
            f"the loss is multiplied by k = {self.scale:.9g}: a target L of the measured loss is "
            "k L here; a learning rate lr found here is k^(1 - p) lr there, p the preconditioner's "
            "power (0 for plain SGD); of Adam the learning rate is the same there, eps is eps / k"
        )

    def __str__(self) -> str:
        return self.report


def spectrum_from_density(
    nodes: Any, weights: Any, dim: int, *, noise: Any = None, rescale: bool = False
) -> DensitySpectrum:
    """The spectrum of an estimated density: multiplicity m = d w / runs at each node.

    ``spectrum_from_density(*hessian.density(n_v=10), dim)`` reads what PyHessian returns: two
    lists, of nodes and of weights, which hold one list for each run. A flat list is one run, and
    runs may differ in length. Versions of PyHessian on torch.linalg.eig return complex numbers:
    imaginary parts that are rounding errors are left out, others are refused.

    Nodes h <= 0 are no modes of a quadratic with a minimum: they are dropped, and their share of
    the weight is reported. Nodes that stand for less than 10^-9 of a mode are rounding errors of
    the Lanczos recursion, and dropped as those of weight 0 are.

    The weights of a Lanczos run sum to 1, up to rounding, which is divided out. A sum further than
    1 % from 1 is refused, not normalised: it may be several runs in one list (right to normalise),
    a list that was cut off (wrong), or a histogram, and only its owner can tell.

    Args:
        nodes: eigenvalues, a list for each run or one flat list.
        weights: their weights, in the same shape, each at least 0.
        dim: the number of parameters, from 1 to 2^53.
        noise: gradient-noise variance of one example at each node, in the shape of the nodes, or
            one number for all; the curvature where not given, before any rescaling.
        rescale: multiply the loss by k = 1 / h_1, so that the largest curvature is 1. See
            ``Spectrum.scaled`` for what this does to targets and learning rates.

    Raises:
        ValueError: naming the value and what is allowed; where no node above 0 has a weight.
    """
    dim = require_integer("dim", dim, least=1, most=MOST_DIM)
    if not isinstance(rescale, (bool, np.bool_)):
        raise ValueError(f"rescale={rescale!r}: must be True or False")
    h_runs = _runs("nodes", nodes)
    w_runs = _runs("weights", weights)
    _require_same_shape(w_runs, h_runs)
    for name, w in w_runs.items():
        _require_weights(name, w)
    h = np.concatenate(list(h_runs.values()))
    m = dim / len(h_runs) * np.concatenate([w / np.sum(w) for w in w_runs.values()])
    counted = m >= _LEAST_MODES
    lost_modes = float(np.sum(m[counted & (h <= 0.0)]))
    kept = counted & (h > 0.0)
    if not np.any(kept):
        raise ValueError(f"nodes: must have one above 0 with a weight; the largest is {h.max():g}")
    c = h if noise is None else _noise(noise, h_runs, kept)
    order = np.flatnonzero(kept)[np.argsort(-h[kept], kind="stable")]
    spectrum = Spectrum(h[order], noise=c[order], multiplicity=m[order])
    scale = 1.0
    if rescale:
        spectrum, scale = rescaled(spectrum)
    return DensitySpectrum(spectrum, lost_modes / dim, lost_modes, scale)


def rescaled(spectrum: Spectrum) -> tuple[Spectrum, float]:
    """The spectrum in units in which its largest curvature h_1 is 1, and the scale k = 1 / h_1.

    Raises:
        ValueError: where floating-point numbers cannot hold the result.
    """
    largest = float(np.max(spectrum.curvature))
    if largest < _SMALLEST_SCALED:
        raise ValueError(
            f"curvature={largest:g}: the largest must be at least {_SMALLEST_SCALED:g} to be "
            "rescaled to 1"
        )
    scale = 1.0 / largest
    with np.errstate(over="ignore"):  # the spectrum refuses what is not finite
        return spectrum.scaled(scale), scale


def _runs(name: str, given: Any) -> dict[str, Array]:
    """The numbers of each run, by the run's name: ``nodes[0]``, or ``nodes`` of a flat list."""
    try:
        runs = list(given)
        flat = all(np.ndim(each) == 0 for each in runs)
    except (TypeError, ValueError):
        raise ValueError(
            f"{name}: must be a list of numbers, or a list of them for each run"
        ) from None
    if flat:
        return {name: _numbers(name, runs)}
    return {f"{name}[{i}]": _numbers(f"{name}[{i}]", run) for i, run in enumerate(runs)}


def _numbers(name: str, run: Any) -> Array:
    try:
        values = np.asarray(run)
    except ValueError:  # lists of different lengths
        raise ValueError(f"{name}: must be a list of numbers") from None
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}: must be a list of at least one number")
    if values.dtype.kind not in "fiuc":
        raise ValueError(f"{name}: must be a list of numbers, it is of type {values.dtype}")
    finite = np.isfinite(values)
    require_each(name, values, finite, "finite")
    real = np.abs(values.imag) <= _IMAGINARY * np.max(np.abs(values))
    require_each(name, values, real, "real")
    return values.real.astype(np.float64)


def _require_same_shape(runs: dict[str, Array], nodes: dict[str, Array]) -> None:
    first = next(iter(runs)).split("[")[0]
    if len(runs) != len(nodes):
        raise ValueError(f"{first}: must have as many runs as nodes, {len(nodes)}, not {len(runs)}")
    for (name, run), h in zip(runs.items(), nodes.values(), strict=True):
        if run.size != h.size:
            raise ValueError(
                f"{name}: must have a value for each of {h.size} nodes, not {run.size}"
            )


def _require_weights(name: str, w: Array) -> None:
    require_each(name, w, w >= 0.0, "at least 0")
    with np.errstate(over="ignore"):
        total = float(np.sum(w))
    if not abs(total - 1.0) <= _TOLERANCE:
        raise ValueError(f"{name}: sum to {total:g}: must sum to 1 within {_TOLERANCE:.0%}")


def _noise(given: Any, nodes: dict[str, Array], kept: np.ndarray[Any, Any]) -> Array:
    if np.ndim(given) == 0:
        return np.full(kept.shape, _numbers("noise", [given])[0])
    runs = _runs("noise", given)
    _require_same_shape(runs, nodes)
    ends = np.cumsum([run.size for run in runs.values()])[:-1]
    for (name, run), used in zip(runs.items(), np.split(kept, ends), strict=True):
        require_each(name, run, ~used | (run >= 0.0), "at least 0")
    return np.concatenate(list(runs.values()))
