"""The groups of a configuration as types: which keys each has, and what is allowed under them.

A field is a key. Its type is what a value is checked against, what a refusal says is allowed, and
what ``--help`` shows after the field's description. The keys of an optimizer and of a schedule are
those of their classes, which ``config.parts`` looks at.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from omegaconf import OmegaConf
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from nqm_study.config.hyperparameters import MOST_BATCH_SIZE, batch_size_of
from nqm_study.config.refusals import (
    LONGEST_NAME,
    LONGEST_PART,
    allowed,
    line_of,
    readable,
    report_name,
)
from nqm_study.model.outcome import MOST_STEPS
from nqm_study.study.definition import Objective, Range
from nqm_study.study.options import conf_dir
from nqm_study.study.records import Tracked

MOST_SEED = 2**32 - 1
"""The largest seed that every sampler takes."""

MOST_PIECES = 1000
"""More rates than this are not searched in any time that anyone would wait."""

MOST_SECONDS = 10**9
"""More than this no clock of a thread or a server counts."""

_ADDRESS = r"^https?://([^\s/@]*@)?([^\s/?#:@\[\]]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[^\s]*)?$"

C = TypeVar("C")


Integer = Annotated[int, Strict()]
Count = Annotated[Integer, Field(le=MOST_BATCH_SIZE)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Strict()]
Text = Annotated[
    str,
    Strict(),
    Field(max_length=LONGEST_NAME),
    AfterValidator(functools.partial(readable, "text")),
]
Part = Annotated[Text, Field(max_length=LONGEST_PART)]


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def group(cls: type[C]) -> Any:
    """The class as a frozen dataclass that checks its values and takes no other keys."""
    return dataclass(cls, frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@group
class Study:
    """What is searched, and for how long."""

    n_trials: Count = Field(ge=1, description="total of finished trials over all calls")
    seed: Integer = Field(ge=0, le=MOST_SEED, description="seed of the sampler")
    name: Text | None = Field(description="name in the storage; null: made of what is studied")
    max_steps: Integer = Field(ge=1, le=MOST_STEPS, description="a run that takes more has failed")
    max_growth: Annotated[Number, Field(ge=1)] | None = Field(
        description="a run whose loss rises above this many times the first loss has diverged"
    )
    warm_start: Switch = Field(description="whether the first trial is a guess made by rule")
    enqueue: tuple[Annotated[dict[str, Number], Field(min_length=1)], ...] = Field(
        description="trials that come first", examples=["[{learning_rate: 0.1}]"]
    )
    truth: Switch | Literal["all"] = Field(
        description="true optima beside the search: where they take seconds, or all"
    )
    data_runs: Literal[0] | Annotated[Integer, Field(ge=2, le=10_000)] = Field(
        description="runs of the best trial on the data of spectrum=data, at least two; 0: none"
    )
    compute_optimal: Switch = Field(
        description="whether the best dimensions for compute budgets are computed too"
    )
    objective: Objective = Field(description="what the search makes least")
    steps: Annotated[Integer, Field(ge=1, le=MOST_STEPS)] | None = Field(
        description="of examples: the length of every run; null with the others"
    )
    hardware_batch_size: Annotated[Number, Field(ge=1e-6, le=MOST_BATCH_SIZE)] = Field(
        description="of time: up to this many examples a step takes 1, as it does for one"
    )
    hardware_exponent: Annotated[Number, Field(gt=0, le=1)] = Field(
        description="of time: above, a step takes (B / hardware_batch_size)^hardware_exponent"
    )


@group
class Report:
    """The report that the studies belong to."""

    name: Annotated[
        str | None,
        BeforeValidator(functools.partial(report_name, "report.name")),
    ] = Field(description="its folder, of letters, digits and _; null: no report of its own")


@group
class PowerLaw:
    """Curvatures i^-exponent, i = 1..dim."""

    dim: Integer = Field(ge=1, le=MOST_BATCH_SIZE, description="number of modes")
    exponent: Number = Field(ge=0, description="how fast the curvatures fall")
    source: Number | None = Field(
        default=None, description="how fast the start's variance falls; null: the same for all"
    )


@group
class File:
    """Curvatures from a file."""

    path: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        description="a .csv or .npz file, from the folder you start in"
    )
    rescale: Switch = Field(description="whether the loss is scaled to a largest curvature of 1")


@group
class Data:
    """Least squares on features and targets from a file."""

    path: Annotated[Any, WithJsonSchema({"type": "string"})] = Field(
        description="an .npz, .csv or .parquet file, from the folder you start in"
    )
    target_column: Text | None = Field(
        description="the targets' column; null with .npz, which has an array targets"
    )
    center: Switch = Field(description="whether means are subtracted, as an intercept does")
    scale: Switch = Field(description="whether features are divided by standard deviations")


@group
class Labels:
    """Regression on fresh examples, with targets y = x . w* + e."""

    label_noise: Annotated[Number, Field(ge=0)] | None = Field(
        description="variance of e; null: of data the mean squared residual, else 1"
    )


Finish = Annotated[
    Number,
    Field(ge=0, le=0.95, description="share of the trials that a local search has"),
]


Startup = Annotated[Count, Field(ge=1, description="random trials before the model is used")]


@group
class Own:
    """A sampler of Optuna's, or one with its interface."""

    finish: Finish = 0.0


@group
class Tpe:
    """A tree-structured Parzen estimator."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: Startup
    finish: Finish


@group
class Gp:
    """A Gaussian process; needs PyTorch."""

    name: Literal["gp"] = "gp"
    n_startup_trials: Startup
    finish: Finish


@group
class Cmaes:
    """Covariance matrix adaptation evolution strategy."""

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: Startup
    finish: Finish


@group
class Random:
    """Independent random points."""

    name: Literal["random"] = "random"
    finish: Finish


@group
class Qmc:
    """Scrambled points of a sequence."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = Field(description="the sequence")
    finish: Finish


@group
class Grid:
    """A grid, visited in random order."""

    name: Literal["grid"] = "grid"
    size: Count = Field(ge=1, description="points at most")


@group
class Nsgaii:
    """A genetic algorithm for several objectives."""

    name: Literal["nsgaii"] = "nsgaii"
    population_size: Count = Field(ge=2, description="trials in a generation")


@group
class Embedded:
    """A file under mlruns/."""

    name: Literal["journal", "sqlite"]


@group
class Postgresql:
    """A server that processes on any machines share."""

    name: Literal["postgresql"]
    url: str | None = Field(description="postgresql://user:password@host:port/database")
    heartbeat_interval: Integer = Field(
        ge=1, le=MOST_SECONDS, description="seconds between two signs of life"
    )
    grace_period: Integer = Field(
        ge=1,
        le=MOST_SECONDS,
        description="seconds without a sign of life until another process gets the trial",
    )


Trials = Annotated[Tracked, Field(description="trials that have runs of their own")]
Diagnostics = Annotated[Switch, Field(description="whether studies get Optuna's own figures")]
Experiment = Annotated[Text, Field(description="the MLflow experiment")]
Patience = Annotated[Number, Field(ge=0, description="seconds to wait for an MLflow that is away")]


@group
class Local:
    """Runs in mlruns/mlflow.db."""

    name: Literal["mlflow"]
    experiment: Experiment
    trials: Trials
    patience: Patience
    diagnostics: Diagnostics


@group
class Server:
    """Runs on an MLflow server."""

    name: Literal["server"]
    uri: Annotated[str, Field(pattern=_ADDRESS, examples=["http://host:port"])] = Field(
        description="the server's address"
    )
    experiment: Experiment
    trials: Trials
    patience: Patience
    diagnostics: Diagnostics


@group
class Untracked:
    """No runs. A preset may say which trials have runs, whatever the tracking."""

    name: Literal["none"]
    trials: Trials = "all"
    diagnostics: Diagnostics = False


@group
class Beta2:
    """Adam's beta2 across batch sizes."""

    beta2_policy: Literal["fixed", "half_life"] = Field(
        default="fixed", description="the same beta2, or beta2^(B / beta2_batch_size)"
    )
    beta2_batch_size: Annotated[Number, Field(gt=0)] = Field(
        default=1.0, description="with half_life, the batch size that beta2 is given for"
    )


@group
class Pieces:
    """A rate for each piece of the run."""

    pieces: Integer = Field(ge=1, le=MOST_PIECES, description="how many pieces")


@group
class Optimal:
    """The rates that need the fewest steps."""

    pieces: Integer = Field(ge=1, le=MOST_PIECES, description="how many pieces")
    max_learning_rate: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="no rate is larger; null: 0.9998 of the largest stable rate"
    )


@group
class Drops:
    """Drops of the rate."""

    drops: Integer = Field(default=3, ge=1, le=MOST_PIECES, description="how many drops")


@group
class Decay:
    """The end of the run."""

    decay: Literal["linear", "cosine", "sqrt"] = Field(default="linear", description="the way down")


@group
class Batches:
    """Bounds of batch sizes."""

    min: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="no batch is smaller; null: no bound"
    )
    max: Annotated[Number, Field(gt=0)] | None = Field(
        default=None, description="no batch is larger; null: no bound"
    )
    integer: Switch = Field(default=False, description="whether batch sizes are whole numbers")


@group
class Ramp(Batches):
    """How batches grow, and their bounds."""

    curve: Literal["geometric", "linear"] = Field(default="geometric", description="the way up")


SAMPLERS: Mapping[str, Any] = {
    "TPESampler": Tpe,
    "GPSampler": Gp,
    "CmaEsSampler": Cmaes,
    "RandomSampler": Random,
    "QMCSampler": Qmc,
    "GridSampler": Grid,
    "NSGAIISampler": Nsgaii,
}
"""The samplers of conf/, by their classes in optuna.samplers."""

SETTINGS: Mapping[str, Any] = {
    "sampler": Own,
    "Adam": Beta2,
    "piecewise_constant": Pieces,
    "optimal_schedule": Optimal,
    "StepDecay": Drops,
    "WarmupStableDecay": Decay,
    "BatchRamp": Ramp,
    "BatchSteps": Batches,
    "BatchCoupled": Batches,
    "BatchOptimal": Batches,
    "power_law": PowerLaw,
    "load_spectrum": File,
    "load_regression": Data,
    "LeastSquares": Labels,
    **SAMPLERS,
}
"""What can only be given, by the class or the function that an option names."""


@group
class Configuration:
    """A study as the command line composes it."""

    batch_size: Annotated[
        float | Range,
        BeforeValidator(batch_size_of),
        WithJsonSchema({"type": "integer", "minimum": 1}),
    ] = Field(description="examples per step; a range is searched")
    target: Number = Field(gt=0, description="expected loss to reach")
    study: Study
    optimizer: dict[str, Any] = Field(description="its hyperparameters: numbers or ranges")
    problem: dict[str, Any] = Field(description="the kind of loss")
    spectrum: dict[str, Any] = Field(description="its curvatures and noise")
    schedule: dict[str, Any] = Field(description="its shape: numbers or ranges")
    batch_schedule: dict[str, Any] = Field(description="its shape: numbers or ranges")
    sampler: dict[str, Any] = Field(description="what proposes trials")
    storage: Embedded | Postgresql = Field(discriminator="name")
    tracking: Local | Server | Untracked = Field(discriminator="name")
    report: Report


def parsed(data: Mapping[str, Any]) -> Configuration:
    """The configuration that composed sections make.

    Raises:
        ValueError: in one line with the key, the value and what is allowed.
    """
    return _checked(Configuration, data)  # type: ignore[no-any-return]


def group_of(group: str, kind: str, given: Mapping[str, Any]) -> Any:
    """The keys of an option as its type, by the class or the function that it names.

    Raises:
        ValueError: in one line with the key, the value and what is allowed.
    """
    return _checked(SETTINGS[kind], given, f"{group}.")


def given_settings(group: str, kind: str, given: Mapping[str, Any]) -> dict[str, float | str]:
    """The settings that are given of an optimizer's class or of a schedule, less those left open.

    Raises:
        ValueError: in one line with the key, the value and what is allowed.
    """
    found = group_of(group, kind, given)
    return {name: v for name in given if (v := getattr(found, name)) is not None}


def _checked(cls: Any, data: Mapping[str, Any], prefix: str = "") -> Any:
    try:
        return _adapter(cls).validate_python(data)
    except ValidationError as error:
        raise ValueError(prefix + line_of(error, _schema(cls))) from None


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@functools.cache
def _schema(cls: Any) -> Mapping[str, Any]:
    return _adapter(cls).json_schema()


def described() -> str:
    """Every key with what is allowed under it and what it is, as ``--help`` shows them."""
    lines = list(_described("", _schema(Configuration)))
    groups = ("optimizer", "problem", "spectrum", "schedule", "batch_schedule", "sampler")
    for group_ in groups:
        options: dict[str, list[str]] = {}
        for path in sorted((conf_dir() / group_).glob("*.yaml")):
            target = str(OmegaConf.select(OmegaConf.load(path), "_target_")).rpartition(".")[2]
            options.setdefault(target, []).append(path.stem)
        for target, names in options.items():
            if target in SETTINGS:
                lines.append(f"{group_}={'|'.join(names)}: {SETTINGS[target].__doc__}")
                lines.extend(_described(f"{group_}.", _schema(SETTINGS[target])))
    return "\n".join(lines)


def _described(group: str, node: Mapping[str, Any]) -> Iterator[str]:
    for name, field in node["properties"].items():
        if name in ("name", "kind") and group not in {"study.", "report."}:
            continue  # chosen with the group
        key = f"{group}{name}"
        options = [each for each in (field, *field.get("oneOf", ())) if "$ref" in each]
        for each in options:
            found = _schema(Configuration)["$defs"][each["$ref"].rpartition("/")[2]]
            chosen = found["properties"].get("name", {})
            names = chosen.get("enum", [chosen["const"]] if "const" in chosen else [])
            yield f"{'='.join(filter(None, (key, '|'.join(names))))}: {found['description']}"
            yield from _described(f"{key}.", found)
        if not options:
            text = f"{key}: {field['description']} ({allowed(field)})"
            yield from wrap(text, 98, initial_indent="  " * bool(group), subsequent_indent="    ")
