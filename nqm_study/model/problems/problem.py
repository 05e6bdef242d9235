"""Problems: a spectrum and a batch size, and how the noise of gradients depends on the state.

A step's gradient in a mode of curvature h is g = h theta + e, and the noise e of a batch has

    E e = 0,    Var e = (c (v + f 2 L) + f h^2 E theta^2) / B.

| symbol | name in code | meaning |
|---|---|---|
| c | spectrum.noise | gradient-noise variance of one example, in units of v + f 2 L |
| v | steady_noise | what does not depend on the state |
| f | follows_loss | 1 where the noise falls with the risk L, else 0 |
| L | | the risk 1/2 sum m h E theta^2 |
| B | batch_size | examples per step |

Everything is taken at the point where the gradient is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.spectrum import LARGEST, Spectrum


@dataclass(frozen=True)
class Problem(ABC):
    """A quadratic loss 1/2 sum m h theta^2 with noisy gradients; a subclass says how noisy.

    Args:
        spectrum: the modes.
        batch_size: examples per step, a real number > 0.

    Raises:
        ValueError: if batch_size is not a finite number greater than 0, or so small that the noise
            of its gradients in the risk, 1/2 sum m h c / batch_size, is infinite to the computer.
            If noise that does not follow the loss is not 1.
    """

    spectrum: Spectrum
    batch_size: float

    follows_loss: ClassVar[bool] = False
    """Whether the noise falls with the risk, f."""

    def __post_init__(self) -> None:
        if not isinstance(self.spectrum, Spectrum):
            raise ValueError(f"spectrum={self.spectrum!r}: must be a Spectrum")
        size = require_number("batch_size", self.batch_size, above=0.0)
        if math.isinf(self.spectrum.noise_share / size):
            raise ValueError(
                f"batch_size={size:g}: must be at least {self.spectrum.noise_share / LARGEST:g}, "
                "since the gradient noise of this spectrum is then infinite to the computer"
            )
        if not self.follows_loss and self.steady_noise != 1.0:
            raise ValueError(
                f"steady_noise={self.steady_noise!r}: must be 1 where follows_loss is False; the "
                "spectrum's noise says how large it is"
            )

    @property
    @abstractmethod
    def steady_noise(self) -> float:
        """The variance v of the noise that does not depend on the state, in units of c / B.

        It is 1 where nothing else does.
        """


def require_additive(problem: Problem, what: str) -> None:
    """Refuse a problem whose noise depends on the state.

    Raises:
        ValueError: naming the problem, and what takes additive noise only.
    """
    if problem.follows_loss:
        raise ValueError(
            f"problem={problem!r}: must be NoisyQuadratic for {what}, which takes gradient noise "
            "that does not depend on the weights"
        )
