"""What a call leaves for people: the table, the figures, and the summaries in MLflow."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from nqm_study.report.analysis.measure import analyses
from nqm_study.report.analysis.tables import analysis_table
from nqm_study.report.files import write_figures
from nqm_study.report.grouping import by_problem, problem, spectrum_name
from nqm_study.report.pareto import Frontier, frontiers
from nqm_study.report.pareto_table import pareto_table
from nqm_study.report.regret import comparisons
from nqm_study.report.regret_table import regret_table
from nqm_study.report.runs import runs
from nqm_study.report.scaling import Curve, curves
from nqm_study.report.selection import select
from nqm_study.report.table import table
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.backends import Backend, embedded
from nqm_study.study.storage.studies import read_records
from nqm_study.tracking.pool import MirrorState, Summary
from nqm_study.tracking.summaries import curve_summary, frontier_summary, report_summary

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
        summaries += [curve_summary(c, group, files) for c in drawn if c.key in wanted]
        summaries += [frontier_summary(f, group, files) for f in found if f.key in wanted]
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
    return report_summary(folder.name, params, drawn, found, records, files)
