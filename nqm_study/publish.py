"""What a call leaves for people: the table, the figures, and the summaries in MLflow."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from filelock import Timeout
from rich.console import Console

from nqm_study.report.describe import describe
from nqm_study.report.files import write_figures
from nqm_study.report.grouping import by_problem, problem, spectrum_name
from nqm_study.report.scaling import Curve, curves
from nqm_study.report.table import table
from nqm_study.study.records import StudyDefinition, StudyRecord
from nqm_study.study.storage import (
    existing_storages,
    read_records,
    require_writable,
    study_lock,
    study_record,
)

if TYPE_CHECKING:
    from nqm_study.tracking.mlflow import Mirror

PAGE = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves unless told otherwise."""


def stored_records(root: Path) -> tuple[StudyRecord, ...]:
    """Every study in the storages of a directory."""
    return tuple(
        record for storage in existing_storages(root).values() for record in read_records(storage)
    )


def publish(
    root: Path,
    console: Console,
    *,
    experiment: str | None,
    only: frozenset[str] | None = None,
    catch_up: bool = False,
) -> None:
    """Write figures and summaries of the stored studies, and print their table.

    The table has the studies asked for. The figures have every stored curve of their spectrum and
    target, so that what is studied on different days comes together, and a call for a part of the
    batch sizes takes nothing away.

    Args:
        root: the directory with the storages, where the figures go as well.
        console: where the table is printed.
        experiment: the MLflow experiment for the summaries; None for none.
        only: names of the studies to report; None for all.
        catch_up: first bring the runs of these studies up to date in MLflow.
    """
    records = stored_records(root)
    chosen = [r for r in records if r.trials and (only is None or r.name in only)]
    if not chosen:
        return
    mirror = None
    if experiment is not None:
        from nqm_study.tracking.mlflow import Mirror  # noqa: PLC0415 (slow to import)

        mirror = Mirror.local(root, experiment)
        if catch_up:
            _catch_up(root, mirror, frozenset(record.name for record in chosen), console)
    problems = {problem(record.definition) for record in chosen}
    wanted = {record.definition.curve for record in chosen}
    folders = []
    for group in by_problem([r for r in records if problem(r.definition) in problems]):
        drawn = curves(group)
        folder = root / "figures" / _folder(group)
        files = write_figures(drawn, folder)
        folders.append(folder)
        if mirror is not None:
            definitions = {record.definition.curve: record.definition for record in group}
            for curve in drawn:
                if curve.key in wanted:
                    _summarize(mirror, curve, definitions[curve.key], files)
    for group in by_problem(chosen):
        console.print(table(curves(group)))
    for folder in folders:
        console.print(f"figures: {folder}", highlight=False, markup=False, soft_wrap=True)
    if mirror is not None:
        console.print(f"runs, once the server is up: {PAGE}{mirror.page}", highlight=False,
                      markup=False, soft_wrap=True)  # fmt: skip
        line = f"mlflow ui --backend-store-uri {shlex.quote(mirror.uri)}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Rebuild the report of a directory; running it again changes nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m nqm_study.report",
        description="Rebuild every summary, table and figure from storage.",
    )
    parser.add_argument("--mlruns", type=Path, default=Path("mlruns"), help="default: ./mlruns")
    parser.add_argument("--experiment", default="nqm_study", help="MLflow experiment")
    parser.add_argument("--no-mlflow", action="store_true", help="leave MLflow alone")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    root = arguments.mlruns.absolute()
    try:
        require_writable(root)
    except ValueError as error:
        print(f"nqm_study.report: {error}", file=sys.stderr)  # noqa: T201 (this is the terminal)
        sys.exit(2)
    if not any(record.trials for record in stored_records(root)):
        print(  # noqa: T201 (this is the terminal)
            f"nqm_study.report: {root} holds no finished trial; run `python -m nqm_study -m` first",
            file=sys.stderr,
        )
        sys.exit(2)
    publish(
        root,
        Console(),
        experiment=None if arguments.no_mlflow else arguments.experiment,
        catch_up=not arguments.no_mlflow,
    )


def _folder(group: Sequence[StudyRecord]) -> str:
    digest, target = problem(group[0].definition)
    return f"{spectrum_name(group)}-{digest[:6]}-C{target:.15g}"


def _catch_up(root: Path, mirror: Mirror, names: frozenset[str], console: Console) -> None:
    """Mirror studies as the storage has them; one that a process is running is left to it."""
    for storage in existing_storages(root).values():
        for name in sorted(names & set(optuna.study.get_all_study_names(storage))):
            try:
                with study_lock(root, name).acquire(timeout=5):
                    record = study_record(optuna.load_study(study_name=name, storage=storage))
                    mirror.study(record).finish(record)
            except Timeout:
                line = f"{name}: is running, and left to its own process"
                console.print(line, highlight=False, soft_wrap=True)


def _summarize(
    mirror: Mirror, curve: Curve, definition: StudyDefinition, files: Sequence[Path]
) -> None:
    """One summary run, which says nothing but what its own curve decides."""
    from nqm_study.tracking.mlflow import SummaryPoint  # noqa: PLC0415 (slow to import)

    shown = {"learning_rate", *definition.varied}
    # A beta2 that is given for one batch size is not fixed, and its curve's metrics show it.
    given = {
        f"{'optimizer' if name in definition.varied else 'fixed'}.{name}": value
        for name, value in definition.hyperparameters.items()
        if isinstance(value, float)
    }
    settings = {
        f"{group}.{name}": value
        for group, found in (
            ("optimizer", definition.optimizer_settings),
            ("spectrum", definition.spectrum_settings),
            ("schedule", definition.schedule_settings),
        )
        for name, value in found.items()
    }
    mirror.summary(
        key=curve.key,
        name=f"{_optimizer_text(definition)} scaling, {curve.spectrum}, target={curve.target:g}",
        params={
            "optimizer": curve.optimizer,
            "spectrum": curve.spectrum,
            "schedule": curve.schedule,
            "target": f"{curve.target:.15g}",
            "sampler": str(definition.sampler["name"]),
            **{
                name: value if isinstance(value, str) else f"{value:.15g}"
                for name, value in {**settings, **given}.items()
            },
        },
        points=[
            SummaryPoint(
                int(point.batch_size),
                point.steps,
                {name: v for name, v in point.hyperparameters.items() if name in shown},
            )
            for point in curve.points
        ],
        note=describe([curve]),
        files=files,
    )


def _optimizer_text(definition: StudyDefinition) -> str:
    if definition.schedule == "constant":
        return definition.optimizer_text
    return f"{definition.optimizer_text} {definition.schedule}"
