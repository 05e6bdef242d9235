"""The batch sizes of the fewest examples beside given rates, as a schedule's factors.

With N_t what the noise of step t adds to the last risk at a batch size of 1, the best batch sizes
of a given mean are in proportion to sqrt(N_t) (``schedules.computed.batch_sizes``). Within bounds
they are those factors cut off, and scaled again.

They depend on the length of the run, and are computed for each. In longer runs N is that of parts
of the run, short ones towards its ends, with its logarithm linear between their middles in that of
the steps that are left. What is missed changes a risk by the square of it, at a minimum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from nqm_study.model.linear.runs import Runs
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Schedule

EACH = 2048
"""Runs of up to so many steps have a batch size computed for each step."""

PARTS = 256
"""Longer ones have as many parts in proportion to the run, and to the steps left."""

STRETCHES = 64
"""Stretches for each smooth part of the schedule, at least."""

LEAST = 1e-9
"""A factor below this share of the largest counts as that share: where the rate is 0 it is 0."""


@dataclass(frozen=True, eq=False)
class BestBatches(Schedule):
    """The factors of the best batch sizes of a run.

    Args:
        problem: the spectrum; its batch size does not matter.
        optimizer: a linear one.
        schedule: that of its rate.
    """

    problem: Problem
    optimizer: LinearOptimizer
    schedule: Schedule

    @property
    def knots(self) -> tuple[float, ...] | None:
        """Those of the rate's schedule."""
        return self.schedule.knots

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run."""
        if np.ndim(horizon) == 0:
            return self._factors(steps, int(horizon))
        lengths = np.asarray(horizon)
        factors = np.empty_like(steps)
        for each in np.unique(lengths).tolist():
            own = lengths == each
            factors[own] = self._factors(steps[own], int(each))
        return factors

    def _factors(self, steps: Array, horizon: int) -> Array:
        if horizon not in self._known:
            self._known[horizon] = self._computed(horizon)
        left, logarithms = self._known[horizon]
        return np.exp(np.interp(-np.log(horizon - steps), left, logarithms))

    @functools.cached_property
    def _known(self) -> dict[int, tuple[Array, Array]]:
        """Of the runs asked for, -ln of the steps left at some of them, and ln of their factors."""
        return {}

    @functools.cached_property
    def _runs(self) -> Runs:
        problem = replace(self.problem, batch_size=1.0)
        return Runs(problem, self.optimizer, self.schedule, problem.spectrum.first_level)

    def _computed(self, horizon: int) -> tuple[Array, Array]:
        firsts = _firsts(horizon)
        count = None if horizon <= EACH else STRETCHES
        _, noise, *_ = self._runs.contributions(horizon, firsts, count)
        lengths = np.diff(firsts, append=horizon)
        factors = np.sqrt(np.where(noise > 0.0, noise, 0.0) / lengths)
        most = factors.max() if np.isfinite(factors).all() else 0.0
        if not most > 0.0:  # no noise, or a run that overflows: any batch sizes are as good
            factors, most = np.ones(factors.size), 1.0
        middles = firsts + 0.5 * (lengths - 1)
        return -np.log(horizon - middles), np.log(np.maximum(factors, LEAST * most))


def _firsts(horizon: int) -> Integers:
    """The first steps of the parts of a run."""
    if horizon <= EACH:
        return np.arange(horizon)
    even = np.linspace(0.0, horizon, PARTS, endpoint=False)
    early = np.geomspace(1.0, horizon, PARTS)
    late = horizon - np.geomspace(1.0, horizon, PARTS)
    firsts = np.unique(np.concatenate((even, early, late)).astype(np.int64))
    return firsts[(firsts >= 0) & (firsts < horizon)]
