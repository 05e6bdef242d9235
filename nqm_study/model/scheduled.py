"""Runs of the linear optimizers under a learning-rate schedule.

A short run is stepped through, each step at its own rate: exactly the recursion. A long one is cut
into stretches of constant rate, the mean of the schedule's over the stretch. On K stretches for
each smooth part of the schedule, shorter ones towards its ends, the risk is off by a series in
1/K^2. With momentum there is one in 1/K as well, where a stretch is longer than the buffer's
memory: the rate multiplies after the buffer, which still holds the stretch before. Runs on K, 2K,
4K and 8K stretches are extrapolated, and their differences tell the error; where it is too large, K
doubles. A part of constant rate is one stretch, and exact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from nqm_study.model import _schedule_kernel
from nqm_study.model.affine import Affine
from nqm_study.model.horizon import FAIR, GOOD, ROUGH, Horizon, Look, Search
from nqm_study.model.linear import difference, fine_enough, require_met
from nqm_study.model.optimizers import SGD, is_stable, swing
from nqm_study.model.outcome import PRECISE, Crossing, Status
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.schedules import Schedule
from nqm_study.model.stretches import Stretches, stepped, stretched

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STEPPED = {ROUGH: 256, FAIR: 1024, GOOD: 8192}
"""Up to so many steps a run is stepped through, by how good a look has to be."""

ROUGHLY, FAIRLY = 24, 32
"""Stretches for each smooth part, of a rough look, and of the first run of better ones."""

LONGEST_STEPPED = 2**18
"""Up to so many steps a run is stepped through if nothing else gets near the error asked for."""

MOST_STRETCHES = 2**12
"""A good look has at most so many for each smooth part."""

LONGEST_FUNCTION = 2**22
"""Up to so many steps the risks of a run under a function are stepped through."""

MOST_OF_CURVE = 2**16
"""The same for the risks along one run, whose stretches are cut where they are asked for."""

STEPPED_FUNCTION = {ROUGH: 1024, FAIR: 8192, GOOD: LONGEST_STEPPED}
"""Up to so many steps a run under a function is stepped through: it may jump anywhere."""

MOST_JITTER = 30
"""The most horizons that are looked at for what jumps in a schedule."""

LONG = 2**20
"""A horizon at which the shape of any schedule shows."""

SAMPLES = 1024
"""Fractions of the run at which a schedule's largest factor is looked for."""


class Runs:
    """All the runs of one optimizer under one schedule, on one compression of the spectrum."""

    def __init__(
        self, problem: NoisyQuadratic, optimizer: SGD, schedule: Schedule, level: int
    ) -> None:
        self._schedule = schedule
        self._rate = optimizer.learning_rate
        self.largest_factor = largest_factor(schedule)
        self._affine = Affine.of(problem, optimizer, level)
        signal = problem.spectrum.nodes(level).curvature[: self._affine.signal_weight.size]
        largest = self.largest_factor * optimizer.learning_rate
        # Nodes descend in curvature, and what swings has the larger one.
        self._swinging = int(np.sum(swing(optimizer, signal, largest) < math.inf))
        self.swing = _swing(optimizer, schedule, float(problem.spectrum.curvature.max()))
        self._looks: dict[tuple[int, int], Look] = {}
        self._runs: dict[tuple[int, int], tuple[Look, bool]] = {}

    def look(self, horizon: int, quality: int) -> Look:
        """The last risk of a run."""
        limits = STEPPED if self._schedule.knots is not None else STEPPED_FUNCTION
        exact = horizon <= limits[quality]
        key = (horizon, GOOD if exact else quality)
        if key not in self._looks:
            self._looks[key] = self._stepped(horizon) if exact else self._look(horizon, quality)
        return self._looks[key]

    def swinging(self, horizon: int) -> float:
        """The part of the last risk that is not steady, to some digits."""
        if self._swinging == 0:
            return 0.0
        run = (
            stepped(self._schedule, horizon)
            if horizon <= STEPPED[FAIR]
            else stretched(self._schedule, horizon, 2 * FAIRLY)
        )
        return float(self._signal(run, np.array([run.lengths.size]), 0, self._swinging)[0])

    def _stepped(self, horizon: int) -> Look:
        return self._run(stepped(self._schedule, horizon))

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
            look = _limit(series[-4:])
            if quality == FAIR or not math.isfinite(look.risk):
                return look
            if len(series) >= 4 and look.error <= PRECISE:
                return look
            if count >= MOST_STRETCHES or 4 * count >= horizon:
                return self._stepped(horizon) if horizon <= LONGEST_STEPPED else look

    def _stretched(self, horizon: int, count: int) -> tuple[Look, bool]:
        """The last risk of a run in stretches, and whether it is exact."""
        key = (horizon, count)
        if key not in self._runs:
            run = stretched(self._schedule, horizon, count)
            self._runs[key] = (self._run(run), run.exact)
        return self._runs[key]

    def _run(self, run: Stretches) -> Look:
        """The last risk of a run, with no regard to what is not constant in its stretches."""
        marks = np.array([run.lengths.size])
        swinging, steady, noise = (float(part[0]) for part in self._parts(run, marks))
        return Look(swinging + steady + noise, steady + noise, 0.0, noise)

    def _parts(self, run: Stretches, marks: Integers) -> tuple[Array, Array, Array]:
        """The risks after the stretches that are marked: swinging and other signal, and noise."""
        with_signal = self._affine.signal_weight.size
        swinging = self._signal(run, marks, 0, self._swinging)
        steady = self._signal(run, marks, self._swinging, with_signal)
        a = self._affine
        noise = np.empty(marks.size)
        _schedule_kernel.run_noise(
            a.like, a.base, a.slope, a.noise_base, a.noise_slope, a.first_noise, a.readout,
            a.noise_weight, self._rate * run.factors, run.lengths, marks, noise,
        )  # fmt: skip
        return swinging, steady, noise

    def _signal(self, run: Stretches, marks: Integers, first: int, last: int) -> Array:
        """The signal part of some of the modes after the stretches that are marked."""
        a = self._affine
        sums = np.empty(marks.size)
        _schedule_kernel.run_signal(
            a.like, a.base, a.slope, first, a.start, a.readout, a.signal_weight[first:last],
            self._rate * run.factors, run.lengths, marks, sums,
        )  # fmt: skip
        return sums

    def risks(self, steps: Integers, horizon: int, precision: float = PRECISE) -> Array:
        """The risks after some ascending numbers of steps of one run, to a relative error."""
        last = int(steps[-1])
        longest = LONGEST_FUNCTION
        if self._schedule.knots is not None:
            longest = LONGEST_STEPPED if precision <= PRECISE else STEPPED[GOOD]
        if last <= longest:
            run = stepped(self._schedule, horizon, last)
            parts = self._parts(run, steps)
            return np.asarray(sum(parts))
        count = FAIRLY
        series: list[Array] = []
        while True:
            run = stretched(self._schedule, horizon, count, steps.tolist())
            marks = np.searchsorted(np.cumsum(run.lengths), steps) + (steps > 0)
            parts = self._parts(run, marks)
            series.append(np.asarray(sum(parts)))
            if run.exact:
                return series[-1]
            if len(series) >= 4:
                looks = [
                    _limit([Look(risk, risk, 0.0, 0.0) for risk in each])
                    for each in zip(*series[-4:], strict=True)
                ]
                error = max(look.error for look in looks)
                if not error > precision or count >= MOST_OF_CURVE:
                    return np.array([look.risk for look in looks])
            count *= 2


def _limit(series: Sequence[Look]) -> Look:
    """The limit of runs on K, 2K, ... stretches, and how far off it may be.

    Of two runs it is that of a series in 1/K^2. What is left of four shrinks by a ratio that they
    tell: 16 where 1/K^4 is next, 2 where it is 1/K. The steady part and the floor are given the
    same share as in the last run: of a bound, few digits matter.
    """
    last = series[-1]
    risks = [each.risk for each in series]
    second = [(4.0 * after - before) / 3.0 for before, after in itertools.pairwise(risks)]
    limit = second[-1]
    if not 0.5 * last.risk <= limit <= 2.0 * last.risk:
        return last._replace(error=math.inf)
    error = abs(limit - last.risk)
    if len(second) >= 3:
        before, after = second[1] - second[0], second[2] - second[1]
        ratio = min(max(abs(before / after), 2.0), 16.0) if after else 16.0
        left = after / (ratio - 1.0)
        limit += left
        error = 0.5 * abs(left) + 0.1 * abs(after)
    share = limit / last.risk if last.risk > 0.0 else 1.0
    return Look(limit, share * last.steady, error / (abs(limit) or 1.0), share * last.floor)


def _shows(schedule: Schedule) -> int:
    """A horizon in which each part of a schedule has some steps, as far as its parts are known."""
    ends = (0.0, *(schedule.knots or ()), 1.0)
    shortest = min(after - before for before, after in itertools.pairwise(ends) if after > before)
    return int(min(max(1024.0, 8.0 / shortest), 2.0**40))


def _swing(optimizer: SGD, schedule: Schedule, curvature: float) -> float:
    """Horizons from one swing of the last risk to the next: a step more adds the mean angle."""
    fractions = np.linspace(0.0, 1.0, 64, endpoint=False)
    rates = optimizer.learning_rate * schedule.at_steps(fractions * LONG, LONG)
    if not schedule.needs_horizon:  # a step more is a step at the end, and first comes the largest
        rates = rates[:1]
    angle = float(np.mean(1.0 / swing(optimizer, np.full_like(rates, curvature), rates)))
    return 1.0 / angle if angle > 0.0 else 2.0  # no sample swings, but a largest rate may


def largest_factor(schedule: Schedule) -> float:
    """The largest factor of a schedule, as far as samples tell."""
    fractions = np.linspace(0.0, 1.0, SAMPLES, endpoint=False)
    return float(schedule.at_steps(fractions * LONG, LONG).max())


def scheduled_crossing(
    problem: NoisyQuadratic,
    optimizer: SGD,
    schedule: Schedule,
    target: float,
    max_steps: int,
    tolerance: float,
) -> Crossing:
    """The smallest horizon whose last risk is at most the target."""
    spectrum = problem.spectrum
    initial = spectrum.initial_risk
    if initial <= target:
        return Crossing(0, "reached", initial, 0.0)
    if max_steps == 0:
        return Crossing(None, "max_steps", initial, 0.0)
    last = spectrum.last_level
    level = spectrum.first_level if tolerance > 0.0 else last
    runs = Runs(problem, optimizer, schedule, level)
    jitter = 0 if schedule.knots is None else min(2 * len(schedule.knots) + 1, MOST_JITTER)
    search = Search(
        runs.look, target, max_steps, runs.swinging, runs.swing, jitter, _shows(schedule)
    )
    found = search.smallest()
    error = 0.0
    while level < last:
        # What the compression does to the risk shows in runs of any quality, if it is the same.
        finer = Runs(problem, optimizer, schedule, level + 1)
        error = _difference(runs, finer, found.at)
        if error <= tolerance:
            break
        level, runs = level + 1, finer
        if found.steps is not None:
            found = Search(runs.look, target, max_steps).around(found.steps)
    else:
        error = 0.0
        if spectrum.law is not None:
            error = _difference(runs, Runs(problem, optimizer, schedule, level - 1), found.at)
    error += found.error
    if found.steps is not None:
        return Crossing(found.steps, "reached", found.risk, error)
    status = _status(problem, optimizer, runs.largest_factor, found)
    return Crossing(None, status, min(initial, found.risk), error)


def _difference(ours: Runs, theirs: Runs, horizon: int) -> float:
    """The relative difference of the last risks of runs, and of those one step shorter."""
    checks = [max(1, horizon), max(1, horizon - 1)]
    risks = [np.array([runs.look(check, FAIR).risk for check in checks]) for runs in (ours, theirs)]
    return difference(*risks)


def _status(
    problem: NoisyQuadratic, optimizer: SGD, largest_factor: float, found: Horizon
) -> Status:
    """Why no horizon reaches the target."""
    if found.settled:
        return "floor_above_target"
    fastest = replace(
        optimizer, learning_rate=max(largest_factor, 1e-300) * optimizer.learning_rate
    )
    moving = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    stable = all(is_stable(fastest, measure.curvature) for measure in moving)
    grown = not found.last <= problem.spectrum.initial_risk
    return "diverged" if grown and not stable else "max_steps"


def scheduled_risks(
    problem: NoisyQuadratic,
    optimizer: SGD,
    schedule: Schedule,
    steps: Sequence[int],
    horizon: int,
    tolerance: float,
    precision: float = PRECISE,
) -> Array:
    """The risks after the given numbers of steps of one run, in the order given.

    Raises:
        ValueError: if a law's finest level does not meet the tolerance.
    """
    ordered, position = np.unique(np.asarray(steps, dtype=np.int64), return_inverse=True)
    if ordered.size == 0:
        return np.zeros(0)

    def risks(level: int) -> Array:
        return Runs(problem, optimizer, schedule, level).risks(ordered, horizon, precision)

    _, found, error = fine_enough(problem.spectrum, risks, tolerance)
    require_met(tolerance, error)
    return np.asarray(found[position])
