"""Refusals of values out of range, which name field, value and bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def require_integer(name: str, value: object, *, least: int, most: int | None = None) -> int:
    """The value as an int.

    Raises:
        ValueError: naming field, value and bounds, if it is no integer inside them.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]  # checked before
        upper = "" if most is None else f" and at most {most}"
        raise ValueError(f"{name}={value!r}: must be an integer of at least {least}{upper}")
    return int(value)  # type: ignore[call-overload, no-any-return]  # checked above


def require_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """The value as a float.

    Raises:
        ValueError: naming field, value and bounds, if it is no finite number inside them.
    """
    number = type(value) is float or (
        isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    )
    if number:
        try:
            result = float(value)  # type: ignore[arg-type]  # checked above
        except OverflowError:  # an int that no float can hold
            result = math.inf
        if (
            math.isfinite(result)
            and (above is None or result > above)
            and (least is None or result >= least)
            and (below is None or result < below)
            and (most is None or result <= most)
        ):
            return result
    bounds = [
        text.format(bound)
        for text, bound in (
            ("greater than {:g}", above),
            ("of at least {:g}", least),
            ("less than {:g}", below),
            ("at most {:g}", most),
        )
        if bound is not None
    ]
    shown = f"{result:g}" if number else repr(value)
    raise ValueError(f"{name}={shown}: must be a finite number {' and '.join(bounds)}")


def require_growth(value: object, name: str = "max_growth") -> float | None:
    """A limit of growth, or None for none.

    Raises:
        ValueError: if it is neither.
    """
    return None if value is None else require_number(name, value, least=1.0)


def require_each(
    name: str, values: npt.NDArray[Any], ok: npt.NDArray[np.bool_], bound: str
) -> None:
    """Refuse an array, or a number, of which not all is inside its bounds.

    Raises:
        ValueError: naming index, value and bound of the first that is not.
    """
    if not np.all(ok):
        index = int(np.argmin(np.atleast_1d(ok)))
        value = np.atleast_1d(values)[index]
        raise ValueError(f"{name}[{index}]={value:g}: must be {bound}")
