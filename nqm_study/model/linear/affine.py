"""Linear optimizers whose learning rate changes, on a compression of a problem's spectrum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nqm_study.model.optimizers import SGD, affine_transition
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic

Array = npt.NDArray[np.float64]


class Affine(NamedTuple):
    """The transition at the rate r, A = base + r slope and b = noise_base + r noise_slope.

    The signal's nodes are the first ones, those of the noise begin at ``first_noise``.

    Attributes:
        like: as many numbers as a state has components, k; kernels are compiled for each k.
        base, slope: shape (k, k, n).
        noise_base, noise_slope: shape (k, n).
        start: a mode's state before the first step, shape (k,).
        readout: the component whose square is the risk.
        first_noise: the noise's first node.
        signal_weight, noise_weight: weights in the risk.
    """

    like: tuple[float, ...]
    base: Array
    slope: Array
    noise_base: Array
    noise_slope: Array
    start: Array
    readout: int
    first_noise: int
    signal_weight: Array
    noise_weight: Array

    @classmethod
    def of(cls, problem: NoisyQuadratic, optimizer: SGD, level: int) -> Affine:
        """The transition of an optimizer, whatever its own rate, at a level of compression."""
        nodes = problem.spectrum.nodes(level)
        base, slope = affine_transition(optimizer, nodes.curvature)
        return cls(
            like=(0.0,) * len(base.matrix),
            base=base.matrix,
            slope=slope.matrix,
            noise_base=base.noise,
            noise_slope=slope.noise,
            start=base.start,
            readout=base.readout,
            first_noise=nodes.first_noise,
            signal_weight=nodes.signal_weight,
            noise_weight=nodes.noise_weight / problem.batch_size,
        )
