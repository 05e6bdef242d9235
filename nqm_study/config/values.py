"""Checks of single values of a configuration: each refusal names key, value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def listed(names: Iterable[str]) -> str:
    """Names in a row."""
    return ", ".join(names)


def typed(value: object) -> str:
    """A value as it would be typed on the command line."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def integer(key: str, value: object, least: int, most: int | None = None) -> int:
    """The value, if it is an integer inside its bounds; else a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{key}={typed(value)}: must be an integer of at least {least}")
    if most is not None and value > most:
        raise ValueError(f"{key}={value}: must be at most {most}")
    return value


def text(key: str, value: object) -> str:
    """The value, if it is a text that can be read; else a ValueError."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{key}={typed(value)}: must be a text, not empty")
    return value


def choice(key: str, value: object, allowed: tuple[str, ...]) -> str:
    """The value, if it is among the allowed; else a ValueError."""
    if value not in allowed:
        raise ValueError(f"{key}={typed(value)}: must be one of {listed(allowed)}")
    return str(value)


def under(prefix: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; its ValueError is raised again with the key's prefix."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{prefix}.{error}") from error
