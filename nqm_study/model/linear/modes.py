"""The nodes of a compressed problem, as the kernels of a linear optimizer take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.problem import Problem


class Modes(NamedTuple):
    """Numbers of each node; with P the preconditioner, h the curvature, w its weight in the risk.

    A step's noise is P times gain, the same for all modes but for P: its square is in the weight.

    Attributes:
        curvature: P h, of the nodes of the signal and, from ``first_noise`` on, the noise's.
        first_noise: 0 where they share their nodes.
        signal_weight: w (a^2 + s).
        noise_weight: w P^2 c / B.
    """

    curvature: Array
    first_noise: int
    signal_weight: Array
    noise_weight: Array

    @classmethod
    def of(cls, problem: Problem, optimizer: LinearOptimizer, level: int) -> Modes:
        """The nodes at a level of compression; without a rule, P stands in the transition."""
        nodes = problem.spectrum.nodes(level)
        with np.errstate(over="ignore"):
            noise = nodes.noise_weight / problem.batch_size
            if not optimizer.by_rule:
                return cls(nodes.curvature, nodes.first_noise, nodes.signal_weight, noise)
            scale = optimizer.preconditioner(nodes.curvature)
            own = scale[nodes.first_noise :][: noise.size]
            return cls(
                scale * nodes.curvature, nodes.first_noise, nodes.signal_weight, noise * own * own
            )
