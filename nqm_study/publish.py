"""What a call leaves for people: the table, the figures, and the summaries in MLflow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from nqm_study.mirror_process import MirrorState, Summary
from nqm_study.report.analysis import analyses
from nqm_study.report.analysis_table import analysis_table
from nqm_study.report.describe import describe
from nqm_study.report.files import write_figures
from nqm_study.report.grouping import by_problem, problem, spectrum_name
from nqm_study.report.pareto import Frontier, frontiers
from nqm_study.report.pareto_table import pareto_sentence, pareto_table
from nqm_study.report.point import Point
from nqm_study.report.regret import comparisons, curve_regret
from nqm_study.report.regret_table import regret_sentence, regret_table
from nqm_study.report.runs import runs
from nqm_study.report.scaling import Curve, curves
from nqm_study.report.selection import select
from nqm_study.report.table import table
from nqm_study.study.backends import Backend, embedded
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage import read_records

_LONGEST_NAME = 100  # characters of a folder's name

PAGE = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves unless told otherwise."""


@dataclass(frozen=True)
class Published:
    """What was made of the stored studies.

    Attributes:
        chosen: the studies that were asked for.
        folders: where the figures are.
        summaries: what the runs of their curves are to say.
    """

    chosen: tuple[StudyRecord, ...] = ()
    folders: tuple[Path, ...] = ()
    summaries: tuple[Summary, ...] = field(default=())


def stored_records(root: Path, others: Iterable[Backend] = ()) -> tuple[StudyRecord, ...]:
    """Every study in the embedded storages of a directory, and in others."""
    return tuple(
        record
        for backend in dict.fromkeys((*embedded(root), *others))
        if backend.exists(root)
        for record in read_records(backend.open(root))
    )


def reported(
    records: Sequence[StudyRecord], only: frozenset[str] | None = None
) -> tuple[StudyRecord, ...]:
    """The studies with finished trials, of those that were asked for."""
    return tuple(r for r in records if r.trials and (only is None or r.name in only))


def publish(
    root: Path, records: Sequence[StudyRecord], only: frozenset[str] | None = None
) -> Published:
    """Write the figures of stored studies.

    They have every stored curve of their spectrum and target, so that what is studied on different
    days comes together, and a call for a part of the batch sizes takes nothing away.

    Args:
        root: the directory where the figures go.
        records: all stored studies.
        only: names of the studies to report; None for all.
    """
    chosen = reported(records, only)
    problems = {problem(record.definition) for record in chosen}
    wanted = {record.definition.curve for record in chosen}
    folders: list[Path] = []
    summaries: list[Summary] = []
    for group in by_problem([r for r in records if problem(r.definition) in problems]):
        folder = root / "figures" / _folder(group)
        drawn, found, files = _draw(folder, group)
        folders.append(folder)
        summaries += [
            _summary(each, _members(group, each.key), files) for each in drawn if each.key in wanted
        ]
        summaries += [
            _frontier_summary(each, _members(group, each.key), files)
            for each in found
            if each.key in wanted
        ]
    for name in sorted({name for record in chosen for name in record.reports}):
        members = [r for r in records if r.trials and name in r.reports]
        folders.append(root / "figures" / name)
        summaries.append(_report(folders[-1], {"report": name}, members))
    return Published(chosen, tuple(folders), tuple(summaries))


def compare(
    root: Path, records: Sequence[StudyRecord], text: str, by: Sequence[str], name: str | None
) -> Published:
    """Write the figures of chosen studies, whatever their spectra and targets.

    Args:
        root: the directory where the figures go.
        records: all stored studies.
        text: a filter, as ``report.selection`` has it; empty for all.
        by: keys that name the curves; none for what differs.
        name: the folder's name; None for one made of the other two.

    Raises:
        ValueError: if the filter or the keys are none, or choose nothing.
    """
    chosen = select([r for r in records if not r.definition.two_objectives], text)
    folder = root / "figures" / (name or _slug(text, by))
    params = {"filter": text or "all", "by": ",".join(by) or "what differs"}
    report = _report(folder, params, chosen, by)
    return Published(chosen, (folder,), (report,))


def _draw(
    folder: Path, records: Sequence[StudyRecord], by: Sequence[str] = ()
) -> tuple[tuple[Curve, ...], tuple[Frontier, ...], tuple[Path, ...]]:
    """Write all that studies have figures and tables of; their curves, frontiers and files."""
    drawn, found = curves(records, by), frontiers(records)
    files = write_figures(drawn, folder, comparisons(records), found, runs(records, by))
    return drawn, found, files


def show(published: Published, console: Console, mirror: MirrorState | None) -> None:
    """Print the tables of the studies, what is at an edge, and where figures and runs are."""
    for group in by_problem(published.chosen):
        if drawn := curves(group):
            console.print(table(drawn))
            if found := analyses(drawn):
                console.print(analysis_table(found))
        for comparison in comparisons(group):
            console.print(regret_table(comparison))
        for frontier in frontiers(group):
            console.print(pareto_table(frontier))
    lines = [
        f"{record.name}: the best trial has {'; '.join(record.at_edge)}: the optimum may lie beyond"
        for record in published.chosen
        if record.at_edge
    ]
    lines += [f"figures: {folder}" for folder in published.folders]
    if mirror is not None and mirror.uri:
        lines += mirror.notes
        if mirror.uri.startswith("http"):
            lines.append(f"runs: {mirror.uri.rstrip('/')}{mirror.page}")
        else:
            lines.append(f"runs, once the server is up: {PAGE}{mirror.page}")
            lines.append(f"mlflow ui --backend-store-uri {shlex.quote(mirror.uri)}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def unmirrored(state: MirrorState) -> str:
    """What to tell when MLflow stayed away; empty where all is there."""
    if state.done:
        return ""
    return (
        f"MLflow is not up to date: {state.problem}. The storage has every trial, and "
        "`python -m nqm_study.report` brings them there"
        if "--rebuild" not in state.problem
        else f"MLflow is not up to date: {state.problem}. The storage has every trial"
    )


def _members(group: Sequence[StudyRecord], key: str) -> list[StudyRecord]:
    """The studies of a curve with finished trials, by batch size and seed."""
    found = [r for r in group if r.trials and r.definition.curve == key]
    return sorted(
        found, key=lambda r: (float(r.definition.batch_text.partition("..")[0]), r.definition.seed)
    )


def _folder(group: Sequence[StudyRecord]) -> str:
    digest, target = problem(group[0].definition)
    return f"{spectrum_name(group)}-{digest[:6]}-C{target:.15g}"


def _slug(text: str, by: Sequence[str]) -> str:
    words = re.findall(r"[A-Za-z0-9.]+", f"{text} by {' '.join(by)}" if by else text)
    return "-".join(["compared", *words])[:_LONGEST_NAME]


def _report(
    folder: Path,
    params: Mapping[str, str],
    records: Sequence[StudyRecord],
    by: Sequence[str] = (),
) -> Summary:
    """Write a report of several curves; what its run says."""
    drawn, found, files = _draw(folder, records, by)
    said = [describe(drawn)] if drawn else []
    return Summary(
        key=f"report {folder.name}",
        name=f"report {folder.name}",
        params={**params, "curves": str(len(drawn))},
        points=[],
        note=" ".join([*said, *map(pareto_sentence, found)]),
        files=[str(file) for file in files],
        studies={
            curve.label: {
                f"{row}, {text}": study
                for row, links in _studies(_members(records, curve.key)).items()
                for text, study in links.items()
            }
            for curve in drawn
        },
        kind="report",
    )


def _summary(curve: Curve, records: Sequence[StudyRecord], files: Sequence[Path]) -> Summary:
    """What a summary run says: nothing but what its own curve decides."""
    definition = records[-1].definition
    regret = curve_regret(records)
    finish = definition.sampler.get("finish")
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
    return Summary(
        key=curve.key,
        name=f"{_optimizer_text(definition)} scaling, {curve.spectrum}, target={curve.target:g}",
        params={
            "optimizer": curve.optimizer,
            "spectrum": curve.spectrum,
            "schedule": curve.schedule,
            "target": f"{curve.target:.15g}",
            "sampler": str(definition.sampler["name"]),
            **({"sampler.finish": str(finish)} if finish else {}),
            **{
                name: value if isinstance(value, str) else f"{value:.15g}"
                for name, value in {**settings, **given}.items()
            },
        },
        points=[
            (
                int(point.batch_size),
                point.steps,
                {
                    **{name: v for name, v in point.hyperparameters.items() if name in shown},
                    **_overlaid(point, exact=not definition.approximate),
                },
            )
            for point in curve.points
        ],
        note=" ".join([describe([curve]), *([regret_sentence(regret)] if regret else [])]),
        files=[str(file) for file in files],
        studies=_studies(records),
    )


def _overlaid(point: Point, *, exact: bool) -> dict[str, float]:
    """What MLflow's charts show beside a curve's steps and hyperparameters, where it is known."""
    values = {"examples_to_target": point.examples, "bayes_bound": float(point.bayes_bound)}
    if exact:
        # Of Adam there is no such rate.
        values["effective_learning_rate"] = point.effective_rate
    if point.optimum is not None:
        values["optimum_steps"] = float(point.optimum.steps)
    return values


def _studies(records: Sequence[StudyRecord]) -> dict[str, dict[str, str]]:
    """A row for each batch size: the names of its studies, by what to call them there."""
    rows: dict[str, dict[str, str]] = {}
    for record in records:
        definition = record.definition
        named = record.name != definition.default_name
        text = record.name if named else f"seed {definition.seed}"
        rows.setdefault(f"B = {definition.batch_text}", {})[text] = record.name
    return rows


def _frontier_summary(
    frontier: Frontier, records: Sequence[StudyRecord], files: Sequence[Path]
) -> Summary:
    """What the summary run of a frontier says, with a point for each batch size on it."""
    return Summary(
        key=frontier.key,
        name=f"{frontier.label} frontier, {frontier.spectrum}, target={frontier.target:g}",
        params={
            "optimizer": frontier.optimizer,
            "spectrum": frontier.spectrum,
            "schedule": frontier.schedule,
            "target": f"{frontier.target:.15g}",
            "batch_size": f"{frontier.low:.15g}..{frontier.high:.15g}",
            "sampler": frontier.sampler,
        },
        points=[
            (
                int(trial.batch_size),
                float(trial.steps or 0),
                {
                    "examples_to_target": trial.examples,
                    **{name: trial.hyperparameters[name] for name in frontier.hyperparameters},
                },
            )
            for trial in frontier.found
        ],
        note=pareto_sentence(frontier),
        files=[str(file) for file in files],
        studies=_studies(records),
    )


def _optimizer_text(definition: StudyDefinition) -> str:
    if definition.schedule == "constant":
        return definition.optimizer_text
    return f"{definition.optimizer_text} {definition.schedule}"
