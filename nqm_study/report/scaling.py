"""Scaling curves: the best of each study against batch size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nqm_study.report.grouping import COMPUTED, by_curve
from nqm_study.report.labels import labels
from nqm_study.report.point import Point, best_optimum, point
from nqm_study.report.selection import by_keys
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.records import Optimum, StudyRecord


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
        optima: true optima by batch size, where they are known; also where none was reached.
        spectrum_digest: hash of the spectrum's arrays.
        spectrum_text: the spectrum's name with its settings.
        variant: what curves of several optimizers have in common: problem, schedule, what is fixed.
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
    variant: str = ""
    optima: tuple[tuple[float, Optimum], ...] = ()

    @property
    def computed(self) -> bool:
        """Whether its schedules were computed: their largest rate is mostly the cap on them."""
        return self.schedule in COMPUTED

    @property
    def fixed(self) -> bool:
        """Whether nothing of it is searched or computed: each study is one run at a given rate."""
        return not self.searched and not self.computed


def curves(records: Sequence[StudyRecord], by: Sequence[str] = ()) -> tuple[Curve, ...]:
    """The scaling curves of the given studies, in an order that does not depend on theirs.

    Studies without finished trials are left out. Of studies with equal definitions (one search
    under several names) the one with the most trials counts.

    Args:
        records: the studies.
        by: what the curves are named by, as ``selection.facts`` has it; else by what differs.

    Raises:
        ValueError: if ``by`` names what no study has.
    """
    if by:
        names, groups = by_keys(records, by)
    else:
        groups = by_curve(records)
        names = labels([group[0].definition for group in groups])
    return tuple(_curve(name, group) for name, group in zip(names, groups, strict=True))


def one_problem_each(curves: Sequence[Curve]) -> tuple[tuple[Curve, ...], ...]:
    """The curves of each spectrum and target apart, in the order of the first of each."""
    groups: dict[tuple[str, float], list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.spectrum_digest, curve.target].append(curve)
    return tuple(map(tuple, groups.values()))


def compared(curves: Sequence[Curve]) -> list[Curve]:
    """The curves that are compared by their fewest steps: without fixed ones, if there are others.

    Fixed ones are what ``training_figure`` is for.
    """
    return [curve for curve in curves if not curve.fixed] or list(curves)


def _curve(label: str, records: Sequence[StudyRecord]) -> Curve:
    definition = records[0].definition
    by_batch: dict[float, list[StudyRecord]] = defaultdict(list)
    for record in records:
        by_batch[record.definition.one_batch_size].append(record)
    points = {batch_size: point(by_batch[batch_size]) for batch_size in sorted(by_batch)}
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
        points=tuple(found for found in points.values() if found is not None),
        unreached=tuple(batch_size for batch_size, found in points.items() if found is None),
        spectrum_digest=definition.spectrum_digest,
        spectrum_text=definition.spectrum_text,
        variant=_variant(definition),
        optima=tuple(
            (batch_size, optimum)
            for batch_size in sorted(by_batch)
            if (optimum := best_optimum(by_batch[batch_size])) is not None
        ),
    )


def _variant(definition: StudyDefinition) -> str:
    fixed = [
        f"{name} {value:g}"
        for name, value in sorted(definition.hyperparameters.items())
        if not isinstance(value, Range)
    ]
    problem = (definition.spectrum_digest, f"{definition.target:g}", definition.schedule)
    return ", ".join([*problem, *fixed])
