"""The optimizer and the schedule of a configuration: what of each is fixed, searched or given.

The keys of both are the fields of their classes. A number fixes a hyperparameter and a range
searches it; what no search could vary smoothly is a setting, and can only be given.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from nqm_study.config.hyperparameters import ends, hyperparameter
from nqm_study.config.refusals import LONGEST_PART, choice, listed, present, readable, typed, under
from nqm_study.config.schema import SETTINGS, given_settings
from nqm_study.model.numerics.require import require_number
from nqm_study.study.definition import Hyperparameter, Range
from nqm_study.study.registry import (
    ALGORITHMS,
    COMPUTED,
    FAMILIES,
    make_optimizer,
    make_schedule,
    ratios,
    set_by_policy,
)

SCHEDULES = (*FAMILIES, *COMPUTED)
"""The names of all schedules."""


@dataclass(frozen=True)
class Part:
    """An optimizer or a schedule as a configuration has it.

    Attributes:
        name: the configuration's name.
        kind: name of the optimizer's class, a key of ``ALGORITHMS``; of a schedule its name.
        hyperparameters: each one a number (fixed) or a ``Range`` (searched).
        settings: what can only be given: of an optimizer the policy of beta2 and its batch size,
            where beta2 is not the same at all.
    """

    name: str
    kind: str
    hyperparameters: Mapping[str, Hyperparameter]
    settings: Mapping[str, float | str]


def optimizer_part(section: Mapping[str, Any], batch_size: float) -> Part:
    """The optimizer of its group, at a batch size.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    present("optimizer", section, "name", "algorithm", "learning_rate")
    algorithm = choice("optimizer.algorithm", section["algorithm"], tuple(ALGORITHMS))
    name = readable("optimizer.name", section["name"], LONGEST_PART)
    given = {key: v for key, v in section.items() if key not in ("name", "algorithm")}
    settings = _given_settings("optimizer", algorithm, given)
    if settings.get("beta2_policy") != "half_life":
        settings = {}
    elif "beta2_batch_size" not in settings:
        raise ValueError("optimizer.beta2_batch_size: is missing")
    elif "beta2" not in given:
        raise ValueError("optimizer.beta2: is missing, and beta2_policy=half_life needs it")
    found = {key: hyperparameter(f"optimizer.{key}", value) for key, value in given.items()}
    # P = h^0 is none: with it and without it an optimizer is one and the same study. The
    # configuration that is about powers keeps it, so that it is told from the others.
    if name != "preconditioned" and found.get("preconditioner_power") == 0.0:
        del found["preconditioner_power"]
    _check("optimizer", found, functools.partial(make_optimizer, algorithm))
    for values in ends(found):
        # So close to 1 that its distance from it is lost to rounding.
        if set_by_policy(values, settings, batch_size).get("beta2", 0.0) >= 1.0:
            raise ValueError(
                f"optimizer.beta2_batch_size={settings['beta2_batch_size']:g}: beta2="
                f"{values['beta2']:g} there is 1 at batch_size={batch_size:g}, and must be less "
                "than 1"
            )
    return Part(name, algorithm, found, settings)


def schedule_part(section: Mapping[str, Any]) -> Part:
    """The schedule of its group.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    present("schedule", section, "name")
    name = choice("schedule", section["name"], SCHEDULES)
    given = {key: value for key, value in section.items() if key != "name"}
    settings = _given_settings("schedule", name, given)
    if name == "piecewise_constant":
        given = _each_ratio(given, int(settings["pieces"]))
    found = {key: hyperparameter(f"schedule.{key}", value) for key, value in given.items()}
    if name in FAMILIES:
        _check("schedule", found, lambda values: make_schedule(name, values, settings))
    if name == "constant" and found.get("warmup_fraction") == 0.0:
        # The plain schedule adds nothing to a study's definition, so that its fingerprint is that
        # of a study without a schedule.
        found = {}
    return Part(name, name, found, settings)


def belongs(schedule: str, key: str) -> bool:
    """Whether a schedule of this name has such a key."""
    one_ratio = schedule == "piecewise_constant" and re.fullmatch(r"ratio_\d+", key) is not None
    return one_ratio or key in _keys(schedule)


def trained(optimizer: Part, schedule: Part) -> dict[str, Hyperparameter]:
    """The hyperparameters of both: a computed schedule takes the learning rate away.

    Raises:
        ValueError: if a computed schedule cannot be computed for the optimizer.
    """
    own, name = dict(optimizer.hyperparameters), schedule.name
    if name not in COMPUTED:
        return {**own, **schedule.hyperparameters}
    if optimizer.kind != "SGD":
        raise ValueError(
            f"schedule={name}: is computed for optimizers of algorithm SGD only, and "
            f"optimizer={optimizer.name} is {optimizer.kind}"
        )
    rate = own.pop("learning_rate")
    if not isinstance(rate, Range):
        instead = "; schedule.max_learning_rate bounds them" if name == "optimal" else ""
        raise ValueError(
            f"optimizer.learning_rate={rate:g}: must not be fixed with schedule={name}, which "
            f"computes the rates{instead}"
        )
    for key in ("momentum", "ema_decay") if name == "greedy" else ():
        value = own.get(key, 0.0)
        if value != 0.0:
            shown = "{...}" if isinstance(value, Range) else f"{value:g}"
            raise ValueError(f"optimizer.{key}={shown}: must be 0 with schedule=greedy")
    return own


def _keys(kind: str) -> tuple[str, ...]:
    """The keys of an optimizer's class, or of a schedule, beside its name."""
    settings = tuple(each.name for each in fields(SETTINGS[kind])) if kind in SETTINGS else ()
    if kind in COMPUTED:
        return settings
    if kind == "piecewise_constant":
        return (*settings, "ratio", "warmup_fraction")
    own = tuple(each.name for each in fields({**ALGORITHMS, **FAMILIES}[kind]))  # type: ignore[arg-type]  # all are dataclasses
    return (*own, *(name for name in settings if name not in own))


def _given_settings(group: str, kind: str, given: dict[str, Any]) -> dict[str, float | str]:
    """The settings, taken out of what is given; refuses keys that are no settings and no fields."""
    has = _keys(kind)
    for key, value in given.items():
        if key not in has and not belongs(kind, key):
            allowed = f"only {listed(has)}" if has else "no keys"
            raise ValueError(f"{group}.{key}={typed(value)}: {kind} has {allowed}")
    if kind not in SETTINGS:
        return {}
    names = [each.name for each in fields(SETTINGS[kind])]
    return given_settings(group, kind, {name: given.pop(name) for name in names if name in given})


def _check(
    group: str, found: Mapping[str, Hyperparameter], make: Callable[[dict[str, float]], object]
) -> None:
    """Refuse hyperparameters whose values at an end of their ranges make none of their class."""
    for values in ends(found):
        under(group, functools.partial(make, values))


def _each_ratio(given: Mapping[str, Any], pieces: int) -> dict[str, Any]:
    """The keys of a piecewise-constant schedule, with ``ratio`` put in place for every piece."""
    wanted = ratios(pieces)
    for key, value in given.items():
        if key not in (*wanted, "ratio", "warmup_fraction"):
            has = f"ratios 2 to {pieces}" if wanted else "no ratios"
            raise ValueError(f"schedule.{key}={typed(value)}: with pieces={pieces} there are {has}")
    whole = dict(given)
    if "ratio" in whole:
        # Checked once under its own name, so that a refusal names what was typed.
        shared = hyperparameter("schedule.ratio", whole.pop("ratio"))
        for values in ends({"ratio": shared}):
            under("schedule", functools.partial(require_number, "ratio", values["ratio"], least=0))
        whole = {**dict.fromkeys(wanted, shared), **whole}
    for key in wanted:
        if key not in whole:
            raise ValueError(f"schedule.{key}: is missing")
    return whole
