"""The members of a linear family on a problem: risks of many at a time, without an engine for each.

A search for an optimum looks at thousands of members at one number of steps. Here these are one
compiled call; ``linear.py`` is the measure of what they say, and has the first crossings.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from nqm_study.model.linear import members_kernel as _members_kernel
from nqm_study.model.linear.families import Family, Point
from nqm_study.model.linear.members_kernel import EMA_DECAY, MOMENTUM, NO_DECAY, Form, Modes
from nqm_study.model.linear.risks import SAFETY, TOLERANCE, Engine, Found
from nqm_study.model.optimizers import FIRST, LAST, SGD
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.problems.spectrum import Array

MOST_LOG = 300.0
"""Rates stay within this, as logarithms, so that they and their squares are finite."""

RANKED = 1e-4
"""Relative error that risks may have by which points are ranked, at first."""

LEAST_LOG_GAP = -34.0
"""1 - decay stays above this, as a logarithm, where a decay is still below 1."""

SIDES = (0.005, -0.02)
"""The first simplex: so far to a larger rate, and so far to a larger decay."""

FREE = {None: NO_DECAY, "momentum": MOMENTUM, "ema_decay": EMA_DECAY}


class Members:
    """A family's members on a problem, by their points."""

    def __init__(self, problem: NoisyQuadratic, family: Family, target: float) -> None:
        self._problem, self._target = problem, target
        self._form = form_of(family)
        self._power = float(family.fixed.get("preconditioner_power", 0.0))
        self._free = 1 if family.decay is None else 2
        self._lowest = np.array((-MOST_LOG, LEAST_LOG_GAP))
        self._highest = np.array((MOST_LOG, 0.0))
        self.last_level = problem.spectrum.last_level
        self.modes = functools.cache(self._modes)

    def excesses(self, points: Sequence[Point], steps: int | Sequence[int], level: int) -> Array:
        """log(L_T / target) at each point, after so many steps (of each, where there are many).

        It is a large number where the risk overflows.
        """
        each = np.empty(len(points), dtype=np.int64)
        each[:] = steps
        where = np.array(points, dtype=np.float64).reshape(-1, 2)
        return _members_kernel.excesses(self._form, where, self.modes(level), each, self._target)

    def least(self, start: Point, steps: int) -> tuple[Point, float]:
        """A local minimum of log(L_T / target) over the members, and its value.

        A compression's error hardly moves the minimum, and its value there is that of a finer one.
        The minimum is looked for again on that where the error could decide the sign.
        """
        level = self.level(start, steps, RANKED)
        while True:
            simplex = np.array([start, start, start])[: self._free + 1]
            for side in range(self._free):
                simplex[side + 1, side] += SIDES[side]
            value = _members_kernel.least_excess(
                self._form,
                simplex,
                self._lowest,
                self._highest,
                self.modes(level),
                steps,
                self._target,
            )
            start = float(simplex[0, 0]), float(simplex[0, 1])
            if level == self.last_level:
                return start, value
            finer = float(self.excesses([start], steps, level + 1)[0])
            error = abs(value - finer)
            if error <= TOLERANCE or (error <= RANKED and abs(finer) > SAFETY * error):
                return start, finer
            level += 1

    def level(self, point: Point, steps: int, tolerance: float = TOLERANCE) -> int:
        """The coarsest compression that agrees with the next one at a point."""
        level = self._problem.spectrum.first_level
        if level == self.last_level:
            return level
        found = self.excesses([point], steps, level)
        while level < self.last_level:
            coarser, found = found, self.excesses([point], steps, level + 1)
            if abs(found[0] - coarser[0]) <= tolerance:
                break
            level += 1
        return level

    def _modes(self, level: int) -> Modes:
        nodes = self._problem.spectrum.nodes(level)
        with np.errstate(over="ignore"):
            if self._power == 0.0:
                preconditioner, curvature = np.ones_like(nodes.curvature), nodes.curvature.copy()
            else:
                preconditioner = nodes.curvature**-self._power
                curvature = preconditioner * nodes.curvature
            noise = nodes.noise_weight / self._problem.batch_size
        # Without any signal, the noise's nodes are the first ones, and its own.
        return Modes(
            preconditioner, curvature, nodes.first_noise, nodes.signal_weight.copy(), noise
        )

    def bench(self, level: int, most_steps: int) -> Bench:
        """Tables for the first crossings of one member after the other."""
        return Bench(self._form, self.modes(level), self._target, most_steps)


class Bench:
    """The tables of an ``Engine``, filled anew for every member."""

    def __init__(self, form: Form, modes: Modes, target: float, most_steps: int) -> None:
        self._form, self._modes, self._target = form, modes, target
        k = 1 + form.moving + form.averaged
        self._engine = Engine.unfilled(
            (LAST if form.averaged else FIRST)[k],
            k - 1 if form.averaged else 0,
            modes.signal_weight,
            modes.noise_weight,
            modes.first_noise,
            most_steps,
        )
        self._matrix = np.empty((k, k, modes.curvature.size))
        self._noise = np.empty((k, modes.curvature.size))

    def search(self, point: Point, most_steps: int) -> Found:
        """The first crossing of the member at a point."""
        _members_kernel.transitions(self._form, *point, self._modes, self._matrix, self._noise)
        self._engine.fill(self._matrix, self._noise, self._modes.first_noise)
        return self._engine.search(self._target, most_steps)


def form_of(family: Family) -> Form:
    """What the kernels need to know of a family."""
    held = SGD(1.0, **family.fixed)  # type: ignore[arg-type]  # nesterov is a bool
    free = FREE[family.decay]
    return Form(
        free=free,
        momentum=float(held.momentum),
        nesterov=bool(held.nesterov),
        ema_decay=float(held.ema_decay),
        moving=free == MOMENTUM or held.momentum > 0.0,
        averaged=free == EMA_DECAY or held.ema_decay > 0.0,
    )
