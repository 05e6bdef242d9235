"""The form of what a storage gives back: whether values are of the types of their record's fields.

A storage that others write to holds whatever they put there, and a record does not look.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Check = Callable[[Any], bool]


def misfit(record: Any) -> str | None:
    """The first field of a dataclass whose value is not of the field's type; None if all are."""
    cls: Any = type(record)
    for name, fits in _fields(cls):
        if not fits(getattr(record, name)):
            return name
    return None


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, Check], ...]:
    hints = get_type_hints(cls)
    return tuple((each.name, _check(hints[each.name])) for each in dataclasses.fields(cls))


@functools.cache
def _check(kind: Any) -> Check:  # noqa: PLR0911 (one for each kind of type)
    """A function that says whether a value is of a type, in all its parts."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda _: True
    if kind in (int, float):
        # A switch is among the numbers: Nesterov's momentum.
        types = (int,) if kind is int else (int, float)
        return lambda value: isinstance(value, types)
    if origin is Literal:
        return lambda value: value in arguments
    if origin in (Union, UnionType):
        any_of = [_check(each) for each in arguments]
        return lambda value: any(fits(value) for fits in any_of)
    if origin is Mapping:
        key, item = map(_check, arguments)
        return lambda value: (
            isinstance(value, Mapping)
            and all(key(name) and item(each) for name, each in value.items())
        )
    if origin is Sequence or (origin is tuple and arguments[-1] is ...):
        item = _check(arguments[0])
        return lambda value: isinstance(value, (list, tuple)) and all(map(item, value))
    if origin is tuple:
        parts = [_check(each) for each in arguments]
        return lambda value: (
            len(value) == len(parts)
            and all(fits(each) for fits, each in zip(parts, value, strict=True))
        )
    nested = dataclasses.is_dataclass(kind)
    return lambda value: isinstance(value, kind) and not (nested and misfit(value))
