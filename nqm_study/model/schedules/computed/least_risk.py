"""The least last risk of a number of steps, over the rates of pieces: see optimal.py, joint.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.schedule_kernel import Rule, noise_contributions, run_signal
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules.computed import kernels

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


ZERO = 1e-15
"""The smallest rate, as a share of the largest: as good as zero, and with a logarithm."""

FAR = 1e3
"""A largest rate counts for no more than this times the largest stable one."""

COLLAPSED = 1e-3
"""A rate below this share of its neighbours' may be stuck near zero."""

SHARE = 1e-3
"""The logarithm of L_T + SHARE * target is minimised: a risk of zero is no pole then."""

DIPS = 3
"""The most local minima over the scales of each shape that are started from."""

SHORT = 64
"""The most steps up to which all smaller numbers of steps are looked at."""

CLOSELY = 32
"""Places at which a single rate is looked at, for each of such few steps."""

SIMPLE = 8
"""With memory and more pieces than these only every third scale is looked at: they cost more, and
the ends of their descents differ less."""

FALLS = (0.1, 0.01, 0.001)
"""With momentum, starts are also rates that fall geometrically to these shares of the first."""

SCALES = np.unique(np.concatenate((np.geomspace(1e-4, 1.0, 25), np.linspace(0.0, 1.0, 33)[1:])))
"""Scales of the rates to start from, as shares of the largest stable one."""


CALL, ITERATION = 4e4, 8e4
"""The work of a call and of an iteration of L-BFGS-B besides, in units of that of a product."""


class Minimum(NamedTuple):
    """A least last risk, and the rates that have it."""

    steps: int
    rates: Array
    risk: float
    residual: float


class Effort(NamedTuple):
    """How far a descent is followed.

    Attributes:
        gradient: the largest projected derivative left.
        iterations: the most iterations.
        progress: the least relative progress of an iteration.
        enough: whether the first risk that is at most the target will do.
    """

    gradient: float
    iterations: int
    progress: float = 1e-16
    enough: bool = False


ROUGH, FULL = Effort(1e-3, 60), Effort(1e-8, 1000)


class Tables(NamedTuple):
    """A compressed problem and the rule of an optimizer, as the kernels take them.

    Attributes:
        like: as many numbers as a state has components, k.
        drift, gain: at the rate 0, and what a rate of 1 adds; shapes (2, k, k) and (2, k).
        point: shape (k,).
        start: a mode's state before the first step, shape (k,).
        readout: the component whose square is the risk.
        curvature, first_noise, signal_weight, noise_weight: see ``Modes``.
    """

    like: tuple[float, ...]
    drift: Array
    gain: Array
    point: Array
    start: Array
    readout: int
    curvature: Array
    first_noise: int
    signal_weight: Array
    noise_weight: Array

    @classmethod
    def of(cls, problem: Problem, optimizer: SGD, level: int) -> Tables:
        """Those of an optimizer, whatever its own rate, at a level of compression."""
        made = optimizer.rule(np.zeros(2, dtype=np.int64), np.array([0.0, 1.0]))
        drift, gain = (np.stack((part[0], part[-1] - part[0])) for part in (made.drift, made.gain))
        return cls(
            (0.0,) * made.start.size, drift, gain, made.point[0], made.start, made.component,
            *Modes.of(problem, optimizer, level),
        )  # fmt: skip

    def last_risk(
        self, lengths: Integers, rates: Array, gradient: Array, shares: Array | None = None
    ) -> float:
        """L_T of pieces, with shares of the noise; its derivatives are written to ``gradient``."""
        shares = np.ones(rates.size) if shares is None else shares
        return kernels.last_risk(*self, lengths, rates, shares, gradient)

    def contributions(self, lengths: Integers, rates: Array) -> tuple[float, Array]:
        """The signal's part of L_T, and what the noise of each piece adds to it."""
        drift = self.drift[0] + np.multiply.outer(rates, self.drift[1])
        gain = self.gain[0] + np.multiply.outer(rates, self.gain[1])
        rule = Rule(drift, gain, self.point[None], np.ones(1))
        signal, noise = np.empty(1), np.empty(rates.size)
        run_signal(
            self.like, rule, 0, self.curvature, 0, self.start, self.readout, self.signal_weight,
            lengths, np.array([rates.size]), signal,
        )  # fmt: skip
        noise_contributions(
            self.like, rule, self.curvature, self.first_noise, self.readout, self.noise_weight,
            lengths, noise,
        )  # fmt: skip
        return float(signal[0]), noise


Measure = Callable[[Integers, Array, Array], float]
"""A function of the lengths and rates of pieces; it writes its derivatives by the rates."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs on one compression of a problem.

    Attributes:
        tables: the compressed problem and the optimizer.
        target: expected loss to reach.
        cuts: where pieces begin, and the end, as numerators over the last of them: piece k is the
            steps t with cuts[k] <= t * cuts[-1] / steps < cuts[k + 1]. In short runs some have no
            step; their rates count for nothing.
        largest: the largest rate allowed.
        stable: the largest rate to start from.
        most: the most steps that count.
        work: what is left of it, in units of a compiled composition.
        measure: what is minimised in place of the last risk, with a target of 0.
    """

    tables: Tables
    target: float
    cuts: Integers
    largest: float
    stable: float
    most: int
    work: Budget = field(default_factory=Budget)
    measure: Measure | None = None

    @property
    def pieces(self) -> int:
        """The number of rates."""
        return self.cuts.size - 1

    def last_risk(self, steps: int, rates: Array) -> tuple[float, Array]:
        """L_T and its derivatives by the rates; inf and zeros where it overflows."""
        lengths = np.diff(edges(steps, self.cuts))
        gradient = np.zeros(rates.size)
        measure = self.measure or self.tables.last_risk
        if steps >= self.cuts[-1]:
            risk = measure(lengths, rates, gradient)
        else:
            own = np.flatnonzero(lengths)
            part = np.zeros(own.size)
            risk = measure(lengths[own], rates[own], part)
            gradient[own] = part
        self.work.spend(self.cost(steps))
        if math.isfinite(risk) and np.all(np.isfinite(gradient)):
            return risk, gradient
        return math.inf, np.zeros(rates.size)

    def difference(self, found: Minimum) -> float:
        """The relative difference of a risk from that of the same rates on these runs."""
        risk, _ = self.last_risk(found.steps, found.rates)
        scale = max(risk, found.risk)
        return abs(risk - found.risk) / scale if 0.0 < scale < math.inf else scale

    def cost(self, steps: int) -> float:
        """The work of a risk: some matrices composed for each digit of a piece's length."""
        pieces = min(steps, self.pieces)
        components, nodes = self.tables.start.size, self.tables.curvature.size
        return CALL + float(pieces * nodes * components**3 * (2.0 + math.log2(steps / pieces)))

    def fitting(self, rates: Array) -> Array:
        """As many rates as there are pieces, from those of fewer or more equal ones."""
        return np.ascontiguousarray(rates[np.arange(self.pieces) * rates.size // self.pieces])

    def minimise(self, steps: int, rates: Array, effort: Effort = FULL) -> Minimum:
        """The least L_T that is found from some rates on, as far as the work lasts."""
        from scipy import optimize

        top = math.log(self.largest)
        least = math.log(ZERO * min(self.largest, FAR * self.stable))
        added = SHARE * self.target
        affordable = self.work.left / (self.cost(steps) + ITERATION)

        def objective(logarithms: Array) -> tuple[float, Array]:
            now = self._rates(logarithms)
            self.work.spend(ITERATION)
            risk, gradient = self.last_risk(steps, now)
            if risk == math.inf:
                return 1e3, gradient  # diverged: far above any risk's logarithm
            return math.log(risk + added), gradient * (now / (risk + added))

        def reached(intermediate_result: OptimizeResult) -> None:
            if effort.enough and intermediate_result.fun <= math.log(self.target + added):
                raise StopIteration

        found = optimize.minimize(
            objective,
            np.log(np.clip(self.fitting(rates), math.exp(least), self.largest)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(least, top)] * self.pieces,
            callback=reached,
            options={
                "maxcor": 20,
                "gtol": effort.gradient,
                "ftol": effort.progress,
                "maxiter": effort.iterations,
                "maxfun": max(1, math.floor(min(2 * effort.iterations, affordable))),
                "maxls": 40,
            },
        )
        rates = self._rates(found.x)
        return self.minimum(steps, rates)

    def minimum(self, steps: int, rates: Array) -> Minimum:
        """The risk of some rates, and how far they are from a minimum."""
        risk, gradient = self.last_risk(steps, rates)
        slope = gradient * (rates / (risk + SHARE * self.target))
        missed = np.where(rates < self.largest, np.abs(slope), np.maximum(slope, 0.0))
        return Minimum(steps, rates, risk, float(np.max(missed)))

    def _rates(self, logarithms: Array) -> Array:
        at_bound = logarithms >= math.log(self.largest)
        return np.where(at_bound, self.largest, np.exp(logarithms))

    def starts(self, steps: int) -> list[Array]:
        """Rates to start from: all at the largest, and the best constant and decaying ones.

        With momentum the risk goes up and down with the scale of the rates, so of each shape the
        lowest dips are taken. A single rate of few steps is all there is, and looked at closely.
        """
        count = self.pieces
        alone = min(count, steps) == 1 and steps <= SHORT
        scales = np.arange(1, CLOSELY * steps + 1) / (CLOSELY * steps) if alone else SCALES
        most = scales.size if alone else DIPS
        shapes = [np.ones(count), np.minimum(1.0, np.geomspace(10.0, 0.05, count))]
        if len(self.tables.like) > 1:
            scales = scales if count <= SIMPLE else scales[::3]
            shapes += [np.geomspace(1.0, fall, count) for fall in FALLS]
        found = [self.stable * shapes[0]]
        for shape in shapes[:1] if min(count, steps) == 1 else shapes:
            scan = [self.stable * scale * shape for scale in scales]
            risks = np.array([self.last_risk(steps, rates)[0] for rates in scan])
            around = np.concatenate(([np.inf], risks, [np.inf]))
            dips = np.flatnonzero((risks <= around[:-2]) & (risks < around[2:]))
            found += [scan[dip] for dip in dips[np.argsort(risks[dips], kind="stable")][:most]]
        return found


def equal(pieces: int) -> Integers:
    """The cuts of equal pieces."""
    return np.arange(pieces + 1, dtype=np.int64)


def edges(steps: int, cuts: Integers) -> Integers:
    """The first step of each piece, and the end: ceil(cut * steps / last cut)."""
    rounded: Integers = -(-cuts * steps // cuts[-1])
    return rounded


def by_risk(found: Minimum) -> float:
    """The last risk of a minimum, which is what minima are compared by."""
    return found.risk


def lifted(rates: Array) -> Array:
    """The rates, with those far below both neighbours raised to the lower of them."""
    padded = np.concatenate((rates[1:2], rates, rates[-2:-1]))
    if padded.size < rates.size + 2:  # a single rate has no neighbours
        return rates
    around = np.minimum(padded[:-2], padded[2:])
    return np.where(rates < COLLAPSED * around, around, rates)
