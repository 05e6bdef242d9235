"""Scaling curves: the best of each study against batch size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TypeVar

from nqm_study.report.grouping import COMPUTED, by_curve
from nqm_study.report.labels import labels
from nqm_study.study.definition import Range
from nqm_study.study.records import StudyRecord, TrialRecord

Known = TypeVar("Known")
Rates = tuple[tuple[int, float], ...]


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
        classical_bound: d / (2 C B), the large-sample limit; None where it is not known.
        optimal_steps: steps of SGD's optimal schedule; None where it is not known.
        rates: (step, learning rate) pairs of the schedule of the trial with the fewest steps, which
            are ``steps_low``; empty unless it was computed.
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
    classical_bound: float | None = None
    optimal_steps: int | None = None
    rates: Rates = ()

    @property
    def ratio_to_bound(self) -> float:
        """Steps over the Bayes bound; nan where the bound is 0."""
        return self.steps / self.bayes_bound if self.bayes_bound else math.nan

    @property
    def ratio_to_optimal(self) -> float:
        """Steps over those of SGD's optimal schedule; nan where these are not known."""
        return self.steps / self.optimal_steps if self.optimal_steps else math.nan

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

    @property
    def computed(self) -> bool:
        """Whether its schedules were computed: their largest rate is mostly the cap on them."""
        return self.schedule in COMPUTED


def curves(records: Sequence[StudyRecord]) -> tuple[Curve, ...]:
    """The scaling curves of the given studies, in an order that does not depend on theirs.

    Studies without finished trials are left out. Of studies with equal definitions (one search
    under several names) the one with the most trials counts.
    """
    groups = by_curve(records)
    names = labels([group[0].definition for group in groups])
    return tuple(_curve(name, group) for name, group in zip(names, groups, strict=True))


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
    _, fastest = min(bests, key=lambda pair: pair[0])
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
        classical_bound=_first_known([record.classical_bound for record in records]),
        optimal_steps=_first_known([record.optimal_steps for record in records]),
        rates=fastest.rates,
    )


def _first_known(values: Sequence[Known | None]) -> Known | None:
    """What is the same for all seeds, though studies that earlier versions stored lack it."""
    return next((value for value in values if value is not None), None)


def _effective_rate(hyperparameters: Mapping[str, float]) -> float:
    learning_rate = hyperparameters.get("learning_rate", math.nan)
    return learning_rate / (1.0 - hyperparameters.get("momentum", 0.0))
