"""How near the true optimum samplers come with so many trials: their regret.

| symbol | name in code | meaning |
|---|---|---|
| k | trials | trials done |
| T_k | | fewest steps to the target that the first k trials found; infinite where none reached it |
| T* | optimum | steps of the true optimum |
| r_k | regret | T_k / T* - 1 |
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nqm_study.report.grouping import by_benchmark
from nqm_study.report.labels import labels, sampler_labels
from nqm_study.report.point import best_optimum
from nqm_study.study.records import Optimum, StudyRecord, regret

Case = tuple[float, int]  # a batch size and a seed
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Regret:
    """The regret of one sampler over its studies; at index k - 1 that after k trials.

    Attributes:
        sampler: its name, with what tells it from the others.
        lower, median, upper: quartiles over the studies; infinite where too few studies have
            reached the target.
        worst: the largest over the studies.
        studies: how many there are.
        exact: whether every true optimum is exact.
    """

    sampler: str
    lower: tuple[float, ...]
    median: tuple[float, ...]
    upper: tuple[float, ...]
    worst: tuple[float, ...]
    studies: int
    exact: bool = True

    @property
    def trials(self) -> int:
        """Trials that every study has."""
        return len(self.median)


@dataclass(frozen=True)
class Comparison:
    """Samplers on the same studies: of equal batch sizes and seeds, with equally many trials.

    Attributes:
        label: the optimizer, and what tells this comparison from the others.
        optimizer, schedule, spectrum_text: names of the configurations.
        target: expected loss to reach.
        batch_sizes: in ascending order.
        seeds: how many different ones there are.
        regrets: one for each sampler, in the order of their names.
    """

    label: str
    optimizer: str
    schedule: str
    spectrum_text: str
    target: float
    batch_sizes: tuple[float, ...]
    seeds: int
    regrets: tuple[Regret, ...]

    @property
    def trials(self) -> int:
        """Trials that every study of every sampler has."""
        return self.regrets[0].trials

    @property
    def studies(self) -> int:
        """Studies of each sampler."""
        return self.regrets[0].studies

    @property
    def exact(self) -> bool:
        """Whether every true optimum is exact."""
        return all(regret.exact for regret in self.regrets)


def told(trials: int) -> list[int]:
    """Numbers of trials after which regrets are told: a quarter, half and all of them."""
    return list(dict.fromkeys(math.ceil(share * trials) for share in (0.25, 0.5, 1.0)))


def comparisons(records: Sequence[StudyRecord]) -> tuple[Comparison, ...]:
    """A comparison wherever two or more samplers searched the same, and its optimum is known.

    Only batch sizes and seeds that all its samplers have in common count, and only as many trials
    as all these studies have. Samplers without any in common are not compared.

    Args:
        records: of one spectrum and target.
    """
    groups = [found for group in by_benchmark(records) if len(found := _contenders(group)) > 1]
    groups = [found for group in groups if (found := _in_common(group))]
    # Comparisons are told apart by everything but the samplers.
    firsts = [next(iter(group[0].values())).definition for group in groups]
    names = labels([replace(definition, sampler={"name": ""}) for definition in firsts])
    return tuple(_comparison(name, group) for name, group in zip(names, groups, strict=True))


def curve_regret(records: Sequence[StudyRecord]) -> Regret | None:
    """The regret over all studies of one scaling curve, whose optima are known; None without."""
    found = _contenders(records)
    if not found:
        return None
    (studies,) = found
    members = list(studies.values())
    n_trials = min(len(record.trials) for record in members)
    return _regret(members[0].definition.sampler_text, studies, _optima(members), n_trials)


def _contenders(records: Sequence[StudyRecord]) -> list[dict[Case, StudyRecord]]:
    """The studies of each sampler, where the optimum is known; of a case's, the longest."""
    found: dict[str, dict[Case, StudyRecord]] = defaultdict(dict)
    for record in sorted(records, key=lambda record: (len(record.trials), record.name)):
        definition = record.definition
        if record.trials and record.optimum is not None and record.optimum.steps > 0:
            # No local search may be written as one of no trials.
            settings = {k: v for k, v in definition.sampler.items() if k != "finish" or v}
            key = json.dumps(settings, sort_keys=True)
            found[key][definition.one_batch_size, definition.seed] = record
    return [found[key] for key in sorted(found)]


def _in_common(group: Sequence[Mapping[Case, StudyRecord]]) -> list[dict[Case, StudyRecord]]:
    """The same with only the cases that all have; empty where there are none."""
    cases = sorted(set(group[0]).intersection(*group[1:]))
    return [{case: studies[case] for case in cases} for studies in group] if cases else []


def _comparison(label: str, group: Sequence[Mapping[Case, StudyRecord]]) -> Comparison:
    cases = list(group[0])
    records = [record for studies in group for record in studies.values()]
    optima = _optima(records)
    n_trials = min(len(record.trials) for record in records)
    first = records[0].definition
    names = sampler_labels([studies[cases[0]].definition for studies in group])
    regrets = [
        _regret(name, studies, optima, n_trials) for name, studies in zip(names, group, strict=True)
    ]
    return Comparison(
        label=label,
        optimizer=first.optimizer_text,
        schedule=first.schedule,
        spectrum_text=first.spectrum_text,
        target=first.target,
        batch_sizes=tuple(sorted(optima)),
        seeds=len({seed for _, seed in cases}),
        regrets=tuple(sorted(regrets, key=lambda regret: regret.sampler)),
    )


def _optima(records: Sequence[StudyRecord]) -> dict[float, Optimum]:
    """The true optimum at each batch size: one for all samplers and seeds."""
    groups: dict[float, list[StudyRecord]] = defaultdict(list)
    for record in records:
        groups[record.definition.one_batch_size].append(record)
    found = {batch_size: best_optimum(group) for batch_size, group in groups.items()}
    return {batch_size: optimum for batch_size, optimum in found.items() if optimum is not None}


def _regret(
    sampler: str,
    studies: Mapping[Case, StudyRecord],
    optima: Mapping[float, Optimum],
    n_trials: int,
) -> Regret:
    table = [
        regret(record.trials[:n_trials], optima[batch_size])
        for (batch_size, _), record in studies.items()
    ]
    regrets: Values = np.sort(np.array(table), axis=0)
    lower, median, upper, worst = (_quantile(regrets, q) for q in (0.25, 0.5, 0.75, 1.0))
    exact = all(optima[batch_size].exact for batch_size, _ in studies)
    return Regret(sampler, lower, median, upper, worst, len(regrets), exact)


def _quantile(columns: Values, share: float) -> tuple[float, ...]:
    """The quantile of each sorted column, linear between its values; infinite next to infinity."""
    place = share * (len(columns) - 1)
    low, high = columns[math.floor(place)], columns[math.ceil(place)]
    weight = place - math.floor(place)
    between = np.where(np.isinf(high), 0.0, high) * weight + low * (1.0 - weight)
    return tuple(np.where(np.isinf(high), high, between).tolist())
