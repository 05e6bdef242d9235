"""The joint optimum of learning rates and batch sizes: the fewest examples of a number of steps.

At given rates the best batch sizes, and their E, have a closed form (batch_sizes.py). So ln E is
minimised over the logarithms of the rates of equal pieces by L-BFGS-B, as ln L_T is in optimal.py,
from the same starts. By the theorem of the envelope the derivative of E by a rate is

    dE / dr = mu d(S + sum N_k / B_k) / dr,   mu = dE / dS,

with the batch sizes held as they are: mu times the derivative of a last risk whose noise has the
share 1 / B_k in piece k. With one batch size for all, B = sum N / (C - S), E = T B, mu = E / (C -
S). Where no batch size is enough E is infinite, and descents turn back. Where that is so at all
starts, the signal is minimised first; with a largest batch size, the one that serves all steps:
the smallest such is the smallest bound that can be met.

As with optimal.py nothing proves that the minimum is global; with momentum or averaging there are
many.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers, shown
from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import PiecewiseConstant
from nqm_study.model.schedules.computed.batch_sizes import Demand, Parts
from nqm_study.model.schedules.computed.least_risk import (
    Measure,
    Minimum,
    Runs,
    Tables,
    by_risk,
    equal,
)
from nqm_study.model.schedules.computed.pieces import REACH, best_of_starts


@dataclass(frozen=True, eq=False)
class JointOptimum:
    """The learning rates and batch sizes that reach a target in given steps with fewest examples.

    Step t, from 0 on, belongs to piece floor(t * pieces / steps).

    Attributes:
        steps: T.
        examples: E = sum n_k B_k, a real number.
        batch_sizes: of each piece, shape (pieces,), read-only; real numbers.
        learning_rates: of each piece, shape (pieces,), read-only.
        boundaries: the first step of each piece but the first, shape (pieces - 1,), read-only.
        risk: the last risk: the target, or below it where all batch sizes are at min_batch_size.
        residual: the largest violation of the conditions of a minimum: |d ln E / d ln r| of the
            rates inside the bounds, positive d ln E / d ln r of those at the largest, and that of
            the batch sizes, relative. Where hardly any rates are enough, S being next to C, E is so
            steep that rounding leaves up to 1e-4.
        error: relative error of the risk by the compression of the spectrum.
    """

    steps: int
    examples: float
    batch_sizes: Array
    learning_rates: Array
    boundaries: Integers
    risk: float
    residual: float
    error: float

    def __repr__(self) -> str:
        return (
            f"<JointOptimum: {self.examples:,.6g} examples in {self.steps:,} steps, batch sizes "
            f"{shown(self.batch_sizes)}, learning rates {shown(self.learning_rates)}>"
        )

    @property
    def mean_batch_size(self) -> float:
        """Examples per step."""
        return self.examples / self.steps

    @property
    def peak_learning_rate(self) -> float:
        """The largest rate: the learning rate that ``schedule`` is relative to."""
        return float(self.learning_rates.max())

    @property
    def schedule(self) -> PiecewiseConstant:
        """The rates as shares of the largest, to be run over a horizon of ``steps``."""
        return PiecewiseConstant(tuple((self.learning_rates / self.peak_learning_rate).tolist()))


def joint_optimum(
    problem: Problem, optimizer: SGD, demand: Demand, largest: float, stable: float
) -> JointOptimum:
    """The fewest examples that are found, over rates and batch sizes of equal pieces.

    Args:
        problem: the spectrum; its batch size does not matter.
        optimizer: whatever its own rate.
        demand: the target, the lengths of the pieces, and what batch sizes may be.
        largest: the largest rate allowed.
        stable: the largest to start from.

    Raises:
        ValueError: if no rates and batch sizes that were found reach the target.
    """
    single = dataclasses.replace(problem, batch_size=1.0)
    tables = functools.cache(functools.partial(Tables.of, single, optimizer))
    search = _Search(tables, demand, largest, stable)
    level = problem.spectrum.first_level
    found = search.best(level)
    while True:
        rates = found.rates
        parts = functools.cache(functools.partial(search.parts, rates))
        agreed, error = demand.settled(problem.spectrum, parts, level)
        if agreed <= level + 1:
            break
        level = agreed - 1
        infinite = found.risk == math.inf
        found = search.best(level) if infinite else search.runs(level).minimise(search.steps, rates)
    last = parts(agreed)
    allocation = demand.met(last)
    boundaries = np.cumsum(demand.lengths)[:-1]
    for array in (allocation.batch_sizes, rates, boundaries):
        array.setflags(write=False)
    return JointOptimum(
        steps=search.steps,
        examples=allocation.examples,
        batch_sizes=allocation.batch_sizes,
        learning_rates=rates,
        boundaries=boundaries,
        risk=last.risk(allocation.batch_sizes),
        residual=max(found.residual, allocation.residual),
        error=error,
    )


@dataclass(frozen=True, eq=False)
class _Search:
    """The descents over rates; fields as the arguments of ``joint_optimum``.

    Attributes:
        tables: level of compression -> those of the problem at a batch size of 1.
    """

    tables: Callable[[int], Tables]
    demand: Demand
    largest: float
    stable: float

    @property
    def steps(self) -> int:
        return int(self.demand.lengths.sum())

    def parts(self, rates: Array, level: int) -> Parts:
        """The parts of the last risk at some rates."""
        return Parts(*self.tables(level).contributions(self.demand.lengths, rates), rates)

    def runs(self, level: int, target: float = 0.0, measure: Measure | None = None) -> Runs:
        """Runs whose examples, or another measure, are minimised in place of their last risks."""
        tables, cuts = self.tables(level), equal(self.demand.lengths.size)
        measure = measure or functools.partial(self._examples, tables)
        return Runs(tables, target, cuts, self.largest, self.stable, self.steps, measure=measure)

    def _examples(self, tables: Tables, lengths: Integers, rates: Array, gradient: Array) -> float:
        """The fewest examples E, and their derivatives by the rates; inf where none are enough."""
        found = self.demand.allocation(*tables.contributions(lengths, rates))
        if found is None:
            return math.inf
        sizes = found.batch_sizes
        shares = np.divide(1.0, sizes, where=sizes > 0.0, out=np.zeros(sizes.size))
        tables.last_risk(lengths, rates, gradient, shares)
        gradient *= found.price
        return found.examples

    def best(self, level: int) -> Minimum:
        """The fewest examples of all starts.

        Where none are enough they are infinite, and the rates those of the smallest batch size that
        could be the largest, or of the least signal.
        """
        runs = self.runs(level)
        found = best_of_starts(runs, self.steps, ())
        if found.risk < math.inf:
            return found
        if self.demand.most < math.inf:
            loose = dataclasses.replace(self.demand, least=0.0, most=math.inf, alike=True)
            near = dataclasses.replace(self, demand=loose).best(level)
            if near.risk == math.inf:
                return near
            met = [near]
        else:
            no_noise = np.zeros(runs.pieces)
            signal = functools.partial(self.tables(level).last_risk, shares=no_noise)
            reach = self.runs(level, self.demand.target, signal)
            ends = [reach.minimise(self.steps, rates, REACH) for rates in reach.starts(self.steps)]
            near = min(ends, key=by_risk)
            if near.risk >= reach.target:
                near = reach.minimise(self.steps, near.rates)
            met = [each for each in (*ends, near) if each.risk < reach.target]
        found = best_of_starts(runs, self.steps, tuple(each.rates for each in met))
        return found if found.risk < math.inf else near._replace(risk=math.inf)
