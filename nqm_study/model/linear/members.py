"""Families of linear optimizers, and the risks of many members at one number of steps.

A search for an optimum looks at thousands of members at one number of steps: their rules, those of
a decay at once, are put into the tables of one ``Engine`` one after the other.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.risks import Engine, Found
from nqm_study.model.numerics import simplex
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled
from nqm_study.model.numerics.refine import SAFETY, TOLERANCE, agreeing
from nqm_study.model.optimizers import SGD, LinearOptimizer, Update
from nqm_study.model.outcome import MOST_STEPS
from nqm_study.model.problems.problem import Problem

Point = tuple[float, float]
"""log(effective rate) and log(1 - decay)."""

Rows = tuple[Array, Array, Array]
"""Drift, gain and point of some members; one row where it is the same for all."""

FIXABLE = ("momentum", "nesterov", "preconditioner_power", "ema_decay")
"""Hyperparameters that may be held at a value."""


def require_fixable(names: Iterable[str], fixable: Sequence[str]) -> None:
    """Refuse the name of a hyperparameter that cannot be held at a value.

    Raises:
        ValueError: naming it.
    """
    for name in names:
        if name not in fixable:
            raise ValueError(f"{name}: cannot be fixed; {', '.join(fixable)} can")


@dataclass(frozen=True)
class Family:
    """Linear optimizers that differ in their learning rate and in one decay.

    The effective rate is lr / (1 - momentum) where momentum is free, and lr elsewhere. In it and in
    1 - decay, on log scales, the valley of few steps is straight: at small batch sizes its floor is
    at 1 - momentum ~ B, far from where a grid of momentum would look.

    Attributes:
        fixed: the hyperparameters that all have in common.
        decay: the name of the decay that is free, ``momentum`` or another, or None.
        make: hyperparameters by name -> the member, of which only the rule's rate and decay differ;
            ``SGD`` where it is None.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    decay: str | None = None
    make: Callable[[Mapping[str, Any]], LinearOptimizer] | None = None

    def values(self, point: Point) -> dict[str, Any]:
        """The hyperparameters at a point."""
        log_rate, log_gap = point
        gap = math.exp(log_gap)
        free = {self.decay: 1.0 - gap} if self.decay else {}
        return {"learning_rate": self._rate(log_rate, gap), **free, **self.fixed}

    def optimizer(self, point: Point) -> LinearOptimizer:
        """The optimizer at a point."""
        values = self.values(point)
        return SGD(**values) if self.make is None else self.make(values)

    def rule(self, log_rates: Sequence[float], log_gap: float) -> Update:
        """The rule of a decay's members at some rates."""
        gap = math.exp(log_gap)
        rates = [self._rate(each, gap) for each in log_rates]
        member = self.optimizer((0.0, log_gap))
        return member.rule(np.zeros(len(rates), np.int64), np.array(rates))

    def _rate(self, log_rate: float, gap: float) -> float:
        return math.exp(log_rate) * (gap if self.decay == "momentum" else 1.0)


NO_DECAY, MOMENTUM, EMA_DECAY = 0, 1, 2
"""Which decay is free."""


class Form(NamedTuple):
    """A linear family: what is free, and the values of the rest.

    Attributes:
        free: NO_DECAY, MOMENTUM or EMA_DECAY; that one's value does not matter.
        momentum, nesterov, ema_decay: as in ``SGD``.
        moving, averaged: whether the state has a momentum, and an average.
    """

    free: int
    momentum: float
    nesterov: bool
    ema_decay: float
    moving: bool
    averaged: bool


@compiled
def rules(form: Form, points: Array) -> Rows:
    """Drift, gain and point of the members at some points, shape (points, 2); of rows as many.

    The twin of ``SGD.update``, which takes twice as long as the risk that is asked for.
    """
    n, k = points.shape[0], 1 + form.moving + form.averaged
    drift, gain, point = np.zeros((n, k, k)), np.empty((n, k)), np.zeros((n, k))
    for index in range(n):
        _write_rule(form, points[index], drift[index], gain[index], point[index])
    return drift, gain, point


@compiled
def _write_rule(form: Form, at: Array, drift: Array, gain: Array, point: Array) -> None:
    rate, gap = math.exp(at[0]), math.exp(at[1])
    momentum, ema_decay = form.momentum, form.ema_decay
    if form.free == MOMENTUM:
        rate *= gap
        momentum = 1.0 - gap
    elif form.free == EMA_DECAY:
        ema_decay = 1.0 - gap
    now, later = (1.0 + momentum, momentum**2) if form.nesterov else (1.0, momentum)
    drift[0, 0], gain[0], point[0] = 1.0, -rate * now, 1.0
    if form.moving:
        drift[0, 1], drift[1, 1], gain[1] = -rate * later, momentum, 1.0
    if form.averaged:
        # theta is held as theta - e.
        last = gain.size - 1
        for c in range(1, last):
            drift[last, c] = (1.0 - ema_decay) * drift[0, c]
            drift[0, c] *= ema_decay
        drift[0, 0], drift[last, 0], drift[last, last] = ema_decay, 1.0 - ema_decay, 1.0
        gain[last] = (1.0 - ema_decay) * gain[0]
        gain[0] *= ema_decay
        point[last] = 1.0


OVERFLOW = 1e3
"""Stands for the logarithm of a risk that is no number."""


@compiled
def _row(part: Array, index: int) -> Array:
    """One row of what may be the same in each."""
    return part[index : index + 1] if part.shape[0] > 1 else part


@compiled
def excesses(rule: Rows, modes: Modes, steps: Integers, target: float, engine: Engine) -> Array:
    """log(L_T / target), within OVERFLOW, of each row of a rule, after ``steps`` of each."""
    drift, gain, point = rule
    found, risk = np.empty(steps.size), np.empty(1)
    for index in range(found.size):
        row = slice(index, index + 1)
        kernels.first_level(
            engine.like, _row(drift, index), _row(gain, index), _row(point, index), modes.curvature,
            modes.first_noise, engine.signal_power, engine.noise_power, engine.spread,
        )  # fmt: skip
        engine.filled[0] = 1
        kernels.risks_at(  # compiled code does not spread named tuples
            engine.like, engine.signal_power, engine.start, engine.signal_weight,
            engine.noise_power, engine.spread, engine.noise_weight, engine.filled, engine.shared,
            engine.readout, engine.z, engine.scratch, engine.covariance, engine.noise_scratch,
            steps[row], risk,
        )  # fmt: skip
        found[index] = OVERFLOW if risk[0] != 0.0 else -OVERFLOW
        if 0.0 < risk[0] < np.inf:
            found[index] = max(-OVERFLOW, min(math.log(risk[0] / target), OVERFLOW))
    return found


MOST_LOG = 300.0
"""Rates stay within this, as logarithms, so that they and their squares are finite."""

RANKED = 1e-4
"""Relative error that risks may have by which points are ranked, at first."""

LEAST_LOG_GAP = -34.0
"""1 - decay stays above this, as a logarithm, where a decay is still below 1."""

SMALL, FLAT = 1e-5, 1e-11
"""A minimum is found where the simplex is as small as this, and its values as near."""

CLOSE, FAR = 1e-3, 100.0
"""It is given up where the simplex is as small, and its least value above 0 by FAR times the
difference of its values: at this slope the target is CLOSE * FAR away, many points of a grid."""

MOST_CALLS = 400
"""The most risks that a minimum may take."""

SIDES = (0.005, -0.02)
"""The first simplex: so far to a larger rate, and so far to a larger decay."""

LOWEST, HIGHEST = (-MOST_LOG, LEAST_LOG_GAP), (MOST_LOG, 0.0)
"""The box of all points."""

FREE = {None: NO_DECAY, "momentum": MOMENTUM, "ema_decay": EMA_DECAY}


class Members:
    """A family's members on a problem, by their points."""

    def __init__(self, problem: Problem, family: Family, target: float) -> None:
        self._problem, self._family, self._target = problem, family, target
        self._held = family.optimizer((0.0, 0.0))
        self.last_level = problem.spectrum.last_level
        self.bench = functools.cache(self._bench)

    def excesses(self, points: Sequence[Point], steps: int | Sequence[int], level: int) -> Array:
        """log(L_T / target) at each point, after one number of steps or that of each point.

        It is a large number where the risk overflows.
        """
        each = np.empty(len(points), dtype=np.int64)
        each[:] = steps
        return self.bench(level).excesses(points, each)

    def least(self, start: Point, steps: int) -> tuple[Point, float]:
        """A local minimum of log(L_T / target) over the members, and its value.

        A compression's error hardly moves the minimum, and its value there is that of a finer one.
        The minimum is looked for again on that where the error could decide the sign.
        """
        level = self.level(start, steps, RANKED)
        while True:
            start, value = self._least(start, steps, level)
            if level == self.last_level:
                return start, value
            finer = float(self.excesses([start], steps, level + 1)[0])
            error = abs(value - finer)
            if error <= TOLERANCE or (error <= RANKED and abs(finer) > SAFETY * error):
                return start, finer
            level += 1

    def _least(self, start: Point, steps: int, level: int) -> tuple[Point, float]:
        """A local minimum of log(L_T / target) on one compression, and its value."""
        bench, each = self.bench(level), np.array((steps,))
        free = 1 if self._family.decay is None else 2

        def at(point: Array) -> Point:
            rate, *gap = point.tolist()
            return rate, gap[0] if gap else start[1]

        found, value = simplex.least(
            lambda point: float(bench.excesses([at(point)], each)[0]),
            np.array(start[:free]),
            SIDES[:free],
            (np.array(LOWEST[:free]), np.array(HIGHEST[:free])),
            lambda size, least, most: (
                (size <= CLOSE and least > FAR * (most - least))
                or (size <= SMALL and most - least <= FLAT)
            ),
            MOST_CALLS,
        )
        return at(found), value

    def level(self, point: Point, steps: int, tolerance: float = TOLERANCE) -> int:
        """The coarsest compression that agrees with the next one at a point."""
        return agreeing(
            lambda level: float(self.excesses([point], steps, level)[0]),
            lambda coarse, fine: abs(fine - coarse),
            self._problem.spectrum.first_level,
            self.last_level,
            lambda _, error: error <= tolerance,
        )[0]

    def _bench(self, level: int) -> Bench:
        """The members on a level of compression."""
        return Bench(self._family, Modes.of(self._problem, self._held, level), self._target)


class Bench:
    """Members on one compression, one after the other in the tables of one ``Engine``."""

    def __init__(self, family: Family, modes: Modes, target: float) -> None:
        # The copies can be written to, for which the kernels are compiled.
        curvature, signal_weight = modes.curvature.copy(), modes.signal_weight.copy()
        self._modes = modes._replace(curvature=curvature, signal_weight=signal_weight)
        self._family, self._target = family, target
        self._form = form_of(family) if family.make is None else None
        self._engine = functools.cache(self._unfilled)

    def excesses(self, points: Sequence[Point], steps: Integers) -> Array:
        """log(L_T / target) at each point after the steps of each."""
        found = np.empty(steps.size)
        for each, rows, engine in self._groups(points):
            found[each] = excesses(rows, self._modes, steps[each], self._target, engine)
        return found

    def search(self, point: Point, most_steps: int) -> Found:
        """The first crossing of the member at a point."""
        ((_, rows, engine),) = self._groups([point])
        engine.fill(*rows, self._modes)
        return engine.search(self._target, most_steps)

    def _groups(self, points: Sequence[Point]) -> Iterator[tuple[slice | list[int], Rows, Engine]]:
        """The places of points with their rules, and tables for these."""
        if self._form is not None:
            k = 1 + self._form.moving + self._form.averaged
            engine = self._engine(k, k - 1 if self._form.averaged else 0)
            engine.start[engine.readout] = 1.0
            yield slice(None), rules(self._form, np.array(points).reshape(-1, 2)), engine
            return
        order = sorted(range(len(points)), key=lambda place: points[place][1])
        for gap, group in itertools.groupby(order, lambda place: points[place][1]):
            each = list(group)
            rule = self._family.rule([points[place][0] for place in each], gap)
            engine = self._engine(rule.start.size, rule.component)
            engine.start[:] = rule.start
            yield each, (rule.drift, rule.gain, rule.point), engine

    def _unfilled(self, components: int, readout: int) -> Engine:
        # Levels that no search fills take no memory.
        return Engine.unfilled(np.zeros(components), readout, self._modes, MOST_STEPS)


def form_of(family: Family) -> Form:
    """A family of ``SGD`` as its kernels take it."""
    held = SGD(1.0, **family.fixed)
    free = FREE[family.decay]
    return Form(
        free=free,
        momentum=float(held.momentum),
        nesterov=bool(held.nesterov),
        ema_decay=float(held.ema_decay),
        moving=free == MOMENTUM or held.momentum > 0.0,
        averaged=free == EMA_DECAY or held.ema_decay > 0.0,
    )
