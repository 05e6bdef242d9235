"""A run under a schedule, cut into stretches of constant rule.

A run is short enough to take its single steps, or is cut into stretches over which what the
schedule says is taken at its mean: smooth parts into stretches that are shorter towards their ends.
Where coefficients change with the step as powers of 1 / (t - s), s the step at which they begin or
bend, they are smooth in log(t - s): there the first steps are single ones, and then so many
stretches follow for each octave of t - s that their length grows as t.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.schedules.base import Schedule

PROBES = np.array([0.0, 0.37, 0.81, 1.0])
"""Where a smooth part is looked at to tell whether it is constant, as shares of it."""

OUTLINE = 256
"""Points at which the number of stretches up to a step is known; it is linear between them."""

EVEN = 1e-9
"""Above what is an integer, but for rounding."""


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
    parts = np.unique([0, *_first_steps(np.array(schedule.knots or ()), horizon), horizon])
    bounds = [np.concatenate((parts, np.array(ends, dtype=np.int64)))]
    firsts, lasts = parts[:-1], parts[1:]
    if schedule.knots is not None:
        bends = ~_are_flat(schedule, firsts, lasts, horizon)
        firsts, lasts = firsts[bends], lasts[bends]
    exact, distinct = True, not ends
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
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
    own = _first_steps(np.array(schedule.knots or ()), horizon)
    inner = np.array(bends)[np.array(bends) < horizon]
    parts = np.unique([0, *own, *inner, horizon])
    bounds = [parts, np.array(ends, dtype=np.int64)]
    flat = np.zeros(parts.size - 1, dtype=np.bool_)
    if schedule.knots is not None:
        flat = _are_flat(schedule, parts[:-1], parts[1:], horizon)
    for first, last, is_flat in zip(parts[:-1].tolist(), parts[1:].tolist(), flat, strict=True):
        bend = int(inner[inner <= first][-1])
        single = min(max(first, bend + count), last)
        bounds.append(np.arange(first, single))
        if single == last:
            continue
        # A stretch ends where the number of stretches up to t is an integer.
        octaves = np.log2(np.array([single, last]) - bend)
        number = 0.5 * count * octaves
        if not is_flat:
            graded = first - bend + _graded(OUTLINE) * (last - first)
            graded = np.log2(graded[graded > single - bend])
            octaves = np.sort(
                np.concatenate((np.linspace(octaves[0], octaves[1], OUTLINE), graded))
            )
            share = (np.exp2(octaves) + bend - first) / (last - first)
            number = 0.5 * count * octaves
            number += count * np.arccos(np.clip(1.0 - 2.0 * share, -1.0, 1.0)) / np.pi
        wanted = np.arange(math.ceil(number[0]), math.ceil(number[-1]), dtype=np.float64)
        bounds.append(bend + np.rint(np.exp2(np.interp(wanted, number, octaves))).astype(np.int64))
    bound = _ascending(np.concatenate(bounds))
    lengths = np.diff(bound)
    # The mean over n steps by two pairs of them that make it exact for cubics.
    square = (lengths.astype(np.float64) ** 2 - 1.0) / 12.0
    odd = 0.5 * ((lengths - 1) % 2)
    near = np.floor(np.sqrt(square) - odd + EVEN) + odd
    far = np.minimum(near + 1.0, 0.5 * (lengths - 1))
    apart = np.where(far > near, far**2 - near**2, 1.0)
    outer = np.where(far > near, 0.5 * (square - near**2) / apart, 0.0)
    aside = np.rint(np.stack((near, far)) - odd).astype(np.int64)
    left = (bound[:-1] + bound[1:] - 1) // 2
    right = left + (2.0 * odd).astype(np.int64)
    steps = np.concatenate((left - aside, right + aside))
    shares = np.tile(np.stack((0.5 - outer, outer)), (2, 1))
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


def _first_steps(fractions: Array, horizon: int) -> Integers:
    """The first steps t with t / T >= each fraction, whatever the rounding of fraction * T."""
    steps = np.maximum(np.floor(fractions * horizon).astype(np.int64) - 1, 0)
    while np.any(early := steps / horizon < fractions):
        steps += early
    return steps


def _are_flat(
    schedule: Schedule, firsts: Integers, lasts: Integers, horizon: int
) -> npt.NDArray[np.bool_]:
    """Whether factor and batch size are the same all over each of some parts."""
    inside = firsts + np.multiply.outer(PROBES, lasts - 1 - firsts)
    flat = np.ones(firsts.size, dtype=np.bool_)
    for values in (schedule.at_steps, schedule.noise):
        found = values(inside.ravel(), horizon)
        if found.size > 1:
            flat &= np.all(found.reshape(inside.shape) == found[: firsts.size], axis=0)
    return flat
