"""The optimizer and the schedule of a configuration: what of each is fixed, searched or given.

The keys of both are the arguments of their classes. A number fixes a hyperparameter and a range
searches it; what no search could vary smoothly is a setting, and can only be given.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, get_type_hints

import numpy as np

from nqm_study.config.hyperparameters import ends, hyperparameter
from nqm_study.config.refusals import LONGEST_PART, listed, readable, typed, under
from nqm_study.config.schema import SAMPLERS, SETTINGS, given_settings, group_of
from nqm_study.config.targets import TARGET, code_of, located, name_of
from nqm_study.model.numerics.require import require_number
from nqm_study.model.optimizers import SGD, Adam, LinearOptimizer, Update
from nqm_study.model.schedules import BatchConstant, BatchOptimal, BatchSchedule, Constant, Schedule
from nqm_study.study.definition import BATCH, Hyperparameter, Range, Searched
from nqm_study.study.recipes import Recipe, made, piecewise_constant, ratios, set_by_policy
from nqm_study.study.text import raised


@dataclass(frozen=True)
class Part:
    """An optimizer or a schedule as a configuration has it.

    Attributes:
        name: the configuration's name.
        recipe: how it is made.
        hyperparameters: each one a value (fixed), or what it is searched in.
        settings: what can only be given: of an optimizer the policy of beta2 and its batch size,
            where beta2 is not the same at all.
    """

    name: str
    recipe: Recipe
    hyperparameters: Mapping[str, Hyperparameter]
    settings: Mapping[str, float | str]


def optimizer_part(section: Mapping[str, Any], batch_size: float) -> Part:
    """The optimizer of its group, at a batch size.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    name, recipe, given = _opened("optimizer", section, _require_optimizer)
    if "learning_rate" not in given:
        raise ValueError("optimizer.learning_rate: is missing")
    settings = _given_settings("optimizer", recipe.make.__name__, recipe, given)
    if settings.get("beta2_policy") != "half_life":
        settings = {}
    elif "beta2_batch_size" not in settings:
        raise ValueError("optimizer.beta2_batch_size: is missing")
    elif "beta2" not in given:
        raise ValueError("optimizer.beta2: is missing, and beta2_policy=half_life needs it")
    found = _hyperparameters("optimizer", recipe, given)
    # P = h^0 is none: with it and without it an optimizer is one and the same study. The
    # configuration that is about powers keeps it, so that it is told from the others.
    if name != "preconditioned" and found.get("preconditioner_power") == 0.0:
        del found["preconditioner_power"]
    _require_all("optimizer", recipe, found)
    _check("optimizer", found, recipe)
    if recipe.code:
        for values in ends(found):
            _check_rule(name, recipe, values)
    for values in ends(found):
        # So close to 1 that its distance from it is lost to rounding.
        if set_by_policy(values, settings, batch_size).get("beta2", 0.0) >= 1.0:
            raise ValueError(
                f"optimizer.beta2_batch_size={settings['beta2_batch_size']:g}: beta2="
                f"{values['beta2']:g} there is 1 at batch_size={batch_size:g}, and must be less "
                "than 1"
            )
    return Part(name, recipe, found, settings)


def schedule_part(section: Mapping[str, Any]) -> Part:
    """The schedule of its group.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    name, recipe, given = _opened("schedule", section, _require_schedule)
    settings = _given_settings("schedule", name, recipe, given)
    if recipe.make is piecewise_constant:
        given = _each_ratio(given, int(settings["pieces"]))
    found = _hyperparameters("schedule", recipe, given)
    if not recipe.computed:
        _require_all("schedule", recipe, {**found, **settings})
        _check("schedule", found, lambda values: recipe({**values, **settings}))
    if recipe.make is Constant and found.get("warmup_fraction") == 0.0:
        # The plain schedule adds nothing to a study's definition, so that its fingerprint is that
        # of a study without a schedule.
        found = {}
    return Part(name, recipe, found, settings)


def batch_part(section: Mapping[str, Any], *sizes: float) -> Part | None:
    """The batch schedule of its group, for some means; None for one batch size at every step.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    name, recipe, given = _opened("batch_schedule", section, _require_batches)
    settings = _given_settings("batch_schedule", name, recipe, given)
    if recipe.make is BatchConstant:
        return None
    found = _hyperparameters("batch_schedule", recipe, given)
    _require_all("batch_schedule", recipe, {**found, **settings})

    def make(values: dict[str, Any]) -> None:
        for size in sizes:
            recipe({**values, **settings}).require(size)

    _check("batch_schedule", found, make)
    return Part(name, recipe, found, settings)


def sampler_part(section: Mapping[str, Any]) -> tuple[dict[str, Any], Recipe | None]:
    """The sampler of its group: its settings, and how it is made where it is not one of conf/.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    target = section.get(TARGET)
    kind = str(target).removeprefix("optuna.samplers.")
    given = {key: value for key, value in section.items() if key != TARGET}
    known = SAMPLERS.get(kind) if target == f"optuna.samplers.{kind}" else None
    name = readable("sampler.name", given.pop("name", None), LONGEST_PART)
    # With all of these settings it is that sampler, whatever it is called.
    if known is not None and (
        name == known.name or {"name", *given} == {each.name for each in fields(known)}
    ):
        return dataclasses.asdict(group_of("sampler", kind, given)), None
    make = located("sampler", section)
    said = f"sampler.{TARGET}={name_of(make)}"

    from optuna.samplers import BaseSampler

    if not isinstance(make, type) or not issubclass(make, BaseSampler):
        raise ValueError(f"{said}: must be a sampler of Optuna's, or one with its interface")
    finish = group_of("sampler", "sampler", {k: given.pop(k) for k in ("finish",) if k in given})
    recipe = Recipe(make, code=code_of(make))
    for key, value in given.items():
        if key not in recipe.names or key == "seed":
            allowed = listed(each for each in recipe.names if each != "seed")
            raise ValueError(f"sampler.{key}={typed(value)}: {make.__name__} has only {allowed}")
        if value is not None and not isinstance(value, (bool, int, float, str)):
            raise ValueError(f"sampler.{key}={typed(value)}: must be a number, a word or null")
    _require_all("sampler", recipe, given)
    try:
        made(recipe, 0, given)
    except Exception as error:
        raise ValueError(f"{said}: cannot be made, {raised(error)}") from error
    settings = {"name": name, "target": name_of(make), **given}
    return settings | ({"finish": finish.finish} if finish.finish else {}), recipe


def belongs(schedule: Mapping[str, Any], key: str) -> bool:
    """Whether the schedule of a group has such a key."""
    return _has(_recipe("schedule", schedule, _require_schedule), key)


def trained(
    optimizer: Part, schedule: Part, batches: Part | None = None
) -> dict[str, Hyperparameter]:
    """The hyperparameters of all: a computed schedule takes the learning rate away.

    Those of a batch schedule have ``batch_`` before their names.

    Raises:
        ValueError: if a computed schedule cannot be computed for the optimizer, or both have a
            hyperparameter of one name.
    """
    own, name = dict(optimizer.hyperparameters), schedule.name
    if batches is not None and batches.recipe.make is BatchOptimal and optimizer.recipe.adaptive:
        raise ValueError(
            f"batch_schedule={batches.name}: must be another one with optimizer={optimizer.name}, "
            "whose noise is not additive"
        )
    if not schedule.recipe.computed:
        for key in schedule.hyperparameters:
            if key in optimizer.recipe.names:
                raise ValueError(
                    f"schedule.{key}: must have another name, optimizer.{key} has this one"
                )
        return {**own, **schedule.hyperparameters, **_of_batches(batches)}
    if batches is not None:
        raise ValueError(f"batch_schedule={batches.name}: must be constant with schedule={name}")
    if optimizer.recipe.make is not SGD:
        raise ValueError(
            f"schedule={name}: is computed for optimizers of nqm_study.SGD only, and "
            f"optimizer={optimizer.name} is {optimizer.recipe.make.__name__}"
        )
    rate = own.pop("learning_rate")
    optimal = schedule.recipe.computed == "optimal"
    if not isinstance(rate, Range):
        instead = "; schedule.max_learning_rate bounds them" if optimal else ""
        raise ValueError(
            f"optimizer.learning_rate={typed(rate)}: must not be fixed with schedule={name}, which "
            f"computes the rates{instead}"
        )
    for key in () if optimal else ("momentum", "ema_decay"):
        value = own.get(key, 0.0)
        if value != 0.0:
            shown = "{...}" if isinstance(value, Searched) else f"{value:g}"
            raise ValueError(f"optimizer.{key}={shown}: must be 0 with schedule={name}")
    return own


def _of_batches(batches: Part | None) -> dict[str, Hyperparameter]:
    """The hyperparameters of a batch schedule by their names in a study."""
    own = {} if batches is None else batches.hyperparameters
    return {
        f"{BATCH}{name}": replace(v, when={f"{BATCH}{n}": w for n, w in v.when.items()})
        if isinstance(v, Searched)
        else v
        for name, v in own.items()
    }


def code(**recipes: Recipe | None) -> dict[str, str]:
    """What the users' own code is known by, by the group that has it."""
    return {group: each.code for group, each in recipes.items() if each is not None and each.code}


def _opened(
    group: str, section: Mapping[str, Any], require: Callable[[str, Any], None]
) -> tuple[str, Recipe, dict[str, Any]]:
    """The name of a group's choice, how it is made, and what is given beside these."""
    recipe = _recipe(group, section, require)
    name = readable(f"{group}.name", section.get("name"), LONGEST_PART)
    beside = ("name", TARGET, *(("optimizer",) * (recipe.inner is not None)))
    return name, recipe, {key: v for key, v in section.items() if key not in beside}


def _recipe(group: str, section: Mapping[str, Any], require: Callable[[str, Any], None]) -> Recipe:
    """How a group's choice is made; refuses what is no such class."""
    make = located(group, section)
    require(group, make)
    inner = None
    if section.get("optimizer") is not None:
        nested = section["optimizer"]
        nested = nested if isinstance(nested, Mapping) else {TARGET: nested}
        inner = _recipe(f"{group}.optimizer", nested, _require_optimizer)
    code = code_of(make)
    if inner is not None and (code or inner.code):
        code = f"{code or name_of(make)} of {inner.code or name_of(inner.make)}"
    recipe = Recipe(make, inner, code)
    for name, each in recipe.own.items():
        if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL):
            raise ValueError(f"{name_of(make)}: must take {name} by its name")
    if inner is None and "optimizer" in recipe.own:
        raise ValueError(f"{group}.optimizer: is missing, the optimizer that {group} wraps")
    return recipe


def _require_optimizer(group: str, make: Any) -> None:
    if not isinstance(make, type) or not issubclass(make, (LinearOptimizer, Adam)):
        raise ValueError(f"{group}.{TARGET}={name_of(make)}: must be a class of LinearOptimizer")
    bare = issubclass(make, LinearOptimizer) and (
        make.update is LinearOptimizer.update and make.transition is LinearOptimizer.transition
    )
    if bare or inspect.isabstract(make):
        raise ValueError(f"{group}.{TARGET}={name_of(make)}: must have the method update")
    if not dataclasses.is_dataclass(make):
        raise ValueError(f"{group}.{TARGET}={name_of(make)}: must be a dataclass")


def _require_schedule(group: str, make: Any) -> None:
    if not isinstance(make, type):
        return
    said = f"{group}.{TARGET}={name_of(make)}"
    if not issubclass(make, Schedule):
        raise ValueError(f"{said}: must be a class of Schedule")
    if inspect.isabstract(make) or not make.has_factors():
        raise ValueError(f"{said}: must have the method factor, or factor_at")


def _require_batches(group: str, make: Any) -> None:
    said = f"{group}.{TARGET}={name_of(make)}"
    if not isinstance(make, type) or not issubclass(make, BatchSchedule):
        raise ValueError(f"{said}: must be a class of BatchSchedule")
    _require_schedule(group, make)


def _hyperparameters(
    group: str, recipe: Recipe, given: Mapping[str, Any]
) -> dict[str, Hyperparameter]:
    """The hyperparameters that are given; whole numbers where the class wants these."""
    whole, words, fitted = _whole(recipe), bool(recipe.code), _fits_ranges(recipe)
    found = {
        key: hyperparameter(f"{group}.{key}", value, whole=key in whole, words=words, fitted=fitted)
        for key, value in given.items()
    }
    for key, each in found.items():
        for other in each.when if isinstance(each, Searched) else ():
            if other == key or other not in found:
                raise ValueError(f"{group}.{key}.when.{other}: must be another hyperparameter")
    return found


def _fits_ranges(recipe: Recipe) -> bool:
    """Whether a class of it fits ranges to the problem, in whose place bounds may be null."""
    default: Any = LinearOptimizer.coordinates
    made = (getattr(each.make, "coordinates", default) for each in recipe.chain)
    return any(each.__func__ is not default.__func__ for each in made)


def _whole(recipe: Recipe) -> set[str]:
    """The names of the arguments that are whole numbers, by their types."""
    try:
        hints = get_type_hints(recipe.make)
    except Exception:  # noqa: BLE001 (types that are not there when it runs say nothing)
        hints = {}
    inner = _whole(recipe.inner) if recipe.inner is not None else set()
    return {name for name, kind in hints.items() if kind is int} | inner


def _settings_of(recipe: Recipe) -> tuple[str, ...]:
    """The names of what can only be given."""
    if recipe.code or recipe.make.__name__ not in SETTINGS:
        return ()
    return tuple(each.name for each in fields(SETTINGS[recipe.make.__name__]))


def _keys(recipe: Recipe) -> tuple[str, ...]:
    """The keys of an optimizer's class, or of a schedule."""
    settings = _settings_of(recipe)
    if recipe.computed or recipe.make is BatchConstant:
        return settings
    if recipe.make is piecewise_constant:
        return (*settings, "ratio", "warmup_fraction")
    return (*recipe.names, *(name for name in settings if name not in recipe.names))


def _has(recipe: Recipe, key: str) -> bool:
    one = recipe.make is piecewise_constant and re.fullmatch(r"ratio_\d+", key) is not None
    return one or key in _keys(recipe)


def _given_settings(
    group: str, shown: str, recipe: Recipe, given: dict[str, Any]
) -> dict[str, float | str]:
    """The settings, taken out of what is given; refuses keys that are no settings and no fields."""
    for key, value in given.items():
        if not _has(recipe, key):
            has = _keys(recipe)
            allowed = f"only {listed(has)}" if has else "no keys"
            raise ValueError(f"{group}.{key}={typed(value)}: {shown} has {allowed}")
    names = _settings_of(recipe)
    settings = {name: given.pop(name) for name in names if name in given}
    return given_settings(group, recipe.make.__name__, settings) if names else {}


def _check(
    group: str, found: Mapping[str, Hyperparameter], make: Callable[[dict[str, Any]], object]
) -> None:
    """Refuse hyperparameters whose values at an end of their ranges make none of their class."""
    for values in ends(found):
        under(group, functools.partial(make, values))


def _require_all(group: str, recipe: Recipe, found: Mapping[str, object]) -> None:
    """Refuse an argument without a default that is not given."""
    for name, each in recipe.own.items():
        needed = each.default is each.empty and each.kind is not each.VAR_KEYWORD
        if needed and name not in found:
            raise ValueError(f"{group}.{name}: is missing")
    if recipe.inner is not None:
        _require_all(group, recipe.inner, found)


def _check_rule(name: str, recipe: Recipe, values: Mapping[str, Any]) -> None:
    """Refuse the optimizer of a user whose rule gives no coefficients at some values."""
    made = recipe(values)
    said = f"optimizer={name}: {name_of(recipe.make)}"
    if made.learning_rate != values["learning_rate"]:
        raise ValueError(f"{said}: must keep learning_rate as it is given")
    if not isinstance(made, LinearOptimizer) or not made.by_rule:
        return
    for steps in (np.arange(1), np.arange(3)):
        rates = np.full(steps.size, float(made.learning_rate))
        try:
            update = made.update(steps, rates)
        except Exception as error:
            why = raised(error)
            raise ValueError(f"{said}.update failed for {steps.size} steps, {why}") from error
        if not isinstance(update, Update):
            raise ValueError(f"{said}.update: must return an Update, not {type(update).__name__}")
        for part in fields(Update):
            if not np.all(np.isfinite(getattr(update, part.name))):
                raise ValueError(f"{said}.update: must have finite numbers in {part.name}")


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
