"""Scaling curves: the best of each study against batch size, and the laws of small batches.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target found at B |
| k | perfect_scaling | T = k / B where twice the batch halves the steps |
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import dropwhile, takewhile
from statistics import median

import numpy as np

from nqm_study.report.grouping import by_curve
from nqm_study.report.labels import labels
from nqm_study.study.records import Range, StudyRecord, TrialRecord

OVERHEAD = 1.2  # the critical batch size costs 20 % more examples (Zhang 2024, arXiv:2410.21676)

MOST_UNCERTAIN = 0.25
"""Standard error above which a fitted slope is not shown."""


@dataclass(frozen=True)
class Point:
    """The best found at one batch size, over its seeds.

    Attributes:
        batch_size: examples per step.
        steps: median over seeds of each study's fewest steps to the target.
        steps_low, steps_high: range of the same over seeds.
        hyperparameters: of the best trials, fixed ones too; median over seeds, the user's units.
        trials: finished trials, summed over seeds.
        seeds: seeds that reached the target.
        bayes_bound: the fewest steps any algorithm could need.
        hyperparameter_ranges: lowest and highest value over seeds.
        seeds_unreached: seeds with finished trials of which none reached the target.
        effective_rate: lr / (1 - momentum) of the best trials, median over seeds; the learning rate
            itself without momentum. It is what sets the pace: lr and momentum alone trade off.
        effective_rate_range: lowest and highest over seeds.
    """

    batch_size: float
    steps: float
    steps_low: float
    steps_high: float
    hyperparameters: Mapping[str, float]
    trials: int
    seeds: int
    bayes_bound: int
    hyperparameter_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seeds_unreached: int = 0
    effective_rate: float = math.nan
    effective_rate_range: tuple[float, float] = (math.nan, math.nan)

    @property
    def ratio_to_bound(self) -> float:
        """Steps over the Bayes bound; nan where the bound is 0."""
        return self.steps / self.bayes_bound if self.bayes_bound else math.nan

    @property
    def examples(self) -> float:
        """Examples seen until the target: steps times batch size."""
        return self.steps * self.batch_size


@dataclass(frozen=True)
class Curve:
    """Studies that differ only in batch size and seed.

    Attributes:
        key: the definition's hash less batch size and seed.
        label: the optimizer, and what tells this curve from the others it was built with.
        optimizer, spectrum, schedule: names of the configurations.
        target: expected loss to reach.
        searched: names of the searched hyperparameters.
        points: by batch size, smallest first.
        unreached: batch sizes with finished trials of which none reached the target.
        spectrum_digest: hash of the spectrum's arrays.
    """

    key: str
    label: str
    optimizer: str
    spectrum: str
    schedule: str
    target: float
    searched: tuple[str, ...]
    points: tuple[Point, ...]
    unreached: tuple[float, ...]
    spectrum_digest: str = ""
    spectrum_text: str = ""


@dataclass(frozen=True)
class SlopeFit:
    """Least squares of ln(learning rate) = intercept + slope ln(B).

    Attributes:
        slope: the power of B.
        standard_error: of the slope; None with two points, which leave no residual.
        intercept: natural logarithm of the learning rate at B = 1.
        batch_sizes: smallest and largest batch size used.
        n_points: number of batch sizes used.
    """

    slope: float
    standard_error: float | None
    intercept: float
    batch_sizes: tuple[float, float]
    n_points: int

    def learning_rate(self, batch_size: float) -> float:
        """The fitted learning rate, exp(intercept) B^slope."""
        return math.exp(self.intercept + self.slope * math.log(batch_size))


def curves(records: Sequence[StudyRecord]) -> tuple[Curve, ...]:
    """The scaling curves of the given studies, in an order that does not depend on theirs.

    Studies without finished trials are left out. Of studies with equal definitions (one search
    under several names) the one with the most trials counts.
    """
    groups = by_curve(records)
    names = labels([group[0].definition for group in groups])
    return tuple(_curve(name, group) for name, group in zip(names, groups, strict=True))


def small_batches(curve: Curve) -> tuple[Point, ...]:
    """The points where T is about k / B: the small-batch regime.

    It is the first unbroken run of points, from the smallest batch up, with T B at most 1.2 times
    the smallest T B of the curve. It starts at the smallest batch unless the search missed there.
    """
    least = min((point.examples for point in curve.points), default=0.0)

    def within(point: Point) -> bool:
        return 0.0 < point.examples <= OVERHEAD * least

    return tuple(takewhile(within, dropwhile(lambda point: not within(point), curve.points)))


def perfect_scaling(curve: Curve) -> float | None:
    """The constant k of T = k / B, in examples: the median of T B over the small-batch regime.

    None with fewer than two points in it: one point shows no scaling.
    """
    regime = small_batches(curve)
    return median(point.examples for point in regime) if len(regime) >= 2 else None


def fit_learning_rate(curve: Curve) -> SlopeFit | None:
    """The power law of the best effective rate over the small-batch regime.

    None with fewer than two points in it, or where they follow no power law: a slope that is
    uncertain by more than 0.25 tells none from another.
    """
    pairs = [
        (point.batch_size, point.effective_rate)
        for point in small_batches(curve)
        if point.effective_rate > 0.0
    ]
    if len(pairs) < 2:
        return None
    x, y = np.log(np.array(pairs)).T
    spread = float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(pairs) - 2
    misfit = float(np.sum((y - intercept - slope * x) ** 2))
    error = math.sqrt(misfit / freedom / spread) if freedom else None
    if error is not None and error > MOST_UNCERTAIN:
        return None
    return SlopeFit(slope, error, intercept, (pairs[0][0], pairs[-1][0]), len(pairs))


def _curve(label: str, records: Sequence[StudyRecord]) -> Curve:
    definition = records[0].definition
    by_batch: dict[float, list[StudyRecord]] = defaultdict(list)
    for record in records:
        by_batch[record.definition.batch_size].append(record)
    points = {batch_size: _point(by_batch[batch_size]) for batch_size in sorted(by_batch)}
    return Curve(
        key=definition.curve,
        label=label,
        optimizer=definition.optimizer,
        spectrum=definition.spectrum,
        schedule=definition.schedule,
        target=definition.target,
        searched=tuple(
            name for name, value in definition.hyperparameters.items() if isinstance(value, Range)
        ),
        points=tuple(point for point in points.values() if point is not None),
        unreached=tuple(batch_size for batch_size, point in points.items() if point is None),
        spectrum_digest=definition.spectrum_digest,
        spectrum_text=definition.spectrum_text,
    )


def _point(records: Sequence[StudyRecord]) -> Point | None:
    """The point of studies that differ only in seed; None where none reached the target."""
    bests: list[tuple[int, TrialRecord]] = [
        (best.steps, best)
        for record in records
        if (best := record.best) is not None and best.steps is not None
    ]
    if not bests:
        return None
    steps = [count for count, _ in bests]
    rates = [_effective_rate(best.hyperparameters) for _, best in bests]
    values = {
        name: [best.hyperparameters[name] for _, best in bests]
        for name in bests[0][1].hyperparameters
    }
    return Point(
        batch_size=records[0].definition.batch_size,
        steps=float(median(steps)),
        steps_low=float(min(steps)),
        steps_high=float(max(steps)),
        hyperparameters={name: float(median(found)) for name, found in values.items()},
        trials=sum(len(record.trials) for record in records),
        seeds=len(bests),
        bayes_bound=records[0].bayes_bound,
        hyperparameter_ranges={name: (min(found), max(found)) for name, found in values.items()},
        seeds_unreached=len(records) - len(bests),
        effective_rate=float(median(rates)),
        effective_rate_range=(min(rates), max(rates)),
    )


def _effective_rate(hyperparameters: Mapping[str, float]) -> float:
    learning_rate = hyperparameters.get("learning_rate", math.nan)
    return learning_rate / (1.0 - hyperparameters.get("momentum", 0.0))
