"""Spectra that fall off as a power of the mode's index."""

from __future__ import annotations

import math

import numpy as np

from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.problems.law import MOST_DIM, MOST_NODES, PowerLaw
from nqm_study.model.problems.spectrum import Spectrum

SMALLEST_LOG2 = -1022
"""Curvatures of a power law stay above 2 to this power, below which digits are lost."""


def power_law(dim: int, exponent: float = 1.0, *, source: float | None = None) -> Spectrum:
    """The spectrum h_i = i^-exponent, i = 1..dim, with noise c = h and theta_0 ~ N(0, i^-source).

    ``power_law(10_000)`` is the problem of Zhang et al. 2019 (arXiv:1907.04164), section 4. Up to
    2^17 modes the arrays list them one by one; beyond, they are a quadrature of the law, which is
    made finer where a computation needs it, so that 10^12 modes cost what 10^4 do.

    Regression has a source beside the capacity, which is the exponent here: how fast w* falls off,
    E w*_i^2 = i^-source. With h = j^-2 alpha and w* = j^-beta (arXiv:2405.15074) it is 2 beta.
    ``power_law_tail`` is what modes beyond dim add to the label noise then.

    Args:
        dim: number of modes, from 1 to 2^53; with a source, to 2^17.
        exponent: decay of the eigenvalues, at least 0.
        source: decay of the start's variance, of either sign; None for 0, the same for all.

    Raises:
        ValueError: if a value is out of range.
    """
    dim = require_integer("dim", dim, least=1, most=MOST_DIM)
    exponent = require_number("exponent", exponent, least=0.0)
    largest = -SMALLEST_LOG2 / math.log2(dim) if dim > 1 else math.inf
    if exponent > largest:
        raise ValueError(
            f"exponent={exponent:g}: must be at most {largest:g}, since "
            f"{dim}^-{exponent:g} is 0 to the computer"
        )
    if source is not None:
        return _with_source(dim, exponent, require_number("source", source), largest)
    if dim <= MOST_NODES:
        return Spectrum(np.arange(1, dim + 1, dtype=np.float64) ** -exponent)
    if float(dim) ** -exponent == 1.0:  # all curvatures are one to the computer
        return Spectrum([1.0], multiplicity=[float(dim)])  # type: ignore[arg-type]  # lists will do
    return Spectrum.of_law(PowerLaw(dim, exponent))


def power_law_tail(dim: int, exponent: float, source: float) -> float:
    """The label noise of the modes beyond dim, sum over i > dim of i^-exponent i^-source.

    A model of the first dim features of a power law does not see the others, and what they
    contribute to the targets is noise to it: label_noise = sigma^2 + this. It is Hurwitz' zeta
    function at exponent + source and dim + 1.

    Args:
        dim: number of modes that are kept, at least 1.
        exponent: decay of the eigenvalues, at least 0.
        source: decay of E w*_i^2.

    Raises:
        ValueError: if a value is out of range; where the sum is infinite, exponent + source <= 1.
    """
    from scipy.special import zeta

    dim = require_integer("dim", dim, least=1, most=MOST_DIM)
    exponent = require_number("exponent", exponent, least=0.0)
    source = require_number("source", source)
    if exponent + source <= 1.0:
        raise ValueError(
            f"source={source:g}: must be greater than {1.0 - exponent:g}, 1 - exponent, since the "
            f"modes beyond the first {dim} are infinitely much noise otherwise"
        )
    return float(zeta(exponent + source, dim + 1.0))


def _with_source(dim: int, exponent: float, source: float, largest: float) -> Spectrum:
    if dim > MOST_NODES:
        raise ValueError(f"dim={dim}: must be at most {MOST_NODES} with a source")
    if abs(source) > largest:
        raise ValueError(
            f"source={source:g}: must be from {-largest:g} to {largest:g}, since floats hold no "
            f"{dim}^{-source:g}"
        )
    i = np.arange(1, dim + 1, dtype=np.float64)
    return Spectrum(i**-exponent, initial_variance=i**-source)
