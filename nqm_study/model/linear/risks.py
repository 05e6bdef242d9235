"""Risks and first crossings of the linear optimizers, on a spectrum as fine as it must be.

The search runs on the coarsest compression of the spectrum that can be trusted: its risks are
compared with those of the next finer one at the crossing, one step before it, and at the nearest
miss of every octave of steps. Where they differ by more than the tolerance, or where a risk lies so
near the target that the difference could decide, the next finer level is taken; the last level is
the spectrum itself, or as much of a power law's as can be held.

The state of a mode splits into a signal and a noise part. With theta_0 = 1 and no noise the state
moves as z_t = A^t z_0; the noise that has entered since has covariance S_t = sum over i < t of
A^i b b^T A^iT per unit of gradient variance. By independence the risk is

    L_t = sum 1/2 m h (a^2 + s) z_t^2 + (1/B) sum 1/2 m h c S_t

read out at the component whose square counts. S_t never decreases: each step adds a square.
"""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.stability import is_stable
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.refine import (
    SAFETY,
    TOLERANCE,
    agreeing,
    difference,
    require_met,
    rounding,
)
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.outcome import Crossing, Status
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum

HORIZON = 10**9
"""Steps within which an unstable run has shown whether it crosses the target first."""

MOST_WORK = 2**28
"""Steps of a mode, times the squared number of its components, that a search may scan, over all
compressions: half a second. Beyond, it only jumps, and its answer is not proved the first."""


MOST_COUPLED = 2**10
"""Nodes whose tables of jumps are held where noise couples them: 8 MB a level."""


class Found(NamedTuple):
    """The end of a search on one compression: a first crossing, or why there is none.

    Attributes:
        reason: REACHED, NOISE_ABOVE_TARGET, OVERFLOW or MAX_STEPS of the kernels.
        step, risk: where it stopped, and the risk there; with no crossing, the smallest risk seen.
        risk_step: the step of that risk.
        nearest: the step that came nearest to the target in each octave, or -1.
        work: steps of a mode that were scanned, about.
        closest: no step that was passed has a risk below this.
    """

    reason: int
    step: int
    risk: float
    risk_step: int
    nearest: Integers
    work: int
    closest: float

    @property
    def checks(self) -> Integers:
        """The steps at which another compression can be compared, ascending."""
        before = max(0, self.step - 1) if self.reason == kernels.REACHED else self.step
        ends = (before, self.step, self.risk_step)
        return np.unique(np.concatenate((self.nearest[self.nearest >= 0], ends)))

    def ties(self, target: float) -> bool:
        """Whether a risk on the way is so near the target that rounding may decide."""
        near = rounding(self.step) * target
        at_end = self.reason == kernels.REACHED and target - self.risk <= near
        return at_end or self.closest - target <= near


class Engine(NamedTuple):
    """The tables of one optimizer on one compression of a problem's spectrum.

    The signal and the noise have each their own nodes, since each is a measure of its own; where
    these are the same, so are their tables of powers. Level 0 of the tables is filled; the kernels
    fill the others as far as they need them. From z on it is their workspace: what kernels do not
    allocate is compiled in three quarters of the time.
    """

    like: tuple[float, ...]
    signal_power: Array
    start: Array
    signal_weight: Array
    noise_power: Array
    spread: Array
    noise_weight: Array
    filled: Integers
    shared: bool
    readout: int
    z: Array
    scratch: Array
    covariance: Array
    noise_scratch: Array

    @classmethod
    def build(
        cls, problem: Problem, optimizer: LinearOptimizer, level: int, most_steps: int
    ) -> Engine:
        """Tables for jumps of up to most_steps steps, at a level of compression."""
        modes, rows = (
            Modes.of(problem, optimizer, level),
            optimizer.rows(problem.spectrum.nodes(level).curvature),
        )
        engine = cls.unfilled(rows.start, rows.component, modes, most_steps)
        engine.fill(rows.drift, rows.gain, rows.point, modes)
        return engine

    @classmethod
    def unfilled(cls, start: Array, readout: int, modes: Modes, most_steps: int) -> Engine:
        """The tables before any rule is in them; ``fill`` puts one there, or another."""
        _, first_noise, signal_weight, noise_weight = modes
        k, levels = len(start), max(1, most_steps.bit_length())
        signal, noise = (k, signal_weight.size), (k, k, noise_weight.size)
        signal_power, spread = np.empty((levels, k, *signal)), np.empty((levels, *noise))
        # Without any signal, the noise's nodes are the first ones, and its own.
        shared = first_noise == 0 and signal_weight.size > 0
        return cls(
            like=(0.0,) * k,
            signal_power=signal_power,
            start=start,
            signal_weight=signal_weight,
            noise_power=signal_power if shared else np.empty_like(spread),
            spread=spread,
            noise_weight=noise_weight,
            filled=np.array((1,)),
            shared=shared,
            readout=readout,
            z=np.empty(signal),
            scratch=np.empty(signal),
            covariance=np.empty(noise),
            noise_scratch=np.empty(noise),
        )

    def fill(self, drift: Array, gain: Array, point: Array, modes: Modes) -> None:
        """Put a rule in, or one for each node."""
        kernels.first_level(
            self.like, drift, gain, point, modes.curvature, modes.first_noise, self.signal_power,
            self.noise_power, self.spread,
        )  # fmt: skip
        self.filled[0] = 1

    def risks(self, steps: Integers) -> Array:
        """The risk after each of some ascending numbers of steps."""
        risks = np.empty(steps.size)
        kernels.risks_at(*self, steps, risks)
        return risks

    def search(self, target: float, max_steps: int, most_work: int = MOST_WORK) -> Found:
        """The first crossing on this compression, proved as far as the work allows."""
        nearest_step = np.empty(max_steps.bit_length() + 1, dtype=np.int64)
        nearest_risk = np.empty(nearest_step.size)
        levels, squared = len(self.signal_power), len(self.like) ** 2
        reason, step, risk, risk_step, work, closest = kernels.first_crossing(
            *self,
            target,
            max_steps,
            nearest_step,
            nearest_risk,
            np.empty((levels, *self.z.shape)),
            np.empty((levels, *self.z.shape)),
            np.empty(self.z.shape[1]),
            np.empty(1 << kernels.LONGEST_SCAN),
            np.empty((len(self.like), kernels.BLOCK)),
            np.empty((len(self.like), kernels.BLOCK)),
            most_work // squared,
        )
        return Found(reason, step, risk, risk_step, nearest_step, work * squared, closest)

    def rises_above(self, limit: float, steps: int) -> bool:
        """Whether the risk is above a limit after any number of steps up to ``steps``."""
        last = float(self.risks(np.array((steps,)))[0])
        bounds = (len(self.signal_power), *self.z.shape)
        return bool(
            kernels.rises_above(
                *self,
                limit,
                steps,
                last,
                np.empty(bounds),
                np.empty(bounds),
                MOST_WORK // len(self.like) ** 2,
            )
        )


def linear_crossing(
    problem: Problem,
    optimizer: LinearOptimizer,
    target: float,
    max_steps: int,
    tolerance: float = TOLERANCE,
    max_growth: float | None = None,
) -> Crossing:
    """The first crossing of a linear optimizer at a constant learning rate."""
    found = search(problem, optimizer, target, max_steps, tolerance)
    steps: int | None = None
    status: Status = "diverged"
    if found.reason != kernels.REACHED:
        status = _status(problem, optimizer, target, max_steps, found)
    elif max_growth is None or not _grows(problem, optimizer, found, max_growth):
        steps, status = found.step, "reached"
    return Crossing(steps, status, found.risk, found.error, False, found.proved, found.tie)


def _grows(problem: Problem, optimizer: LinearOptimizer, found: Answer, most: float) -> bool:
    """Whether the risk rises above ``most`` times the first one before a crossing."""
    run = tabled(problem, optimizer, found.level, found.step)
    return run.rises_above(most * problem.spectrum.initial_risk, found.step)


def _status(
    problem: Problem,
    optimizer: LinearOptimizer,
    target: float,
    max_steps: int,
    found: Answer,
) -> Status:
    """Why a search found no crossing."""
    if not is_stable(problem, optimizer):
        # Cut short, an unstable run may still be on its way to a crossing before the growth wins.
        if found.reason == kernels.MAX_STEPS and max_steps < HORIZON:
            later = search(problem, optimizer, target, HORIZON)
            if later.reason == kernels.REACHED:
                return "max_steps"
        return "diverged"
    return "floor_above_target" if found.reason == kernels.NOISE_ABOVE_TARGET else "max_steps"


class Answer(NamedTuple):
    """The end of a search on as fine a compression as it needed, with the error of its risk.

    Attributes:
        reason: REACHED, NOISE_ABOVE_TARGET, OVERFLOW or MAX_STEPS of the kernels.
        step, risk: where it stopped, and the risk there; with no crossing, the smallest risk seen.
        error: relative error of the risk by the compression.
        level: the compression's level.
        proved: whether no step before was passed without a bound.
        tie: whether rounding may decide on which side of the target a risk lies.
    """

    reason: int
    step: int
    risk: float
    error: float
    level: int
    proved: bool
    tie: bool


class Runner(Protocol):
    """One compression of a spectrum that can be searched: ``Engine``, or the steps of one run."""

    def search(self, target: float, max_steps: int, most_work: int, /) -> Found:
        """The first crossing."""

    def risks(self, steps: Integers) -> Array:
        """The risk after each of some ascending numbers of steps."""


class Tabled(Runner, Protocol):
    """One whose jumps over many steps are in tables: ``Engine``, or ``spectral.Spectral``."""

    def rises_above(self, limit: float, steps: int) -> bool:
        """Whether the risk is above a limit after any number of steps up to ``steps``."""


def is_tabled(problem: Problem, optimizer: LinearOptimizer, tolerance: float = TOLERANCE) -> bool:
    """Whether runs at a constant rate are known by tables of jumps; else they are stepped."""
    if not problem.follows_loss or not optimizer.constant:
        return optimizer.constant
    every = tolerance == 0.0 and _finest(problem) < problem.spectrum.last_level
    return optimizer.rows(np.ones(1)).start.size == 1 and not every


def _finest(problem: Problem) -> int:
    """The finest level of compression whose tables can be held."""
    level, last = problem.spectrum.first_level, problem.spectrum.last_level
    if not problem.follows_loss:
        return last
    while level < last and _coupled_nodes(problem, level + 1) <= MOST_COUPLED:
        level += 1
    return level


def _coupled_nodes(problem: Problem, level: int) -> int:
    """The nodes of the signal, or of the noise, whichever are more, at a level."""
    nodes = problem.spectrum.nodes(level)
    return max(nodes.signal_weight.size, nodes.noise_weight.size)


def tabled(problem: Problem, optimizer: LinearOptimizer, level: int, most_steps: int) -> Tabled:
    """The tables of a compression for jumps of up to ``most_steps``."""
    if not problem.follows_loss:
        return Engine.build(problem, optimizer, level, most_steps)
    from nqm_study.model.linear.spectral import Spectral

    return Spectral.build(problem, optimizer, level, most_steps)


def search(
    problem: Problem,
    optimizer: LinearOptimizer,
    target: float,
    max_steps: int,
    tolerance: float = TOLERANCE,
) -> Answer:
    """The first crossing at a constant rate, on a compression refined as far as needed."""

    @functools.cache
    def engine(level: int) -> Tabled:
        return tabled(problem, optimizer, level, max_steps)

    return refined(problem.spectrum, engine, target, max_steps, tolerance, _finest(problem))


def refined(
    spectrum: Spectrum,
    engine: Callable[[int], Runner],
    target: float,
    max_steps: int,
    tolerance: float,
    last_level: int | None = None,
) -> Answer:
    """The first crossing, on as fine a compression as it needs, or the work allows.

    Args:
        spectrum: what is compressed.
        engine: level -> what searches there; asked again, it should know.
        target: risk to reach.
        max_steps: the most steps that count.
        tolerance: relative error that the compression may have; 0 is the last level.
        last_level: the finest that may be asked; the spectrum's own where not given.
    """
    last = spectrum.last_level if last_level is None else last_level
    level = spectrum.first_level if tolerance > 0.0 else last
    left = MOST_WORK

    def agreeing_at(steps: Integers, level: int) -> int:
        return agreeing(
            lambda each: engine(each).risks(steps), difference, level, last,
            lambda _, error: error <= tolerance,
        )[0]  # fmt: skip

    while True:
        found = engine(level).search(target, max_steps, left)
        proved = found.work <= left
        left -= found.work
        checks, tie = found.checks, found.ties(target)
        if level == spectrum.last_level and spectrum.law is None:
            return Answer(found.reason, found.step, found.risk, 0.0, level, proved, tie)
        searched = level
        level = agreeing_at(checks[-1:], level)  # tells most levels that are too coarse
        if level > searched and left > 0:
            continue
        # Where there is no finer level, a coarser one tells more than the error.
        level = searched
        risks = engine(level).risks(checks)
        error = difference(risks, engine(level + 1 if level < last else level - 1).risks(checks))
        certain = (
            np.abs(risks - target) > (rounding(checks.astype(np.float64)) + SAFETY * error) * target
        )
        settled = error <= tolerance and np.all(certain | np.isnan(risks))
        if level == last or settled or left <= 0:
            return Answer(found.reason, found.step, found.risk, error, level, proved, tie)
        level += 1


def linear_risks(
    problem: Problem,
    optimizer: LinearOptimizer,
    ordered: Integers,
    tolerance: float,
    max_growth: float | None,
) -> Array:
    """The risks of a linear optimizer after some ascending numbers of steps.

    They are infinite from where one was above ``max_growth`` times the first.

    Raises:
        ValueError: if a law's finest level does not meet the tolerance.
    """
    engine, _, error = converged(problem, optimizer, ordered, tolerance)
    require_met(tolerance, error)
    risks = engine.risks(ordered)
    if max_growth is not None:
        limit = max_growth * problem.spectrum.initial_risk
        grown = bisect.bisect(ordered, False, key=lambda end: engine.rises_above(limit, int(end)))
        risks[grown:] = np.inf
    return risks


def converged(
    problem: Problem,
    optimizer: LinearOptimizer,
    steps: Integers,
    tolerance: float = TOLERANCE,
) -> tuple[Tabled, int, float]:
    """An engine that is fine enough at some ascending steps, its level, and its error."""

    @functools.cache
    def engine(level: int) -> Tabled:
        return tabled(problem, optimizer, level, int(steps[-1]))

    def risks(level: int) -> Array:
        return engine(level).risks(steps)

    finest = _finest(problem)
    level, _, error = fine_enough(problem.spectrum, risks, tolerance, lambda level: level <= finest)
    return engine(level), level, error


def fine_enough(
    spectrum: Spectrum,
    risks: Callable[[int], Array],
    tolerance: float,
    worth: Callable[[int], bool] = lambda _: True,
) -> tuple[int, Array, float]:
    """The coarsest level of compression that meets a tolerance, or the last; risks and error there.

    Args:
        spectrum: what is compressed.
        risks: level -> risks.
        tolerance: relative difference of the risks of two levels; 0 is the last level at once.
        worth: whether a level is worth its cost; the search ends before one that is not.
    """
    last, risks = spectrum.last_level, functools.cache(risks)
    level, error = spectrum.first_level if tolerance > 0.0 else last, np.inf
    if level < last and worth(level + 1):
        level, error = agreeing(
            risks, difference, level, last,
            lambda finer, error: error <= tolerance or finer == last or not worth(finer + 1),
        )  # fmt: skip
        level += 1
    if level == last and spectrum.law is None:
        error = 0.0
    elif level == last and error == np.inf:  # a law, from its last level on
        error = difference(risks(level - 1), risks(level))
    return level, risks(level), error
