"""What a call leaves for people: the table, the figures, and the summaries in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nqm_study.report.figures import describe, write_figures
from nqm_study.report.grouping import by_problem
from nqm_study.report.scaling import Curve, curves
from nqm_study.report.table import table
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage import KINDS, read_records


def stored_records(root: Path) -> tuple[StudyRecord, ...]:
    """Every study in the storages of a directory."""
    return tuple(
        record
        for filename, open_storage in KINDS.values()
        if (root / filename).is_file()
        for record in read_records(open_storage(root / filename))
    )


def publish(
    root: Path,
    console: Console,
    *,
    experiment: str | None,
    only: frozenset[str] | None = None,
) -> None:
    """Write figures and summaries of the stored studies, and print their table.

    Figures and summaries are of whole scaling curves, the studies of earlier calls included; the
    table has the studies asked for.

    Args:
        root: the directory with the storages, where the figures go as well.
        console: where the table is printed.
        experiment: the MLflow experiment for the summaries; None for none.
        only: names of the studies to report; None for all, which are then first brought up to
            date in MLflow.
    """
    records = stored_records(root)
    chosen = [r for r in records if r.trials and (only is None or r.name in only)]
    if not chosen:
        return
    wanted = {record.definition.curve for record in chosen}
    whole = [record for record in records if record.definition.curve in wanted]
    if experiment is not None and only is None:
        _catch_up(root, experiment, records)
    folders = []
    for group in by_problem(whole):
        drawn = curves(group)
        folder = root / "figures" / _folder(group[0])
        files = write_figures(drawn, folder)
        folders.append(folder)
        if experiment is not None:
            _summarize(root, experiment, drawn, files)
    for group in by_problem(chosen):
        console.print(table(curves(group)))
    for folder in folders:
        console.print(f"figures: {folder}", highlight=False, soft_wrap=True)
    if experiment is not None:
        uri = shlex.quote(f"sqlite:///{root / 'mlflow.db'}")
        line = f"mlflow ui --backend-store-uri {uri}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _folder(record: StudyRecord) -> str:
    definition = record.definition
    return f"{definition.spectrum}-{definition.spectrum_digest[:6]}-C{definition.target:.15g}"


def _catch_up(root: Path, experiment: str, records: Sequence[StudyRecord]) -> None:
    from nqm_study.tracking.mlflow import Mirror  # noqa: PLC0415 (MLflow takes seconds to import)

    mirror = Mirror.local(root, experiment)
    for record in records:
        mirror.study(record).finish(record)


def _summarize(root: Path, experiment: str, drawn: Sequence[Curve], files: Sequence[Path]) -> None:
    from nqm_study.tracking.mlflow import Mirror, SummaryPoint  # noqa: PLC0415

    mirror = Mirror.local(root, experiment)
    for curve in drawn:
        mirror.summary(
            key=curve.key,
            name=f"{curve.label}: scaling with batch size",
            params={
                "optimizer": curve.optimizer,
                "spectrum": curve.spectrum,
                "schedule": curve.schedule,
                "target": f"{curve.target:g}",
            },
            points=[
                SummaryPoint(int(point.batch_size), point.steps, point.hyperparameters)
                for point in curve.points
            ],
            note=describe(drawn),
            files=files,
        )
