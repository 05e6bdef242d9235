"""One point of a scaling curve: the best found at one batch size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar

from nqm_study.study.records import Optimum, StudyRecord, TrialRecord

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
        optimal_gap: the share of them that another schedule may save; None where it is not known.
        rates: (step, learning rate) pairs of the schedule of the trial with the fewest steps, which
            are ``steps_low``; empty unless it was computed.
        optimum: the true optimum of the searched hyperparameters; None where it is not known.
        seed_rates: the effective rates of the seeds' best trials, in no order.
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
    optimal_gap: float | None = None
    rates: Rates = ()
    optimum: Optimum | None = None
    seed_rates: tuple[float, ...] = ()

    @property
    def ratio_to_bound(self) -> float:
        """Steps over the Bayes bound; nan where the bound is 0."""
        return self.steps / self.bayes_bound if self.bayes_bound else math.nan

    @property
    def ratio_to_optimal(self) -> float:
        """Steps over those of SGD's optimal schedule; nan where these are not known."""
        return self.steps / self.optimal_steps if self.optimal_steps else math.nan

    @property
    def excess(self) -> float | None:
        """How far the median steps are above the true optimum's, relative; None if not known."""
        if self.optimum is None or self.optimum.steps == 0:
            return None
        return self.steps / self.optimum.steps - 1.0

    @property
    def optimal_rate(self) -> float:
        """The true optimum's lr / (1 - momentum); nan where it is not known."""
        if self.optimum is None:
            return math.nan
        return effective_rate(self.optimum.hyperparameters)

    def at_optimum(self) -> Point | None:
        """The point that a search would have found at the true optimum; None if it is not known."""
        if self.optimum is None:
            return None
        steps, rate = float(self.optimum.steps), self.optimal_rate
        return replace(
            self,
            steps=steps,
            steps_low=steps,
            steps_high=steps,
            hyperparameters=self.optimum.hyperparameters,
            hyperparameter_ranges={},
            effective_rate=rate,
            effective_rate_range=(rate, rate),
            seed_rates=(rate,),
        )

    @property
    def examples(self) -> float:
        """Examples seen until the target: steps times batch size."""
        return self.steps * self.batch_size


def point(records: Sequence[StudyRecord]) -> Point | None:
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
    rates = [effective_rate(best.hyperparameters) for _, best in bests]
    values = {
        name: [best.hyperparameters[name] for _, best in bests]
        for name in bests[0][1].hyperparameters
    }
    return Point(
        batch_size=records[0].definition.one_batch_size,
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
        optimal_gap=_first_known([record.optimal_gap for record in records]),
        rates=fastest.rates,
        optimum=best_optimum(records),
        seed_rates=tuple(rates),
    )


def best_optimum(records: Iterable[StudyRecord]) -> Optimum | None:
    """The true optimum of studies that search the same at one batch size, if any knows it.

    They all have the same one, unless it is not exact: then it is the best of theirs.
    """
    known = [record.optimum for record in records if record.optimum is not None]
    return min(known, key=lambda optimum: (not optimum.exact, optimum.steps), default=None)


def _first_known(values: Sequence[Known | None]) -> Known | None:
    """What is the same for all seeds, though studies that earlier versions stored lack it."""
    return next((value for value in values if value is not None), None)


def effective_rate(hyperparameters: Mapping[str, float]) -> float:
    """The rate that sets the pace, lr / (1 - momentum); nan without a learning rate."""
    learning_rate = hyperparameters.get("learning_rate", math.nan)
    return learning_rate / (1.0 - hyperparameters.get("momentum", 0.0))
