"""Runs under a schedule as stretches of constant rate."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.schedules import Schedule

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PROBES = np.array([0.0, 0.37, 0.81, 1.0])
"""Where a smooth part is looked at to tell whether it is constant, as shares of it."""


@dataclass(frozen=True, eq=False)
class Stretches:
    """A run as stretches of constant rate.

    Attributes:
        factors: the schedule's mean over each.
        lengths: the steps of each, >= 1.
        exact: whether the rate is the same at all steps of each.
    """

    factors: Array
    lengths: Integers
    exact: bool


def stepped(schedule: Schedule, horizon: int, steps: int | None = None) -> Stretches:
    """A run whose stretches are its steps, or the first so many of them."""
    count = horizon if steps is None else steps
    factors = schedule.at_steps(np.arange(count, dtype=np.float64), horizon)
    return Stretches(factors, np.ones(count, dtype=np.int64), exact=True)


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
    bound = np.sort(every) if distinct else np.unique(every)
    lengths = np.diff(bound)
    # The mean over n steps by the two nodes that make it exact for cubics.
    middle = np.asarray(0.5 * (bound[:-1] + bound[1:] - 1), dtype=np.float64)
    aside = np.sqrt((lengths.astype(np.float64) ** 2 - 1.0) / 12.0)
    two = schedule.at_steps(np.concatenate((middle - aside, middle + aside)), horizon)
    factors = two.reshape(2, -1).mean(axis=0)
    return Stretches(factors, lengths, exact)


@functools.lru_cache(maxsize=64)
def _graded(count: int) -> Array:
    """Where the stretches of a smooth part end, as shares of it; shorter towards its ends."""
    return np.asarray(0.5 * (1.0 - np.cos(np.pi * np.arange(1, count) / count)))


def _first_steps(fractions: Array, horizon: int) -> Integers:
    """The first steps t with t / T >= each fraction, whatever the rounding of fraction * T."""
    steps = np.maximum(np.floor(fractions * horizon).astype(np.int64) - 1, 0)
    while np.any(early := steps / horizon < fractions):
        steps += early
    return steps


def _are_flat(
    schedule: Schedule, firsts: Integers, lasts: Integers, horizon: int
) -> npt.NDArray[np.bool_]:
    """Whether the factor is the same all over each of some parts."""
    inside = firsts + np.multiply.outer(PROBES, lasts - 1 - firsts)
    factors = schedule.at_steps(inside.ravel(), horizon).reshape(inside.shape)
    return np.asarray(np.all(factors == factors[0], axis=0))
