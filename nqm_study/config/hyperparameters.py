"""Hyperparameters of a configuration: a number is fixed, a range is searched."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from nqm_study.config.refusals import RefusedError, listed, typed, under
from nqm_study.study.definition import Hyperparameter, Range, Scale, as_float

FITTED: Mapping[str, tuple[float, Scale]] = {
    "learning_rate": (1.0, "log"),
    "momentum": (0.0, "log_one_minus"),
    "ema_decay": (0.0, "log_one_minus"),
    "timescale": (1.0, "log"),
}
"""Hyperparameters whose bounds may be null, to be fitted: some valid value, and the scale."""

MOST_BATCH_SIZE = 2**53
"""Up to here a batch size is exact as a floating-point number."""


def hyperparameter(key: str, value: Any) -> Hyperparameter:
    """The number or the range under a key.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    if isinstance(value, Mapping):
        if not {"low", "high"} <= set(value) <= {"low", "high", "scale"}:
            raise ValueError(
                f"{key}={typed(value)}: a range is {{low: ..., high: ..., scale: ...}}"
            )
        value = under(key, functools.partial(Range, **value))
    if isinstance(value, Range):
        return _fittable(key, value)
    if not isinstance(value, (int, float)):
        raise ValueError(f"{key}={typed(value)}: must be a number or a range")
    # 0 and 0.0 are one value, and must make one fingerprint.
    return value if isinstance(value, bool) else as_float(value)


def _fittable(key: str, each: Range) -> Range:
    """The range, if those of its bounds that are missing can be fitted; else a ValueError."""
    name = key.rpartition(".")[2]
    for end, bound in (("low", each.low), ("high", each.high)):
        if bound is None and name not in FITTED:
            raise ValueError(
                f"{key}.{end}=null: must be a number; of {listed(FITTED)} it may be null"
            )
    if each.fitted and each.scale != FITTED[name][1]:
        raise ValueError(
            f"{key}.scale={each.scale}: must be {FITTED[name][1]} where a bound is null"
        )
    return each


def ends(hyperparameters: Mapping[str, Hyperparameter]) -> tuple[dict[str, Any], ...]:
    """The values at the low and at the high end of every range.

    Both must make what they are the hyperparameters of; so a bad bound is refused before any trial.
    """

    def end(name: str, each: Hyperparameter, bound: str) -> Any:
        if not isinstance(each, Range):
            return each
        found: float | None = getattr(each, bound)
        # In place of a bound that is fitted to the problem any valid value will do.
        return FITTED[name][0] if found is None else found

    return tuple(
        {name: end(name, each, bound) for name, each in hyperparameters.items()}
        for bound in ("low", "high")
    )


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
