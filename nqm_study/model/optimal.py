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
to fall.

All is done on a compression of the spectrum. It is refined until the risks at T and T - 1 agree
with those of the next finer one and leave no doubt on which side of the target they lie.

Source of the problem: Zhang et al. 2019, arXiv:1907.04164, section 4 (piecewise-constant schedules
of 50 pieces). Its footnote speaks of dynamic programming; the published notebook minimises
numerically.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nqm_study.model._least_risk import Runs, edges
from nqm_study.model._optimal_search import NotReachedError, first, proved, refined
from nqm_study.model.affine import Affine
from nqm_study.model.optimizers import SGD, stability_limit
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_integer, require_number
from nqm_study.model.schedules import PiecewiseConstant

__all__ = ["NotReachedError", "OptimalSchedule", "TooManyPiecesError", "optimal_schedule"]

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

BELOW_LIMIT = 0.9998
"""The largest rate where none is given, as a share of the limit of stability: the paper's choice
2 / (h_1 + h_d + 1e-4), to its digits."""

FEW = 50
"""Where there are more pieces than these, these few come first: they cost less, and where they take
fewer steps than there are pieces, those cannot each have a step."""

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


class TooManyPiecesError(ValueError):
    """There are more pieces than steps, so that not each can have a step.

    Attributes:
        steps: how many there are.
    """

    def __init__(self, pieces: int, steps: int, which: str) -> None:
        super().__init__(f"pieces={pieces}: must be at most {steps}, {which}")
        self.steps = steps


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
        TooManyPiecesError: a ValueError, if the steps needed are fewer than the pieces.
        NotReachedError: a ValueError, if the target cannot be reached within max_steps.
        ValueError: if a value is outside its range or of the wrong kind.
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
    stable = BELOW_LIMIT * _stable_rate(problem, optimizer)
    largest = stable
    if max_learning_rate is not None:
        largest = require_number("max_learning_rate", max_learning_rate, above=0.0)

    def runs(level: int) -> Runs:
        tables = Affine.of(problem, optimizer, level)
        return Runs(tables, target, pieces, largest, min(largest, stable), max_steps)

    level = problem.spectrum.first_level
    coarse = runs(level)
    guess = first(replace(coarse, pieces=min(pieces, FEW)))
    if guess.steps < pieces and pieces > FEW:
        raise TooManyPiecesError(pieces, guess.steps, f"the steps that {FEW} pieces take")
    below, found = proved(coarse, guess)
    below, found, error = refined(problem, runs, level, below, found)
    if found.steps < pieces:
        raise TooManyPiecesError(pieces, found.steps, "the steps that the target needs")
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


def _stable_rate(problem: NoisyQuadratic, optimizer: SGD) -> float:
    """The rate at which the steepest mode that has signal or noise is no longer stable."""
    parts = (problem.spectrum.signal, problem.spectrum.gradient_noise)
    steepest = max(float(part.curvature.max(initial=0.0)) for part in parts)
    return float(stability_limit(optimizer) / steepest ** (1.0 - optimizer.preconditioner_power))
