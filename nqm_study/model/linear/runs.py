"""Risks of a linear optimizer under a learning-rate schedule, with their errors.

A short run is stepped through, each step at its own rate: exactly the recursion. A long one is cut
into stretches of constant rate, the mean of the schedule's over the stretch. On K stretches for
each smooth part of the schedule, shorter ones towards its ends, the risk is off by a series in
1/K^2. With momentum there is one in 1/K as well, where a stretch is longer than the buffer's
memory: the rate multiplies after the buffer, which still holds the stretch before. Stretches have
whole numbers of steps, which makes the series irregular. So only its first term is taken away, and
the error comes from the last three changes, with a margin; where it is too large, K doubles. A
part of constant rate is one stretch, and exact.

Where the noise follows the loss and the rule is one, each step of a run of up to 2^22 is known by
blocks of steps (one_rule.py), but for rounding.

Where coefficients change with the step the stretches grow with it (``schedules.stretches``), the
rule of a stretch is the mean of the rules of its steps, and the series is the same. A batch size
that changes is taken likewise: the noise of a stretch has the mean variance of its steps.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np

from nqm_study.model.linear import schedule_kernel
from nqm_study.model.linear.coupled import Coupled
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.one_rule import CHEAPER, OneRule
from nqm_study.model.linear.schedule_kernel import Rule
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.horizon import FAIR, GOOD, ROUGH, Look
from nqm_study.model.numerics.refine import rounding
from nqm_study.model.optimizers import LinearOptimizer, Update
from nqm_study.model.outcome import PRECISE
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Constant, Schedule
from nqm_study.model.schedules.stretches import (
    Stretches,
    changing,
    singles,
    stepped,
    stretched,
)

STEPPED = {ROUGH: 256, FAIR: 1024, GOOD: 8192}
"""The longest run that is stepped through, by how good a look has to be."""

CHEAP, AFFORDABLE = 2**16, 2**22
"""Work (see ``Runs.work``) up to which a good look steps through longer runs as well: at once, and
if nothing else gets near the error asked for. They take 2 and 120 ms."""

CHEAP_CHANGING = 2**20
"""The same as CHEAP where coefficients change with the step: 20 ms. Stretches cost no less."""

MOST_WORK = 2**26
"""What the looks of a search may cost: a second or two. Then walks end, and a look is no better
than a fair one."""

ROUGHLY, FAIRLY = 24, 32
"""Stretches for each smooth part, of a rough look, and of the first run of better ones."""

MOST_STRETCHES = 2**12
"""The most stretches of a good look for each smooth part."""

MARGIN = 16.0
"""Times the last change of an extrapolated risk that are given as its error. Of 1,500 runs of 8,200
to 60,000 steps the true error was above that in two, which are stepped through in a search."""

LONGEST_FUNCTION = 2**22
"""The longest run under a function whose risks are stepped through."""

MOST_OF_CURVE = 2**16
"""The same for the risks along one run, whose stretches are cut where they are asked for."""

LONGEST_KNOWN = 2**22
"""The longest run by one rule, of noise that follows the loss, whose risks are known at every step:
0.2 s. Longer ones are cut into stretches."""

STEPPED_FUNCTION = {ROUGH: 1024, FAIR: 8192, GOOD: 2**18}
"""The longest run under a function that is stepped through: it may jump anywhere."""

ON_THE_WAY = 256
"""The first steps of a long run, and as many more ever further apart, at which its growth is seen,
beside the ends of its stretches."""

SLOW, CERTAINLY = 0.5, 1.01
"""Modes that move by less than this share a step bound the risk of shorter runs; and the margin of
what samples of the schedule and a compression of the spectrum leave open."""

SLOWEST = 8
"""So many modes swing slowest. Far from the target these mostly have most of the risk."""

LONG = 2**20
"""A horizon at which the shape of any schedule shows."""

LEAST_RATE, LARGEST_RATE = 1e-300, float(np.finfo(np.float64).max)
"""Between these is the rate of an optimizer."""

SAMPLES = 1024
"""Fractions of the run at which a schedule's largest factor and its variation are looked for."""


class Runs:
    """All the runs of one optimizer under one schedule, on one compression of the spectrum.

    Where the noise follows the loss, what is seen of a run may be the sum of the parts of the risk
    times a power of their curvatures over the largest: the risk itself is 0.

    Attributes:
        work: what a step costs, or a doubling of a stretch but by one rule: blocks of modes, with
            noise twice, times the squared number of components of a state; each takes 15 to 30 ns.
        components: of the state of a mode.
        largest_rate: of the schedule, as far as samples tell, and as an optimizer may have it.
    """

    def __init__(
        self,
        problem: Problem,
        optimizer: LinearOptimizer,
        schedule: Schedule,
        level: int,
        budget: Budget | None = None,
        power: int = 0,
    ) -> None:
        self._schedule = schedule
        self._budget = budget or Budget(MOST_WORK)
        self._rate = optimizer.learning_rate
        factors = _sampled(schedule)
        self._factors, self._largest_factor = factors, float(factors.max())
        self._optimizer, self._changes = optimizer, not optimizer.constant
        self._bends = (0, *sorted(knot for knot in optimizer.knots if knot > 0))
        made = self._update(np.zeros(1, dtype=np.int64), self._largest_factor * np.ones(1))
        self._start, self._readout = made.start, made.component
        self.components = made.start.size
        self._like = (0.0,) * self.components
        self._nodes = problem.spectrum.nodes(level).curvature
        self._steepest = float(problem.spectrum.curvature.max())
        self._modes = Modes.of(problem, optimizer, level)
        self._coupled: Coupled | None = None
        self._one_rule: OneRule | None = None
        if problem.follows_loss:
            ratio = (self._nodes / self._steepest) ** power
            self._coupled = Coupled.of(problem, self._modes, self._start, self._readout, ratio)
        # What is slow is smooth in the logarithm of the step.
        self._grows = self._changes or problem.follows_loss
        self._cheap = CHEAP_CHANGING if self._changes else CHEAP
        largest = self._largest_factor * optimizer.learning_rate
        self.largest_rate = min(max(largest, LEAST_RATE), LARGEST_RATE)
        blocks = [-(-weight.size // schedule_kernel.BLOCK) for weight in self._modes[-2:]]
        self.work = max(blocks[0] + 2 * blocks[1], 1) * self.components**2
        if self._coupled is not None:
            self.work = max(self._coupled.work, 1)
            self._cheap = AFFORDABLE  # a step costs less than half of what a stretch does
        self._doubling = self.work
        one = not self._changes and schedule == Constant() and power == 0
        if self._coupled is not None and one:
            rule = Rule(made.drift, made.gain, made.point, np.ones(1))
            self._one_rule = OneRule(self._coupled, rule)
            self.work = -(-self.work // CHEAPER)
        self._curve = np.zeros(0)
        self._looks: dict[tuple[int, int], Look] = {}
        self._runs: dict[tuple[int, int], tuple[Look, bool]] = {}

    @functools.cached_property
    def _swinging(self) -> int:
        """The number of modes that may swing: nodes descend in curvature, and these are steep."""
        signal = self._nodes[: self._modes.signal_weight.size]
        return int(np.sum(self._optimizer.swing(signal, self.largest_rate) < math.inf))

    @functools.cached_property
    def swings(self) -> tuple[float, float]:
        """Horizons from one swing of the last risk to the next, of the fastest and the slowest."""
        slowest = float(self._nodes[max(self._swinging - SLOWEST, 0)])
        of = functools.partial(_swing, self._optimizer, self._schedule)
        return of(self._steepest), of(slowest)

    def _update(self, steps: Integers, factors: Array) -> Update:
        """The optimizer's rule at some steps, in components of which one is the readout."""
        return self._optimizer.rule(steps, self._rate * factors)

    def _rule(self, run: Stretches) -> Rule:
        """The mean of each stretch for the kernels."""
        made = self._update(*run.rows)

        def mean(rows: Array) -> Array:
            if len(rows) > 1 and len(run.steps) > 1:
                rows = rows.reshape(*run.steps.shape, *rows.shape[1:])
                rows = np.einsum("qn,qn...->n...", run.shares, rows)
            return np.ascontiguousarray(rows)

        return Rule(mean(made.drift), mean(made.gain), mean(made.point), run.noise)

    def _cut(self, horizon: int, count: int, ends: Sequence[int] = ()) -> Stretches:
        """A run in up to ``count`` stretches for each smooth part."""
        if self._grows:
            return changing(self._schedule, horizon, count, self._bends, ends)
        return stretched(self._schedule, horizon, count, ends)

    def look(self, horizon: int, quality: int) -> Look:
        """The last risk of a run."""
        exact = self.is_stepped(horizon, quality)
        key = (horizon, GOOD if exact else quality)
        if key not in self._looks:
            self._looks[key] = self.stepped(horizon) if exact else self._look(horizon, quality)
        return self._looks[key]

    def is_known(self, steps: int) -> bool:
        """Whether all risks of a run by one rule are known, where the noise follows the loss."""
        return self._one_rule is not None and steps <= LONGEST_KNOWN

    def is_stepped(self, horizon: int, quality: int = GOOD) -> bool:
        """Whether a look of this quality steps through the run, so that its risk is exact."""
        work = horizon * self.work
        if self.is_known(horizon):
            return True
        if horizon <= STEPPED[quality] or (quality == GOOD and work <= self._cheap):
            return True
        unknown = self._schedule.knots is None and horizon <= STEPPED_FUNCTION[quality]
        return unknown and work <= self._budget.share

    def swinging(self, horizon: int, slowest: bool = False) -> float:
        """The part of the last risk of the modes that may swing, or the slowest, to some digits."""
        if self._swinging == 0:
            return 0.0
        run = self._fairly(horizon)
        self._budget.spend(self._doubling // 2 * _digits(run))
        marks = np.array([run.lengths.size])
        first = max(self._swinging - SLOWEST, 0) if slowest else 0
        return float(self._signal(run, self._rule(run), marks, first, self._swinging)[0])

    def _fairly(self, horizon: int) -> Stretches:
        """A run in the stretches of a fair look."""
        if horizon <= STEPPED[FAIR]:
            return stepped(self._schedule, horizon)
        return self._cut(horizon, 2 * FAIRLY)

    def stepped(self, horizon: int) -> Look:
        """The last risk of a run, step by step, whatever it costs."""
        if self._one_rule is not None:
            return self._known(np.array([horizon]))[0]
        return self._run(stepped(self._schedule, horizon))

    def _known(self, steps: Integers) -> list[Look]:
        """The last risks of runs by one rule of ascending lengths; nothing is said of swings."""
        parts = np.stack(self._one(int(steps[-1])).parts(steps), axis=1).tolist()
        return [Look(signal + noise, signal + noise, 0.0, noise) for signal, noise in parts]

    def _one(self, steps: int) -> OneRule:
        """The run by one rule, where the noise follows the loss, to take some steps of it."""
        if self._one_rule is None:
            raise ValueError("schedule: must be constant, and the noise follow the loss")
        self._budget.spend(self.work * steps)
        return self._one_rule

    def _look(self, horizon: int, quality: int) -> Look:
        if quality == ROUGH:
            found, exact = self._stretched(horizon, ROUGHLY)
            return found if exact else found._replace(error=math.inf)
        count = FAIRLY
        found, exact = self._stretched(horizon, count)
        if exact:
            return found
        series = [found]
        while True:
            count *= 2
            series.append(self._stretched(horizon, count)[0])
            look = _limit(series, horizon)
            if quality == FAIR or not math.isfinite(look.risk) or look.error <= PRECISE:
                return look
            dear = self._cost(horizon, 2 * count) > self._budget.share
            if dear or count >= MOST_STRETCHES or 4 * count >= horizon:
                affordable = horizon * self.work <= min(self._budget.share, AFFORDABLE)
                return self.stepped(horizon) if affordable else look

    def _cost(self, horizon: int, count: int) -> int:
        """About the work of a run in ``count`` stretches for each smooth part."""
        digits = (horizon // count).bit_length()
        stretches = count * (1 + len(self._schedule.knots or ()))
        if self._grows:
            stretches += count * len(self._bends) * digits // 2
        return min(stretches, horizon) * digits * self._doubling

    def _stretched(self, horizon: int, count: int) -> tuple[Look, bool]:
        """The last risk of a run in stretches, and whether it is exact."""
        key = (horizon, count)
        if key not in self._runs:
            run = self._cut(horizon, count)
            self._runs[key] = (self._run(run), run.exact)
        return self._runs[key]

    def _run(self, run: Stretches) -> Look:
        """The last risk of a run, as if the rate were constant in each of its stretches."""
        return self._seen(run, np.array([run.lengths.size]))[0]

    def _seen(self, run: Stretches, marks: Integers) -> list[Look]:
        """The same after each of the stretches that are marked."""
        return [
            Look(swinging + steady + noise, steady + noise, 0.0, noise)
            for swinging, steady, noise in np.stack(self._parts(run, marks), axis=1).tolist()
        ]

    def _parts(self, run: Stretches, marks: Integers) -> tuple[Array, Array, Array]:
        """The risks after the stretches that are marked: swinging and other signal, and noise."""
        self._budget.spend(self._doubling * _digits(run))
        rule, with_signal = self._rule(run), self._modes.signal_weight.size
        swinging = np.zeros(marks.size)
        if self._swinging > 0:
            swinging = self._signal(run, rule, marks, 0, self._swinging)
        if self._coupled is not None:
            signal, noise = self._coupled.parts(rule, run.lengths, marks)
            return swinging, signal - swinging, noise
        steady = self._signal(run, rule, marks, self._swinging, with_signal)
        modes, noise = self._modes, np.empty(marks.size)
        schedule_kernel.run_noise(
            self._like, rule, 0, modes.curvature, modes.first_noise, self._readout,
            modes.noise_weight, run.lengths, marks, noise,
        )  # fmt: skip
        return swinging, steady, noise

    def _signal(self, run: Stretches, rule: Rule, marks: Integers, first: int, last: int) -> Array:
        """The signal part of modes ``first`` to ``last`` after the stretches that are marked."""
        sums = np.empty(marks.size)
        schedule_kernel.run_signal(
            self._like, rule, 0, self._modes.curvature, first, self._start, self._readout,
            self._modes.signal_weight[first:last], run.lengths, marks, sums,
        )  # fmt: skip
        return sums

    @property
    def curve_end(self) -> int:
        """The last step of the one run that there is whose risk is kept."""
        return -1 if self._schedule.needs_horizon else self._curve.size - 1

    def curve(
        self, steps: int, horizon: int, low: float = -math.inf, high: float = math.inf
    ) -> Array:
        """The risks after 0, 1, ... steps of one run, stepped through.

        Those by one rule, where the noise follows the loss, end soon after one of at most ``low``
        or above ``high``, and where the loss grows beyond all numbers.
        """
        if steps <= self.curve_end:
            return self._curve[: steps + 1]
        every = np.arange(steps + 1)
        if self._one_rule is None:
            run = stepped(self._schedule, horizon, steps)
            self._curve = np.asarray(sum(self._parts(run, every)))
        else:
            self._curve = self._one_rule.risks(every, low, high)
            self._budget.spend(self.work * self._curve.size)
        return self._curve

    def excludes(self, horizon: int, target: float) -> bool:
        """Whether a bound shows that no run of up to ``horizon`` steps ends at the target.

        Where a mode's state is theta alone, and theta' = theta - q g with q the size of a step, its
        signal after T steps is exp(-2 S), with S the sum of -ln(1 - q h) over the steps, as long as
        0 <= q h < 1. A sum over T points is off T times the integral by no more than the variation
        of -ln(1 - q h). So S is at most that of a longer run and twice the variation: slow modes
        leave shorter runs hardly less.
        """
        if self.components > 1 or self._schedule.knots is None or self._changes:
            return False
        run = self._fairly(horizon)
        each = self._update(*run.rows)
        sample = self._update(np.zeros(SAMPLES, dtype=np.int64), self._factors)
        q, sampled = (-(made.gain * made.point)[:, 0] for made in (each, sample))
        if np.any(each.drift != 1.0) or min(q.min(), sampled.min()) < 0.0:
            return False
        highest = sampled.max()
        curvature = self._modes.curvature[: self._modes.signal_weight.size]
        slow = curvature * highest < SLOW
        x = curvature[slow]
        decay = np.log1p(-np.outer(x, np.broadcast_to(q, run.lengths.size))) @ run.lengths
        variation = x * CERTAINLY * np.abs(np.diff(sampled)).sum() / (1.0 - x * highest)
        left = self._modes.signal_weight[slow] @ np.exp(2.0 * decay - 4.0 * variation)
        return bool(left > CERTAINLY * target)

    def growth(self, steps: Integers, horizon: int) -> Array:
        """The largest risk of a run up to each of some ascending numbers of steps, over the first.

        Of a run that is too long to step through it is the largest at the ends of its stretches
        and at some steps between.
        """
        last = int(steps[-1])
        if self.is_stepped(last):
            at = np.arange(last + 1)
            risks = self.curve(last, horizon)
        else:
            further = np.geomspace(ON_THE_WAY, last, ON_THE_WAY).astype(np.int64)
            ends = [*range(1, ON_THE_WAY), *further.tolist(), *steps.tolist()]
            run = self._cut(horizon, 4 * FAIRLY, ends)
            at = np.concatenate(([0], np.cumsum(run.lengths)))
            risks = np.asarray(sum(self._parts(run, np.arange(at.size))))
        highest = np.maximum.accumulate(np.where(np.isnan(risks), np.inf, risks))
        return np.asarray(highest[np.searchsorted(at, steps, side="right") - 1] / risks[0])

    def first_horizon(
        self, first: int, last: int, enough: float, most_work: int
    ) -> tuple[int | None, int, int]:
        """The first horizon from ``first`` to ``last`` whose last risk is at most ``enough``.

        Returns:
            It, or None; the last horizon that was looked at; and the work that was done.
        """
        horizons = np.arange(first, last + 1)
        ends = np.cumsum(horizons)
        steps = np.arange(ends[-1]) - np.repeat(ends - horizons, horizons)
        where = steps.astype(np.float64), np.repeat(horizons, horizons).astype(np.float64)
        single = singles(steps, self._schedule.at_steps(*where), self._schedule.noise(*where))
        rule = self._rule(single)
        if self._coupled is not None:
            index, work = self._coupled.first_horizon(rule, horizons, enough, most_work)
        else:
            unit = self.components**2
            index, work = schedule_kernel.first_horizon(
                self._like, rule, *self._modes, self._start, self._readout, horizons, enough,
                most_work // unit,
            )  # fmt: skip
            work *= unit
        if index < 0:
            return None, last, work
        here = int(horizons[index])
        return (here, here, work) if work <= most_work else (None, here - 1, work)

    def risks(self, steps: Integers, horizon: int, precision: float = PRECISE) -> Array:
        """The risks after some ascending numbers of steps of one run, to a relative error."""
        last = int(steps[-1])
        if self.is_known(last):
            return np.asarray(sum(self._one(last).parts(steps)))
        if self._is_stepped_curve(last, precision):
            return np.asarray(sum(self._parts(stepped(self._schedule, horizon, last), steps)))
        return np.array([each.risk for each in self._along(steps, horizon, precision, 4)])

    def along(self, steps: Integers, quality: int) -> list[Look]:
        """What is seen after some ascending numbers of steps of the one run that there is."""
        last = int(steps[-1])
        return self._along(steps, last, *((PRECISE, 4) if quality == GOOD else (math.inf, 2)))

    def _along(self, steps: Integers, horizon: int, precision: float, least: int) -> list[Look]:
        """The same in ``least`` runs by stretches or more, to a relative error."""
        last, count = int(steps[-1]), FAIRLY
        if self.is_known(last):
            return self._known(steps)
        series: list[list[Look]] = []
        while True:
            run = self._cut(horizon, count, steps.tolist())
            marks = np.searchsorted(np.cumsum(run.lengths), steps) + (steps > 0)
            series.append(self._seen(run, marks))
            if run.exact:
                return series[-1]
            if len(series) >= least:
                looks = [_limit(each, last) for each in zip(*series, strict=True)]
                error = max(look.error for look in looks)
                dear = self._cost(last, 2 * count) > self._budget.share
                if not error > precision or count >= MOST_OF_CURVE or dear:
                    return looks
            count *= 2

    def gathered(self, steps: Integers, high: float = math.inf) -> Array:
        """The risks of a run by one rule that starts with no loss, after ascending steps.

        They never fall, and no risk after so many steps or more is below: a run is the sum of that
        one and of what the start leaves. They may end after one above ``high``.
        """
        return self._one(int(steps[-1])).at_rest.risks(steps, high=high)

    def sensitivities(self, shares: Array) -> tuple[float, Array, Array]:
        """The last risk of a run where the noise follows the loss, and what its noise adds to it.

        Args:
            shares: of the noise of each step, at the problem's batch size 1: 1 / B_t.

        Returns:
            The risk; how fast it grows with each share, where it is no sum of what all add; and
            the rate of each step.
        """
        if self._coupled is None:
            raise ValueError("sensitivities: must be asked where the noise follows the loss")
        steps = np.arange(shares.size)
        factors = self._schedule.at_steps(steps.astype(np.float64), shares.size)
        factors = factors * np.ones(shares.size)
        rule = self._rule(singles(steps, factors, shares))
        return *self._coupled.sensitivities(rule, shares.size), self._rate * factors

    def least_work(self, steps: int) -> int:
        """About the least work of the risks along a run of ``steps``."""
        if self.is_known(steps):
            return steps * self.work
        return min(steps * self.work, self._cost(steps, 16 * FAIRLY))

    def _is_stepped_curve(self, steps: int, precision: float) -> bool:
        if self._schedule.knots is None:
            return steps <= LONGEST_FUNCTION
        cheap = self._budget.share if precision <= PRECISE else self._cheap
        return steps <= STEPPED[GOOD] or steps * self.work <= cheap

    def contributions(
        self, horizon: int, firsts: Integers, count: int | None = None
    ) -> tuple[float, Array, Array, bool]:
        """The last risk of a run by its parts, and their mean rates.

        Args:
            horizon: steps of the run.
            firsts: the first step of each part of the run, ascending from 0.
            count: stretches for each smooth part of the schedule; None: every step is one.

        Returns:
            The signal's part of the risk, what the noise of each part of the run adds to it, the
            mean rate of each, and whether all this is exact.
        """
        if count is None:
            run = stepped(self._schedule, horizon)
        else:
            run = self._cut(horizon, count, firsts[1:].tolist())
        rule, modes, lengths = self._rule(run), self._modes, run.lengths
        noise, every = np.empty(lengths.size), np.array([lengths.size])
        schedule_kernel.noise_contributions(
            self._like, rule, modes.curvature, modes.first_noise, self._readout,
            modes.noise_weight, lengths, noise,
        )  # fmt: skip
        parts = np.searchsorted(np.cumsum(lengths), firsts, side="right")
        rates = self._rate * np.einsum("qn,qn,n->n", run.shares, run.factors, lengths)
        mean = np.add.reduceat(rates, parts) / np.diff(firsts, append=horizon)
        signal = self._signal(run, rule, every, 0, modes.signal_weight.size)
        return float(signal[0]), np.add.reduceat(noise, parts), mean, run.exact


def _digits(run: Stretches) -> int:
    """The steps and doublings that a run takes."""
    return int(np.frexp(run.lengths)[1].sum())


def _limit(series: Sequence[Look], steps: int) -> Look:
    """The limit of runs on K, 2K, 4K, ... stretches, and how far off it may be.

    Of two runs it is that of a series in 1/K^2. What is left falls by 4 or more with each doubling,
    mostly: a change counts as much as four times the next one. The steady part and the floor are
    given the same share as in the last run: of a bound, few digits matter.
    """
    last = series[-1]
    risks = [each.risk for each in series]
    second = [(4.0 * after - before) / 3.0 for before, after in itertools.pairwise(risks)]
    limit = second[-1]
    if not 0.5 * last.risk <= limit <= 2.0 * last.risk:
        return last._replace(error=math.inf)
    share = limit / last.risk if last.risk > 0.0 else 1.0
    error = math.inf
    if len(second) >= 3:
        changes = [abs(after - before) for before, after in itertools.pairwise(second[-4:])]
        left = MARGIN * max(change * 0.25**age for age, change in enumerate(reversed(changes)))
        error = left / (abs(limit) or 1.0) + rounding(steps)
    return Look(limit, share * last.steady, error, share * last.floor)


def _swing(optimizer: LinearOptimizer, schedule: Schedule, curvature: float) -> float:
    """Horizons from one swing of the last risk to the next: a step more adds the mean angle."""
    fractions = np.linspace(0.0, 1.0, 64, endpoint=False)
    rates = optimizer.learning_rate * schedule.at_steps(fractions * LONG, LONG)
    if not schedule.needs_horizon:  # a step more is a step at the end, and first comes the largest
        rates = rates[:1]
    angle = float(np.mean(1.0 / optimizer.swing(np.full_like(rates, curvature), rates)))
    return 1.0 / angle if angle > 0.0 else 2.0  # no sample swings, but a largest rate may


def largest_factor(schedule: Schedule) -> float:
    """The largest factor of a schedule, as far as samples tell."""
    return float(_sampled(schedule).max())


def _sampled(schedule: Schedule) -> Array:
    """The factors of a schedule all over a long run."""
    return schedule.at_steps(np.linspace(0.0, 1.0, SAMPLES, endpoint=False) * LONG, LONG)
