"""Where Adam's closure comes to rest: the risk's floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.adaptive.kernel import adam_rest
from nqm_study.model.adaptive.nodes import TINY, Nodes
from nqm_study.model.adaptive.run import Closure, Moments
from nqm_study.model.optimizers import Adam

Array = npt.NDArray[np.float64]

LONG = 2**20
"""A horizon whose last rate is that of all long ones."""


@dataclass(frozen=True, eq=False)
class Rest:
    """The fixed point of the recursion at the rate that the schedule ends with.

    Attributes:
        weight: of each node's A in the risk.
        second_moment: A at rest.
        denominator: V at rest.
    """

    weight: Array
    second_moment: Array
    denominator: Array

    @classmethod
    def of(cls, closure: Closure) -> Rest:
        """Where a closure's runs end, if they are long."""
        last = float(closure.schedule.at_steps(np.array([LONG - 1.0]), LONG)[0])
        a, v = stationary(closure.nodes, closure.optimizer, last)
        return cls(closure.nodes.weight, a, v)

    @property
    def floor(self) -> float:
        """The risk at rest."""
        return float(np.sum(self.weight * self.second_moment))

    def above(self, target: float, moments: Moments) -> bool:
        """Whether the risk stays above the target from here on.

        It does where A is at rest above it, by half of what is between them, with V so near its own
        rest that it cannot lead A further away. A node that is held is at rest where it is.
        """
        a, v = moments.values[0], moments.values[3]
        rest = np.where(moments.held, a, self.second_moment)
        room = float(np.sum(self.weight * rest)) - target
        if not room > 0.0:
            return False
        lag = np.abs(v - self.denominator) / np.maximum(self.denominator, TINY)
        distance = np.where(moments.held, 0.0, np.abs(a - rest) + rest * lag)
        return bool(np.sum(self.weight * distance) < 0.5 * room)


def stationary(nodes: Nodes, optimizer: Adam, factor: float = 1.0) -> tuple[Array, Array]:
    """A and V at rest: the fixed point of the recursion.

    At a fixed step r Adam is heavy ball with learning rate r (1 - b1) and momentum b1, whose floor
    is h A = r (c/B) (1 + b1) / (2 + 2 b1 - x) with x = r (1 - b1) h; and r = lr / (sqrt(q) + eps)
    with q = h^2 A + c/B.
    """
    learning_rate = factor * optimizer.learning_rate
    a = adam_rest(
        learning_rate, float(optimizer.beta1), float(optimizer.eps), nodes.curvature, nodes.variance
    )
    return a, nodes.curvature**2 * a + nodes.variance
