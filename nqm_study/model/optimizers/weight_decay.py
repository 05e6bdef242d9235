"""Decoupled weight decay, around any linear optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers.linear import LinearOptimizer, Update
from nqm_study.model.optimizers.wrappers import Wrapper

if TYPE_CHECKING:
    from nqm_study.model.problems.problem import Problem


@dataclass(frozen=True)
class WeightDecayed(Wrapper):
    """An optimizer whose parameters are pulled back to their start at every step, by lr wd.

    theta' = theta - lr wd (theta - theta_0) - ..., with the optimizer's own step after it. Weights
    that start at 0 start at theta_0 = -w* here, so that what pulls them to 0, as torch.optim.AdamW
    has it, pulls theta to theta_0. A schedule multiplies the pull as it does the rate. It is no
    part of the gradient: neither a buffer nor a preconditioner sees it, and around an average it
    pulls what is averaged.

    Args:
        optimizer: a linear one with a rule, whose gradient is taken where it reads out.
        weight_decay: wd >= 0.

    Raises:
        ValueError: if a value is outside its range.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 1.
    """

    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("weight_decay", self.weight_decay, least=0.0)
        inner = self.optimizer
        while isinstance(inner, Wrapper) and not isinstance(inner, WeightDecayed):
            inner = inner.optimizer
        made = inner.rule(np.zeros(1, dtype=np.int64), np.array([inner.learning_rate]))
        if isinstance(inner, Wrapper) or np.any(made.point != made.readout):
            raise ValueError(
                f"optimizer={inner!r}: must be one without weight decay, whose gradient is taken "
                "where it reads out"
            )

    def update(self, step: Integers, rate: Array) -> Update:
        """The inner optimizer's rule, with theta_0 as one more component, which stays."""
        if isinstance(self.optimizer, Wrapper):
            inside: LinearOptimizer = replace(self, optimizer=self.optimizer.optimizer)
            return replace(self.optimizer, optimizer=inside).update(step, rate)
        inner = self.optimizer.rule(step, rate)
        k, theta = inner.start.size, inner.component
        pull = rate * self.weight_decay
        drift = np.zeros((rate.size, k + 1, k + 1))
        drift[:, :k, :k], drift[:, k, k] = inner.drift, 1.0
        drift[:, theta, theta] -= pull
        drift[:, theta, k] = pull
        gain, point = (
            np.hstack((part, np.zeros((len(part), 1)))) for part in (inner.gain, inner.point)
        )
        return Update(
            drift, gain, point, np.append(inner.start, 1.0), np.append(inner.readout, 0.0)
        )

    @classmethod
    def coordinates(
        cls,
        problem: Problem,
        target: float,
        given: Mapping[str, Any],  # noqa: ARG003 (whatever they are)
    ) -> Mapping[str, tuple[float, float, str]]:
        """The weight decay up to which the target can be reached at all.

        A mode ends at the share wd / (h + wd) of theta_0, and the risk above
        1/2 sum m h E theta_0^2 (wd / (h + wd))^2.
        """
        signal = problem.spectrum.signal
        h, weight = signal.curvature, signal.weight

        def left(log: float) -> float:
            return float(weight @ (1.0 / (1.0 + h * math.exp(-log))) ** 2)

        low, high = math.log(h.min()) - 40.0, math.log(h.max()) + 40.0
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if left(middle) < target else (low, middle)
        return {"weight_decay": (0.0, math.exp(low), "linear")}

    @classmethod
    def first_guess(
        cls,
        problem: Problem,  # noqa: ARG003 (whatever it is)
        target: float,  # noqa: ARG003
        given: Mapping[str, Any],  # noqa: ARG003
    ) -> Mapping[str, float]:
        """None: a pull to the start is of use only where it averages noise out."""
        return {"weight_decay": 0.0}
