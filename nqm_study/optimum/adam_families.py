"""Families of Adam: what is tuned, and between which bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nqm_study.model.optimizers import Adam
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.optimum.coordinates import Coordinate

FIXABLE = ("beta1", "beta2", "eps")
"""Hyperparameters that may be held at a value."""

DECAYS: Mapping[str, Coordinate] = {
    "beta1": Coordinate("beta1", 0.0, 0.999, "log_one_minus"),
    "beta2": Coordinate("beta2", 0.9, 0.99999, "log_one_minus"),
}
"""Ranges of the decays where they are free: those of the configuration ``adam_full``."""

LARGEST = 10.0
"""The largest rate over the largest root mean square of a start: a step is about the rate."""

SMALLEST = 3e-4
"""The smallest rate over the same, at batch size 1 and above, for a target of the initial risk; a
lower target takes lower rates, in proportion."""


@dataclass(frozen=True)
class AdamFamily:
    """Adam with some decays fixed, and the learning rate and the others free.

    Attributes:
        fixed: the hyperparameters that all have in common.
        free: the names of the decays that are free.
    """

    fixed: Mapping[str, float]
    free: tuple[str, ...] = ()

    def optimizer(self, values: Mapping[str, float]) -> Adam:
        """The member with these values; rate 1 and the ranges' lows where there are none."""
        free = {name: values.get(name, DECAYS[name].low) for name in self.free}
        return Adam(values.get("learning_rate", 1.0), **free, **self.fixed)

    def holding(self, fixed: Mapping[str, float]) -> AdamFamily:
        """The members that have these values.

        Raises:
            ValueError: naming a value that is out of range, or that cannot be fixed.
        """
        for name in fixed:
            if name not in FIXABLE:
                raise ValueError(f"{name}: cannot be fixed; {', '.join(FIXABLE)} can")
        both = {**self.fixed, **fixed}
        Adam(1.0, **both)  # refuses values out of range
        return AdamFamily(both, tuple(name for name in self.free if name not in fixed))

    def coordinates(
        self, problem: NoisyQuadratic, target: float, factor: float
    ) -> tuple[Coordinate, ...]:
        """The free coordinates: rates that can reach the target, and the free decays.

        A step of Adam is about its rate, so the starts give the scale. At small batches the best
        rate goes as sqrt(B), and its noise in the risk as the rate. Where eps is larger than the
        gradients, lr / eps is a rate of SGD.

        Args:
            problem: spectrum and batch size.
            target: the risk to reach.
            factor: the largest factor of the schedule.
        """
        spectrum = problem.spectrum
        largest = float(np.max(spectrum.signal.curvature))
        start = 1.0 if spectrum.law else math.sqrt(float(np.max(spectrum.second_moment)))
        share = min(target / spectrum.initial_risk, 1.0)
        low = SMALLEST * start * share * min(math.sqrt(problem.batch_size), 1.0)
        eps = float(self.fixed.get("eps", 0.0))
        high = max(LARGEST * start, 4.0 * eps / largest)
        rate = Coordinate("learning_rate", min(low, 1e-3 * high) / factor, high / factor)
        return (rate, *(DECAYS[name] for name in self.free))


ADAM_FAMILIES: Mapping[str, AdamFamily] = {
    "adam": AdamFamily({"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    "rmsprop": AdamFamily({"beta1": 0.0, "beta2": 0.99, "eps": 1e-8}),
    "adam_full": AdamFamily({"eps": 1e-8}, ("beta1", "beta2")),
}
"""The families, by the names of their configurations."""
