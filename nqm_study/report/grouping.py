"""Which study records belong to one figure, and which to one curve."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition
from nqm_study.study.records import StudyRecord

# From plain to elaborate: curves are drawn and listed in this order, other names after these.
_ORDER = ("sgd", "momentum", "nesterov", "ema", "preconditioned", "adam", "adam_full", "rmsprop")
_SCHEDULES = (
    "constant",
    "linear",
    "polynomial",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "piecewise_constant",
    "step_decay",
    "warmup_stable_decay",
    "one_cycle",
    "greedy",
    "optimal",
)

COMPUTED = ("greedy", "optimal")
"""Schedules that are computed step by step or piece by piece, not given by hyperparameters."""


def problem(definition: StudyDefinition) -> tuple[str, float]:
    """What studies of one figure share: the spectrum's numbers, whatever its name; the target."""
    return definition.spectrum_digest, definition.target


def spectrum_name(records: Sequence[StudyRecord]) -> str:
    """The spectrum's name that stands for a group of one problem."""
    return min(record.definition.spectrum for record in records)


def by_problem(records: Sequence[StudyRecord]) -> tuple[tuple[StudyRecord, ...], ...]:
    """The records of each spectrum and target apart, as one figure shows them."""
    groups: dict[tuple[str, float], list[StudyRecord]] = defaultdict(list)
    for record in records:
        groups[problem(record.definition)].append(record)
    return tuple(
        tuple(groups[key]) for key in sorted(groups, key=lambda k: (spectrum_name(groups[k]), k))
    )


def by_curve(records: Sequence[StudyRecord]) -> tuple[tuple[StudyRecord, ...], ...]:
    """The records of each curve apart, in an order that does not depend on the given one.

    Studies without finished trials are left out, and those that search the batch size too. Of
    studies with equal definitions (one search under several names) the one with the most trials is
    kept.
    """
    return _curves([record for record in records if not record.definition.two_objectives])


def by_frontier(records: Sequence[StudyRecord]) -> tuple[tuple[StudyRecord, ...], ...]:
    """The same of the studies that search the batch size too: those of each frontier apart."""
    return _curves([record for record in records if record.definition.two_objectives])


def _curves(records: Sequence[StudyRecord]) -> tuple[tuple[StudyRecord, ...], ...]:
    groups: dict[str, list[StudyRecord]] = defaultdict(list)
    for record in _one_per_definition(records):
        groups[record.definition.curve].append(record)
    return tuple(
        tuple(group) for group in sorted(groups.values(), key=lambda g: _place(g[0].definition))
    )


def by_benchmark(records: Sequence[StudyRecord]) -> tuple[tuple[StudyRecord, ...], ...]:
    """The records that differ in batch size, seed and sampler only, in the order of the curves.

    Studies are left out as from the curves.
    """
    groups: dict[str, list[StudyRecord]] = defaultdict(list)
    for record in _one_per_definition(records):
        if not record.definition.two_objectives:
            groups[record.definition.benchmark].append(record)
    ordered = sorted(groups.values(), key=lambda g: min(_place(r.definition) for r in g))
    return tuple(tuple(group) for group in ordered)


def _place(definition: StudyDefinition) -> tuple[object, ...]:
    return (
        definition.spectrum,
        definition.target,
        _rank(definition.optimizer, _ORDER),
        definition.optimizer,
        _rank(definition.schedule, _SCHEDULES),
        definition.schedule,
        definition.optimizer_text,  # a policy of beta2 comes after the plain one
        tuple(sorted((name, _size(v)) for name, v in definition.hyperparameters.items())),
        definition.curve,
    )


def _size(value: Hyperparameter) -> float:
    """What is searched comes before what is fixed, and small values before large ones."""
    return -math.inf if isinstance(value, Range) else float(value)


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _one_per_definition(records: Sequence[StudyRecord]) -> list[StudyRecord]:
    kept: dict[str, StudyRecord] = {}
    for record in sorted(records, key=lambda record: (len(record.trials), record.name)):
        if record.trials:
            kept[record.definition.fingerprint] = record
    return list(kept.values())
