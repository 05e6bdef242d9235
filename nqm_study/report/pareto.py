"""Frontiers of steps and examples: of studies that search the batch size as well."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from nqm_study.report.grouping import by_frontier
from nqm_study.report.labels import labels
from nqm_study.study.frontier import ExactFrontier, exact_frontier, non_dominated
from nqm_study.study.records import StudyRecord, TrialRecord


@dataclass(frozen=True)
class Frontier:
    """Studies that differ in their seeds only, together.

    Attributes:
        key: the definition's hash less the seed.
        label: the optimizer, and what tells this frontier from the others it was built with.
        optimizer, schedule, sampler: names of the configurations.
        spectrum: name of its configuration.
        spectrum_text: the same with its settings.
        target: expected loss to reach.
        searched: names of the searched hyperparameters.
        low, high: the ends of the batch sizes.
        trials: those that reached the target, with their seeds.
        n_trials: how many there are with the others.
        seeds: of the studies.
        found: the trials that no other is better than, by examples, the fewest first.
        exact: the exact frontier; None where it is not known.
        gap: how far from all of it a study ends, relative; of several the median.
    """

    key: str
    label: str
    optimizer: str
    schedule: str
    sampler: str
    spectrum: str
    spectrum_text: str
    target: float
    searched: tuple[str, ...]
    low: float
    high: float
    trials: tuple[tuple[int, TrialRecord], ...]
    n_trials: int
    seeds: int
    found: tuple[TrialRecord, ...]
    exact: ExactFrontier | None = None
    gap: float | None = None

    def excess(self, trial: TrialRecord) -> float | None:
        """How far a trial's steps are above the exact ones at its batch size; None if not known."""
        return self.exact.excess(trial) if self.exact is not None else None

    @property
    def critical_batch_size(self) -> float | None:
        """That of the exact frontier, where it is known and inside the range."""
        return self.exact.critical_batch_size if self.exact is not None else None

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The learning rate, and what else is searched but the batch size."""
        return tuple(dict.fromkeys(("learning_rate", *self.searched)))


def frontiers(records: Sequence[StudyRecord]) -> tuple[Frontier, ...]:
    """The frontiers of the given studies, in an order that does not depend on theirs.

    Studies of one batch size, and those without finished trials, are left out.
    """
    groups = by_frontier(records)
    names = labels([group[0].definition for group in groups])
    made = []
    for label, group in zip(names, groups, strict=True):
        first = group[0].definition
        exact = next((found for each in group if (found := exact_frontier(each))), None)
        low, high = (float(end) for end in first.batch_text.split(".."))
        made.append(
            Frontier(
                key=first.curve,
                label=label,
                optimizer=first.optimizer_text,
                schedule=first.schedule,
                sampler=first.sampler_text,
                spectrum=first.spectrum,
                spectrum_text=first.spectrum_text,
                target=first.target,
                searched=first.searched,
                low=low,
                high=high,
                trials=tuple(
                    (each.definition.seed, trial)
                    for each in group
                    for trial in each.trials
                    if trial.steps is not None
                ),
                n_trials=sum(len(each.trials) for each in group),
                seeds=len(group),
                found=non_dominated(trial for each in group for trial in each.trials),
                exact=exact,
                gap=None if exact is None else median(exact.gap(each.trials) for each in group),
            )
        )
    return tuple(made)


def spread(frontier: Frontier, most: int) -> tuple[TrialRecord, ...]:
    """At most so many of the trials of a frontier: the ends, and others evenly along it."""
    found = frontier.found
    if len(found) <= most:
        return found
    lengths = [0.0]
    for before, after in itertools.pairwise(found):
        sides = (math.log(after.examples / before.examples), math.log(_steps(before, after)))
        lengths.append(lengths[-1] + math.hypot(*sides))
    places = (lengths[-1] * k / (most - 1) for k in range(most))
    nearest = {min(range(len(found)), key=lambda i: abs(lengths[i] - p)) for p in places}
    return tuple(found[i] for i in sorted(nearest))


def _steps(before: TrialRecord, after: TrialRecord) -> float:
    return max(before.steps or 1, 1) / max(after.steps or 1, 1)
