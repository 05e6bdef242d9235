"""The runs of a study and of its trials in MLflow: names, tags, parameters, metrics."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from statistics import median
from typing import Any

from mlflow.entities import Run

from nqm_study.study.definition import Hyperparameter, Range, Searched, StudyDefinition
from nqm_study.study.frontier import exact_frontier, non_dominated
from nqm_study.study.records import OPTIMAL, StudyRecord, TrialRecord, error_text
from nqm_study.study.text import markdown
from nqm_study.tracking.drafts import (
    DIGEST,
    KIND,
    STUDY_NAME,
    TRIAL_NUMBER,
    Draft,
    Point,
    digest,
    number,
)

RESULTS = "nqm.results"
ORIGINS = "nqm.origins"
_COMPARED = {
    "ratio_to_bayes_bound": "the Bayes bound",
    "ratio_to_optimal": OPTIMAL,
}


def draft(trial: TrialRecord, study: str, parent: str) -> Draft:
    """A trial's run, given its study's name and the identifier of the study's run."""
    reached = trial.steps is not None
    values = {
        "reached": float(reached),
        "risk": trial.risk,
        "steps_to_target": trial.steps,
        "examples_to_target": trial.examples if reached and _counts_examples(trial) else None,
        "time_to_target": trial.time,
        "risk_error": trial.risk_error,
        "sampled": 1.0 if trial.sampled else None,
    }
    return Draft(
        name=f"trial {trial.number}",
        tags={
            KIND: "trial",
            STUDY_NAME: study,
            TRIAL_NUMBER: str(trial.number),
            "status": trial.status,
        },
        params={
            name: value if isinstance(value, str) else number(value)
            for name, value in trial.hyperparameters.items()
        },
        points=tuple(_points(values)),
        parent=parent,
        started=milliseconds(trial.started),
        finished=milliseconds(trial.finished),
    )


def _counts_examples(trial: TrialRecord) -> bool:
    """Whether its examples are no given batch size times its steps."""
    return bool(trial.batch_size) or trial.summed_examples is not None


def continues(run: Run, record: StudyRecord) -> bool:
    """Whether all that a study's run says is in the record, so that it only has to be extended.

    It is not after the storage was lost and the study begun anew: parameters and metrics cannot be
    taken back, so then another run takes its place.
    """
    if run.data.tags.get(DIGEST) != definition_digest(record):
        return False
    count = run.data.metrics.get("n_trials", 0)
    if count == 0:
        return True
    return 0 < count <= len(record.trials) and run.data.tags.get(RESULTS) == results_digest(
        record, int(count)
    )


def definition_digest(record: StudyRecord) -> str:
    """A hash of what a study's run says before it has results.

    Bounds that may be known later are not in it, nor in that of the results: a run that lacks them
    is taken up, and gets them.
    """
    return digest([title(record), params(record), record.bayes_bound])


def results_digest(record: StudyRecord, count: int) -> str:
    """A hash of the first trials to finish: processes that share a study finish out of order."""
    trials = sorted(record.trials, key=lambda trial: (trial.finished, trial.number))[:count]
    return digest([(trial.number, trial.steps, dict(trial.hyperparameters)) for trial in trials])


def diagnostics_digest(record: StudyRecord, drawing: int) -> str:
    """A hash of what Optuna's figures of a study are drawn from, and by which version of them."""
    optimum = record.optimum.steps if record.optimum is not None else None
    return digest([drawing, results_digest(record, len(record.trials)), optimum])


def bounds(record: StudyRecord) -> list[Point]:
    """Metrics of what the steps are compared with, as far as it is known; at step 0."""
    exact, optimum = exact_frontier(record), record.optimum
    values = {
        "bayes_bound": record.bayes_bound,
        "classical_bound": record.classical_bound,
        "optimal_steps": record.optimal_steps,
        "optimal_gap": record.optimal_gap,
        "stability_limit": record.stability_limit,
        "interpolation_batch_size": record.interpolation_batch_size,
        "critical_batch_size": exact.critical_batch_size if exact is not None else None,
    }
    if optimum is not None:
        values["true_steps_to_target"] = optimum.steps
        values |= _varied("true", record, optimum.hyperparameters)
    return _points(values)


def results(record: StudyRecord) -> list[Point]:
    """Metrics of the results so far, at a step that is the number of trials they come from."""
    count, best = len(record.trials), record.best
    # The count is first, in the first call to MLflow: a run killed between two calls then shows
    # a count that its results tag does not match, and is not taken up again.
    values: dict[str, float | None] = {"n_trials": count}
    if best is not None:
        values["best_steps_to_target"] = best.steps
        values["best_time_to_target"] = best.time
        if _counts_examples(best) and not record.definition.two_objectives:
            values["best_examples_to_target"] = best.examples
        values |= _varied("best", record, best.hyperparameters) | _ratios(record)
    if record.definition.two_objectives:
        values |= _frontier(record)
    values |= {"excess_steps_over_optimum": record.excess, "risk_error": record.risk_error}
    values["measured_over_predicted"] = _on_data(record)
    return _points(values, count)


def _on_data(record: StudyRecord) -> float | None:
    """The excess risk measured at the end of the runs on the data, over the predicted one."""
    check = record.data_check
    if check is None or not check.runs or math.isinf(check.measured[-1]):
        return None
    return check.measured[-1] / check.predicted[-1]


def _varied(which: str, record: StudyRecord, values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the hyperparameters that a study varies, by the names of their metrics."""
    numbers = {n: v for n, v in values.items() if not isinstance(v, str)}
    varied = record.definition.varied
    return {f"{which}_{name}": value for name, value in numbers.items() if name in varied}


def _points(values: Mapping[str, float | None], step: int = 0) -> list[Point]:
    """The metrics that are known."""
    return [Point(name, value, step) for name, value in values.items() if value is not None]


def tracked(record: StudyRecord) -> tuple[TrialRecord, ...]:
    """The trials that have runs of their own."""
    if record.tracked == "all":
        return record.trials
    if record.definition.two_objectives:
        return non_dominated(record.trials) if record.tracked == "best" else ()
    best = record.best
    return (best,) if record.tracked == "best" and best is not None else ()


def costs(record: StudyRecord, seconds: float, written: int) -> list[Point]:
    """Metrics of milliseconds a trial by part; tracking is the time to write a run."""
    parts = dict(record.cost.milliseconds)
    if written > 0:
        parts["tracking"] = 1e3 * seconds / written
    count = len(record.trials)
    return [Point(f"ms_per_trial/{part}", value, count) for part, value in parts.items()]


def origin_tags(record: StudyRecord) -> dict[str, str]:
    """Tags with the versions that made the trials: in order, where they changed meanwhile."""
    said: dict[str, list[str]] = {"fingerprint": [record.definition.fingerprint]}
    for origin in record.origins:
        found = {f"version.{name}": value for name, value in origin.versions.items()}
        if origin.revision:
            found["mlflow.source.git.commit"] = origin.revision
        for name, value in found.items():
            if value not in said.setdefault(name, []):
                said[name].append(value)
    return {name: ", then ".join(values) for name, values in said.items()}


def origins_digest(record: StudyRecord) -> str:
    """A hash of what the trials were made with."""
    return digest([dataclasses.asdict(origin) for origin in record.origins])


def title(record: StudyRecord) -> str:
    """The name of a study's run: what is studied, unless the user named the study."""
    definition = record.definition
    if record.name != definition.default_name:
        return record.name
    return (
        f"{definition.optimizer_text} {_named_size(definition)} {definition.spectrum} "
        f"{definition.problem}{' ' * bool(definition.problem)}"
        f"{definition.schedule_text} target={number(definition.target)} seed={definition.seed}"
        f"{' ' * bool(definition.objective)}{definition.objective}"
    )


def _named_size(definition: StudyDefinition) -> str:
    found = definition.objective == "examples"
    return definition.size_text if found else f"B={_batch_size(definition)}"


def params(record: StudyRecord) -> dict[str, str]:
    """The parameters of a study's run: MLflow cannot change them, so nothing that may change.

    They are the fields of its definition that say something, and what follows from them.
    """
    definition = record.definition
    said = {}
    for name in definition.to_json():
        value = getattr(definition, name)
        if name == "spectrum_digest":
            continue
        if name == "enqueued":
            said["enqueue"] = json.dumps([dict(each) for each in value])
        elif name == "hyperparameters":
            said |= {f"space.{key}": _space_text(each) for key, each in value.items()}
        elif name == "sampler":
            said |= {f"sampler.{key}": str(setting) for key, setting in value.items()}
        elif isinstance(value, Mapping):
            group = "batch_schedule" if name == "batch_settings" else name.removesuffix("_settings")
            said |= {f"{group}.{key}": _text(setting) for key, setting in value.items()}
        else:
            said[name] = definition.batch_text if isinstance(value, Range) else _text(value)
    said["sampler"] = said.pop("sampler.name")
    if definition.optimizer_settings:
        said["space.beta2"] += f", of batch size {said['optimizer.beta2_batch_size']}"
    # Few digits: the last ones may differ on another machine.
    said["initial_risk"] = f"{record.initial_risk:.6g}"
    for name, (low, high) in record.coordinates.items():
        said[f"searched.{name}"] = f"{low:.6g} to {high:.6g}"
    return said


def _text(value: float | str) -> str:
    """A value of a definition as a user would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else number(value)


def _space_text(value: Hyperparameter) -> str:
    return str(value) if isinstance(value, Searched) else f"fixed at {_text(value)}"


def note(record: StudyRecord) -> str:
    """The description of a study's run, in Markdown, with the results there are."""
    definition = record.definition
    if definition.two_objectives:
        return _frontier_note(record)
    what = definition.objective or "steps"
    text = (
        f"{_subject(record, what)}, with {_size_text(definition)} and the schedule "
        f"{definition.schedule_text}. {_bounds_text(record)}"
    )
    if not record.trials:
        return text
    if record.best is None:
        return f"{text} None of the {len(record.trials)} trials reached the target."
    values = record.best.hyperparameters.items()
    found = ", ".join(f"{name} {_digits(value)}" for name, value in values)
    text = (
        f"{text} The best of {len(record.trials)} trials, number {record.best.number}, reached it "
        f"in {record.best.steps} steps{_time_text(record.best)}{_ratios_text(record)} with {found}."
    )
    if record.training is not None and record.training.unrounded_steps is not None:
        real = record.training.unrounded_steps
        text += f" With batch sizes that are not whole numbers it takes {real} steps."
    if (ratio := _on_data(record)) is not None:
        text += f" Runs on the data end at {ratio:.3g} times the predicted excess risk."
    if record.at_edge:
        text += f" At the edge of what was searched: {'; '.join(record.at_edge)}."
    if record.best.sampled:
        text += " The loss was sampled, since Adam's closure is in doubt there"
        if record.best.risk_error is not None:
            text += f"; its standard error is {error_text(record.best.risk_error)}"
        text += "."
    elif record.told_risk_error is not None:
        text += (
            f" Expected losses may be off by up to {error_text(record.told_risk_error)} of their "
            "size, so the steps may not be exact."
        )
    return text


def _time_text(trial: TrialRecord) -> str:
    return "" if trial.time is None else f" and a time of {trial.time:.6g}"


def _size_text(definition: StudyDefinition) -> str:
    if definition.objective == "examples":
        return f"{definition.objective_settings['steps']:.15g} steps"
    return f"batch size {_batch_size(definition)}"


def _subject(record: StudyRecord, what: str) -> str:
    definition = record.definition
    return (
        f"Optuna study {markdown(record.name)}: {what} {markdown(definition.optimizer)} needs to "
        f"reach an expected loss of {number(definition.target)} on the spectrum "
        f"{markdown(definition.spectrum_text)}"
    )


def _batch_size(definition: StudyDefinition) -> str:
    """The batch size, or its range."""
    size = definition.batch_size
    return definition.batch_text if isinstance(size, Range) else number(size)


def _digits(value: float | str) -> str:
    """Four digits; just below one, three of the distance from it; a word as it is."""
    if isinstance(value, str):
        return value
    if 0.99 < value < 1.0:
        return f"{value:.{2 - math.floor(math.log10(1.0 - value))}f}".rstrip("0")
    return f"{value:.4g}"


def _frontier(record: StudyRecord) -> dict[str, float]:
    """Metrics of the frontier that a study found, and of its distance from the exact one."""
    found, exact = non_dominated(record.trials), exact_frontier(record)
    if not found:
        return {}
    values = {"frontier_trials": len(found), "fewest_examples_to_target": found[0].examples}
    if exact is not None:
        values["gap_to_exact_frontier"] = exact.gap(found)
        excesses = [each for trial in found if (each := exact.excess(trial)) is not None]
        if excesses:
            values["median_excess_steps_on_frontier"] = median(excesses)
    return values


def _frontier_note(record: StudyRecord) -> str:
    """The description of a study's run where the batch size is searched."""
    definition = record.definition
    text = (
        f"{_subject(record, 'steps and examples')}, with batch sizes {definition.batch_text} and "
        f"the schedule {definition.schedule}. {_bounds_text(record)} That is at the largest batch "
        "size."
    )
    exact, known = exact_frontier(record), _frontier(record)
    if exact is not None and exact.critical_batch_size is not None:
        text += (
            " On the exact frontier, examples are 20 % above their least at the critical batch "
            f"size {float(f'{exact.critical_batch_size:.3g}'):.15g}."
        )
    if not record.trials:
        return text
    found = non_dominated(record.trials)
    if not found:
        return f"{text} None of the {len(record.trials)} trials reached the target."
    text += (
        f" {len(found)} of {len(record.trials)} trials are the frontier found, which no trial "
        f"beats in both: from {_end_text(found[0])} to {_end_text(found[-1])}."
    )
    if "gap_to_exact_frontier" in known:
        text += (
            " It covers the exact frontier within "
            f"{100.0 * known['gap_to_exact_frontier']:.2g} % in steps and in examples."
        )
    return text


def _end_text(trial: TrialRecord) -> str:
    rate = trial.hyperparameters.get("learning_rate")
    return (
        f"{trial.steps} steps with {trial.examples:.4g} examples (batch size "
        f"{number(trial.batch_size)}{'' if rate is None else f', learning_rate {_digits(rate)}'})"
    )


def _ratios(record: StudyRecord) -> dict[str, float]:
    best, definition = record.best, record.definition
    if (
        best is None
        or best.steps is None
        or (definition.finds_batch_size and not definition.two_objectives)
    ):
        return {}  # bounds are those of another batch size than was found
    least = zip(_COMPARED, (record.bayes_bound, record.optimal_steps), strict=True)
    return {name: best.steps / value for name, value in least if value}


def _bounds_text(record: StudyRecord) -> str:
    definition = record.definition
    said = [f"No algorithm can need fewer than {record.bayes_bound} steps, the Bayes bound."]
    if definition.objective == "examples":
        size = number(definition.one_batch_size)
        said = [f"No algorithm can need a smaller batch size than {size}, the Bayes bound."]
    if record.classical_bound is not None:
        said.append(
            f"d / (2 C B), with d the sum of noise over curvature, is {record.classical_bound:.6g}:"
            " the bound's limit as the target C falls, and no strict bound, since it drops the "
            "prior."
        )
    if record.optimal_steps is not None:
        text = f"{OPTIMAL}, needs {record.optimal_steps} steps"
        if record.optimal_gap is not None:
            text += f"; another within that cap may save {100.0 * record.optimal_gap:.2g} %"
        said.append(f"{text}.")
    if record.optimum is not None:
        found = ", ".join(f"{k} {_digits(v)}" for k, v in record.optimum.hyperparameters.items())
        what = "The true optimum" if record.optimum.exact else "The best of a dense search"
        said.append(f"{what} of what is searched is {record.optimum.steps} steps, with {found}.")
    return " ".join(said)


def _ratios_text(record: StudyRecord) -> str:
    """The best trial's steps over the Bayes bound and SGD's optimal schedule, in words."""
    texts = [f"{value:.4g} times {_COMPARED[name]}" for name, value in _ratios(record).items()]
    if record.excess is not None:
        texts.append(f"{100.0 * record.excess:.2g} % above the optimum")
    return f", {' and '.join(texts)}," if texts else ""


def milliseconds(moment: datetime) -> int:
    """MLflow's time: milliseconds since the epoch; a moment without a zone is local time."""
    return int(moment.timestamp() * 1000)
