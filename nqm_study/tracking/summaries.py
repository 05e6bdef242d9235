"""What the runs that sum up several studies say in MLflow: of a curve, a frontier and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nqm_study.report.describe import describe
from nqm_study.report.pareto import Frontier
from nqm_study.report.pareto_table import pareto_sentence
from nqm_study.report.point import Point
from nqm_study.report.regret import curve_regret
from nqm_study.report.regret_table import regret_sentence
from nqm_study.report.scaling import Curve
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.records import StudyRecord
from nqm_study.tracking.pool import Summary


def curve_summary(curve: Curve, records: Sequence[StudyRecord], files: Sequence[Path]) -> Summary:
    """What the run of a curve says: nothing but what the curve itself decides.

    Args:
        curve: a curve of the studies.
        records: studies, also those of other curves.
        files: the figures and tables that have it.
    """
    members = _members(records, curve.key)
    definition = members[-1].definition
    regret = curve_regret(members)
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
            **_what(curve),
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
        studies=_studies(members),
    )


def frontier_summary(
    frontier: Frontier, records: Sequence[StudyRecord], files: Sequence[Path]
) -> Summary:
    """What the run of a frontier says, with a point for each batch size on it.

    Args:
        frontier: a frontier of the studies.
        records: studies, also others.
        files: the figures and tables that have it.
    """
    return Summary(
        key=frontier.key,
        name=f"{frontier.label} frontier, {frontier.spectrum}, target={frontier.target:g}",
        params={
            **_what(frontier),
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
        studies=_studies(_members(records, frontier.key)),
    )


def report_summary(
    name: str,
    params: Mapping[str, str],
    drawn: Sequence[Curve],
    found: Sequence[Frontier],
    records: Sequence[StudyRecord],
    files: Sequence[Path],
) -> Summary:
    """What the run of a report says, which has several curves.

    Args:
        name: of its folder.
        params: what was asked for.
        drawn: its curves.
        found: its frontiers.
        records: its studies.
        files: its figures and tables.
    """
    said = [describe(drawn)] if drawn else []
    return Summary(
        key=f"report {name}",
        name=f"report {name}",
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


def _what(shown: Curve | Frontier) -> dict[str, str]:
    """The parameters that say of what a curve or a frontier is."""
    return {
        "optimizer": shown.optimizer,
        "spectrum": shown.spectrum,
        "schedule": shown.schedule,
        "target": f"{shown.target:.15g}",
    }


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


def _members(group: Sequence[StudyRecord], key: str) -> list[StudyRecord]:
    """The studies of a curve with finished trials, by batch size and seed."""
    found = [r for r in group if r.trials and r.definition.curve == key]
    return sorted(
        found, key=lambda r: (float(r.definition.batch_text.partition("..")[0]), r.definition.seed)
    )


def _optimizer_text(definition: StudyDefinition) -> str:
    if definition.schedule == "constant":
        return definition.optimizer_text
    return f"{definition.optimizer_text} {definition.schedule}"
