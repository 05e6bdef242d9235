"""From a composed configuration to typed objects: the only place that knows both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.storages import BaseStorage
from optuna.study import Study

from nqm_study.model.bounds import bayes_bound
from nqm_study.model.optimizers import SGD, Adam, Optimizer
from nqm_study.model.problem import NoisyQuadratic, require_number
from nqm_study.model.spectrum import Spectrum, power_law
from nqm_study.study.records import Hyperparameter, Range, StudyDefinition
from nqm_study.study.run import OnTrial, run
from nqm_study.study.samplers import NAMES as SAMPLERS
from nqm_study.study.samplers import SETTINGS as SAMPLER_SETTINGS
from nqm_study.study.samplers import grid_points
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage import KINDS as STORAGES
from nqm_study.study.storage import open_study

ALGORITHMS: Mapping[str, type[Optimizer]] = {"SGD": SGD, "Adam": Adam}


@dataclass(frozen=True)
class StudyPlan:
    """One study of a call, checked and ready to run.

    Attributes:
        name: its name in the storage.
        definition: what decides its trials.
        algorithm: name of the optimizer's class, a key of ``ALGORITHMS``.
        problem: spectrum and batch size.
        n_trials: total of finished trials to end with.
        storage: kind of storage, a key of ``STORAGES``.
        experiment: the MLflow experiment to mirror into; None for no tracking.
        named: whether the user gave the name.
    """

    name: str
    definition: StudyDefinition
    algorithm: str
    problem: NoisyQuadratic
    n_trials: int
    storage: str
    experiment: str | None
    named: bool


MOST_BATCH_SIZE = 2**53
"""Up to here a batch size is exact as a floating-point number."""

MOST_SEED = 2**32 - 1
"""The largest seed that every sampler takes."""

MOST_STEPS = 2**62
"""The largest number of steps that the search counts."""

MOST_MODES = 10**7
"""The largest spectrum that is made mode by mode."""

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "study": ("n_trials", "seed", "name", "max_steps"),
    "optimizer": ("name", "algorithm", "learning_rate"),
    "spectrum": ("name", "kind", "dim", "exponent"),
    "schedule": ("name",),
    "sampler": ("name",),
    "storage": ("name",),
    "tracking": ("name",),
}
"""The groups of a configuration, and the keys that none may lack."""


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
    data = _sections(cfg)
    batch_size = _integer("batch_size", data["batch_size"], 1, MOST_BATCH_SIZE)
    study = data["study"]
    n_trials = _integer("study.n_trials", study["n_trials"], 1)
    seed = _integer("study.seed", study["seed"], 0, MOST_SEED)
    max_steps = _integer("study.max_steps", study["max_steps"], 1, MOST_STEPS)
    spectrum = _spectrum(data["spectrum"])
    initial = spectrum.initial_risk
    require_number("target", data["target"], above=0.0)
    if data["target"] >= initial:
        raise ValueError(
            f"target={data['target']:g}: must be below the initial risk, {initial:.6g}"
        )
    algorithm, hyperparameters = _optimizer(data["optimizer"])
    definition = StudyDefinition(
        optimizer=_text("optimizer.name", data["optimizer"]["name"]),
        hyperparameters=hyperparameters,
        spectrum=_text("spectrum.name", data["spectrum"]["name"]),
        spectrum_digest=spectrum.digest,
        schedule=_choice("schedule", data["schedule"]["name"], ("constant",)),
        batch_size=float(batch_size),
        target=float(data["target"]),
        seed=seed,
        sampler=_sampler(data["sampler"], SearchSpace(hyperparameters), n_trials),
        max_steps=max_steps,
        spectrum_settings={key: float(data["spectrum"][key]) for key in ("dim", "exponent")},
    )
    tracking = _choice("tracking", data["tracking"]["name"], ("mlflow", "none"))
    return StudyPlan(
        name=definition.default_name
        if study["name"] is None
        else _text("study.name", study["name"]),
        definition=definition,
        algorithm=algorithm,
        problem=NoisyQuadratic(spectrum, batch_size),
        n_trials=n_trials if SearchSpace(hyperparameters).searched else 1,
        storage=_choice("storage", data["storage"]["name"], tuple(STORAGES)),
        experiment=_text("tracking.experiment", data["tracking"]["experiment"])
        if tracking == "mlflow"
        else None,
        named=study["name"] is not None,
    )


def open_planned(plan: StudyPlan, storage: BaseStorage) -> Study:
    """The stored study of a plan, made if it is not there.

    Raises:
        StudyMismatchError: if the stored one was made from another definition.
    """
    target = plan.definition.target
    facts = {
        "bayes_bound": bayes_bound(plan.problem, target=target),
        "initial_risk": plan.problem.spectrum.initial_risk,
    }
    return open_study(storage, plan.name, plan.definition, facts)


def run_planned(plan: StudyPlan, stored: Study, on_trial: OnTrial | None = None) -> None:
    """Bring the stored study of a plan to its budget."""
    run(
        stored,
        plan.definition,
        plan.problem,
        functools.partial(make_optimizer, plan.algorithm),
        n_trials=plan.n_trials,
        on_trial=on_trial,
    )


def make_optimizer(algorithm: str, values: Mapping[str, float]) -> Optimizer:
    """The optimizer with these hyperparameters."""
    return ALGORITHMS[algorithm](**values)  # type: ignore[arg-type]  # nesterov is a bool


def run_study(
    problem: NoisyQuadratic,
    family: str,
    *,
    target: float = 0.01,
    n_trials: int = 100,
    seed: int = 0,
    storage: BaseStorage | str | None = None,
    hyperparameters: Mapping[str, Hyperparameter] | None = None,
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
        hyperparameters: numbers or ranges that replace those of the family's configuration.

    Returns:
        The Optuna study. A trial's user attributes hold its hyperparameters in PyTorch's units,
        its steps (None where the target was not reached), status and risk.

    Raises:
        ValueError: if a value is outside its range.
        StudyMismatchError: if the storage holds a study of this name made from another definition.
    """
    folder = conf_dir()
    known = tuple(sorted(path.stem for path in (folder / "optimizer").glob("*.yaml")))
    _choice("family", family, known)
    given = OmegaConf.to_container(OmegaConf.load(folder / "optimizer" / f"{family}.yaml"))
    algorithm, space = _optimizer({**given, **(hyperparameters or {})})  # type: ignore[dict-item]
    initial = problem.spectrum.initial_risk
    require_number("target", target, above=0.0)
    if target >= initial:
        raise ValueError(f"target={target:g}: must be below the initial risk, {initial:.6g}")
    settings = OmegaConf.to_container(OmegaConf.load(folder / "sampler" / "tpe.yaml"))
    defaults = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    definition = StudyDefinition(
        optimizer=family,
        hyperparameters=space,
        spectrum="custom",
        spectrum_digest=problem.spectrum.digest,
        schedule="constant",
        batch_size=float(problem.batch_size),
        target=float(target),
        seed=_integer("seed", seed, 0),
        sampler=settings,  # type: ignore[arg-type]  # a mapping, as the file is
        max_steps=int(defaults["study"]["max_steps"]),  # type: ignore[call-overload,index]  # as the file is
    )
    plan = StudyPlan(
        name=definition.default_name,
        definition=definition,
        algorithm=algorithm,
        problem=problem,
        n_trials=_integer("n_trials", n_trials, 1) if SearchSpace(space).searched else 1,
        storage="",
        experiment=None,
        named=False,
    )
    stored = open_planned(plan, optuna.storages.get_storage(storage))
    run_planned(plan, stored)
    return stored


def _sections(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, with every key that is needed and no other."""
    try:
        data: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error).splitlines()[0]) from error
    known = ("batch_size", "target", *SECTIONS)
    for key in data:
        if key not in known:
            raise ValueError(f"{key}={_typed(data[key])}: no such key; there are {_list(known)}")
    for key in known:
        if key not in data:
            raise ValueError(f"{key}: is missing")
    for key, needed in SECTIONS.items():
        section = data[key]
        if not isinstance(section, dict):
            raise ValueError(f"{key}={_typed(section)}: must be a group with {_list(needed)}")
        for name in needed:
            if name not in section:
                raise ValueError(f"{key}.{name}: is missing")
    for name in data["study"]:
        if name not in SECTIONS["study"]:
            raise ValueError(f"study.{name}: no such key; there are {_list(SECTIONS['study'])}")
    return dict(data)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _typed(value: object) -> str:
    """A value as it would be typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _integer(key: str, value: object, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key}={_typed(value)}: must be an integer of at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{key}={value}: must be at most {most}")
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{key}={_typed(value)}: must be a text, not empty")
    return value


def _choice(key: str, value: object, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{key}={_typed(value)}: must be one of {_list(allowed)}")
    return str(value)


def _under(prefix: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; its ValueError is raised again with the key's prefix."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{prefix}.{error}") from error


def _spectrum(section: Mapping[str, Any]) -> Spectrum:
    _choice("spectrum.kind", section["kind"], ("power_law",))
    _integer("spectrum.dim", section["dim"], 1, MOST_MODES)
    require_number("spectrum.exponent", section["exponent"], least=0.0)
    make = functools.partial(_power_law, section["dim"], section["exponent"])
    spectrum: Spectrum = _under("spectrum", make)
    return spectrum


@functools.lru_cache(maxsize=8)
def _power_law(dim: int, exponent: float) -> Spectrum:
    # One spectrum for all the studies of a call: its compressions are kept on it.
    return power_law(dim, exponent)


def _optimizer(section: Mapping[str, Any]) -> tuple[str, dict[str, Hyperparameter]]:
    algorithm = _choice("optimizer.algorithm", section["algorithm"], tuple(ALGORITHMS))
    _text("optimizer.name", section["name"])
    known = tuple(each.name for each in fields(ALGORITHMS[algorithm]))
    given = {key: v for key, v in section.items() if key not in ("name", "algorithm")}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"optimizer.{key}={value}: {algorithm} has only {', '.join(known)}")
    hyperparameters = {key: _hyperparameter(key, value) for key, value in given.items()}
    # Both ends of every range must make an optimizer; so a bad bound is told before any trial.
    for end in ("low", "high"):
        values = {
            key: getattr(v, end) if isinstance(v, Range) else v
            for key, v in hyperparameters.items()
        }
        _under("optimizer", functools.partial(make_optimizer, algorithm, values))
    return algorithm, hyperparameters


def _hyperparameter(key: str, value: Any) -> Hyperparameter:
    if isinstance(value, Range):
        return value
    if isinstance(value, Mapping):
        odd = [name for name in value if name not in ("low", "high", "scale")]
        if odd or not {"low", "high"} <= set(value):
            raise ValueError(
                f"optimizer.{key}={dict(value)}: a range is {{low: ..., high: ..., scale: ...}}"
            )
        each: Range = _under(f"optimizer.{key}", functools.partial(Range, **value))
        return each
    if not isinstance(value, (int, float)):
        raise ValueError(f"optimizer.{key}={_typed(value)}: must be a number or a range")
    # 0 and 0.0 are one value, and must make one fingerprint.
    return value if isinstance(value, bool) else float(value)


def _sampler(section: Mapping[str, Any], space: SearchSpace, n_trials: int) -> dict[str, Any]:
    settings = dict(section)
    name = _choice("sampler.name", settings["name"], SAMPLERS)
    for key, value in settings.items():
        if key not in ("name", *SAMPLER_SETTINGS[name]):
            has = _list(SAMPLER_SETTINGS[name]) or "none"
            raise ValueError(f"sampler.{key}={_typed(value)}: the settings of {name} are {has}")
    for key in ("n_startup_trials", "size"):
        if key in settings:
            _integer(f"sampler.{key}", settings[key], 1)
    if "qmc_type" in settings:
        _choice("sampler.qmc_type", settings["qmc_type"], ("sobol", "halton"))
    if settings["name"] == "grid" and space.searched:
        held = grid_points(settings, space) ** len(space.searched)
        if n_trials > held:
            raise ValueError(
                f"study.n_trials={n_trials}: must be at most {held}, the points of the grid; "
                "sampler.size makes it finer"
            )
    return settings
