"""Adam's expected risk by sampling its updates, where the closure is in doubt.

Adam treats every mode by itself, and the expected risk is a sum over modes, so each node of the
compressed spectrum has replicas of its own: the same number for a mode of large curvature and for a
node that stands for a thousand modes. A simulation of whole runs (``simulate``) spends most of its
draws on modes that hardly count.

The replicas of a node are in groups. In each, theta_0 is stratified: one start from each of equally
likely intervals of a wider normal distribution, in random order and weighted with the ratio of the
densities: what is left of the risk after few steps is of starts far out. At each step the noise of
all replicas is one stratified sample of the normal distribution, a fixed one in random order that
is turned by a random amount (a Latin hypercube whose columns are rotations: a replica's noise is
independent from step to step, and two replicas share a number only at different steps). The scatter
of the groups gives the standard error. The draws are the same at every call, so that two learning
rates are compared on the same noise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from nqm_study.model.adaptive.kernels import adam_chains
from nqm_study.model.adaptive.nodes import TINY, modes
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.horizon import Look, Search, counted
from nqm_study.model.optimizers import Adam
from nqm_study.model.outcome import Crossing, Status
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Schedule

REPLICAS = 2**15
"""Replicas of all nodes together: the standard error is mostly below 1 % of the risk."""

GROUPS = 16
"""Groups of replicas, whose means tell the standard error."""

WIDER = 1.6
"""Times as wide are the starts drawn from as they are distributed."""

FEWEST_REPLICAS = 4
"""Replicas of a node in a group, where there are many nodes."""

SEED = 1907_04164
"""Of the one stratified sample and its turns."""

STEPS_AT_ONCE = 16
"""Steps between two looks at whether the target was reached."""


MOST_WORK = 2**25
"""Updates of a replica that a crossing is worth: about 0.1 s."""

RUNS = 8
"""Times as many where each number of steps is a run of its own."""

DIVERGED = 10.0
"""A run diverges whose risk ends above this times the initial one."""

FLAT = 0.998
"""A risk whose mean falls by less from one quarter of a run to the next has come to rest."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """Sampled expected losses of one run, and their standard errors.

    Attributes:
        risks: shape (n + 1,), after 0 .. n steps; the last one is the first at most the target,
            unless none is.
        standard_errors: of each, from the scatter of the groups.
    """

    risks: Array
    standard_errors: Array


def sampled_crossing(
    problem: Problem,
    optimizer: Adam,
    schedule: Schedule,
    target: float,
    max_steps: int,
    closure: Crossing,
    level: int | None,
    max_growth: float | None = None,
    likely: tuple[int, Iterator[int]] | None = None,
) -> Crossing:
    """The fewest steps to the target by sampling; the closure's where it would take too long.

    Where each number of steps is a run of its own, ``likely`` says up to where all of them are to
    be looked at, and which of them need be.
    """
    count = modes(problem, level)[0].size
    affordable = MOST_WORK // (count * GROUPS * _replicas(count))
    run = functools.partial(sampled_risks, problem, optimizer, schedule, level=level)
    highest = math.inf if max_growth is None else max_growth * problem.spectrum.initial_risk
    most = affordable // RUNS if likely else affordable
    long = 2 * (closure.steps or 1) > most
    if most == 0 or (long and not _says_nothing(closure)):
        return closure
    if likely:
        work = RUNS * affordable
        sampled = _shortest_run(run, target, min(max_steps, most), highest, *likely, work)
    else:
        sampled = _first_step(run, target, min(max_steps, most), highest)
    if sampled.steps is not None or sampled.status == "diverged":
        return sampled
    if max_steps <= most:
        return replace(sampled, status="max_steps")
    # Without an end in sight, and where the closure does not get there either, its word stands.
    at_rest = sampled.status == "floor_above_target"
    return sampled if at_rest and closure.steps is not None and not long else closure


def _says_nothing(closure: Crossing) -> bool:
    """Whether a closure may be off by as much as it says: a short run may show that it diverges."""
    return closure.error is not None and closure.error >= 1.0


def _first_step(
    run: Callable[..., Sampled], target: float, max_steps: int, highest: float
) -> Crossing:
    """The first step of a run whose risk is at most the target."""
    sampled = run(n_steps=max_steps, target=target)
    if sampled.risks[-1] <= target:
        if not sampled.risks.max() <= highest:
            return _at(sampled, sampled.risks.size - 1, "diverged")
        return _at(sampled, sampled.risks.size - 1, "reached")
    least = int(np.argmin(sampled.risks))
    if not sampled.risks[-1] <= DIVERGED * sampled.risks[0]:
        return _at(sampled, least, "diverged")
    quarter = sampled.risks.size // 4
    before, last = sampled.risks[-2 * quarter : -quarter], sampled.risks[-quarter:]
    flat = quarter > 0 and last.mean() > FLAT * before.mean()
    return _at(sampled, least, "floor_above_target" if flat else "max_steps")


def _shortest_run(
    run: Callable[..., Sampled],
    target: float,
    max_steps: int,
    highest: float,
    every: int,
    likely: Iterator[int],
    work: int,
) -> Crossing:
    """The smallest horizon whose last risk is at most the target.

    Up to ``every``, the likely ones are looked at, as long as the steps of their runs add up to no
    more than ``work``.
    """
    runs: dict[int, Sampled] = {}

    def look(horizon: int, _: int) -> Look:
        if horizon not in runs:
            runs[horizon] = run(n_steps=horizon)
        risk = float(runs[horizon].risks[-1])
        return Look(risk, risk, 0.0, 0.0)

    def counts(horizon: int) -> bool:
        return bool(runs[horizon].risks.max() <= highest)

    looked = every = min(every, max_steps)
    for horizon in likely:
        work -= horizon
        if horizon > every:
            break
        if work < 0:
            looked = horizon - 1
            break
        if look(horizon, 0).risk <= target and counts(horizon):
            return _at(runs[horizon], horizon, "reached")
    found = Search(counted(look, target, counts), target, max_steps, above=looked).smallest()
    if found.steps is not None:
        return replace(_at(runs[found.steps], found.steps, "reached"), smallest=False)
    at = max(found.at, 1)
    look(at, 0)
    grown = any(each.risks[-1] <= target for each in runs.values())
    missed = _at(runs[at], at, "diverged" if grown else "max_steps")
    return replace(missed, smallest=looked >= max_steps)


def _at(sampled: Sampled, step: int, status: Status) -> Crossing:
    """The crossing, or its absence, that a sampled run shows at one of its steps."""
    risk = float(sampled.risks[step])
    error = float(sampled.standard_errors[step]) / max(risk, TINY)
    return Crossing(step if status == "reached" else None, status, risk, error, sampled=True)


def sampled_risks(
    problem: Problem,
    optimizer: Adam,
    schedule: Schedule,
    *,
    n_steps: int,
    level: int | None,
    target: float = -math.inf,
) -> Sampled:
    """Estimate the risks of a run of n_steps, up to the first that is at most the target."""
    h, weight, noise, mean, variance = modes(problem, level)
    count = h.size
    starts, share, pool = _sample(count)
    turns = np.random.default_rng(SEED).integers(0, starts.size, n_steps)
    state = np.zeros((3, *starts.shape))
    state[0] = mean[:, None, None] + np.sqrt(variance)[:, None, None] * starts
    decay = float(optimizer.weight_decay)
    first = state[0].copy() if decay else None
    t = np.arange(1.0, n_steps + 1.0)
    factors = schedule.at_steps(t - 1.0, n_steps)
    rates = optimizer.learning_rate * factors / (1.0 - optimizer.beta1**t)
    pulls = decay * optimizer.learning_rate * factors
    scales = 1.0 / np.sqrt(1.0 - optimizer.beta2**t)
    scatters = np.sqrt(schedule.noise(t - 1.0, n_steps)) * np.ones(n_steps)
    decays = float(optimizer.beta1), float(optimizer.beta2), float(optimizer.eps)
    deviation = np.sqrt(noise / problem.batch_size)
    risks = np.empty((n_steps + 1, GROUPS))
    risks[0] = weight @ np.sum(share * state[0] ** 2, axis=2)
    done = 0
    while done < n_steps:
        now = slice(done, min(done + STEPS_AT_ONCE, n_steps))
        after = slice(now.start + 1, now.stop + 1)
        adam_chains(
            decays, None if first is None else (pulls[now], first), rates[now], scales[now],
            scatters[now], h, deviation, weight, pool, turns[now], share, state, risks[after],
        )  # fmt: skip
        done = now.stop
        reached = np.flatnonzero(risks[after].mean(axis=1) <= target)
        if reached.size:
            done = now.start + int(reached[0]) + 1
            break
    risks = risks[: done + 1]
    return Sampled(risks.mean(axis=1), risks.std(axis=1, ddof=1) / math.sqrt(GROUPS))


def _replicas(count: int) -> int:
    """Replicas of each node in a group, by the number of nodes."""
    return max(REPLICAS // (count * GROUPS), FEWEST_REPLICAS)


@functools.lru_cache(maxsize=8)
def _sample(count: int) -> tuple[Array, Array, Array]:
    """Standard normal starts and their shares, (count, groups, replicas), and noise, twice over."""
    from scipy.special import ndtri

    rng = np.random.default_rng(SEED)
    replicas = _replicas(count)
    shape = (count, GROUPS, replicas)
    stratum = rng.permuted(np.broadcast_to(np.arange(replicas), shape), axis=2)
    starts = WIDER * ndtri((stratum + rng.uniform(size=shape)) / replicas)
    share = np.exp(-0.5 * (1.0 - WIDER**-2) * starts**2)
    share /= share.sum(axis=2, keepdims=True)
    noise = ndtri((rng.permutation(starts.size) + 0.5) / starts.size)
    return starts, share, np.concatenate((noise, noise))
