"""The noisy quadratic model: gradient noise that does not depend on the weights."""

from __future__ import annotations

from dataclasses import dataclass

from nqm_study.model.problems.problem import Problem


@dataclass(frozen=True)
class NoisyQuadratic(Problem):
    """A quadratic loss 1/2 sum m h theta^2 with gradients h theta + e, e ~ N(0, c / batch_size).

    Source: Zhang et al. 2019, arXiv:1907.04164, section 3.

    Args:
        spectrum: the modes.
        batch_size: examples per step, a real number > 0.

    Raises:
        ValueError: if batch_size is not a finite number greater than 0, or so small that the noise
            of its gradients in the risk, 1/2 sum m h c / batch_size, is infinite to the computer.
    """

    @property
    def steady_noise(self) -> float:
        """All of it: 1."""
        return 1.0
