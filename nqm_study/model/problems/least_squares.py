"""Least squares in one pass: gradient noise that falls with the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.problem import Problem

LARGEST_NOISE = 1e200
"""Label noise beyond has no use, and its steps and rates no floats that hold them."""


def interpolation_batch_size(problem: Problem) -> float:
    """The batch size, tr(H) / h_1 + 1 examples, at which perfect scaling ends without label noise.

    Below it the largest stable rate is nearly proportional to the batch size, above it nearly
    2 / h_1, whatever the batch size.

    Source: Ma, Bassily, Belkin 2018, arXiv:1712.06559.
    """
    spectrum = problem.spectrum
    trace = float(np.sum(spectrum.multiplicity * spectrum.noise))
    return trace / float(spectrum.curvature.max()) + 1.0


@dataclass(frozen=True)
class LeastSquares(Problem):
    """Linear regression on fresh examples: inputs x ~ N(0, H), targets y = x . w* + e.

    With theta = w - w* the risk is L = 1/2 sum m h E theta^2, the expected loss above that of w*,
    label_noise / 2. The gradient of a batch is the mean of x (x . theta - e) over its examples. In
    the basis of H its second moment in a mode is, exactly (Isserlis),

        E g^2 = h^2 E theta^2 (1 + 1/B) + (c / B) (2 L + label_noise),    c = h by default,

    so that all modes are coupled by the one number L, and the second moments close.

    Args:
        spectrum: the modes: curvatures are the eigenvalues of the inputs' covariance H, and theta_0
            is w_0 - w*. Its noise c other than the curvature stands in for inputs that are none.
        batch_size: examples per step, a real number > 0.
        label_noise: the variance of e, from 0 to 1e200. With 0 there is no floor: every stable rate
            reaches every target.

    Raises:
        ValueError: if a value is outside its range.
    """

    batch_size: float = 16
    label_noise: float = 1.0

    follows_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("label_noise", self.label_noise, least=0.0, most=LARGEST_NOISE)

    @property
    def steady_noise(self) -> float:
        """The label noise."""
        return float(self.label_noise)
