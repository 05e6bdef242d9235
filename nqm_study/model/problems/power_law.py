"""Spectra that fall off as a power of the mode's index."""

from __future__ import annotations

import math

import numpy as np

from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.problems.law import MOST_DIM, MOST_NODES, PowerLaw
from nqm_study.model.problems.spectrum import Spectrum

SMALLEST_LOG2 = -1022
"""Curvatures of a power law stay above 2 to this power, below which digits are lost."""


def power_law(dim: int, exponent: float = 1.0) -> Spectrum:
    """The spectrum h_i = i^-exponent, i = 1..dim, with noise c = h and theta_0 ~ N(0, 1).

    ``power_law(10_000)`` is the problem of Zhang et al. 2019 (arXiv:1907.04164), section 4. Up to
    2^17 modes the arrays list them one by one; beyond, they are a quadrature of the law, which is
    made finer where a computation needs it, so that 10^12 modes cost what 10^4 do.

    Args:
        dim: number of modes, from 1 to 2^53.
        exponent: decay of the eigenvalues, at least 0.

    Raises:
        ValueError: if dim or exponent is out of range.
    """
    dim = require_integer("dim", dim, least=1, most=MOST_DIM)
    exponent = require_number("exponent", exponent, least=0.0)
    largest = -SMALLEST_LOG2 / math.log2(dim) if dim > 1 else math.inf
    if exponent > largest:
        raise ValueError(
            f"exponent={exponent:g}: must be at most {largest:g}, since "
            f"{dim}^-{exponent:g} is 0 to the computer"
        )
    if dim <= MOST_NODES:
        return Spectrum(np.arange(1, dim + 1, dtype=np.float64) ** -exponent)
    if float(dim) ** -exponent == 1.0:  # all curvatures are one to the computer
        return Spectrum([1.0], multiplicity=[float(dim)])  # type: ignore[arg-type]  # lists will do
    return Spectrum.of_law(PowerLaw(dim, exponent))
