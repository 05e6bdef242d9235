"""The optimal piecewise-constant schedule: the fewest steps over all schedules of equal pieces.

For a given number of steps T the last risk L_T is a smooth function of the rates of the pieces,
and its gradient costs little more than the risk itself (``_optimal_kernels``). So:

1. Minimise L_T by L-BFGS-B in the logarithms of the rates, bounded by that of the largest rate. In
   these coordinates some tens of gradients do; in the rates themselves it takes many hundreds.
2. Bracket the target between two T, each minimum started from one before, and narrow the bracket
   by secants of log L_T against log T, down to T, which reaches the target, and T - 1.
3. At T - 1, minimise again from other starts: all rates at the largest; constant and decaying rates
   at the best few scales each; the solution, scaled; that of T steps. All are minimised roughly,
   and the best to the end. Where one reaches the target in T - 1 steps, go on from it.

L_T is not convex, so nothing proves that the result is the optimum. That it is taken for it rests
on this: the starts agree; the conditions of Karush, Kuhn and Tucker hold, to ``residual``; and in
the tests neither starts from random rates nor random schedules do better. With momentum near 1 and
little noise there are many local minima, and there the result is the best of those found. A rate
of zero is one more trap, since in logarithms it cannot be left: such rates are lifted, once.

The least L_T need not fall with T: with momentum and a single piece it goes up and down over the
first steps. So where T is at most SHORT, every smaller T is looked at as well; above, it is taken
to fall. All is done on a compression
of the spectrum, which is refined until the risks at T and T - 1 agree with those of the next finer
one and leave no doubt on which side of the target they lie.

Source of the problem: Zhang et al. 2019, arXiv:1907.04164, section 4 (piecewise-constant schedules
of 50 pieces). Its footnote speaks of dynamic programming; the published notebook minimises
numerically.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from nqm_study.model import _optimal_kernels
from nqm_study.model.optimizers import SGD, transition
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_integer, require_number

if TYPE_CHECKING:
    from nqm_study.model.schedules import PiecewiseConstant

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BELOW_LIMIT = 0.9998
"""The largest rate where none is given, as a share of the limit of stability: the paper's choice
2 / (h_1 + h_d + 1e-4), to its digits."""

TOLERANCE = 1e-9
"""Relative error of the risk that a compression may have."""

SAFETY = 8.0
"""How many times that error may stand between a risk and the target."""

ROUNDING = 1e-12
"""Relative error of a risk by rounding."""

ZERO = 1e-15
"""The smallest rate, as a share of the largest: as good as zero, and with a logarithm."""

COLLAPSED = 1e-3
"""A rate below this share of its neighbours' may be stuck near zero."""

SHARE = 1e-3
"""The logarithm of L_T + SHARE * target is minimised: a risk of zero is no pole then."""

LONGEST = 10**12
"""The most steps that count."""


@dataclass(frozen=True, eq=False)
class OptimalSchedule:
    """The schedule of equal pieces that reaches a target in the fewest steps.

    Step t, from 0 on, belongs to piece floor(t * pieces / steps).

    Attributes:
        steps: the fewest steps T.
        learning_rates: the rate of each piece, shape (pieces,), read-only.
        boundaries: the first step of each piece but the first, shape (pieces - 1,), read-only.
        risk: the last risk L_T, at most the target.
        risk_before: the smallest last risk found for schedules of T - 1 steps, above the target.
        residual: how far the conditions of a minimum are missed: the largest |d ln L / d ln r| of
            the rates inside the bounds, and positive d ln L / d ln r of those at the largest.
            (Where L is far below the target, a thousandth of the target is added to it.)
        error: relative error of the risks by the compression of the spectrum.
    """

    steps: int
    learning_rates: Array
    boundaries: Integers
    risk: float
    risk_before: float
    residual: float
    error: float

    @property
    def peak_learning_rate(self) -> float:
        """The largest rate: the learning rate that ``schedule`` is relative to."""
        return float(self.learning_rates.max())

    @property
    def schedule(self) -> PiecewiseConstant:
        """The rates as shares of the largest, to be run over a horizon of ``steps``."""
        from nqm_study.model.schedules import PiecewiseConstant  # noqa: PLC0415 (a result's luxury)

        factors = self.learning_rates / self.peak_learning_rate
        return PiecewiseConstant(factors=tuple(factors.tolist()))

    def to_csv(self, path: str | Path) -> None:
        """Write a line for each piece: piece, first_step, last_step, learning_rate.

        Pieces and steps are counted from 0; the last step belongs to the piece.
        """
        edges = [0, *self.boundaries.tolist(), self.steps]
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("piece", "first_step", "last_step", "learning_rate"))
            for piece, rate in enumerate(self.learning_rates.tolist()):
                writer.writerow((piece, edges[piece], edges[piece + 1] - 1, rate))


class _Tables(NamedTuple):
    """What the kernel needs to know of a problem and an optimizer, in its order."""

    like: tuple[float, ...]
    base: Array
    slope: Array
    noise_base: Array
    noise_slope: Array
    start: Array
    readout: int
    first_noise: int
    signal_weight: Array
    noise_weight: Array


class _Minimum(NamedTuple):
    """A least last risk, and the rates that have it."""

    steps: int
    rates: Array
    risk: float
    residual: float


class _Effort(NamedTuple):
    """How far to minimise: the largest projected derivative left, and the most iterations."""

    gradient: float
    iterations: int


ROUGH, FULL = _Effort(1e-3, 60), _Effort(1e-8, 1000)

SCALES = np.unique(np.concatenate((np.geomspace(1e-4, 1.0, 25), np.linspace(0.0, 1.0, 33)[1:])))
"""Scales of the rates to start from, as shares of the largest stable one."""

SHORT = 64
"""Up to so many steps, all smaller numbers of steps are looked at."""

DIPS = 3
"""Of the local minima over these scales, so many are started from."""

FINALISTS = 3
"""Of all the starts, so many are followed to the end."""

FEW = 50
"""Where there are more pieces than these, these few come first: they cost less, and where they take
fewer steps than there are pieces, those cannot each have a step."""


@dataclass(frozen=True, eq=False)
class _Runs:
    """Runs on one compression of a problem.

    Attributes:
        tables: the compressed problem and the optimizer.
        target: expected loss to reach.
        pieces: the number of rates; runs of fewer steps have a rate for each.
        largest: the largest rate allowed.
        stable: the largest rate to start from.
        most: the most steps that count.
    """

    tables: _Tables
    target: float
    pieces: int
    largest: float
    stable: float
    most: int

    def last_risk(self, steps: int, rates: Array) -> tuple[float, Array]:
        """L_T and its derivatives by the rates."""
        gradient = np.empty(rates.size)
        lengths = np.diff(edges(steps, rates.size))
        return _optimal_kernels.last_risk(*self.tables, lengths, rates, gradient), gradient

    def fitting(self, steps: int, rates: Array) -> Array:
        """Rates for so many steps, from those of other steps."""
        count = min(steps, self.pieces)
        return np.ascontiguousarray(rates[np.arange(count) * rates.size // count])

    def minimise(self, steps: int, rates: Array, effort: _Effort = FULL) -> _Minimum:
        """The least L_T that is found from some rates on."""
        found = self._descend(steps, self.fitting(steps, rates), effort)
        if effort is FULL:
            lifted = _lifted(found.rates)
            if np.any(lifted > found.rates):
                other = self._descend(steps, lifted, effort)
                found = min(found, other, key=_risk)
        return found

    def _descend(self, steps: int, rates: Array, effort: _Effort) -> _Minimum:
        from scipy import optimize  # noqa: PLC0415 (slow to import)

        top = math.log(self.largest)
        added = SHARE * self.target

        def objective(logarithms: Array) -> tuple[float, Array]:
            now = self._rates(logarithms)
            risk, gradient = self.last_risk(steps, now)
            if not (np.isfinite(risk) and np.all(np.isfinite(gradient))):
                return 1e3, np.zeros(now.size)  # diverged: far above any risk's logarithm
            return math.log(risk + added), gradient * now / (risk + added)

        found = optimize.minimize(
            objective,
            np.log(np.clip(rates, ZERO * self.largest, self.largest)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(top + math.log(ZERO), top)] * rates.size,
            options={
                "maxcor": 20,
                "gtol": effort.gradient,
                "ftol": 1e-16,
                "maxiter": effort.iterations,
                "maxfun": 2 * effort.iterations,
                "maxls": 40,
            },
        )
        rates = self._rates(found.x)
        risk, gradient = self.last_risk(steps, rates)
        slope = gradient * rates / (risk + added)
        missed = np.where(rates < self.largest, np.abs(slope), np.maximum(slope, 0.0))
        return _Minimum(steps, rates, risk, float(np.max(missed)))

    def _rates(self, logarithms: Array) -> Array:
        at_bound = logarithms >= math.log(self.largest)
        return np.where(at_bound, self.largest, np.exp(logarithms))

    def starts(self, steps: int) -> list[Array]:
        """Rates to start from: all at the largest, and the best constant and decaying ones.

        With momentum the risk goes up and down with the scale of the rates, so of each shape the
        lowest dips are taken.
        """
        count = min(steps, self.pieces)
        shapes = (np.ones(count), np.minimum(1.0, np.geomspace(10.0, 0.05, count)))
        found = [self.stable * shapes[0]]
        for shape in shapes:
            scan = [self.stable * scale * shape for scale in SCALES]
            risks = np.array([self.last_risk(steps, rates)[0] for rates in scan])
            risks[np.isnan(risks)] = np.inf
            around = np.concatenate(([np.inf], risks, [np.inf]))
            dips = np.flatnonzero((risks <= around[:-2]) & (risks < around[2:]))
            found += [scan[dip] for dip in dips[np.argsort(risks[dips], kind="stable")][:DIPS]]
        return found


def edges(steps: int, pieces: int) -> Integers:
    """The first step of each piece, and the end: ceil(k * steps / pieces) for k = 0..pieces."""
    return np.array([-(-k * steps // pieces) for k in range(pieces + 1)], dtype=np.int64)


def _risk(found: _Minimum) -> float:
    return found.risk


def _lifted(rates: Array) -> Array:
    """The rates, with those far below both neighbours raised to the lower of them."""
    padded = np.concatenate((rates[1:2], rates, rates[-2:-1]))
    if padded.size < rates.size + 2:  # a single rate has no neighbours
        return rates
    around = np.minimum(padded[:-2], padded[2:])
    return np.where(rates < COLLAPSED * around, around, rates)


def optimal_schedule(
    problem: NoisyQuadratic,
    *,
    target: float = 0.01,
    pieces: int = 50,
    momentum: float = 0.0,
    max_learning_rate: float | None = None,
    nesterov: bool = False,
    preconditioner_power: float = 0.0,
    ema_decay: float = 0.0,
    max_steps: int = 10**9,
) -> OptimalSchedule:
    """The fewest steps to a target over all schedules of some equal pieces, and their rates.

    Rates are constant within a piece, and anything from 0 to the largest. Momentum and the rest
    are as in ``SGD``, and held fixed.

    Args:
        problem: spectrum and batch size.
        target: expected loss to reach, below the initial risk.
        pieces: number of pieces, at least 1 and at most the steps.
        momentum: as in ``SGD``, like the next three.
        nesterov: Nesterov's form of the momentum.
        preconditioner_power: p in [0, 1].
        ema_decay: gamma in [0, 1).
        max_learning_rate: the largest rate allowed. By default 0.9998 times the limit of stability
            of the largest curvature h that counts, 2 (1 + mu) / h^(1 - p), with Nesterov's momentum
            2 (1 + mu) / (1 + 2 mu) / h^(1 - p).
        max_steps: the most steps that count.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind, if the steps needed are
            fewer than the pieces, or if the target cannot be reached within max_steps.
    """
    if not isinstance(problem, NoisyQuadratic):
        raise ValueError(f"problem={problem!r}: must be NoisyQuadratic")
    initial = problem.spectrum.initial_risk
    target = require_number("target", target, above=0.0)
    if target >= initial:
        raise ValueError(f"target={target:g}: must be less than {initial:g}, the initial risk")
    pieces = require_integer("pieces", pieces, least=1)
    max_steps = require_integer("max_steps", max_steps, least=1, most=LONGEST)
    # It checks its own fields; the rate is a placeholder.
    optimizer = SGD(1.0, momentum, nesterov, preconditioner_power, ema_decay)
    stable = BELOW_LIMIT * _limit(problem, optimizer)
    largest = stable
    if max_learning_rate is not None:
        largest = require_number("max_learning_rate", max_learning_rate, above=0.0)

    def runs(level: int) -> _Runs:
        tables = _tables(problem, optimizer, level)
        return _Runs(tables, target, pieces, largest, min(largest, stable), max_steps)

    level = problem.spectrum.first_level
    coarse = runs(level)
    guess = _first(replace(coarse, pieces=min(pieces, FEW)))
    if guess.steps < pieces and pieces > FEW:
        raise ValueError(
            f"pieces={pieces}: must be at most {guess.steps}, the steps that {FEW} pieces take"
        )
    below, found = _proved(coarse, guess)
    below, found, error = _refined(problem, runs, level, below, found)
    if found.steps < pieces:
        raise ValueError(
            f"pieces={pieces}: must be at most {found.steps}, the steps that the target needs"
        )
    rates, boundaries = found.rates, edges(found.steps, pieces)[1:-1]
    for array in (rates, boundaries):
        array.setflags(write=False)
    return OptimalSchedule(
        steps=found.steps,
        learning_rates=rates,
        boundaries=boundaries,
        risk=found.risk,
        risk_before=below.risk,
        residual=found.residual,
        error=error,
    )


def _limit(problem: NoisyQuadratic, optimizer: SGD) -> float:
    """The rate at which the steepest mode that has signal or noise is no longer stable."""
    parts = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    steepest = max(float(part.curvature.max(initial=0.0)) for part in parts)
    mu = optimizer.momentum
    limit = 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if optimizer.nesterov else 1.0)
    return float(limit / steepest ** (1.0 - optimizer.preconditioner_power))


SMALL, LARGE = 2.0**-900, 2.0**500


def _tables(problem: NoisyQuadratic, optimizer: SGD, level: int) -> _Tables:
    """The transition at a level of compression, split into A_0 + r A_1 and b_0 + r b_1.

    A_0 is A at a rate of next to nothing. A_1 is A / r at a vast rate, where A_0 is lost in
    rounding; a difference of two A at common rates would lose the digits of A_1 instead.
    """
    nodes = problem.spectrum.nodes(level)

    def at(rate: float) -> SGD:
        return SGD(
            rate,
            optimizer.momentum,
            optimizer.nesterov,
            optimizer.preconditioner_power,
            optimizer.ema_decay,
        )

    base, vast = transition(at(SMALL), nodes.curvature), transition(at(LARGE), nodes.curvature)
    return _Tables(
        like=(0.0,) * len(base.matrix),
        base=base.matrix,
        slope=vast.matrix / LARGE,
        noise_base=base.noise,
        noise_slope=vast.noise / LARGE,
        start=base.start,
        readout=base.readout,
        first_noise=nodes.first_noise,
        signal_weight=nodes.signal_weight,
        noise_weight=nodes.noise_weight / problem.batch_size,
    )


def _first(runs: _Runs) -> _Minimum:
    """Rates that reach the target in about the fewest steps, roughly minimised.

    Raises:
        ValueError: if they are not found within the most steps.
    """
    steps = min(runs.pieces, runs.most)
    seen = [_Minimum(0, np.full(1, runs.stable), math.inf, 0.0)]
    while True:
        start = seen[-1].rates
        if len(seen) == 1:
            start = min(runs.starts(steps), key=lambda rates: runs.last_risk(steps, rates)[0])
        found = runs.minimise(steps, start, ROUGH)
        if found.risk > runs.target and steps == runs.most:
            every = (found.rates, *runs.starts(steps))
            found = min((runs.minimise(steps, rates) for rates in every), key=_risk)
        if found.risk <= runs.target:
            return _narrowed(runs, seen[-1], found, ROUGH)[1]
        if steps == runs.most:
            raise ValueError(
                f"max_steps={runs.most}: must be more, since the smallest risk after as many is "
                f"{found.risk:g}, above target={runs.target:g}"
            )
        seen.append(found)
        ahead = 4.0 * steps
        if len(seen) > 2:
            ahead = _secant(seen[-2], seen[-1], runs.target)
        steps = min(max(2 * steps, math.ceil(min(ahead, 8.0 * steps))), runs.most)


def _secant(one: _Minimum, other: _Minimum, target: float) -> float:
    """Where the line through two points of log L_T against log T meets the target's."""
    if one.steps == 0 or other.steps == 0 or not 0.0 < other.risk < one.risk < math.inf:
        return math.inf
    slope = math.log(one.risk / other.risk) / math.log(one.steps / other.steps)
    exponent = math.log(target / other.risk) / slope
    return other.steps * math.exp(min(exponent, 100.0))


def _narrowed(
    runs: _Runs, below: _Minimum, found: _Minimum, effort: _Effort
) -> tuple[_Minimum, _Minimum]:
    """Neighbouring T on both sides of the target, from two T on both sides of it."""
    nearest = sorted((below, found), key=lambda each: each.steps)
    width = found.steps - below.steps
    since = 0
    while found.steps - below.steps > 1:
        meets = _secant(nearest[0], nearest[1], runs.target)
        if since >= 2 or not meets < math.inf:
            meets, since = 0.5 * (below.steps + found.steps), 0
        steps = min(max(math.ceil(meets), below.steps + 1), found.steps - 1)
        near = below if below.steps > 0 and steps - below.steps < found.steps - steps else found
        new = runs.minimise(steps, near.rates, effort)
        if new.risk <= runs.target:
            found = new
        else:
            below = new
        if 2 * (found.steps - below.steps) > width:
            since += 1
        else:
            width, since = found.steps - below.steps, 0
        nearest = sorted(
            sorted((*nearest, new), key=lambda each: _distance(each, runs.target))[:2],
            key=lambda each: each.steps,
        )
    return below, found


def _distance(found: _Minimum, target: float) -> float:
    """How far a risk is from the target, in its logarithm."""
    return abs(math.log(found.risk / target)) if found.risk > 0.0 else math.inf


def _enclosed(runs: _Runs, start: _Minimum) -> tuple[_Minimum, _Minimum]:
    """Neighbouring T on both sides of the target, by growing strides from one T on."""
    now = runs.minimise(start.steps, start.rates)
    stride = 1
    if now.risk <= runs.target:
        while True:
            found, steps = now, max(0, now.steps - stride)
            if steps == 0:
                now = _Minimum(0, found.rates, math.inf, 0.0)
            else:
                now = runs.minimise(steps, found.rates)
            if now.risk > runs.target:
                return _narrowed(runs, now, found, FULL)
            stride *= 2
    while True:
        below, steps = now, min(now.steps + stride, runs.most)
        now = runs.minimise(steps, below.rates)
        if now.risk <= runs.target:
            return _narrowed(runs, below, now, FULL)
        if steps == runs.most:
            raise ValueError(
                f"max_steps={runs.most}: must be more, since the smallest risk after as many is "
                f"{now.risk:g}, above target={runs.target:g}"
            )
        stride *= 2


def _proved(runs: _Runs, start: _Minimum) -> tuple[_Minimum, _Minimum]:
    """The fewest steps, and the best at one step less, which no start brings to the target."""
    while True:
        below, found = _enclosed(runs, start)
        if below.steps == 0:
            return below, found
        best = _best_of_starts(runs, below.steps, (0.5 * below.rates, found.rates))
        if best.risk < below.risk * (1.0 - TOLERANCE):
            below = best
            # What is better at T - 1 is likely so at T.
            found = min(found, runs.minimise(found.steps, best.rates), key=_risk)
        if below.risk > runs.target:
            sooner = _sooner(runs, below)
            if sooner is None:
                return below, found
            below = sooner
        start = below


def _best_of_starts(runs: _Runs, steps: int, others: tuple[Array, ...]) -> _Minimum:
    """The least risk that is found from all starts, and some others."""
    rivals = (*runs.starts(steps), *others)
    rough = sorted((runs.minimise(steps, rates, ROUGH) for rates in rivals), key=_risk)
    return min((runs.minimise(steps, each.rates) for each in rough[:FINALISTS]), key=_risk)


def _sooner(runs: _Runs, below: _Minimum) -> _Minimum | None:
    """The fewest of few steps that reach the target, where any fewer than these do."""
    if below.steps > SHORT:
        return None
    for steps in range(1, below.steps):
        found = _best_of_starts(runs, steps, (below.rates,))
        if found.risk <= runs.target:
            return found
    return None


def _refined(
    problem: NoisyQuadratic,
    runs: Callable[[int], _Runs],
    level: int,
    below: _Minimum,
    found: _Minimum,
) -> tuple[_Minimum, _Minimum, float]:
    """The same on a compression that is fine enough, and the error of its risks."""
    spectrum = problem.spectrum
    last = spectrum.last_level
    while True:
        if level == last and spectrum.law is None:
            return below, found, 0.0
        # A law has no finer level than its last; a coarser one then tells more than the error.
        other = runs(level + 1 if level < last else level - 1)
        pair = [each for each in (below, found) if each.steps > 0]
        error = max(_difference(other, each) for each in pair)
        target = other.target
        margin = min(abs(each.risk - target) for each in pair)
        certain = margin > (ROUNDING + SAFETY * error) * target
        if level == last or (error <= TOLERANCE and certain):
            return below, found, error
        level += 1
        below, found = _proved(other, found)


def _difference(runs: _Runs, found: _Minimum) -> float:
    """The relative difference of a risk from the same schedule's on another compression."""
    risk, _ = runs.last_risk(found.steps, found.rates)
    scale = max(risk, found.risk)
    return abs(risk - found.risk) / scale if scale > 0.0 else 0.0
