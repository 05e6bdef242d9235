"""The problem an optimizer is run on: a spectrum and a batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.spectrum import LARGEST, Spectrum


@dataclass(frozen=True)
class NoisyQuadratic:
    """A quadratic loss 1/2 sum m h theta^2 with gradients h theta + e, e ~ N(0, c / batch_size).

    Source: Zhang et al. 2019, arXiv:1907.04164, section 3.

    Args:
        spectrum: the modes.
        batch_size: examples per step, a real number > 0.

    Raises:
        ValueError: if batch_size is not a finite number greater than 0, or so small that the noise
            of its gradients in the risk, 1/2 sum m h c / batch_size, is infinite to the computer.
    """

    spectrum: Spectrum
    batch_size: float

    def __post_init__(self) -> None:
        if not isinstance(self.spectrum, Spectrum):
            raise ValueError(f"spectrum={self.spectrum!r}: must be a Spectrum")
        size = require_number("batch_size", self.batch_size, above=0.0)
        if math.isinf(self.spectrum.noise_share / size):
            raise ValueError(
                f"batch_size={size:g}: must be at least {self.spectrum.noise_share / LARGEST:g}, "
                "since the gradient noise of this spectrum is then infinite to the computer"
            )
