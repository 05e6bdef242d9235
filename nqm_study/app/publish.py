"""Results of a call: tables in the terminal, files of figures, and summaries for MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pandas import DataFrame, concat
from rich.console import Console

from nqm_study.app.preloading import preload
from nqm_study.app.terminal import complain, say
from nqm_study.report import words
from nqm_study.report.analysis.measure import analyses
from nqm_study.report.analysis.tables import analysis_table
from nqm_study.report.compute import compute_table, laws
from nqm_study.report.curves import by_problem, curves, labelled
from nqm_study.report.data_checks import check_table, data_checks
from nqm_study.report.laws import fit_learning_rate
from nqm_study.report.misses import misses
from nqm_study.report.parallel import contents_on_all_cores
from nqm_study.report.pareto import frontiers
from nqm_study.report.ramps import ramps
from nqm_study.report.regret import regrets
from nqm_study.report.selection import named_by, select
from nqm_study.report.sheet import Sheet
from nqm_study.report.tables import pareto_table, ramp_table, regret_table, result_table
from nqm_study.report.write import contents_here, write_figures
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.backends import Backend, embedded
from nqm_study.study.storage.studies import read_records
from nqm_study.study.text import file_name
from nqm_study.tracking.process import MirrorState, Summary
from nqm_study.tracking.summaries import curve_summary, frontier_summary, report_summary

MANY = 3
"""Parts of a report that are worth to be drawn on all cores: the processes have to begin."""

PAGE = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves unless told otherwise."""


@dataclass(frozen=True)
class Published:
    """Results made of the stored studies.

    Attributes:
        chosen: the table of the studies that were asked for, with the names of their curves.
        drawn: how many studies the figures are of.
        folders: where the figures are.
        summaries: the runs of their curves in MLflow.
    """

    chosen: DataFrame
    drawn: int = 0
    folders: tuple[Path, ...] = ()
    summaries: tuple[Summary, ...] = ()


_ROUNDED = ("study", "steps_to_target", "training")
"""What says how many steps rounding costs."""


def stored_records(
    root: Path,
    others: Iterable[Backend] = (),
    known: Mapping[str, StudyRecord] = MappingProxyType({}),
) -> tuple[StudyRecord, ...]:
    """Every study in the embedded storages of a directory and in others, known ones as they are."""
    return tuple(
        record
        for backend in dict.fromkeys((*embedded(root), *others))
        if backend.exists(root)
        for record in read_records(backend.open(root), complain, known)
    )


def reported(studies: DataFrame, only: frozenset[str] | None = None) -> DataFrame:
    """The studies of these names; all where ``only`` is None."""
    return studies if only is None else studies[studies.study.isin(only)]


def publish(root: Path, studies: DataFrame, only: frozenset[str] | None = None) -> Published:
    """Write the figures of stored studies.

    They have every stored curve of their spectrum and target, so that what is studied on different
    days comes together, and a call for a part of the batch sizes takes nothing away.

    Args:
        root: the directory where the figures go.
        studies: the table of all stored ones.
        only: names of the studies to report; None for all.
    """
    folders: list[Path] = []
    summaries: list[Summary] = []
    parts: list[DataFrame] = []
    drawn = 0
    # Table and figure have one name for a curve, which is that among all of its problem.
    for group in map(labelled, by_problem(studies)):
        chosen = reported(group, only)
        wanted = set(chosen.curve)
        if not wanted:
            continue
        parts.append(chosen)
        drawn += len(group)
        folder = root / "figures" / _folder(group)
        files = write_figures(group, folder, _record(folder), _contents)
        folders.append(folder)
        summaries += [curve_summary(c, group, files) for c in curves(group) if c.key in wanted]
        found = frontiers(group)
        found = found[found.key.isin(wanted)]
        summaries += [frontier_summary(each, group, files) for each in found.itertuples()]
    for name in sorted({name for part in parts for names in part.reports for name in names}):
        members = studies[[name in names for names in studies.reports]]
        folders.append(root / "figures" / file_name(name))
        summaries.append(_report(folders[-1], {"report": name}, members))
    chosen = concat(parts) if parts else studies.iloc[:0]
    return Published(chosen, drawn, tuple(folders), tuple(summaries))


def compare(
    root: Path, studies: DataFrame, text: str, by: Sequence[str], name: str | None
) -> Published:
    """Write the figures of chosen studies, whatever their spectra and targets.

    Args:
        root: the directory where the figures go.
        studies: the table of all stored ones.
        text: a filter, as ``report.selection`` has it; empty for all.
        by: keys that name the curves; none for what differs.
        name: the folder's name; None for one made of the other two.

    Raises:
        ValueError: if the filter or the keys are none, or choose nothing.
    """
    chosen = select(studies[~studies.two_objectives], text)
    folder = root / "figures" / (name or _slug(text, by))
    params = {"filter": text or "all", "by": ",".join(by) or "what differs"}
    chosen = named_by(chosen, by) if by else labelled(chosen)
    return Published(chosen, len(chosen), (folder,), (_report(folder, params, chosen),))


def show(published: Published, console: Console, mirror: MirrorState | None) -> None:
    """Print the tables of the studies, what is at an edge, and where figures and runs are."""
    lines = []
    for group in by_problem(published.chosen):
        if drawn := curves(group):
            console.print(result_table(drawn), crop=False)
            if found := analyses(drawn):
                console.print(analysis_table(found), crop=False)
            for curve in drawn:
                lines += [miss.sentence(curve.label) for miss in misses(curve)]
                lines += filter(None, [words.too_few(curve.label, fit_learning_rate(curve))])
        for sheet in _sheets(group):
            console.print(sheet, crop=False)
    for law in laws(published.chosen):
        console.print(compute_table(law), crop=False)
    lines += [
        f"{name}: the best trial has {'; '.join(edges)}: the optimum may lie beyond"
        for name, edges in zip(published.chosen.study, published.chosen.at_edge, strict=True)
        if edges
    ]
    rounded = zip(*(published.chosen[each] for each in _ROUNDED), strict=True)
    lines += [
        f"{name}: the best trial takes {steps:,} steps with batch sizes of whole numbers, and "
        f"{training.unrounded_steps:,} without rounding"
        for name, steps, training in rounded
        if training is not None and training.unrounded_steps is not None
    ]
    lines += [
        f"{name}: {len(failures)} trials failed and do not count, the last one by {failures[-1]}"
        for name, failures in zip(published.chosen.study, published.chosen.failures, strict=True)
        if failures
    ]
    checks = zip(published.chosen.study, published.chosen.data_check, strict=True)
    lines += [
        f"{name}: was not run on the data: {check.left_out}"
        for name, check in checks
        if check is not None and check.left_out
    ]
    n_shown, n_drawn = len(published.chosen), published.drawn
    if n_shown < n_drawn:
        lines.append(
            f"The tables show this call's studies, {n_shown} of the {n_drawn} in the figures."
        )
    lines += [f"figures: {folder}" for folder in published.folders]
    if mirror is not None and mirror.uri:
        lines += mirror.notes
        if mirror.uri.startswith("http"):
            lines.append(f"runs: {mirror.uri.rstrip('/')}{mirror.page}")
        else:
            lines.append(f"runs, once the server is up: {PAGE}{mirror.page}")
            lines.append(f"mlflow ui --backend-store-uri {shlex.quote(mirror.uri)}")
    for line in lines:
        say(console, line)


def _sheets(group: DataFrame) -> Iterator[Sheet]:
    """The tables of a problem's studies below those of their curves."""
    if not (saved := ramps(group)).empty:
        yield ramp_table(saved)
    if not (measured := data_checks(group)).empty:
        yield check_table(measured)
    for _, comparison in regrets(group).groupby("comparison", sort=False):
        yield regret_table(comparison)
    yield from map(pareto_table, frontiers(group).itertuples())


def unmirrored(state: MirrorState) -> str:
    """Message for a call whose runs are not all in MLflow; empty where they are."""
    if state.done:
        return ""
    return (
        f"MLflow is not up to date: {state.problem}. The storage has every trial, and "
        "`python -m nqm_study.report` brings them there"
        if "--rebuild" not in state.problem
        else f"MLflow is not up to date: {state.problem}. The storage has every trial"
    )


def _folder(group: DataFrame) -> str:
    first = group.iloc[0]
    # Folders of the usual problem are named by the spectrum alone.
    problem = f"-{first.definition.problem}" * bool(first.definition.problem)
    name = f"{file_name(group.spectrum.min())}{problem}-{first.problem_digest[:6]}"
    return f"{name}-C{first.target:.15g}"


def _slug(text: str, by: Sequence[str]) -> str:
    return file_name(f"compared {text} by {' '.join(by)}" if by else f"compared {text}")


def _report(folder: Path, params: Mapping[str, str], studies: DataFrame) -> Summary:
    """Write a report of several curves; returns its run in MLflow."""
    files = write_figures(studies, folder, _record(folder), _contents)
    return report_summary(folder.name, params, studies, files)


def _contents(studies: DataFrame, parts: Sequence[str]) -> list[dict[str, bytes]]:
    """The files of parts of a report; many are made on all cores."""
    if len(parts) < MANY:
        return contents_here(studies, parts)
    preload()
    return contents_on_all_cores(studies, parts)


def _record(folder: Path) -> Path:
    """The file, under mlruns/, that says what the figures in a folder were drawn from."""
    return folder.parent.with_name(f".drawn-{folder.name}.json")
