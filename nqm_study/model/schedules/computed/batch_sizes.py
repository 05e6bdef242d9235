"""Optimal batch sizes: the fewest examples with which a run of given rates ends at a target.

The noise of gradients is additive, so each step's is one term of the last risk.

| symbol | name in code | meaning |
|---|---|---|
| n_k | lengths | steps of piece k |
| B_k | batch_sizes | examples of each of its steps |
| N_k | noise | what its noise adds to the last risk, at a batch size of 1 |
| S | signal | the rest of the last risk |
| C | target | L_T = S + sum N_k / B_k is to be at most C |
| E | examples | sum n_k B_k |
| mu | price | dE / dS, the examples that a unit of the risk is worth |

E is convex in B, and so is the condition. By Lagrange's multiplier, B_k = sqrt(mu N_k / n_k), and

    B_k = sqrt(N_k / n_k) Z / (C - S),   Z = sum_k sqrt(n_k N_k),   E = Z^2 / (C - S).

With bounds (Karush, Kuhn and Tucker) B_k = sqrt(mu N_k / n_k) is clipped to them. The risk falls
with mu, so mu is found between two of the values at which a B_k meets a bound; there it has a
closed form. N_k is the adjoint of the run: ``noise_contributions`` of linear/schedule_kernel.py.

Where the noise follows the loss the last risk is no such sum, and nothing is in closed form. At
given batch sizes let N_k be how fast the last risk grows with 1 / B_k, the adjoint of the coupled
run, and S what is left of the risk without sum N_k / B_k. The batch sizes of the formulas for these
are the next ones, and so on until none changes: there the risk is C and every step has the same
price, which is what a minimum has to fulfil. It is found from one start, and not proved the least.

Derived here. Related: arXiv:1711.00489 and Seesaw, arXiv:2510.14717, which let batch sizes grow
where rates would fall.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nqm_study.model.crossing import CONSTANT, require_run
from nqm_study.model.linear.runs import Runs
from nqm_study.model.numerics.arrays import Array, Integers, shown
from nqm_study.model.numerics.refine import TOLERANCE
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.optimizers import Adam, LinearOptimizer
from nqm_study.model.outcome import PRECISE
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.model.schedules import ScheduleLike
from nqm_study.model.schedules.computed.least_risk import edges, equal

MOST_SINGLE = 10**5
"""The most steps that can each have a batch size of their own."""

LONGEST = 10**12
"""The most steps of a run in pieces."""

STEPPED = 2**23
"""Work (see ``Runs.work``) up to which runs are stepped through: some 0.3 s."""

MOST_ROUNDS, SETTLED = 200, 1e-9
"""Rounds of batch sizes where the noise follows the loss, and their change that ends these."""

MOST_ABOVE = 1.5
"""A round's batch sizes are too small to go on from if the risk is above this times the target."""

FEWEST, MOST = 64, 4096
"""Stretches for each smooth part of a schedule, of longer runs: the first, and the most."""


class Parts(NamedTuple):
    """The last risk of a run by its parts.

    Attributes:
        signal: S.
        noise: N_k, shape (pieces,).
        rates: the mean rate of each piece.
    """

    signal: float
    noise: Array
    rates: Array

    def risk(self, batch_sizes: Array) -> float:
        """S + sum N_k / B_k; what has no noise counts for nothing, whatever its batch size."""
        noisy = self.noise > 0.0
        return self.signal + float(np.sum(self.noise[noisy] / batch_sizes[noisy]))


class Allocation(NamedTuple):
    """The batch sizes of the fewest examples.

    Attributes:
        batch_sizes: B_k.
        examples: E.
        price: mu; 0 where all of them are at their smallest, and the risk below the target.
        residual: the largest violation of the conditions of a minimum, relative.
    """

    batch_sizes: Array
    examples: float
    price: float
    residual: float


@dataclass(frozen=True, eq=False)
class Demand:
    """What batch sizes are to meet.

    Attributes:
        target: C.
        lengths: n_k.
        least, most: bounds of a batch size; 0 and infinity where there are none.
        alike: whether all steps have one batch size.
    """

    target: float
    lengths: Integers
    least: float = 0.0
    most: float = math.inf
    alike: bool = False

    @classmethod
    def of(
        cls, target: object, lengths: Integers, least: object, most: object, *, alike: bool = False
    ) -> Demand:
        """The demand, with None for no bound.

        Raises:
            ValueError: naming a number that is outside its range.
        """
        target = require_number("target", target, above=0.0)
        least = 0.0 if least is None else require_number("min_batch_size", least, above=0.0)
        if most is None:
            return cls(target, lengths, least, alike=alike)
        bounds = {"least": least} if least > 0.0 else {"above": 0.0}
        return cls(target, lengths, least, require_number("max_batch_size", most, **bounds), alike)

    def allocation(self, signal: float, noise: Array) -> Allocation | None:
        """The fewest examples; None where none are enough."""
        if not self.alike:
            return allocated(noise, self.lengths, self.target - signal, self.least, self.most)
        together = np.array([noise.sum()]), np.array([self.lengths.sum()])
        one = allocated(*together, self.target - signal, self.least, self.most)
        return one and one._replace(batch_sizes=np.repeat(one.batch_sizes, noise.size))

    def difference(self, coarse: Parts, fine: Parts) -> float:
        """The relative difference of the last risks at the batch sizes of the first."""
        found = self.allocation(coarse.signal, coarse.noise)
        sizes = found.batch_sizes if found else np.full(self.lengths.size, self.most)
        return abs(fine.risk(sizes) / coarse.risk(sizes) - 1.0)

    def settled(
        self, spectrum: Spectrum, parts: Callable[[int], Parts], level: int
    ) -> tuple[int, float]:
        """The first level of compression that agrees with the one before, and the risk's error."""
        error = 0.0
        while level < spectrum.last_level:
            level, error = level + 1, self.difference(parts(level), parts(level + 1))
            if not error > TOLERANCE:
                return level, error
        return level, 0.0 if spectrum.law is None else error

    def met(self, parts: Parts) -> Allocation:
        """The fewest examples.

        Raises:
            ValueError: if none are enough, saying what would be.
        """
        found = self.allocation(parts.signal, parts.noise)
        if found is None:
            if not parts.signal < self.target:  # or it is not a number
                raise ValueError(
                    f"target={self.target:.9g}: must be greater than {parts.signal:.9g}, the least "
                    "signal after these steps, which is left whatever the batch sizes"
                )
            needed = parts.noise.sum() / (self.target - parts.signal)
            raise ValueError(
                f"max_batch_size={self.most:.9g}: must be at least {needed:.9g} to reach "
                f"target={self.target:g} in these steps"
            )
        return found


def allocated(
    noise: Array, lengths: Integers, allowed: float, least: float, most: float
) -> Allocation | None:
    """The batch sizes of the fewest examples with sum N_k / B_k <= C - S; None where none are.

    Args:
        noise: N_k; where it is 0, B_k is at its smallest.
        lengths: n_k.
        allowed: C - S.
        least: the smallest B_k.
        most: the largest.
    """
    sizes, noisy = np.full(noise.size, least), noise > 0.0
    if not (allowed > 0.0 and np.all(np.isfinite(noise)) and np.sum(noise) / most <= allowed):
        return None
    if not np.any(noisy):
        return Allocation(sizes, float(lengths @ sizes), 0.0, 0.0)
    n, root = lengths[noisy], np.sqrt(noise[noisy] / lengths[noisy])
    low, high = least / root, most / root  # the sqrt(mu) at which B_k meets its bounds
    squares = n * root  # N_k / B_k is this over sqrt(mu)

    def noise_at(scale: float) -> float:
        return float(np.sum(squares * (root / np.clip(scale * root, least, most))))

    breaks = np.unique(np.concatenate((low, high)))
    scale, price = float(breaks[0]), 0.0  # all at their smallest
    if least == 0.0 or noise_at(scale) > allowed:
        place = bisect.bisect_left(breaks[1:-1], True, key=lambda each: noise_at(each) <= allowed)
        begin, end = breaks[place], breaks[place + 1]
        bottom, top = low >= end, high <= begin
        free = ~(bottom | top)
        fixed = np.sum((n * root**2)[bottom]) / (least or 1.0) + np.sum((n * root**2)[top]) / most
        if np.any(free) and allowed > fixed:
            end = min(max(np.sum(squares[free]) / (allowed - fixed), begin), end)
        scale = float(end)
        price = scale**2
    own = np.clip(scale * root, least, most)
    sizes[noisy] = own
    slope = 1.0 - price * (root / own) ** 2  # of the Lagrangian, over n_k
    missed = np.where(own <= least, -slope, np.where(own >= most, slope, np.abs(slope)))
    spent = float(np.sum(n * root**2 / own)) / allowed - 1.0
    residual = max(0.0, float(missed.max()), abs(spent) if price > 0.0 else spent)
    return Allocation(sizes, float(lengths @ sizes), price, residual)


@dataclass(frozen=True, eq=False)
class OptimalBatchSizes:
    """The batch sizes that bring a run of given rates to a target with the fewest examples.

    Step t, from 0 on, belongs to piece floor(t * pieces / steps).

    Attributes:
        steps: T.
        examples: E = sum n_k B_k, a real number.
        batch_sizes: of each piece, or step, shape (n,), read-only; real numbers. 0, or
            min_batch_size, where a step's noise counts for nothing, as at a rate of 0.
        learning_rates: the mean rate of each piece, shape (n,), read-only: its rate where that is
            constant, and of single steps.
        boundaries: the first step of each piece but the first, shape (n - 1,), read-only.
        risk: the last risk S + sum N_k / B_k: the target, or below it where all batch sizes are at
            min_batch_size.
        signal: S, the last risk without noise: the least of any batch sizes.
        residual: the largest violation of the conditions of Karush, Kuhn and Tucker, relative.
        error: relative error of the risk by the compression of the spectrum, and by stretches in
            runs too long to be stepped through.
    """

    steps: int
    examples: float
    batch_sizes: Array
    learning_rates: Array
    boundaries: Integers
    risk: float
    signal: float
    residual: float
    error: float

    def __repr__(self) -> str:
        return (
            f"<OptimalBatchSizes: {self.examples:,.6g} examples in {self.steps:,} steps, batch "
            f"sizes {shown(self.batch_sizes)}, risk {self.risk:.6g}>"
        )

    @property
    def mean_batch_size(self) -> float:
        """Examples per step."""
        return self.examples / self.steps


def optimal_batch_sizes(
    problem: Problem,
    optimizer: LinearOptimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    target: float = 0.01,
    steps: int,
    pieces: int | None = None,
    min_batch_size: float | None = None,
    max_batch_size: float | None = None,
) -> OptimalBatchSizes:
    """The fewest examples with which a run of given steps and rates ends at a target.

    With N_k what the noise of piece k, of n_k steps, adds to the last risk at a batch size of 1,
    and S the signal that is left,

        B_k = sqrt(N_k / n_k) Z / (C - S),   Z = sum_k sqrt(n_k N_k),   E = Z^2 / (C - S),

    clipped to the bounds, where there are any, with another factor in place of Z / (C - S).

    On ``LeastSquares`` N_k and S depend on the batch sizes, which are iterated until they settle:
    they are a stationary point to ``residual``.

    Args:
        problem: the spectrum and the kind of noise; its batch size does not matter.
        optimizer: any ``LinearOptimizer`` with a rule, such as ``SGD`` or ``PolyakAverage``.
        schedule: multiplies the learning rate over a horizon of ``steps``; as in
            ``steps_to_target``.
        target: expected loss at the end of the run, above the signal that is left there.
        steps: the length of the run, >= 1.
        pieces: number of equal pieces, each with one batch size, from 1 to ``steps``. None: each
            step has its own, in runs of up to 10^5 steps.
        min_batch_size: the smallest allowed, in examples, > 0. None: there is no bound.
        max_batch_size: the largest.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind; if the target is not above
            the signal, or needs more than max_batch_size; for ``Adam``, whose noise is not
            additive; and for an optimizer that has no rule but a ``transition``.

    Derived in the module's docstring. Related: arXiv:2510.14717, arXiv:1711.00489.
    """
    if isinstance(optimizer, Adam):
        raise ValueError(
            f"optimizer={optimizer!r}: must be a LinearOptimizer; Adam's noise is not additive"
        )
    shape = require_run(problem, optimizer, schedule)
    steps = require_integer("steps", steps, least=1, most=LONGEST)
    if pieces is None and steps > MOST_SINGLE:
        raise ValueError(f"steps={steps}: must be at most {MOST_SINGLE}, or in pieces")
    count = steps if pieces is None else require_integer("pieces", pieces, least=1, most=steps)
    bounds = edges(steps, equal(count))
    demand = Demand.of(target, np.diff(bounds), min_batch_size, max_batch_size)
    single = dataclasses.replace(problem, batch_size=1.0)

    runs = functools.cache(functools.partial(Runs, single, optimizer, shape))
    first = problem.spectrum.first_level
    with np.errstate(over="ignore", invalid="ignore"):  # runs that diverge
        if problem.follows_loss:
            return _stationary(runs, demand, bounds, problem.spectrum)
        long = pieces is not None and steps * runs(first).work > STEPPED
        stretches, left = _stretches(runs(first), demand, bounds) if long else (None, 0.0)

        @functools.cache
        def parts(level: int) -> Parts:
            return _parts(runs(level), bounds, stretches)

        level, error = demand.settled(problem.spectrum, parts, first)
        last = parts(level)
    found = demand.met(last)
    for array in (found.batch_sizes, last.rates, bounds):
        array.setflags(write=False)
    return OptimalBatchSizes(
        steps=steps,
        examples=found.examples,
        batch_sizes=found.batch_sizes,
        learning_rates=last.rates,
        boundaries=bounds[1:-1],
        risk=last.risk(found.batch_sizes),
        signal=last.signal,
        residual=found.residual,
        error=max(error, left),
    )


def _stationary(
    runs: Callable[[int], Runs], demand: Demand, bounds: Integers, spectrum: Spectrum
) -> OptimalBatchSizes:
    """Batch sizes that none of the next ones changes, where the noise follows the loss."""
    steps, level = int(bounds[-1]), min(spectrum.first_level + 1, spectrum.last_level)
    if steps * runs(level).work > STEPPED:
        raise ValueError(
            f"steps={steps}: must be at most {STEPPED // runs(level).work} on LeastSquares with "
            "this spectrum, where every step is looked at"
        )
    shares, moved, change = np.zeros(demand.lengths.size), 1.0, math.inf
    parts = _tangent(runs(level), bounds, shares)
    signal = parts.signal
    for _ in range(MOST_ROUNDS):
        sizes = demand.met(parts).batch_sizes
        noisy = sizes > 0.0
        wanted = np.divide(1.0, sizes, where=noisy, out=np.zeros(sizes.size))
        last = shares
        if last.any():
            both = noisy & (last > 0.0)
            ratio = np.log(wanted[both] / last[both])
            before, change = change, float(np.max(np.abs(ratio), initial=0.0))
            if change <= SETTLED:
                break
            # Where it does not come nearer, half of the way.
            moved = 0.5 * moved if change > 0.9 * before else moved
            shares = wanted.copy()
            shares[both] = last[both] * np.exp(moved * ratio)
        else:
            shares = wanted
        parts = _tangent(runs(level), bounds, shares)
        while not parts.signal + parts.noise @ shares < MOST_ABOVE * demand.target:
            # So small batches are next to the limit of stability.
            shares = np.sqrt(last * shares) if last.any() else 0.5 * shares
            parts = _tangent(runs(level), bounds, shares)
    risk = parts.signal + float(parts.noise @ shares)
    sizes = np.divide(1.0, shares, where=shares > 0.0, out=np.full(shares.size, demand.least))
    finer = min(level + 1, spectrum.last_level)
    there = _tangent(runs(finer), bounds, shares)
    error = abs((there.signal + float(there.noise @ shares)) / risk - 1.0)
    for array in (sizes, parts.rates, bounds):
        array.setflags(write=False)
    return OptimalBatchSizes(
        steps=steps, examples=float(demand.lengths @ sizes), batch_sizes=sizes,
        learning_rates=parts.rates, boundaries=bounds[1:-1], risk=risk, signal=signal,
        residual=max(2.0 * change, abs(risk / demand.target - 1.0)), error=error,
    )  # fmt: skip


def _tangent(runs: Runs, bounds: Integers, shares: Array) -> Parts:
    """The last risk's tangent in the shares 1 / B_k at some of them, as if it were a sum."""
    risk, slopes, rates = runs.sensitivities(np.repeat(shares, np.diff(bounds)))
    noise = np.add.reduceat(slopes, bounds[:-1])
    mean = np.add.reduceat(rates, bounds[:-1]) / np.diff(bounds)
    return Parts(risk - float(noise @ shares), noise, mean)


def _parts(runs: Runs, bounds: Integers, count: int | None) -> Parts:
    """The parts of the last risk, from single steps or by stretches for each smooth part.

    What K stretches leave falls as 1/K^2, and is taken away by means of K/2 of them.
    """
    signal, noise, rates, exact = runs.contributions(int(bounds[-1]), bounds[:-1], count)
    if count is None or exact:
        return Parts(math.inf if math.isnan(signal) else signal, noise, rates)
    coarse, rough, *_ = runs.contributions(int(bounds[-1]), bounds[:-1], count // 2)
    return Parts((4.0 * signal - coarse) / 3.0, (4.0 * noise - rough) / 3.0, rates)


def _stretches(runs: Runs, demand: Demand, bounds: Integers) -> tuple[int, float]:
    """So many stretches for each smooth part that twice as many differ little; and by how much."""
    count, last = FEWEST, _parts(runs, bounds, FEWEST)
    while True:
        count *= 2
        now = _parts(runs, bounds, count)
        error = demand.difference(last, now)
        if not error > PRECISE or count >= MOST:
            return count, error
        last = now
