"""From a configuration's section ``schedule`` to a schedule and what is searched of its shape."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nqm_study.config.hyperparameters import ends, hyperparameter
from nqm_study.config.refusals import choice, listed, present, typed, under
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.schedules.stages import DECAYS
from nqm_study.study.definition import Hyperparameter, Range
from nqm_study.study.registry import COMPUTED, FAMILIES, make_schedule, ratios

COMPUTED_KEYS: Mapping[str, tuple[str, ...]] = {
    "optimal": ("pieces", "max_learning_rate"),
    "greedy": (),
}
"""The schedules whose rates are computed, and the keys that each has beside its name."""

NAMES = (*FAMILIES, *COMPUTED)

SETTINGS = ("pieces", "drops", "decay", "max_learning_rate")
"""Keys that can only be given: they are no numbers that a search could vary smoothly."""

MOST_PIECES = 1000
"""More rates than this are not searched in any time that anyone would wait."""


@dataclass(frozen=True)
class ScheduleSpace:
    """A schedule as a configuration has it.

    Attributes:
        name: the configuration's name, one of ``NAMES``.
        hyperparameters: what of the shape is a number (fixed) or a ``Range`` (searched).
        settings: what of the shape can only be given.
    """

    name: str
    hyperparameters: Mapping[str, Hyperparameter]
    settings: Mapping[str, float | str]


def schedule_space(section: Mapping[str, Any]) -> ScheduleSpace:
    """The schedule of its section.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    present("schedule", section, "name")
    name = choice("schedule", section["name"], NAMES)
    given = {key: value for key, value in section.items() if key != "name"}
    for key, value in given.items():
        if not belongs(name, key):
            has = f"only {listed(_keys(name))}" if _keys(name) else "no keys"
            raise ValueError(f"schedule.{key}={typed(value)}: {name} has {has}")
    settings = {key: _setting(key, given.pop(key)) for key in SETTINGS if key in given}
    if name == "piecewise_constant":
        given = _each_ratio(given, settings)
    elif name == "optimal" and "pieces" not in settings:
        raise ValueError("schedule.pieces: is missing")
    shape = {key: hyperparameter(f"schedule.{key}", value) for key, value in given.items()}
    found = {key: value for key, value in settings.items() if value is not None}
    if name in FAMILIES:
        for values in ends(shape):
            under("schedule", functools.partial(make_schedule, name, values, found))
    if name == "constant" and shape.get("warmup_fraction") == 0.0:
        # The plain schedule adds nothing to a study's definition, so that studies stored before
        # there were others keep their fingerprints.
        shape = {}
    return ScheduleSpace(name, shape, found)


def belongs(name: str, key: str) -> bool:
    """Whether a schedule of this name has such a key."""
    one_ratio = name == "piecewise_constant" and re.fullmatch(r"ratio_\d+", key) is not None
    return one_ratio or key in _keys(name)


def trained(
    schedule: str, optimizer: str, algorithm: str, hyperparameters: Mapping[str, Hyperparameter]
) -> dict[str, Hyperparameter]:
    """The optimizer's hyperparameters under a schedule: a computed one takes the rate away.

    Args:
        schedule: one of ``NAMES``.
        optimizer: name of the optimizer's configuration.
        algorithm: name of its class.
        hyperparameters: as its section has them.

    Raises:
        ValueError: if a computed schedule cannot be computed for them.
    """
    if schedule not in COMPUTED:
        return dict(hyperparameters)
    if algorithm != "SGD":
        raise ValueError(
            f"schedule={schedule}: is computed for optimizers of algorithm SGD only, and "
            f"optimizer={optimizer} is {algorithm}"
        )
    rate = hyperparameters["learning_rate"]
    if not isinstance(rate, Range):
        instead = "; schedule.max_learning_rate bounds them" if schedule == "optimal" else ""
        raise ValueError(
            f"optimizer.learning_rate={rate:g}: must not be fixed with schedule={schedule}, which "
            f"computes the rates{instead}"
        )
    for key in ("momentum", "ema_decay") if schedule == "greedy" else ():
        value = hyperparameters.get(key, 0.0)
        if value != 0.0:
            shown = "{...}" if isinstance(value, Range) else f"{value:g}"
            raise ValueError(f"optimizer.{key}={shown}: must be 0 with schedule=greedy")
    return {key: value for key, value in hyperparameters.items() if key != "learning_rate"}


def _keys(name: str) -> tuple[str, ...]:
    if name in COMPUTED:
        return COMPUTED_KEYS[name]
    if name == "piecewise_constant":
        return ("pieces", "ratio", "warmup_fraction")
    return tuple(each.name for each in fields(FAMILIES[name]))  # type: ignore[arg-type]  # all are dataclasses


def _setting(key: str, value: object) -> float | str | None:
    """A value that can only be given; None where it may be left open, and is."""
    if key == "decay":
        return choice("schedule.decay", value, DECAYS)
    if key == "max_learning_rate":
        if value is None:
            return None
        return require_number(f"schedule.{key}", value, above=0.0)
    return require_integer(f"schedule.{key}", value, least=1, most=MOST_PIECES)


def _each_ratio(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a piecewise-constant schedule, with ``ratio`` put in place for every piece."""
    if "pieces" not in settings:
        raise ValueError("schedule.pieces: is missing")
    wanted = ratios(settings["pieces"])
    for key, value in given.items():
        if key not in (*wanted, "ratio", "warmup_fraction"):
            has = f"ratios 2 to {settings['pieces']}" if wanted else "no ratios"
            raise ValueError(
                f"schedule.{key}={typed(value)}: with pieces={settings['pieces']} there are {has}"
            )
    whole = dict(given)
    if "ratio" in whole:
        # Read once under its own name, so that a refusal names what was typed.
        shared = hyperparameter("schedule.ratio", whole.pop("ratio"))
        for values in ends({"schedule.ratio": shared}):
            require_number("schedule.ratio", values["schedule.ratio"], least=0.0)
        whole = {**dict.fromkeys(wanted, shared), **whole}
    for key in wanted:
        if key not in whole:
            raise ValueError(f"schedule.{key}: is missing")
    return whole
