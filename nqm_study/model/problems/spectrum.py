"""Spectra: the curvatures of a quadratic loss, with each mode's noise, weight and start.

| symbol | name | meaning |
|---|---|---|
| h > 0 | curvature | Hessian eigenvalue |
| c >= 0 | noise | gradient-noise variance of one example |
| m >= 0 | multiplicity | how many modes this entry stands for |
| a | initial_mean | mean of theta_0 |
| s >= 0 | initial_variance | variance of theta_0 |
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, cast

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.require import require_each, require_number
from nqm_study.model.problems.compression import Measure
from nqm_study.model.problems.law import PowerLaw

ARRAYS_LEVEL = 3
"""The level of a law's own arrays: some thousand entries, whatever the number of modes."""

FEW_MORE = 1.5
"""A compression that saves less than this factor of nodes is not worth the check that it needs."""

SMALLEST, LARGEST = float(np.finfo(np.float64).smallest_normal), float(np.finfo(np.float64).max)
"""Floats in between have all their digits."""

LARGEST_ROOT = 1e154
"""The squares of floats below are floats."""

# Not given: filled in once the curvature is known. The cast lets fields read as what they hold.
_FROM_CURVATURE = cast("Array", None)


class Nodes(NamedTuple):
    """A compression: curvatures, and the weights of the signal's and the noise's.

    Attributes:
        curvature: the nodes of the signal and, from ``first_noise`` on, those of the noise.
        first_noise: 0 where they share their nodes.
        signal_weight, noise_weight: weights in the risk, the noise's at batch size 1.
    """

    curvature: Array
    first_noise: int
    signal_weight: Array
    noise_weight: Array


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Modes of a quadratic loss. All fields are float64 arrays of one length, read-only.

    Args:
        curvature: Hessian eigenvalues, each > 0.
        noise: gradient-noise variance of one example, each >= 0; the curvature where not given.
        multiplicity: how many modes an entry stands for, each >= 0; 1 where not given.
        initial_mean: mean of theta_0; 0 where not given.
        initial_variance: variance of theta_0, each >= 0; 1 where not given.

    A scalar stands for the same value at every mode.

    Attributes:
        law: where there are more modes than can be made, the law they follow; the arrays are then a
            quadrature of it, with multiplicities, and ``at`` gives finer ones.
        origin: a hash of what the arrays were computed from, where their last bits depend on the
            machine; else empty.

    Raises:
        ValueError: for an empty or non-finite array, a length that differs from the curvature's, or
            a value below its bound.
    """

    curvature: Array
    noise: Array = _FROM_CURVATURE
    multiplicity: Array = _FROM_CURVATURE
    initial_mean: Array = _FROM_CURVATURE
    initial_variance: Array = _FROM_CURVATURE
    law: PowerLaw | None = field(default=None, init=False)
    origin: str = field(default="", init=False)

    def __post_init__(self) -> None:
        curvature = _array("curvature", self.curvature)
        if curvature.ndim != 1 or curvature.size == 0:
            raise ValueError(
                f"curvature has shape {curvature.shape}: must be a list of at least one eigenvalue"
            )
        require_each("curvature", curvature, curvature > 0.0, "greater than 0")
        defaults: dict[str, Any] = {
            "curvature": curvature,
            "noise": curvature,
            "multiplicity": 1.0,
            "initial_mean": 0.0,
            "initial_variance": 1.0,
        }
        for name, default in defaults.items():
            given = getattr(self, name)
            value = _array(name, default if given is None else given)
            if value.ndim == 0:
                value = np.full(curvature.shape, value)
            if value.shape != curvature.shape:
                raise ValueError(
                    f"{name} has shape {value.shape}: must be {curvature.shape}, as curvature has"
                )
            if name != "initial_mean":
                require_each(name, value, value >= 0.0, "at least 0")
            value = np.array(value)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        self._require_finite_sums()

    def _require_finite_sums(self) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite((self.initial_risk, self.noise_share))
        if not finite[0]:
            raise ValueError(
                "curvature: must have a finite initial risk, 1/2 the sum of multiplicity * "
                "curvature * (initial_mean^2 + initial_variance)"
            )
        if not finite[1]:
            raise ValueError(
                "noise: must have a finite sum of multiplicity * curvature * noise, the share of "
                "the gradient noise in the risk"
            )

    @classmethod
    def of_law(cls, law: PowerLaw) -> Spectrum:
        """The spectrum of a law, with noise c = h k and theta_0 ~ N(0, 1), k the law's scale."""
        spectrum = _entries(law, ARRAYS_LEVEL)
        object.__setattr__(spectrum, "law", law)
        return spectrum

    def known_by(self, origin: str) -> Spectrum:
        """The same modes, known by a hash of what they were computed from."""
        spectrum = replace(self)
        object.__setattr__(spectrum, "origin", origin)
        return spectrum

    def __repr__(self) -> str:
        law = "" if self.law is None else f"by {self.law}, "
        return (
            f"<Spectrum: {self.multiplicity.sum():,.6g} modes, {law}curvature "
            f"{self.curvature.min():.6g} to {self.curvature.max():.6g}, initial risk "
            f"{self.initial_risk:.6g}>"
        )

    def __len__(self) -> int:
        return self.curvature.size

    def at(self, level: int) -> Spectrum:
        """The arrays that serve compressions of a level: its own, unless a law makes finer ones."""
        if self.law is None:
            return self
        if level not in self._levels:
            self._levels[level] = _entries(self.law, level)
        return self._levels[level]

    @functools.cached_property
    def last_level(self) -> int:
        """The finest level of compression: every mode by itself, unless there are too many."""
        if self.law is not None:
            return self.law.last_level
        return max(self.signal.last_level, self.gradient_noise.last_level)

    @functools.cached_property
    def first_level(self) -> int:
        """The coarsest level worth taking: the last one, where that has few more nodes."""
        if self.law is not None:
            return 0
        coarse, fine = (self.nodes(level).curvature.size for level in (0, self.last_level))
        return self.last_level if fine <= FEW_MORE * coarse else 0

    def nodes(self, level: int) -> Nodes:
        """The nodes of the signal and of the noise at a level of compression."""
        if level not in self._nodes:
            entries = self.at(level)
            signal, signal_weight = entries.signal.nodes(level)
            noise, noise_weight = entries.gradient_noise.nodes(level)
            if np.array_equal(signal, noise):
                found = Nodes(signal, 0, signal_weight, noise_weight)
            else:
                both = np.concatenate((signal, noise))
                found = Nodes(both, signal.size, signal_weight, noise_weight)
            self._nodes[level] = found
        return self._nodes[level]

    @functools.cached_property
    def _nodes(self) -> dict[int, Nodes]:
        return {}

    @functools.cached_property
    def _levels(self) -> dict[int, Spectrum]:
        return {}

    @functools.cached_property
    def digest(self) -> str:
        """A hash of the arrays, or of their law or origin, whatever the process.

        Equal for equal spectra.
        """
        if self.law is not None:
            # The quadrature's last bits depend on the machine.
            return hashlib.sha256(repr(self.law).encode()).hexdigest()
        if self.origin:
            return self.origin
        parts = hashlib.sha256()
        for each in fields(self):
            if each.init:
                parts.update(getattr(self, each.name).tobytes())
        return parts.hexdigest()

    def scaled(self, factor: float) -> Spectrum:
        """The spectrum of the loss times a factor k: curvature k h, noise k^2 c, the rest as it is.

        It is the same problem in other units: with the target times k and the learning rate divided
        by k^(1 - p), p the preconditioner's power, the steps are unchanged.

        Raises:
            ValueError: if factor is not a finite number greater than 0, or leaves numbers that are
                too large for a float, or so small that they lose digits.
        """
        k = require_number("factor", factor, above=0.0)
        square = k**2 if k < LARGEST_ROOT else np.inf
        with np.errstate(over="ignore", invalid="ignore"):
            curvature, noise = k * self.curvature, square * self.noise
            for ours, theirs in ((curvature, self.curvature), (noise, self.noise)):
                whole = ours >= np.minimum(theirs, SMALLEST)
                if not np.all(np.isfinite(ours) & whole):
                    raise ValueError(
                        f"factor={k:g}: must leave curvature and noise from {SMALLEST:.3g} to "
                        f"{LARGEST:.3g}, where floats have all their digits"
                    )
        if self.law is not None:
            return Spectrum.of_law(replace(self.law, scale=k * self.law.scale))
        return replace(self, curvature=curvature, noise=noise)

    def weighted(self, power: int) -> Spectrum:
        """The same modes with multiplicities m (h / h_1)^power, h_1 the largest curvature.

        It changes what weighs them, not how they move. It is kept with this spectrum, and its
        compressions with it.

        """
        if power not in self._weighted:
            if self.law is not None:
                found = Spectrum.of_law(self.law.weighted(power))
            else:
                ratio = self.curvature / np.max(self.curvature)
                found = replace(self, multiplicity=self.multiplicity * ratio**power)
            self._weighted[power] = found
        return self._weighted[power]

    @functools.cached_property
    def _weighted(self) -> dict[int, Spectrum]:
        return {}

    @functools.cached_property
    def second_moment(self) -> Array:
        """E theta_0^2 = a^2 + s of each mode."""
        return np.asarray(self.initial_mean**2 + self.initial_variance)

    @property
    def weight(self) -> Array:
        """1/2 m h of each mode, what E theta^2 counts in the risk."""
        return np.asarray(0.5 * self.multiplicity * self.curvature)

    @functools.cached_property
    def initial_risk(self) -> float:
        """Expected loss before the first step, 1/2 sum m h (a^2 + s)."""
        return float(np.sum(self.weight * self.second_moment))

    @functools.cached_property
    def noise_share(self) -> float:
        """The gradient noise in the risk, 1/2 sum m h c, at batch size 1."""
        return float(np.sum(self.weight * self.noise))

    @functools.cached_property
    def loss(self) -> Measure:
        """The weight 1/2 m h of each curvature in the risk, per unit of E theta^2."""
        return Measure.of(self.curvature, self.weight)

    @functools.cached_property
    def signal(self) -> Measure:
        """The weight 1/2 m h (a^2 + s) of each curvature in the noise-free part of the risk."""
        return Measure.of(self.curvature, self.weight * self.second_moment)

    @functools.cached_property
    def gradient_noise(self) -> Measure:
        """The weight 1/2 m h c of each curvature in the noise part of the risk, at batch size 1."""
        return Measure.of(self.curvature, self.weight * self.noise)


def _entries(law: PowerLaw, level: int) -> Spectrum:
    curvature, multiplicity = law.entries(level)
    return Spectrum(curvature, law.scale * curvature, multiplicity)


def _array(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={value!r}: must be numbers") from error
    require_each(name, array, np.isfinite(array), "finite")
    return array
