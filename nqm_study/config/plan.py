"""From a composed configuration to a study's plan: the only place that knows both.

What a plan is checked against without the model's numbers is checked first, and only then the
modules are imported that compute them: a refusal takes no longer than composing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from nqm_study.config.folder import conf_dir
from nqm_study.config.optimizer import OptimizerSpace, optimizer_space
from nqm_study.config.parts import (
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
    truth_of,
)
from nqm_study.config.schedule import (
    NAMES as SCHEDULES,
    ScheduleSpace,
    belongs,
    schedule_space,
    trained,
)
from nqm_study.config.values import choice, integer, text
from nqm_study.model.numerics.require import require_growth, require_number
from nqm_study.model.outcome import MAX_GROWTH, MOST_STEPS
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.optimum.study import Truth
from nqm_study.study.definition import BATCH_SIZE, Hyperparameter, Range, StudyDefinition
from nqm_study.study.storage.backends import Backend
from nqm_study.tracking.settings import Tracking

if TYPE_CHECKING:
    from nqm_study.study.space import Search

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
    max_growth = require_growth(study["max_growth"], "study.max_growth")
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
        max_growth=max_growth,
    )
    name = None if study["name"] is None else text("study.name", study["name"])
    truth = truth_of("study.truth", study["truth"])
    backend, tracking = make_backend(data["storage"]), make_tracking(data["tracking"])
    report = report_name("report.name", data["report"]["name"])
    problem = NoisyQuadratic(spectrum, high)

    from nqm_study.search.batch_sizes import fit_sizes

    return StudyPlan(
        name=name or definition.default_name,
        definition=definition,
        algorithm=optimizer.algorithm,
        problem=problem,
        search=fit_sizes(problem, optimizer.algorithm, definition),
        n_trials=n_trials if definition.searched or searched else 1,
        truth=truth,
        backend=backend,
        tracking=tracking,
        named=name is not None,
        config=_as_yaml(data, backend),
        report=report,
    )


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
    max_growth: float | None = MAX_GROWTH,
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
        max_growth=require_growth(max_growth),
    )
    backend, truth = Backend(), truth_of("truth", truth)

    from nqm_study.search.ranges import fit

    return StudyPlan(
        name=definition.default_name,
        definition=definition,
        algorithm=optimizer.algorithm,
        problem=problem,
        search=fit(problem, optimizer.algorithm, definition),
        n_trials=n_trials if definition.searched else 1,
        truth=truth,
        backend=backend,
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
