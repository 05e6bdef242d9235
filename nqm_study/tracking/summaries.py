"""Summary runs in MLflow: of a curve, a frontier and a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pandas import DataFrame

from nqm_study.report.curves import Curve, Point, curves
from nqm_study.report.describe import describe
from nqm_study.report.pareto import frontiers, pareto_sentence
from nqm_study.report.regret import curve_regrets, regret_sentence
from nqm_study.tracking.process import Summary


def curve_summary(curve: Curve, studies: DataFrame, files: Sequence[Path]) -> Summary:
    """Summary run of a curve, with nothing but what the curve itself decides.

    Args:
        curve: a curve of the studies.
        studies: the table of studies, also those of other curves.
        files: the figures and tables that have it.
    """
    members = studies[studies.curve == curve.key]
    definition = members.definition.iloc[-1]
    regrets = curve_regrets(members)
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
            ("problem", definition.problem_settings),
            ("schedule", definition.schedule_settings),
            ("batch_schedule", definition.batch_settings),
            ("objective", definition.objective_settings),
        )
        for name, value in found.items()
    }
    finish = definition.sampler.get("finish")
    named = definition.optimizer_text
    if definition.schedule_text != "constant":
        named += f" {definition.schedule_text}"
    return Summary(
        key=curve.key,
        name=f"{named} scaling, {_of(curve)}, target={curve.target:g}",
        params={
            **_naming(curve),
            "sampler": str(definition.sampler["name"]),
            **({"objective": definition.objective} if definition.objective else {}),
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
        note=" ".join([describe([curve]), *([] if regrets.empty else [regret_sentence(regrets)])]),
        files=[str(file) for file in files],
        studies=_studies(members),
    )


def frontier_summary(frontier: Any, studies: DataFrame, files: Sequence[Path]) -> Summary:
    """Summary run of a frontier, with a point for each batch size on it.

    Args:
        frontier: a row of ``frontiers`` of the studies.
        studies: the table of studies, also others.
        files: the figures and tables that have it.
    """
    return Summary(
        key=frontier.key,
        name=f"{frontier.label} frontier, {_of(frontier)}, target={frontier.target:g}",
        params={
            **_naming(frontier),
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
        studies=_studies(studies[studies.curve == frontier.key]),
    )


def report_summary(
    name: str, params: Mapping[str, str], studies: DataFrame, files: Sequence[Path]
) -> Summary:
    """Summary run of a report, which has several curves.

    Args:
        name: of its folder.
        params: what was asked for.
        studies: the table of its studies.
        files: its figures and tables.
    """
    drawn = curves(studies)
    said = [describe(drawn)] if drawn else []
    return Summary(
        key=f"report {name}",
        name=f"report {name}",
        params={**params, "curves": str(len(drawn))},
        points=[],
        note=" ".join([*said, *map(pareto_sentence, frontiers(studies).itertuples())]),
        files=[str(file) for file in files],
        studies={
            curve.label: {
                f"{row}, {text}": study
                for row, links in _studies(studies[studies.curve == curve.key]).items()
                for text, study in links.items()
            }
            for curve in drawn
        },
        kind="report",
    )


def _of(shown: Any) -> str:
    """The spectrum of a curve or a frontier, and its problem unless it is the usual one."""
    return f"{shown.spectrum} {shown.problem}".strip()


def _naming(shown: Any) -> dict[str, str]:
    """Parameters that name a curve or a frontier: optimizer, spectrum, schedule, target."""
    return {
        "optimizer": shown.optimizer,
        "spectrum": shown.spectrum,
        "schedule": shown.schedule,
        **({"problem": shown.problem} if shown.problem else {}),
        "target": f"{shown.target:.15g}",
    }


def _overlaid(point: Point, *, exact: bool) -> dict[str, float]:
    """Metrics of a point beside its steps and hyperparameters, for MLflow's charts."""
    values = {"examples_to_target": point.examples, "bayes_bound": float(point.bayes_bound)}
    if exact:
        # Of Adam there is no such rate.
        values["effective_learning_rate"] = point.effective_rate
    if not math.isnan(point.time):
        values["time_to_target"] = point.time
    if point.optimum is not None:
        values["optimum_steps"] = float(point.optimum.steps)
    return values


def _studies(studies: DataFrame) -> dict[str, dict[str, str]]:
    """Names of the studies at each batch size, by the texts that link to them."""
    rows: dict[str, dict[str, str]] = {}
    for name, definition in zip(studies.study, studies.definition, strict=True):
        text = name if name != definition.default_name else f"seed {definition.seed}"
        rows.setdefault(f"B = {definition.batch_text}", {})[text] = name
    return rows
