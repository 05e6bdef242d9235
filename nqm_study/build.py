"""From a composed configuration to typed objects: the only place that knows both."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import TrialState

from nqm_study.checks import choice, integer, text
from nqm_study.evaluations import evaluation, facts
from nqm_study.fitting import fit
from nqm_study.fitting_sizes import fit_sizes
from nqm_study.model.crossing import MOST_STEPS
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_number
from nqm_study.model.spectrum import Spectrum
from nqm_study.optimizer_parts import OptimizerSpace, optimizer_space
from nqm_study.parts import (
    batch_sizes,
    ends_of,
    enqueued,
    make_backend,
    make_spectrum,
    make_tracking,
    report_name,
    sampler_settings,
    sections,
    switch,
)
from nqm_study.schedule_parts import NAMES as SCHEDULES
from nqm_study.schedule_parts import ScheduleSpace, belongs, schedule_space, trained
from nqm_study.study.backends import Backend
from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition
from nqm_study.study.origin import origin
from nqm_study.study.run import run
from nqm_study.study.shared import Sharing, run_shared
from nqm_study.study.space import BATCH_SIZE, Search
from nqm_study.study.storage import (
    frontier_known,
    note_frontier,
    note_optimum,
    note_origin,
    note_report,
    note_tracked,
    open_study,
    optimum_known,
    stored_search,
)
from nqm_study.study.trials import OnTrial
from nqm_study.tracking.settings import Tracking
from nqm_study.training import keep_training
from nqm_study.truth import (
    Truth,
    frontier_wanted,
    true_frontier,
    true_optimum,
    truth_of,
    wanted,
)

MOST_BATCH_SIZE = 2**53
"""Up to here a batch size is exact as a floating-point number."""

MOST_SEED = 2**32 - 1
"""The largest seed that every sampler takes."""


@dataclass(frozen=True)
class StudyPlan:
    """One study of a call, checked and ready to run.

    Attributes:
        name: its name in the storage.
        definition: what decides its trials.
        algorithm: name of the optimizer's class, a key of ``ALGORITHMS``.
        problem: spectrum and batch size, of a range its high end.
        search: what is searched, and the first trials.
        n_trials: total of finished trials to end with.
        truth: which optima are computed beside the search.
        backend: where it is kept.
        tracking: the MLflow to mirror into; None for none.
        named: whether the user gave the name.
        config: the composed configuration as YAML, without passwords.
        report: name of the report that the study belongs to; None for none.
    """

    name: str
    definition: StudyDefinition
    algorithm: str
    problem: NoisyQuadratic
    search: Search
    n_trials: int
    truth: Truth
    backend: Backend
    tracking: Tracking | None
    named: bool
    config: str = ""
    report: str | None = None


def conf_dir() -> Path:
    """The configuration's directory: beside the package's modules in a wheel, above in a checkout.

    Raises:
        FileNotFoundError: if neither holds config.yaml.
    """
    package = Path(__file__).resolve().parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no conf/config.yaml in {package} or {package.parent}")


def study_plan(cfg: DictConfig) -> StudyPlan:
    """The study that a composed configuration asks for.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    data = sections(cfg)
    batch_size = batch_sizes(data["batch_size"], MOST_BATCH_SIZE)
    study = data["study"]
    n_trials = integer("study.n_trials", study["n_trials"], 1)
    seed = integer("study.seed", study["seed"], 0, MOST_SEED)
    max_steps = integer("study.max_steps", study["max_steps"], 1, MOST_STEPS)
    spectrum, spectrum_settings = make_spectrum(data["spectrum"])
    target = _target(data["target"], spectrum)
    # Of a range, the low end has the largest beta2 and the high end what no steps are fewer than.
    low, high = ends_of(batch_size)
    searched = {BATCH_SIZE: batch_size} if isinstance(batch_size, Range) else {}
    optimizer, schedule, hyperparameters = _searched(data["optimizer"], data["schedule"], low)
    definition = StudyDefinition(
        optimizer=optimizer.name,
        hyperparameters=hyperparameters,
        spectrum=text("spectrum.name", data["spectrum"]["name"]),
        spectrum_digest=spectrum.digest,
        schedule=schedule.name,
        batch_size=batch_size,
        target=target,
        seed=seed,
        sampler=sampler_settings(data["sampler"], {**searched, **hyperparameters}, n_trials),
        max_steps=max_steps,
        spectrum_settings=spectrum_settings,
        schedule_settings=schedule.settings,
        optimizer_settings=optimizer.settings,
        warm_start=switch("study.warm_start", study["warm_start"]),
        enqueued=enqueued("study.enqueue", study["enqueue"]),
    )
    backend = make_backend(data["storage"])
    problem = NoisyQuadratic(spectrum, high)
    return StudyPlan(
        name=definition.default_name
        if study["name"] is None
        else text("study.name", study["name"]),
        definition=definition,
        algorithm=optimizer.algorithm,
        problem=problem,
        search=fit_sizes(problem, optimizer.algorithm, definition),
        n_trials=n_trials if definition.searched or searched else 1,
        truth=truth_of("study.truth", study["truth"]),
        backend=backend,
        tracking=make_tracking(data["tracking"]),
        named=study["name"] is not None,
        config=_as_yaml(data, backend),
        report=report_name("report.name", data["report"]["name"]),
    )


def open_planned(plan: StudyPlan, storage: BaseStorage) -> Study:
    """The stored study of a plan, made if it is not there.

    Raises:
        StudyMismatchError: if the stored one was made from another definition.
    """

    def known() -> dict[str, Any]:
        return {**facts(plan.problem, plan.definition), "search": plan.search.to_json()}

    study = open_study(storage, plan.name, plan.definition, known)
    finished = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
    if finished < plan.n_trials:
        note_origin(study, origin(finished, plan.config))
    if plan.tracking is not None:
        note_tracked(study, plan.tracking.trials)
    if plan.report is not None:
        note_report(study, plan.report)
    # Before the last trial: whoever sees that one sees what it is compared with.
    made = plan.definition
    if made.two_objectives:
        if not frontier_known(study) and frontier_wanted(plan.truth, plan.algorithm, made):
            note_frontier(study, true_frontier(plan.problem, made))
    elif wanted(plan.truth, plan.algorithm, made) and not optimum_known(study):
        optimum = true_optimum(plan.problem, plan.algorithm, made, plan.search.space)
        note_optimum(study, optimum)
    return study


def run_planned(
    plan: StudyPlan,
    stored: Study,
    *,
    sharing: Sharing | None = None,
    on_trial: OnTrial | None = None,
) -> None:
    """Bring the stored study of a plan to its budget, and keep the run of its best trial.

    Args:
        plan: what to run.
        stored: its study, as ``open_planned`` gives it.
        sharing: how to keep out of the way of other processes that run the study as well; None if
            no one else does.
        on_trial: called with each new trial after it was written.
    """
    evaluate = evaluation(plan.problem, plan.algorithm, plan.definition)
    made, search = plan.definition, stored_search(stored) or plan.search
    keywords: dict[str, Any] = {"n_trials": plan.n_trials, "on_trial": on_trial}
    if sharing is None:
        run(stored, made, search, evaluate, **keywords)
    else:
        run_shared(stored, made, search, evaluate, sharing=sharing, **keywords)
    turn = sharing.turn if sharing is not None else contextlib.nullcontext()
    keep_training(stored, plan.problem, plan.algorithm, turn)


def run_study(
    problem: NoisyQuadratic,
    family: str,
    *,
    target: float = 0.01,
    n_trials: int = 100,
    seed: int = 0,
    storage: BaseStorage | str | None = None,
    schedule: str = "constant",
    hyperparameters: Mapping[str, Hyperparameter | str] | None = None,
    sampler: str = "tpe",
    warm_start: bool = True,
    enqueue: Sequence[Mapping[str, float]] = (),
    truth: Truth = False,
) -> Study:
    """Tune an optimizer on a problem for the fewest steps to a target.

    Args:
        problem: spectrum and batch size.
        family: name of an optimizer's configuration: ``sgd``, ``momentum``, ``adam``, ...
        target: expected loss to reach, above 0 and below the initial risk.
        n_trials: total of finished trials, those of earlier calls on this storage included.
        seed: seed of the sampler, at least 0.
        storage: an Optuna storage or its URL, which keeps the study and resumes it; None keeps it
            in memory.
        schedule: name of a schedule's configuration: ``constant``, ``cosine``, ``optimal``, ...
        hyperparameters: numbers or ranges that replace those of the two configurations; and what
            else these can be given, such as ``beta2_policy``.
        sampler: name of a sampler's configuration: ``tpe``, ``cmaes``, ``random``, ...
        warm_start: whether the first trial is the one that a rule says for the problem.
        enqueue: hyperparameters of trials that come before, each inside its range; what is left out
            is as the rule has it.
        truth: whether the true optimum is computed and kept with the study: True where ``tuned``
            gives it exactly, ``"all"`` for Adam and under a schedule too.

    Returns:
        The Optuna study. A trial's user attributes hold its hyperparameters in PyTorch's units,
        its steps (None where the target was not reached), status and risk.

    Raises:
        ValueError: if a value is outside its range.
        StudyMismatchError: if the storage holds a study of this name made from another definition.
    """
    plan = python_plan(
        problem,
        family,
        target=target,
        n_trials=n_trials,
        seed=seed,
        schedule=schedule,
        hyperparameters=hyperparameters,
        sampler=sampler,
        warm_start=warm_start,
        enqueue=enqueue,
        truth=truth,
    )
    stored = open_planned(plan, optuna.storages.get_storage(storage))
    run_planned(plan, stored)
    return stored


def python_plan(
    problem: NoisyQuadratic,
    family: str,
    *,
    target: float = 0.01,
    n_trials: int = 100,
    seed: int = 0,
    schedule: str = "constant",
    hyperparameters: Mapping[str, Hyperparameter | str] | None = None,
    sampler: str = "tpe",
    warm_start: bool = True,
    enqueue: Sequence[Mapping[str, float]] = (),
    truth: Truth = False,
) -> StudyPlan:
    """The study of values given in Python; the arguments are those of ``run_study``.

    Raises:
        ValueError: if a value is outside its range.
    """
    folder = conf_dir()
    known = tuple(sorted(path.stem for path in (folder / "optimizer").glob("*.yaml")))
    choice("family", family, known)
    choice("schedule", schedule, SCHEDULES)
    choice("sampler", sampler, tuple(sorted(p.stem for p in (folder / "sampler").glob("*.yaml"))))
    n_trials = integer("n_trials", n_trials, 1)
    # No hyperparameter of a schedule has the name of an optimizer's.
    given = hyperparameters or {}
    shape = {name for name in given if belongs(schedule, name)}
    optimizer, planned, space = _searched(
        {
            **_section("optimizer", family),
            **{name: value for name, value in given.items() if name not in shape},
        },
        {**_section("schedule", schedule), **{name: given[name] for name in shape}},
        problem.batch_size,
    )
    defaults = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    definition = StudyDefinition(
        optimizer=family,
        hyperparameters=space,
        spectrum="custom",
        spectrum_digest=problem.spectrum.digest,
        schedule=schedule,
        batch_size=float(problem.batch_size),
        target=_target(target, problem.spectrum),
        seed=integer("seed", seed, 0),
        sampler=sampler_settings(_section("sampler", sampler), space, n_trials),
        max_steps=int(defaults["study"]["max_steps"]),  # type: ignore[call-overload,index]  # as the file is
        schedule_settings=planned.settings,
        optimizer_settings=optimizer.settings,
        warm_start=switch("warm_start", warm_start),
        enqueued=enqueued("enqueue", enqueue),
    )
    return StudyPlan(
        name=definition.default_name,
        definition=definition,
        algorithm=optimizer.algorithm,
        problem=problem,
        search=fit(problem, optimizer.algorithm, definition),
        n_trials=n_trials if definition.searched else 1,
        truth=truth_of("truth", truth),
        backend=Backend(),
        tracking=None,
        named=False,
    )


def _searched(
    optimizer: Mapping[str, Any], schedule: Mapping[str, Any], batch_size: float
) -> tuple[OptimizerSpace, ScheduleSpace, dict[str, Hyperparameter]]:
    """The optimizer and the schedule, and the hyperparameters of both."""
    own, space = optimizer_space(optimizer, batch_size), schedule_space(schedule)
    left = trained(space.name, own.name, own.algorithm, own.hyperparameters)
    return own, space, {**left, **space.hyperparameters}


def _section(group: str, option: str) -> dict[str, Any]:
    """A group's section as a file of conf/ has it."""
    return OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{option}.yaml"))  # type: ignore[return-value]  # a mapping, as the file is


def _as_yaml(data: Mapping[str, Any], backend: Backend) -> str:
    """A configuration as it was composed, with the server's password left out."""
    storage = {**data["storage"], "url": backend.where} if backend.shared else data["storage"]
    return OmegaConf.to_yaml({**data, "storage": storage})


def _target(value: object, spectrum: Spectrum) -> float:
    """A target that is not met before the first step."""
    target, initial = require_number("target", value, above=0.0), spectrum.initial_risk
    if target >= initial:
        raise ValueError(f"target={target:g}: must be below the initial risk, {initial:.6g}")
    return target
