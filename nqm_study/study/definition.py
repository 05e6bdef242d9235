"""The definition of a study, as frozen values.

It is everything that decides a study's trials except how many there are: raising the budget
continues a study, changing anything in its definition makes another one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Scale = Literal["linear", "log", "log_one_minus"]
SCALES: tuple[Scale, ...] = ("linear", "log", "log_one_minus")

BATCH_SIZE = "batch_size"
"""The name of the batch size among the hyperparameters, where it is searched."""

BATCH = "batch_"
"""Before the name of a batch schedule's hyperparameter among those of a study."""

Objective = Literal["steps", "examples", "time"]
"""What a study is for: the fewest steps to the target, the fewest examples, or the least time."""

ONE_OBJECTIVE = ("cmaes",)
"""The samplers that know one objective only."""


Value = float | str
"""A hyperparameter's value: a number, a switch or a word."""


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A hyperparameter that is searched.

    Attributes:
        when: the values of others under which alone it applies, by their names; empty: always.
    """

    when: Mapping[str, Value] = field(default_factory=dict, hash=False)

    def applies(self, values: Mapping[str, Value]) -> bool:
        """Whether it applies beside the values of the others."""
        return all(name in values and values[name] == each for name, each in self.when.items())


@dataclass(frozen=True)
class Choices(Searched):
    """A searched hyperparameter that is one of some values, which have no order.

    Raises:
        ValueError: unless they are two or more numbers, switches or words, each once.
    """

    values: Sequence[Value]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        for value in self.values:
            finite = isinstance(value, (int, float)) and math.isfinite(as_float(value))
            if not finite and not (isinstance(value, str) and value and value.isprintable()):
                raise ValueError(f"choices={value}: must be numbers, words, true or false")
        if len({(isinstance(each, bool), each) for each in self.values}) != len(self.values):
            raise ValueError("choices: must be each value once")
        if len(self.values) < 2:
            raise ValueError("choices: must be two values or more")

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


NARROW = 1e-12
"""A range that is narrower than this share of its bounds has hardly a value inside."""


@dataclass(frozen=True)
class Range(Searched):
    """A searched hyperparameter: its bounds in the user's units and the scale it is searched on.

    ``log`` searches log(value), ``log_one_minus`` searches log(1 - value), for hyperparameters
    such as momentum whose effect is set by their distance from one. A bound that is None is fitted
    to the problem and the batch size. With ``integer`` the values are whole numbers.

    Raises:
        ValueError: unless low < high, both finite and inside the scale's domain.
    """

    low: float | None
    high: float | None
    scale: Scale = "log"
    integer: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.integer, bool):
            raise ValueError(f"integer={self.integer}: must be true or false")
        if self.integer and self.scale == "log_one_minus":
            raise ValueError(f"scale={self.scale}: must be linear or log for integers")
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale}: must be one of {', '.join(SCALES)}")
        for name in ("low", "high"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name}={value}: must be a number")
            # 0 and 0.0 are one bound, and must make one fingerprint.
            object.__setattr__(self, name, as_float(value))
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}: must be finite")
            if self.integer and not float(value).is_integer():
                raise ValueError(f"{name}={value:g}: must be a whole number with integer=true")
        low, high = self.low, self.high
        if low is not None and high is not None and not low < high:
            raise ValueError(f"low={low:g}: must be less than high={high:g}")
        for name, value in (("low", low), ("high", high)):
            if self.scale == "log" and value is not None and value <= 0.0:
                raise ValueError(f"{name}={value:g}: must be greater than 0 on a log scale")
            if self.scale == "log_one_minus" and value is not None and value >= 1.0:
                raise ValueError(f"{name}={value:g}: must be less than 1 on a log_one_minus scale")
        self._require_wide()

    def _require_wide(self) -> None:
        if self.low is None or self.high is None:
            return
        ends = self.low, self.high
        if self.scale == "log_one_minus":
            ends = 1.0 - self.high, 1.0 - self.low
        if not ends[1] - ends[0] > NARROW * max(map(abs, ends)):
            raise ValueError(
                f"high={self.high!r}: is next to low={self.low!r}; give the value itself"
            )

    @property
    def fitted(self) -> bool:
        """Whether a bound is fitted to the problem and the batch size."""
        return self.low is None or self.high is None

    def __str__(self) -> str:
        if self.low is None and self.high is None:
            return f"fitted, {self.scale} scale"
        ends = (f"{end:.15g}" if end is not None else "fitted" for end in (self.low, self.high))
        return f"{' to '.join(ends)}, {self.scale} scale"


Hyperparameter = Value | Searched


def hyperparameter_of(data: Any) -> Hyperparameter:
    """The hyperparameter of JSON values or of a configuration: a value, or what is searched.

    Raises:
        TypeError, ValueError: naming what is wrong with a range or with choices.
    """
    if not isinstance(data, Mapping):
        return data  # type: ignore[no-any-return]
    if "choices" in data:
        return Choices(**{"values" if k == "choices" else k: v for k, v in data.items()})
    return Range(**data)


def applying(
    hyperparameters: Mapping[str, Hyperparameter], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of those hyperparameters that apply beside each other."""
    found = dict(values)
    while True:
        kept = {
            name: value
            for name, value in found.items()
            if not isinstance(each := hyperparameters.get(name), Searched) or each.applies(found)
        }
        if len(kept) == len(found):
            return kept
        found = kept


def searched_json(each: Hyperparameter) -> Any:
    """A hyperparameter as JSON values, of what is searched without what is empty or off."""
    if isinstance(each, Choices):
        data: dict[str, Any] = {"choices": list(each.values), "when": each.when}
    elif isinstance(each, Range):
        data = {name: getattr(each, name) for name in ("low", "high", "scale", "integer", "when")}
    else:
        return each
    return {name: v for name, v in data.items() if name not in ("integer", "when") or v}


def as_float(number: float) -> float:
    """The number as a float; infinite for an integer that no float can hold."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


_LEFT_OUT = (
    *("schedule_settings", "optimizer_settings", "warm_start", "enqueued", "max_growth", "code"),
    *("batch_schedule", "batch_settings", "objective", "objective_settings"),
    *("problem", "problem_settings"),
)
"""The fields that are left out of a definition's JSON values where they are empty or off."""


@dataclass(frozen=True)
class StudyDefinition:
    """Everything that decides a study's trials, except their number.

    Attributes:
        optimizer: name of the optimizer's configuration (``sgd``, ``momentum``, ``adam``, ...).
        hyperparameters: each one a number (fixed) or a ``Range`` (searched).
        spectrum: name of the spectrum's configuration (``paper``, ...).
        spectrum_digest: hash of the spectrum's arrays.
        schedule: name of the schedule's configuration (``constant``, ``cosine``, ...); what of its
            shape is a number or a range is among the hyperparameters.
        batch_size: examples per step; a ``Range`` where it is searched too: for the least time, or
            else for two objectives, the fewest steps and the fewest examples, which are steps times
            batch size.
        target: expected loss to reach.
        seed: seed of the sampler.
        sampler: name and settings of the sampler.
        max_steps: steps after which a trial counts as not having reached the target.
        spectrum_settings: what the spectrum was made from: ``dim`` and ``exponent``; or ``file``,
            the file's name, with ``modes``, how many modes it stands for, and ``scale``, what the
            loss was multiplied by where it was; of data ``examples``, ``features`` and what was
            done to them.
        schedule_settings: what of the schedule's shape can only be given: ``pieces``, ``drops``,
            ``decay``.
        optimizer_settings: ``beta2_policy`` and ``beta2_batch_size``, where beta2 differs from one
            batch size to the next; the hyperparameters then have it as it is at that batch size.
        warm_start: whether the first trials are those that a rule says for the problem and the
            batch size.
        enqueued: hyperparameters of trials that come before these, in the user's units.
        max_growth: a run counts as diverged if its expected loss rises above this many times the
            first one on the way to the target; None: any rise counts.
        code: what the users' own optimizer and schedule are known by: the class's name, and its
            version or a digest of its source.
        batch_schedule: name of the batch schedule's configuration (``ramp``, ...), empty for the
            same batch size at every step; what of its shape is a number or a range is among the
            hyperparameters, each with ``batch_`` before its name.
        batch_settings: what of it can only be given: ``curve``, ``min``, ``max``, ``integer``.
        objective: ``time`` or ``examples`` where that is minimised in place of the steps, else
            empty. For ``examples`` the batch size of a trial is the least that reaches the target
            in a given number of steps; the definition has the least that any algorithm needs.
        objective_settings: of ``time`` the machine: ``hardware_batch_size``, > 0, and
            ``hardware_exponent``, in (0, 1]; of ``examples`` the ``steps`` of each run.
        problem: name of the problem's class (``least_squares``), empty for the noisy quadratic.
        problem_settings: what it has beside spectrum and batch size: ``label_noise``.
    """

    optimizer: str
    hyperparameters: Mapping[str, Hyperparameter]
    spectrum: str
    spectrum_digest: str
    schedule: str
    batch_size: float | Range
    target: float
    seed: int
    sampler: Mapping[str, Any]
    max_steps: int
    spectrum_settings: Mapping[str, float | str] = field(default_factory=dict)
    schedule_settings: Mapping[str, float | str] = field(default_factory=dict)
    optimizer_settings: Mapping[str, float | str] = field(default_factory=dict)
    warm_start: bool = False
    enqueued: Sequence[Mapping[str, float]] = ()
    max_growth: float | None = None
    code: Mapping[str, str] = field(default_factory=dict)
    batch_schedule: str = ""
    batch_settings: Mapping[str, Value] = field(default_factory=dict)
    objective: str = ""
    objective_settings: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    problem_settings: Mapping[str, Value] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values; ``from_json`` is its inverse.

        What is empty or off is left out, so that a new field, at a default that changes no trial,
        leaves the fingerprints of stored studies as they are.
        """
        data = {
            **dataclasses.asdict(self),
            "enqueued": [dict(each) for each in self.enqueued],
            "hyperparameters": {n: searched_json(v) for n, v in self.hyperparameters.items()},
            "batch_size": searched_json(self.batch_size),
        }
        return {
            name: value
            for name, value in data.items()
            if name not in _LEFT_OUT or value not in ({}, [], False, None, "")
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyDefinition:
        """The definition that ``to_json`` wrote."""
        found = {name: hyperparameter_of(v) for name, v in data["hyperparameters"].items()}
        if isinstance(rate := found.get("learning_rate"), str):
            raise ValueError(f"learning_rate={rate}: must be a number")
        size: Any = hyperparameter_of(data["batch_size"])
        return cls(**{**data, "hyperparameters": found, "batch_size": size})

    @property
    def spectrum_text(self) -> str:
        """The spectrum's name with its settings, and the problem's unless it is the usual one."""
        text = _with_settings(self.spectrum, self.spectrum_settings)
        problem = _with_settings(self.problem, self.problem_settings)
        return f"{text}, {problem}" if problem else text

    @property
    def problem_digest(self) -> str:
        """A hash of the problem less its batch size: studies of one hash can be compared.

        It is the spectrum's for the noisy quadratic.
        """
        if not self.problem:
            return self.spectrum_digest
        told = (self.problem, self.problem_settings, self.code.get("problem", ""))
        return _digest([self.spectrum_digest, *told])

    @property
    def optimizer_text(self) -> str:
        """The optimizer's name, with the policy of beta2 where it is not the plain one."""
        policy = self.optimizer_settings.get("beta2_policy")
        return f"{self.optimizer} {policy}" if policy else self.optimizer

    @property
    def schedule_text(self) -> str:
        """The schedule's name, with the batch schedule's where batch sizes change."""
        batches = f", batch {self.batch_schedule}" if self.batch_schedule else ""
        return f"{self.schedule}{batches}"

    @property
    def searches_batch_size(self) -> bool:
        """Whether the batch size is searched too."""
        return isinstance(self.batch_size, Range)

    @property
    def finds_batch_size(self) -> bool:
        """Whether each trial has a batch size of its own, be it searched or what it needs."""
        return self.searches_batch_size or self.objective == "examples"

    @property
    def two_objectives(self) -> bool:
        """Whether it is searched for the fewest steps and the fewest examples."""
        return self.searches_batch_size and not self.objective

    @property
    def one_batch_size(self) -> float:
        """The batch size, where there is one."""
        if isinstance(self.batch_size, Range):
            raise ValueError(f"batch_size={self.batch_text}: must be one batch size")
        return self.batch_size

    @property
    def batch_text(self) -> str:
        """The batch size, or the ends of its range: ``4..1048576``."""
        if not isinstance(self.batch_size, Range):
            return f"{self.batch_size:.15g}"
        return f"{self.batch_size.low:.15g}..{self.batch_size.high:.15g}"

    @property
    def size_text(self) -> str:
        """What a study is at: a batch size, ``B=256``, or a number of steps, ``T=9000``."""
        if self.objective == "examples":
            return f"T={self.objective_settings['steps']:.15g}"
        return f"B={self.batch_text}"

    @property
    def searched(self) -> tuple[str, ...]:
        """Names of the hyperparameters that are searched."""
        return tuple(name for name, v in self.hyperparameters.items() if isinstance(v, Searched))

    @property
    def given(self) -> dict[str, Value]:
        """The hyperparameters that are not searched, with their values."""
        return {n: v for n, v in self.hyperparameters.items() if not isinstance(v, Searched)}

    @property
    def sampler_text(self) -> str:
        """The sampler's name, and whether a local search finishes what it began."""
        name = str(self.sampler["name"])
        return f"{name} + finish" if self.sampler.get("finish") else name

    @property
    def varied(self) -> frozenset[str]:
        """The hyperparameters that are searched, or that differ from one batch size to the next."""
        others = ("beta2",) * bool(self.optimizer_settings) + (
            "batch_size",
        ) * self.finds_batch_size
        return frozenset({*self.searched, *others})

    @property
    def approximate(self) -> bool:
        """Whether the risks are Adam's: those of a closure, or sampled, and so not exact."""
        return "beta2" in self.hyperparameters

    @property
    def fingerprint(self) -> str:
        """A hash of the definition; equal for equal definitions, whatever the process."""
        return _digest(self.to_json())

    @property
    def default_name(self) -> str:
        """A readable stem and the fingerprint: the study's name unless the user gives one."""
        return (
            f"{self.optimizer}-{self.spectrum}{'-' * bool(self.problem)}{self.problem}"
            f"-{self.schedule}"
            f"{'-' * bool(self.batch_schedule)}{self.batch_schedule}"
            f"{'-' * bool(self.objective)}{self.objective}-{self.size_text.replace('=', '')}"
            f"-C{self.target:g}-s{self.seed}-{self.fingerprint[:8]}"
        )

    @property
    def curve(self) -> str:
        """A hash of the definition less batch size and seed: studies of one curve."""
        return self._digest_without("seed")

    @property
    def benchmark(self) -> str:
        """A hash of the definition less batch size, seed and sampler: what samplers compete in."""
        return self._digest_without("seed", "sampler")

    def _digest_without(self, *names: str) -> str:
        """A hash of the definition less some fields and a given batch size; a range stays."""
        without = names if self.searches_batch_size else (*names, "batch_size")
        return _digest({k: value for k, value in self.to_json().items() if k not in without})


def _with_settings(name: str, settings: Mapping[str, Value]) -> str:
    # A text, such as a file's name, says by itself what it is.
    texts = (
        value if isinstance(value, str) else f"{name} {value:.15g}"
        for name, value in settings.items()
    )
    return f"{name} ({', '.join(texts)})" if settings else name


def _digest(data: object) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def grid_points(options: Mapping[str, Any], dimensions: int) -> int:
    """Points along each of the coordinates: as many as fit the grid's size."""
    dimensions = max(1, dimensions)
    size = int(options["size"])
    points: int = round(size ** (1.0 / dimensions))
    return points if points**dimensions <= size else points - 1
