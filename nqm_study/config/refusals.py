"""Refusals of a configuration: one line with the key, the value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from nqm_study.study.text import on_one_line

Schema = Mapping[str, Any]
"""A JSON schema, as pydantic makes it of a type."""

_NOUNS = {
    "integer": "an integer",
    "number": "a finite number",
    "boolean": "true or false",
    "string": "a text, not empty,",
    "null": "null",
    "array": "a list",
    "object": "values by name",
}
_BOUNDS = {
    "exclusiveMinimum": "greater than {}",
    "minimum": "of at least {}",
    "exclusiveMaximum": "less than {}",
    "maximum": "at most {}",
    "maxLength": "of at most {} characters",
}

_SHOWN = 200
"""Characters of a refused value that are shown."""

LONGEST_NAME = 250
"""Characters that the name of a study, a run or an experiment may have: MLflow keeps no more of a
run's on PostgreSQL, 256 of an experiment's, and Optuna 512 of a study's."""

LONGEST_PART = 80
"""Characters of a name that runs, studies and folders are named by together with others."""


class RefusedError(ValueError):
    """A refusal whose text is the whole line, key and value included."""


def listed(names: Iterable[str]) -> str:
    """Names in a row, with commas."""
    return ", ".join(names)


def typed(value: object) -> str:
    """A value as it would be typed on the command line, on one line and not at any length."""
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return on_one_line(text, _SHOWN)


def choice(key: str, value: object, allowed: Sequence[str]) -> str:
    """The value, if it is among the allowed; else a ValueError."""
    if value not in allowed:
        raise ValueError(f"{key}={typed(value)}: must be one of {listed(allowed)}")
    return str(value)


def readable(key: str, value: object, most: int = LONGEST_NAME) -> str:
    """The value, if it is a text that can be shown and kept; else a ValueError."""
    shown = isinstance(value, str) and value.strip() and value.isprintable()
    if not isinstance(value, str) or not shown or len(value) > most:
        raise ValueError(
            f"{key}={typed(value)}: must be a text, not empty, of at most {most} characters"
        )
    return value


def report_name(key: str, value: object) -> str | None:
    """The name of a report, which is a folder's, or None for none; else a RefusedError."""
    # The folders of problems have hyphens in their names.
    allowed = f"[A-Za-z0-9_]{{1,{LONGEST_PART}}}"
    if value is None or (isinstance(value, str) and re.fullmatch(allowed, value)):
        return value
    raise RefusedError(
        f"{key}={typed(value)}: must be at most {LONGEST_PART} letters, digits and _, or null"
    )


def present(group: str, section: Mapping[str, Any], *keys: str) -> None:
    """Refuse a group that lacks one of some keys."""
    for key in keys:
        if key not in section:
            raise ValueError(f"{group}.{key}: is missing")


def under(prefix: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; its ValueError is raised again with the key's prefix."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ValueError(on_one_line(f"{prefix}.{error}")) from error


def line_of(error: ValidationError, schema: Schema) -> str:
    """The first error of a configuration as one line.

    Args:
        error: what pydantic raised.
        schema: of the whole configuration.
    """
    first = error.errors()[0]
    cause, value = first.get("ctx", {}).get("error"), first["input"]
    if isinstance(cause, RefusedError):
        return str(cause)
    keys, node = _place(first["loc"], schema)
    key = ".".join(keys)
    if first["loc"][-1] == "[key]":
        node = {"type": "string"}
    if first["type"] == "missing":
        return f"{key}: is missing"
    if first["type"] == "unexpected_keyword_argument":
        return f"{key}={typed(value)}: no such key; there are {listed(node['properties'])}"
    if first["type"] == "union_tag_not_found":
        return f"{key}.{node['discriminator']['propertyName']}: is missing"
    if first["type"] == "union_tag_invalid":
        name = node["discriminator"]["propertyName"]
        shown = key if name == "name" else f"{key}.{name}"
        return f"{shown}={typed(value[name])}: must be one of {allowed(node)}"
    return f"{key}={typed(value)}: must be {allowed(node)}"


def _place(path: Sequence[str | int], schema: Schema) -> tuple[list[str], Schema]:
    """The keys on the way to an error, and the schema there; the marks of unions are no keys."""
    keys, node = [], schema
    for step in map(str, path):
        tags = node.get("discriminator", {}).get("mapping", {})
        if step in tags:
            node = _resolved({"$ref": tags[step]}, schema)
        elif "properties" in node:
            keys.append(step)
            node = _resolved(node["properties"].get(step, node), schema)
        elif "items" in node or "additionalProperties" in node:
            keys.append(step)
            below = node.get("items") or node["additionalProperties"]
            # True where whatever is there is looked at later.
            node = _resolved(below if isinstance(below, Mapping) else {}, schema)
    return keys, node


def _resolved(node: Schema, schema: Schema) -> Schema:
    """The definition that a node refers to, or the node."""
    name = node.get("$ref", "").rpartition("/")[2]
    return schema["$defs"][name] if name else node


def allowed(node: Schema) -> str:
    """What is allowed by a schema, in words that follow "must be"."""
    if "discriminator" in node:
        return listed(node["discriminator"]["mapping"])
    if "anyOf" in node:
        return " or ".join(allowed(each) for each in node["anyOf"])
    if "enum" in node:
        return f"one of {listed(node['enum'])}"
    if "const" in node:
        return str(node["const"])
    if "properties" in node:
        return f"a group with {listed(node['properties'])}"
    bounds = [text.format(node[name]) for name, text in _BOUNDS.items() if name in node]
    examples = [f", such as {each}" for each in node.get("examples", ())]
    return f"{_NOUNS[node['type']]} {' and '.join(bounds)}".strip(" ,") + "".join(examples)
