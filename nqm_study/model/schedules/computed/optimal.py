"""The optimal piecewise-constant schedule: the fewest steps over all schedules of some pieces.

For a given number of steps T the last risk L_T is a smooth function of the rates of the pieces,
and its gradient costs little more than the risk itself (``kernels.py``). So L_T is minimised
by L-BFGS-B in the logarithms of the rates, bounded by that of the largest rate. In these
coordinates some tens of gradients do; in the rates themselves it takes many hundreds.

Without momentum and averaging (``pieces.proved``):

1. Bracket the target between two T, each minimum started from one before, and narrow the bracket
   by secants of log L_T against log T, down to T, which reaches the target, and T - 1.
2. At T - 1, minimise again from other starts: all rates at the largest; constant and decaying rates
   at the best few scales each; the solution, scaled; that of T steps. All are minimised roughly,
   and the best to the end. Where one reaches the target in T - 1 steps, go on from it.

L_T is not convex, so nothing proves that the result is the optimum. That it is taken for it rests
on this: the starts agree; the conditions of Karush, Kuhn and Tucker hold, to ``residual``; and in
the tests neither starts from random rates nor random schedules do better, nor any family of
schedules. A rate of zero is one more trap, since in logarithms it cannot be left: such rates are
lifted, once. Where T is at most SHORT, every smaller T is looked at as well; above, the least L_T
is taken to fall with T.

With them there are many local minima, and with few pieces the least L_T goes up and down with T.
There the result is the best of those found (``pieces.nested``), by a limited amount of work:

1. A constant rate that first crosses the target at T is a schedule of T steps, for any number of
   pieces. The best one is found as in ``tuned``.
2. From it go to more pieces, each number a multiple of the one before (1, 5, 25, 50), until it is
   the one asked for. So none takes more steps than what its pieces are multiples of, nor than the
   best constant rate. Each starts from the one before, goes down with T as long as warm starts
   reach the target, and then tries the starts of above at T - 1, and with few pieces at other T.

Where no number of pieces is given it is doubled, from 50 on, each optimum started from the one
before, until more would gain next to nothing; ``gap`` tells how little. Pieces at the largest rate
need not be halved, so this takes no longer than a few of the others.

All is done on a compression of the spectrum. It is refined until the risks at T and T - 1 agree
with those of the next finer one and leave no doubt on which side of the target they lie.

Source of the problem: Zhang et al. 2019, arXiv:1907.04164, section 4 (piecewise-constant schedules
of 50 pieces). Its footnote speaks of dynamic programming; the published notebook minimises
numerically.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import numpy as np
from threadpoolctl import ThreadpoolController

from nqm_study.model.linear.stability import largest_peak
from nqm_study.model.numerics.arrays import Array, Integers, shown
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.problem import Problem, require_additive
from nqm_study.model.schedules import PiecewiseConstant
from nqm_study.model.schedules.computed.batch_sizes import Demand
from nqm_study.model.schedules.computed.joint import JointOptimum, joint_optimum
from nqm_study.model.schedules.computed.least_risk import Runs, Tables, edges, equal
from nqm_study.model.schedules.computed.pieces import (
    WORK,
    Make,
    NotReachedError,
    Settled,
    again,
    ahead,
    doubled,
    enclosed,
    first,
    further,
    nested,
    proved,
    settled,
)

__all__ = ["NotReachedError", "OptimalSchedule", "TooManyPiecesError", "optimal_schedule"]


FEW = 50
"""Where there are more pieces than these, these few come first: they cost less, and where they take
fewer steps than there are pieces, those cannot each have a step."""

REFINED = 50
"""Equal pieces from which those without a given number are doubled."""

LONGEST = 10**12
"""The most steps that count."""


@dataclass(frozen=True, eq=False)
class OptimalSchedule:
    """The schedule of equal pieces that reaches a target in the fewest steps.

    Step t, from 0 on, belongs to piece floor(t * pieces / steps).

    Attributes:
        steps: the fewest steps T; with momentum or averaging, the fewest that were found.
        learning_rates: the rate of each piece, shape (n,), read-only. Where the number of pieces
            was given it is n; else neighbours at the largest rate are one, and in runs of fewer
            steps than pieces there are only those that have a step.
        boundaries: the first step of each piece but the first, shape (n - 1,), read-only.
        risk: the last risk L_T, at most the target.
        risk_before: the smallest last risk found for schedules of T - 1 steps, above the target.
        residual: how far the conditions of a minimum are missed: the largest |d ln L / d ln r| of
            the rates inside the bounds, and positive d ln L / d ln r of those at the largest.
            (Where L is far below the target, a thousandth of the target is added to it.)
        error: relative error of the risks by the compression of the spectrum.
        pieces: the number of equal pieces.
        gap: the share of the steps, a whole number of them, that any more pieces may still save,
            by what the last doublings saved: T (1 - gap) bounds every schedule whose rates are at
            most the largest; with momentum or averaging it is what they saved and no bound. None
            where the number of pieces was given.
    """

    steps: int
    learning_rates: Array
    boundaries: Integers
    risk: float
    risk_before: float
    residual: float
    error: float
    pieces: int
    gap: float | None = None

    def __repr__(self) -> str:
        gap = "" if self.gap is None else f", gap {self.gap:.2g}"
        return (
            f"<OptimalSchedule: {self.steps:,} steps, {self.pieces} pieces, learning rates "
            f"{shown(self.learning_rates)}, risk {self.risk:.6g}{gap}>"
        )

    @property
    def peak_learning_rate(self) -> float:
        """The largest rate: the learning rate that ``schedule`` is relative to."""
        return float(self.learning_rates.max())

    @property
    def schedule(self) -> PiecewiseConstant:
        """The rates as shares of the largest, to be run over a horizon of ``steps``."""
        first_steps = edges(self.steps, equal(self.pieces))[:-1]
        rates = self.learning_rates[np.searchsorted(self.boundaries, first_steps, side="right")]
        return PiecewiseConstant(factors=tuple((rates / self.peak_learning_rate).tolist()))

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


class TooManyPiecesError(ValueError):
    """There are more pieces than steps, so that not each can have a step.

    Attributes:
        steps: how many there are.
    """

    def __init__(self, pieces: int, steps: int, which: str) -> None:
        super().__init__(f"pieces={pieces}: must be at most {steps}, {which}")
        self.steps = steps


@overload
def optimal_schedule(
    problem: Problem, *, target: float = ..., pieces: int | None = ...,
    momentum: float = ..., max_learning_rate: float | None = ..., nesterov: bool = ...,
    preconditioner_power: float = ..., ema_decay: float = ..., max_steps: int = ...,
) -> OptimalSchedule: ...  # fmt: skip
@overload
def optimal_schedule(
    problem: Problem, *, target: float = ..., pieces: int = ..., momentum: float = ...,
    max_learning_rate: float | None = ..., nesterov: bool = ..., preconditioner_power: float = ...,
    ema_decay: float = ..., steps: int, batch_sizes: Literal["optimal", "constant"],
    min_batch_size: float | None = ..., max_batch_size: float | None = ...,
) -> JointOptimum: ...  # fmt: skip
def optimal_schedule(
    problem: Problem,
    *,
    target: float = 0.01,
    pieces: int | None = 50,
    momentum: float = 0.0,
    max_learning_rate: float | None = None,
    nesterov: bool = False,
    preconditioner_power: float = 0.0,
    ema_decay: float = 0.0,
    max_steps: int = 10**9,
    steps: int | None = None,
    batch_sizes: Literal["optimal", "constant"] | None = None,
    min_batch_size: float | None = None,
    max_batch_size: float | None = None,
) -> OptimalSchedule | JointOptimum:
    """The fewest steps to a target over all schedules of some equal pieces, and their rates.

    With ``steps`` and ``batch_sizes`` it is the fewest examples instead, of runs of so many steps,
    over learning rates and batch sizes together (``joint.py``); with ``"constant"`` batch sizes one
    batch size serves the whole run. The problem's own does not matter then, nor does max_steps.

    Rates are constant within a piece, and anything from 0 to the largest. Momentum and the rest
    are as in ``SGD``, and held fixed. With momentum or averaging it is the best found, no worse
    than the best constant rate and than half as many pieces.

    Args:
        problem: spectrum and batch size.
        target: expected loss to reach, below the initial risk.
        pieces: number of pieces, at least 1 and at most the steps. None: as many as are needed for
            any schedule, however fine, to save no more than ``gap``; each step its own in short
            runs.
        momentum: as in ``SGD``, like the next three.
        nesterov: Nesterov's form of the momentum.
        preconditioner_power: p in [0, 1].
        ema_decay: gamma in [0, 1).
        max_learning_rate: the largest rate allowed. By default 0.9998 times the limit of stability
            of the largest curvature h that counts, 2 (1 + mu) / h^(1 - p), with Nesterov's momentum
            2 (1 + mu) / (1 + 2 mu) / h^(1 - p).
        max_steps: the most steps that count.
        steps: the length of the run, at least the pieces; together with batch_sizes.
        batch_sizes: ``"optimal"``, each piece its own, or ``"constant"``.
        min_batch_size: the smallest allowed, in examples, > 0. None: there is no bound.
        max_batch_size: the largest.

    Returns:
        A ``JointOptimum`` where batch_sizes is given, else an ``OptimalSchedule``.

    Raises:
        TooManyPiecesError: a ValueError, if the steps needed are fewer than the pieces.
        NotReachedError: a ValueError, if the target cannot be reached within max_steps.
        ValueError: if a value is outside its range or of the wrong kind.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem={problem!r}: must be NoisyQuadratic")
    require_additive(problem, "optimal_schedule")
    initial = problem.spectrum.initial_risk
    target = require_number("target", target, above=0.0)
    if target >= initial:
        raise ValueError(f"target={target:g}: must be less than {initial:g}, the initial risk")
    if pieces is not None:
        pieces = require_integer("pieces", pieces, least=1)
    max_steps = require_integer("max_steps", max_steps, least=1, most=LONGEST)
    # It checks its own fields; the rate is a placeholder.
    optimizer = SGD(1.0, momentum, nesterov, preconditioner_power, ema_decay)
    stable = largest_peak(problem, optimizer)
    largest = stable
    if max_learning_rate is not None:
        largest = require_number("max_learning_rate", max_learning_rate, above=0.0)
    given = {
        "steps": steps,
        "batch_sizes": batch_sizes,
        "min_batch_size": min_batch_size,
        "max_batch_size": max_batch_size,
    }
    if any(value is not None for value in given.values()):
        demand = _demand(problem, target, pieces, **given)
        with _blas().limit(limits=1, user_api="blas"):
            return joint_optimum(problem, optimizer, demand, largest, min(largest, stable))

    tables = functools.cache(functools.partial(Tables.of, problem, optimizer))

    def make(level: int, cuts: Integers, work: Budget) -> Runs:
        return Runs(tables(level), target, cuts, largest, min(largest, stable), max_steps, work)

    count = REFINED if pieces is None else pieces
    memory = optimizer.momentum > 0.0 or optimizer.ema_decay > 0.0
    find = functools.partial(_with_memory, optimizer) if memory else _without_memory
    # Other threads cost the small matrices of L-BFGS-B up to six times their work.
    with _blas().limit(limits=1, user_api="blas"):
        found, gap = find(problem, make, count, refine=pieces is None)
    steps = found.found.steps
    if pieces is not None and steps < pieces:
        raise TooManyPiecesError(pieces, steps, "the steps that the target needs")
    firsts = edges(steps, found.cuts)
    own = np.diff(firsts) > 0
    rates, boundaries = found.found.rates[own], firsts[:-1][own][1:]
    for array in (rates, boundaries):
        array.setflags(write=False)
    return OptimalSchedule(
        steps=steps,
        learning_rates=rates,
        boundaries=boundaries,
        risk=found.found.risk,
        risk_before=found.below.risk,
        residual=found.found.residual,
        error=found.error,
        pieces=int(found.cuts[-1]),
        gap=gap if pieces is None else None,
    )


def _demand(
    problem: Problem,
    target: float,
    pieces: int | None,
    steps: object,
    batch_sizes: object,
    min_batch_size: object,
    max_batch_size: object,
) -> Demand:
    """What is asked of a joint optimum.

    Raises:
        ValueError: naming an argument that is outside its range, or missing.
    """
    if batch_sizes not in ("optimal", "constant"):
        raise ValueError(
            f"batch_sizes={batch_sizes!r}: must be 'optimal' or 'constant', with steps and bounds "
            "of batch sizes"
        )
    if steps is None:
        raise ValueError(f"steps=None: must be an integer with batch_sizes={batch_sizes!r}")
    if pieces is None:
        raise ValueError(f"pieces=None: must be an integer with batch_sizes={batch_sizes!r}")
    length = require_integer("steps", steps, least=1, most=LONGEST)
    pieces = require_integer("pieces", pieces, least=1, most=length)
    if problem.spectrum.noise_share == 0.0:
        raise ValueError("problem: must have gradient noise, or any batch size will do")
    lengths = np.diff(edges(length, equal(pieces)))
    return Demand.of(
        target, lengths, min_batch_size, max_batch_size, alike=batch_sizes == "constant"
    )


def _without_memory(
    problem: Problem, make: Make, pieces: int, *, refine: bool
) -> tuple[Settled, float]:
    level, cuts, work = problem.spectrum.first_level, equal(pieces), Budget()
    guess = first(make(level, equal(min(pieces, FEW)), work))
    if guess.steps < pieces and pieces > FEW:
        raise TooManyPiecesError(pieces, guess.steps, f"the steps that {FEW} pieces take")
    found, gap = Settled(level, cuts, *proved(make(level, cuts, work), guess), 0.0), 0.0
    if refine:
        found, gap = doubled(lambda cuts: make(level, cuts, work), ahead, found)
    runs = make(found.level, found.cuts, Budget())
    return settled(problem, make, runs, level, enclosed, found.found, found.below), gap


def _with_memory(
    optimizer: SGD, problem: Problem, make: Make, pieces: int, *, refine: bool
) -> tuple[Settled, float]:
    found, gap = nested(problem, optimizer, make, pieces), 0.0
    if refine:
        work = Budget(WORK)
        more, gap = doubled(lambda cuts: make(found.level, cuts, work), further, found)
        runs = make(more.level, more.cuts, work)
        more = settled(problem, make, runs, more.level, again(None), more.found)
        found = min(more, found, key=lambda each: each.found.steps)
    return found, gap


@functools.cache
def _blas() -> ThreadpoolController:
    """The libraries whose threads can be limited, among them SciPy's."""
    from scipy import linalg  # noqa: F401 (loads it)

    return ThreadpoolController()
