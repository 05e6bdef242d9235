"""A run under a schedule, cut into stretches of constant rule.

A run is short enough to take its single steps, or is cut into stretches over which what the
schedule says is taken at its mean: smooth parts into stretches that are shorter towards their ends.
Where coefficients change with the step as powers of 1 / (t - s), s the step at which they begin or
bend, they are smooth in log(t - s): there the first steps are single ones, and then so many
stretches follow for each octave of t - s that their length grows as t.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.schedules.base import Schedule

PROBES = np.array([0.0, 0.37, 0.81, 1.0])
"""Where a smooth part is looked at to tell whether it is constant, as shares of it."""


@dataclass(frozen=True, eq=False)
class Stretches:
    """A run as stretches of constant rate and batch size.

    Attributes:
        steps: those whose mean rule each has, shape (nodes, stretches); its first one counts as
            all of them where only the rate changes.
        shares: what each counts in the mean.
        factors: the schedule's at these steps; where only the rate changes, its mean.
        noise: the mean variance of each one's noise, over that at the problem's batch size; one
            entry where all are 1.
        lengths: the steps of each, >= 1.
        exact: whether the rule is the same at all steps of each.
    """

    steps: Integers
    shares: Array
    factors: Array
    noise: Array
    lengths: Integers
    exact: bool

    @property
    def rows(self) -> tuple[Integers, Array]:
        """The steps and factors of each node, in one row."""
        return self.steps.ravel(), self.factors.ravel()

    @classmethod
    def of_first(
        cls, steps: Integers, factors: Array, noise: Array, lengths: Integers, *, exact: bool
    ) -> Stretches:
        """Stretches with the rule of one step each."""
        return cls(steps[None], np.ones((1, steps.size)), factors[None], noise, lengths, exact)


def stepped(schedule: Schedule, horizon: int, count: int | None = None) -> Stretches:
    """A run whose stretches are its single steps, all of them or the first ``count``."""
    count = horizon if count is None else count
    steps = np.arange(count, dtype=np.float64)
    return singles(
        np.arange(count), schedule.at_steps(steps, horizon), schedule.noise(steps, horizon)
    )


def singles(steps: Integers, factors: Array, noise: Array) -> Stretches:
    """Single steps as stretches."""
    return Stretches.of_first(steps, factors, noise, np.ones_like(steps), exact=True)


def stretched(schedule: Schedule, horizon: int, count: int, ends: Sequence[int] = ()) -> Stretches:
    """A run in up to ``count`` stretches for each smooth part of its schedule.

    Args:
        schedule: gives the factors.
        horizon: steps of the run.
        count: stretches for each smooth part.
        ends: further steps at which a stretch has to end.
    """
    parts, flat = _parts(schedule, horizon)
    bounds = [np.concatenate((parts, np.array(ends, dtype=np.int64)))]
    exact, distinct = True, not ends
    for first, last in zip(parts[:-1][~flat].tolist(), parts[1:][~flat].tolist(), strict=True):
        exact = exact and last - first <= count
        # Where there is room, the shortest stretch is longer than a step.
        distinct = distinct and last - first >= count**2
        if last - first > count:
            bounds.append(first + np.rint(_graded(count) * (last - first)).astype(np.int64))
        else:
            bounds.append(np.arange(first + 1, last))
    every = np.concatenate(bounds)
    bound = np.sort(every) if distinct else _ascending(every)
    lengths = np.diff(bound)
    # The mean over n steps by the two nodes that make it exact for cubics.
    middle = np.asarray(0.5 * (bound[:-1] + bound[1:] - 1), dtype=np.float64)
    aside = np.sqrt((lengths.astype(np.float64) ** 2 - 1.0) / 12.0)
    two = np.concatenate((middle - aside, middle + aside))
    factors, noise = (
        each.reshape(2, -1).mean(axis=0) if each.size > 1 else each
        for each in (schedule.at_steps(two, horizon), schedule.noise(two, horizon))
    )
    return Stretches.of_first(bound[:-1], factors, noise, lengths, exact=exact)


def changing(
    schedule: Schedule, horizon: int, count: int, bends: Sequence[int], ends: Sequence[int] = ()
) -> Stretches:
    """A run whose rule changes with the step, in stretches that grow from each bend on.

    Args:
        schedule: gives the factors.
        horizon: steps of the run.
        count: stretches for each smooth part of the schedule; half as many for each octave.
        bends: ascending steps, the first one 0, at which the rule begins or bends.
        ends: further steps at which a stretch has to end.
    """
    from nqm_study.model.schedules.stretch_kernel import OUTLINE, write_ends, write_nodes

    inner = [bend for bend in bends if bend < horizon]
    parts, flat = _parts(schedule, horizon, inner)
    bend = np.array(inner)[np.searchsorted(inner, parts[:-1], side="right") - 1]
    room = count * (2 + horizon.bit_length() // 2) + 2
    bound = np.empty(min(horizon, flat.size * room) + 1, dtype=np.int64)
    bound = bound[: write_ends(parts, bend, flat, count, _graded(OUTLINE), bound)]
    if ends:
        bound = _ascending(np.concatenate((bound, ends)))
    lengths = np.diff(bound)
    steps, shares = np.empty((4, lengths.size), dtype=np.int64), np.empty((4, lengths.size))
    write_nodes(bound, steps, shares)
    every = steps.ravel().astype(np.float64)
    factors = schedule.at_steps(every, horizon).reshape(steps.shape)
    noise = schedule.noise(every, horizon)
    if noise.size > 1:
        noise = np.einsum("qn,qn->n", shares, noise.reshape(steps.shape))
    return Stretches(steps, shares, factors, noise, lengths, bool(np.all(lengths == 1)))


@functools.lru_cache(maxsize=64)
def _graded(count: int) -> Array:
    """Where the stretches of a smooth part end, as shares of it; shorter towards its ends."""
    return np.asarray(0.5 * (1.0 - np.cos(np.pi * np.arange(1, count) / count)))


def _ascending(steps: Integers) -> Integers:
    """The distinct ones in order; ``np.unique`` takes five times as long for some hundreds."""
    ordered = np.sort(steps)
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _parts(
    schedule: Schedule, horizon: int, bends: Sequence[int] = ()
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Where smooth parts of a run begin, and its horizon; and whether the schedule is constant.

    Factor and batch size are, if they are the same all over a part. The ``bends`` begin parts, too.
    """
    own = _first_steps(np.array(schedule.knots), horizon).tolist() if schedule.knots else ()
    parts = np.array(sorted({0, *own, *bends, horizon}))
    firsts, lasts = parts[:-1], parts[1:]
    if schedule.knots is None:
        return parts, np.zeros(firsts.size, dtype=np.bool_)
    inside = firsts + np.multiply.outer(PROBES, lasts - 1 - firsts)
    flat = np.ones(firsts.size, dtype=np.bool_)
    for values in (schedule.at_steps, schedule.noise):
        found = values(inside.ravel(), horizon)
        if found.size > 1:
            flat &= np.all(found.reshape(inside.shape) == found[: firsts.size], axis=0)
    return parts, flat


def _first_steps(fractions: Array, horizon: int) -> Integers:
    """The first steps t with t / T >= each fraction, whatever the rounding of fraction * T."""
    steps = np.maximum(np.floor(fractions * horizon).astype(np.int64) - 1, 0)
    while np.any(early := steps / horizon < fractions):
        steps += early
    return steps
