"""Hyperparameters of a configuration: a number is fixed, a range is searched."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from nqm_study.config.refusals import RefusedError, listed, typed, under
from nqm_study.study.definition import (
    Choices,
    Hyperparameter,
    Range,
    Scale,
    Searched,
    applying,
    as_float,
    hyperparameter_of,
)

FITTED: Mapping[str, tuple[float, Scale]] = {
    "learning_rate": (1.0, "log"),
    "momentum": (0.0, "log_one_minus"),
    "ema_decay": (0.0, "log_one_minus"),
    "timescale": (1.0, "log"),
    "weight_decay": (0.0, "linear"),
}
"""Hyperparameters whose bounds may be null, to be fitted: some valid value, and the scale."""

MOST_BATCH_SIZE = 2**53
"""Up to here a batch size is exact as a floating-point number."""


def hyperparameter(
    key: str, value: Any, *, whole: bool = False, words: bool = False, fitted: bool = False
) -> Hyperparameter:
    """The value, the range or the choices under a key.

    Args:
        key: what a refusal names.
        value: as it was composed.
        whole: whether it must be whole numbers.
        words: whether a word is a value, as for the optimizers of users.
        fitted: whether the class fits ranges itself, so that any bound may be null.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    if isinstance(value, Mapping):
        value = _searched(key, value, whole=whole)
    if isinstance(value, Range):
        return value if fitted else _fittable(key, value)
    if isinstance(value, Searched) or (words and isinstance(value, str) and value.isprintable()):
        return value
    if not isinstance(value, (int, float)):
        raise ValueError(f"{key}={typed(value)}: must be a number or a range")
    if whole:
        if isinstance(value, bool) or value % 1 != 0:
            raise ValueError(f"{key}={typed(value)}: must be a whole number or a range")
        return int(value)
    # 0 and 0.0 are one value, and must make one fingerprint.
    return value if isinstance(value, bool) else as_float(value)


def _searched(key: str, value: Mapping[str, Any], *, whole: bool) -> Searched:
    """The range or the choices of a mapping."""
    names = set(value)
    if "choices" in names:
        if not names <= {"choices", "when"} or not isinstance(value["choices"], (list, tuple)):
            raise ValueError(f"{key}={typed(value)}: choices are {{choices: [..., ...]}}")
    elif not {"low", "high"} <= names <= {"low", "high", "scale", "integer", "when"}:
        raise ValueError(f"{key}={typed(value)}: a range is {{low: ..., high: ..., scale: ...}}")
    elif whole:
        value = {**value, "integer": True}
    if not isinstance(value.get("when", {}), Mapping):
        raise ValueError(f"{key}.when={typed(value['when'])}: must be {{name: value}}")
    found: Searched = under(key, functools.partial(hyperparameter_of, value))
    return found


def _fittable(key: str, each: Range) -> Range:
    """The range, if those of its bounds that are missing can be fitted; else a ValueError."""
    name = key.rpartition(".")[2]
    scale = FITTED[name][1] if name in FITTED else "log_one_minus"
    for end, bound in (("low", each.low), ("high", each.high)):
        if bound is None and name not in FITTED and each.scale != scale:
            raise ValueError(
                f"{key}.{end}=null: must be a number; of {listed(FITTED)} it may be null, and on a "
                "log_one_minus scale"
            )
    if each.fitted and each.scale != scale:
        raise ValueError(f"{key}.scale={each.scale}: must be {scale} where a bound is null")
    return each


def ends(hyperparameters: Mapping[str, Hyperparameter]) -> tuple[dict[str, Any], ...]:
    """The values at the low and at the high end of every range.

    Both must make what they are the hyperparameters of; so a bad bound is refused before any trial.
    """

    def end(name: str, each: Hyperparameter, bound: str) -> Any:
        if isinstance(each, Choices):
            return each.values[0 if bound == "low" else -1]
        if not isinstance(each, Range):
            return each
        found: float | None = getattr(each, bound)
        # In place of a bound that is fitted to the problem any valid value will do.
        found = FITTED.get(name, (0.0,))[0] if found is None else found
        return int(found) if each.integer else found

    both = (
        {name: end(name, each, bound) for name, each in hyperparameters.items()}
        for bound in ("low", "high")
    )
    return tuple(applying(hyperparameters, values) for values in both)


def batch_size_of(value: object) -> float | Range:
    """The batch size, or the range of it that is searched.

    Raises:
        RefusedError: naming key, value and what is allowed.
    """

    def checked(key: str, number: Any) -> float:
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not whole or not 1 <= number <= MOST_BATCH_SIZE:
            raise RefusedError(
                f"{key}={typed(number)}: must be an integer of at least 1 and at most "
                f"{MOST_BATCH_SIZE}"
            )
        return float(number)

    if not isinstance(value, Mapping):
        return checked("batch_size", value)
    if value.get("scale") == "log_one_minus":
        raise RefusedError("batch_size.scale=log_one_minus: must be log or linear")
    try:
        found = hyperparameter("batch_size", value)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    for end in ("low", "high"):
        checked(f"batch_size.{end}", value[end])
    assert isinstance(found, Range)  # noqa: S101 (made from a mapping)
    return found
