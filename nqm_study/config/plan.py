"""From a configuration to a study's plan: what to run, where it is kept and mirrored.

What a configuration is checked against without the model's numbers is checked first, and only then
the modules are imported that compute them: a refusal takes no longer than composing.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import math
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nqm_study.config.hyperparameters import MOST_BATCH_SIZE
from nqm_study.config.parts import (
    batch_part,
    belongs,
    code,
    optimizer_part,
    sampler_part,
    schedule_part,
    trained,
)
from nqm_study.config.problem import (
    checking_of,
    is_law,
    is_value,
    power_law_once,
    problem_of,
    said,
)
from nqm_study.config.refusals import LONGEST_PART, choice, readable, typed
from nqm_study.config.schema import (
    Configuration,
    Postgresql,
    Study,
    Untracked,
    parsed,
)
from nqm_study.config.targets import TARGET, code_of, snake
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import BatchOptimal
from nqm_study.study.definition import (
    BATCH,
    ONE_OBJECTIVE,
    Range,
    StudyDefinition,
    grid_points,
)
from nqm_study.study.options import conf_dir
from nqm_study.study.recipes import Checking, Recipe, Recipes
from nqm_study.study.storage.backends import Backend
from nqm_study.study.text import raised
from nqm_study.tracking.settings import Tracking

if TYPE_CHECKING:
    from nqm_study.optimum.study import Truth
    from nqm_study.study.space import Search

_COMPOSING = threading.Lock()


@dataclass(frozen=True)
class StudyPlan:
    """One study, checked and ready to run.

    Attributes:
        name: its name in the storage.
        definition: what decides its trials.
        recipes: how its optimizer and its schedule are made.
        problem: spectrum and batch size, of a range its high end.
        search: what is searched, and the first trials.
        n_trials: total of finished trials to end with.
        truth: which optima are computed beside the search.
        compute_optimal: whether the best dimensions for compute budgets are.
        backend: where it is kept.
        tracking: the MLflow to mirror into; None for none.
        named: whether the user gave the name.
        report: name of the report that the study belongs to; None for none.
        composed: the configuration's sections, without passwords; None for one from Python.
        checking: what the best trial is run on; None for no runs on data.
    """

    name: str
    definition: StudyDefinition
    recipes: Recipes
    problem: Problem
    search: Search
    n_trials: int
    truth: Truth
    compute_optimal: bool
    backend: Backend
    tracking: Tracking | None
    named: bool
    report: str | None
    composed: Mapping[str, Any] | None
    checking: Checking | None = None

    @property
    def config(self) -> str:
        """The composed configuration as YAML; empty for one from Python."""
        return "" if self.composed is None else OmegaConf.to_yaml(self.composed)


def study_plan(cfg: DictConfig) -> StudyPlan:
    """The plan of the study that a composed configuration asks for.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    data = with_names(_plain(cfg), _choices(cfg))
    config = parsed(data)
    sizes = config.batch_size
    largest = (sizes.high or 1.0) if isinstance(sizes, Range) else sizes
    problem, settings = problem_of(config.problem, config.spectrum, largest)
    name = readable("spectrum.name", config.spectrum.get("name"), LONGEST_PART)
    plan = _plan(config, problem, name, settings, sizes, data)
    return replace(plan, checking=checking_of(config.spectrum, config.study.data_runs))


def python_plan(
    problem: Problem,
    family: str | type,
    *,
    schedule: str | type = "constant",
    batch_schedule: str | type = "constant",
    hyperparameters: Mapping[str, Any] | None = None,
    sampler: str | type = "tpe",
    target: float = 0.01,
    named: bool = False,
    **study: object,
) -> StudyPlan:
    """The plan of the study that is asked for in Python.

    Args:
        problem: in place of a configuration's spectrum and batch size.
        family: name of an optimizer's configuration, or a class.
        schedule: name of a schedule's, or a class.
        batch_schedule: name of a batch schedule's, or a class.
        sampler: name of a sampler's, or a class.
        hyperparameters: what replaces values of the optimizer's and the schedules'; of a batch
            schedule's each has ``batch_`` before its name.
        target: expected loss to reach.
        named: whether the spectrum has the name that the command line gives it, where it has one.
        **study: what replaces values of the group ``study``.

    Raises:
        ValueError: naming argument, value and what is allowed.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem={problem!r}: must be NoisyQuadratic or LeastSquares")
    chosen = {"optimizer": family, "schedule": schedule, "batch_schedule": batch_schedule}
    chosen |= {"sampler": sampler}
    for group, option in chosen.items():
        if not isinstance(option, type):
            choice("family" if group == "optimizer" else group, option, options(group))
    names = {group: option for group, option in chosen.items() if isinstance(option, str)}
    data = with_names(_composed(*(f"{g}={o}" for g, o in names.items())), names)
    for group, option in chosen.items():
        if isinstance(option, type):
            data[group] = _section_of(group, option)
    data = {**data, "target": target, "study": {**data["study"], **study}}
    for name, value in (hyperparameters or {}).items():
        # No hyperparameter of a schedule has the name of an optimizer's.
        group, key = "schedule" if belongs(data["schedule"], name) else "optimizer", name
        if name.startswith(BATCH):
            group, key = "batch_schedule", name.removeprefix(BATCH)
        data[group] = {**data[group], key: value}
    try:
        config = parsed(data)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("study.")) from None
    name, settings = _named(problem) if named else ("custom", {})
    return _plan(config, problem, name, settings, float(problem.batch_size))


def _section_of(group: str, made: type) -> dict[str, Any]:
    """The section that a class stands for: a fitted learning rate, the rest at its defaults."""
    section: dict[str, Any] = {"name": snake(made.__name__), TARGET: made}
    if group == "sampler":
        return section
    if group == "optimizer":
        section["learning_rate"] = {"low": None, "high": None, "scale": "log"}
    for name, each in inspect.signature(made).parameters.items():
        if each.default is not each.empty and is_value(each.default):
            section.setdefault(name, each.default)
    return section


def _choices(cfg: DictConfig) -> Mapping[str, Any]:
    """The options that were chosen of each group, by the configuration or the job."""
    hydra = cfg.get("hydra")
    if hydra is None and HydraConfig.initialized():
        hydra = HydraConfig.get()
    return {} if hydra is None else hydra.runtime.choices


def with_names(data: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with the names of its options, where it gives none itself."""
    found = dict(data)
    for group in ("optimizer", "schedule", "batch_schedule", "spectrum", "sampler"):
        section = found.get(group)
        if isinstance(section, Mapping) and section.get("name") is None and choices.get(group):
            found[group] = {**section, "name": str(choices[group]).replace("/", "_")}
    return found


def options(group: str) -> tuple[str, ...]:
    """The names of a group's configurations."""
    return tuple(sorted(path.stem for path in (conf_dir() / group).glob("*.yaml")))


@functools.lru_cache(maxsize=256)
def _composed(*overrides: str) -> Mapping[str, Any]:
    """A configuration for Python, whose studies are not mirrored."""
    # Hydra composes for one program at a time, and the caller may be one, or several threads.
    with _COMPOSING:
        running, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                return _plain(compose("config", [*overrides, "tracking=none"]))
        finally:
            GlobalHydra.instance().hydra = running


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]  # a mapping
    plain.pop("hydra", None)
    if "${" not in repr(plain):  # nothing to resolve, and a copy takes long
        return plain
    cfg = OmegaConf.masked_copy(cfg, list(plain))
    try:
        return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]  # a mapping
    except OmegaConfBaseException as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _plan(
    config: Configuration,
    problem: Problem,
    spectrum: str,
    spectrum_settings: Mapping[str, float | str],
    batch_size: float | Range,
    composed: Mapping[str, Any] | None = None,
) -> StudyPlan:
    """The plan of a configuration on a problem.

    Args:
        config: as ``parsed`` gives it; its spectrum and batch size are not looked at.
        problem: spectrum and batch size, of a range its high end.
        spectrum: the spectrum's name.
        spectrum_settings: what it was made from.
        batch_size: the batch size, or the range of it that is searched.
        composed: the configuration's sections, to be kept with the study; None for none.
    """
    target, initial = config.target, problem.spectrum.initial_risk
    if target >= initial:
        raise ValueError(f"target={target:g}: must be below the initial risk, {initial:.6g}")
    objective = _objective(config.study)
    if config.study.steps is not None:
        problem = _least(problem, config, batch_size)
        batch_size = problem.batch_size
    # Of a range, the low end has the largest beta2.
    lowest = (batch_size.low or 1.0) if isinstance(batch_size, Range) else batch_size
    optimizer = optimizer_part(config.optimizer, lowest)
    schedule = schedule_part(config.schedule)
    # Where it is what a trial finds, the batch size is inside any bounds.
    sizes = (lowest, problem.batch_size) if config.study.steps is None else ()
    batches = batch_part(config.batch_schedule, *sizes)
    changing = None if batches is None else batches.recipe
    if config.study.steps is not None and schedule.recipe.computed:
        raise ValueError(
            f"schedule={schedule.name}: must be given by hyperparameters with "
            "study.objective=examples"
        )
    if problem.follows_loss:
        noise = "whose noise follows the loss"
        if schedule.recipe.computed:
            raise ValueError(
                f"schedule={schedule.name}: must be given by hyperparameters with a problem {noise}"
            )
        if batches is not None and batches.recipe.make is BatchOptimal:
            raise ValueError(
                f"batch_schedule={batches.name}: must be another one with a problem {noise}; "
                "nqm.optimal_batch_sizes finds them in Python"
            )
    sampler, own = sampler_part(config.sampler)
    kind = Recipe(type(problem), code=code_of(type(problem)))
    study = config.study
    definition = StudyDefinition(
        optimizer=optimizer.name,
        hyperparameters=trained(optimizer, schedule, batches),
        spectrum=spectrum,
        spectrum_digest=problem.spectrum.digest,
        schedule=schedule.name,
        batch_size=batch_size,
        target=target,
        seed=study.seed,
        sampler=sampler,
        max_steps=study.max_steps,
        spectrum_settings=spectrum_settings,
        schedule_settings=schedule.settings,
        optimizer_settings=optimizer.settings,
        warm_start=study.warm_start,
        enqueued=study.enqueue,
        max_growth=study.max_growth,
        code=code(
            optimizer=optimizer.recipe,
            schedule=schedule.recipe,
            sampler=own,
            batch_schedule=changing,
            problem=kind,
        ),
        batch_schedule="" if batches is None else batches.name,
        batch_settings={} if batches is None else batches.settings,
        **objective,
        **said(problem),
    )
    recipes = Recipes(optimizer.recipe, schedule.recipe, own, changing, kind)
    _check_sampler(definition, study.n_trials)
    backend, tracking = _backend(config), _tracking(config)
    if study.compute_optimal and (
        definition.finds_batch_size or not is_law(problem, spectrum_settings)
    ):
        raise ValueError(
            "study.compute_optimal=true: must be false without problem=least_squares, "
            "spectrum=power_law with a spectrum.source, and a batch_size"
        )

    return StudyPlan(
        name=study.name or definition.default_name,
        definition=definition,
        recipes=recipes,
        problem=problem,
        search=_fitted(problem, recipes, definition),
        n_trials=study.n_trials if definition.searched or definition.searches_batch_size else 1,
        truth=study.truth,
        compute_optimal=study.compute_optimal,
        backend=backend,
        tracking=tracking,
        named=study.name is not None,
        report=config.report.name,
        composed=None if composed is None else _without_password(composed, backend),
    )


def _objective(study: Study) -> dict[str, Any]:
    """The fields of a definition that say what is minimised; none for the steps."""
    if (study.steps is None) is (study.objective == "examples"):
        raise ValueError(
            f"study.steps={typed(study.steps)}: must be the length of every run with "
            "study.objective=examples, and null with the others"
        )
    if study.objective == "steps":
        return {}
    if study.steps is not None:
        return {
            "objective": study.objective,
            "objective_settings": {"steps": float(study.steps)},
        }
    machine = ("hardware_batch_size", "hardware_exponent")
    return {
        "objective": study.objective,
        "objective_settings": {name: float(getattr(study, name)) for name in machine},
    }


def _least(problem: Problem, config: Configuration, batch_size: float | Range) -> Problem:
    """The problem with the least batch size with which any algorithm reaches the target in time.

    Refuses a batch size that is searched, since each trial finds its own.
    """
    from nqm_study.model.problems.bounds import bayes_bound

    if isinstance(batch_size, Range):
        raise ValueError(
            "batch_size={...}: must be no range with study.objective=examples, where each trial "
            "has the least that reaches the target"
        )
    steps = config.study.steps or 1
    examples = bayes_bound(replace(problem, batch_size=1.0), target=config.target)
    return replace(problem, batch_size=min(examples, steps * MOST_BATCH_SIZE // 4) / steps)


def _fitted(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Search:
    """The search that fits the problem; what a user's code raises meanwhile is a refusal."""
    from nqm_study.search.ranges import fit

    try:
        return fit(problem, recipes, definition)
    except ValueError:
        raise
    except Exception as error:
        if not definition.code:
            raise
        mine = ", ".join(definition.code.values())
        raise ValueError(f"{mine}: failed, {raised(error)}") from error


def _named(problem: Problem) -> tuple[str, dict[str, float | str]]:
    """Name and settings of a spectrum of Python's as the command line has them: of power laws.

    What another call can be made from is not known of a file's arrays, nor of any other.
    """
    spectrum = problem.spectrum
    dim, law = round(float(spectrum.multiplicity.sum())), spectrum.law
    steps = np.log(spectrum.curvature[1:2]) / -math.log(2.0)
    # Twelve digits, as a user types at most.
    exponent = law.exponent if law is not None else float(f"{max(steps.sum(), 0.0):.12g}")
    try:
        known = power_law_once(dim, exponent).digest == spectrum.digest
    except ValueError:
        known = False
    if not known:
        return "custom", {}
    for option in options("spectrum"):
        group = _composed(f"spectrum={option}")["spectrum"]
        if (group.get("dim"), group.get("exponent")) == (dim, exponent):
            return option, {"dim": float(dim), "exponent": exponent}
    return "power_law", {"dim": float(dim), "exponent": exponent}


def _check_sampler(definition: StudyDefinition, n_trials: int) -> None:
    """Refuse a sampler that cannot search the study's space within its budget."""
    sampler = definition.sampler
    name = sampler["name"]
    if definition.two_objectives and name in ONE_OBJECTIVE:
        others = ", ".join(each for each in options("sampler") if each not in ONE_OBJECTIVE)
        raise ValueError(
            f"sampler={name}: must be one of {others} where batch_size is searched, or "
            "study.objective=time"
        )
    if definition.two_objectives and sampler.get("finish"):
        raise ValueError(
            f"sampler.finish={sampler['finish']:g}: must be 0 where batch_size is searched, as "
            "with sampler=tpe_alone or nsgaii, or study.objective=time"
        )
    if name == "gp" and importlib.util.find_spec("torch") is None:
        raise ValueError("sampler=gp: needs PyTorch, which is not installed")
    dimensions = len(definition.searched) + definition.searches_batch_size
    if name == "grid" and dimensions:
        held = grid_points(sampler, dimensions) ** dimensions
        if n_trials > held:
            raise ValueError(
                f"study.n_trials={n_trials}: must be at most {held}, the points of the grid; "
                "sampler.size makes it finer"
            )


def _backend(config: Configuration) -> Backend:
    """Where the study is kept."""
    storage = config.storage
    if not isinstance(storage, Postgresql):
        return Backend(storage.name)

    from nqm_study.study.storage.database import server_url

    server_url(storage.url or "")
    if storage.grace_period <= storage.heartbeat_interval:
        raise ValueError(
            f"storage.grace_period={storage.grace_period}: must be above "
            f"storage.heartbeat_interval={storage.heartbeat_interval}"
        )
    return Backend(storage.name, str(storage.url), storage.heartbeat_interval, storage.grace_period)


def _tracking(config: Configuration) -> Tracking | None:
    """The MLflow that the study is mirrored into; None for none."""
    if isinstance(config.tracking, Untracked):
        return None
    settings = asdict(config.tracking)
    del settings["name"]
    return Tracking(**settings)


def _without_password(composed: Mapping[str, Any], backend: Backend) -> Mapping[str, Any]:
    """A configuration as it was composed, with the server's password left out."""
    if not backend.shared:
        return composed
    return {**composed, "storage": {**composed["storage"], "url": backend.where}}
