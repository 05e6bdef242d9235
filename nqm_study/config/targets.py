"""The classes and functions that a configuration names by ``_target_``, the user's own among them.

They are found from what was composed for this call alone: never from what is stored.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from nqm_study.config.refusals import typed
from nqm_study.study.text import raised

TARGET = "_target_"

_KNOWN = ("nqm_study", "optuna", "builtins", "abc", "typing")
"""Packages whose code is known by their versions, which are stored with a study."""

_DIGITS = 12
"""Of a digest: enough that no two versions of a class share them."""


def located(group: str, section: Mapping[str, Any]) -> Any:
    """The class or function that a group names.

    Raises:
        ValueError: naming the key and what is wrong with it.
    """
    for key, value in section.items():
        if str(key).startswith("_") and key != TARGET:
            raise ValueError(f"{group}.{key}={typed(value)}: no such key; {TARGET} alone is read")
    if not set(section) - {"name"}:
        raise ValueError(f"{group}: is missing")
    if TARGET not in section:
        raise ValueError(f"{group}.{TARGET}: is missing")
    target = section[TARGET]
    if callable(target):  # given in Python
        return target
    said = f"{group}.{TARGET}={typed(target)}"
    dotted = isinstance(target, str) and "." in target
    if not dotted or not all(each.isidentifier() for each in target.split(".")):
        raise ValueError(f"{said}: must be the name of a class or a function, such as module.Name")
    try:
        found = pkgutil.resolve_name(target)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{said}: cannot be imported, {raised(error)}") from error
    if not callable(found):
        raise ValueError(f"{said}: must be a class or a function, and is {type(found).__name__}")
    return found


def name_of(made: Any) -> str:
    """The qualified name of a class or function."""
    return f"{made.__module__}.{made.__qualname__}"


def snake(name: str) -> str:
    """A class's name as that of a file: ``heavy_ball`` for HeavyBall."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def code_of(made: Any) -> str:
    """What the code of a class or function is known by; empty for what this package brings.

    It is the qualified name with ``version``, or with a digest of the syntax trees of the class and
    of its bases, docstrings left out.

    Raises:
        ValueError: if it has neither a version nor source.
    """
    if _is_known(made):
        return ""
    version = getattr(made, "version", None)
    if version is None:
        version = _digest(made)
    elif not isinstance(version, (str, int)) or not str(version).isprintable():
        raise ValueError(f"{name_of(made)}.version={version!r}: must be a text")
    return f"{name_of(made)} {version}"


def _is_known(made: Any) -> bool:
    return str(made.__module__).partition(".")[0] in _KNOWN


def _digest(made: Any) -> str:
    classes = inspect.getmro(made) if isinstance(made, type) else (made,)
    hashed = hashlib.sha256()
    for each in classes:
        if _is_known(each):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError) as error:
            raise ValueError(
                f'{name_of(each)}: has no source to be known by: give it version = "1", and '
                "another one when it changes"
            ) from error
        hashed.update(ast.dump(_without_docstrings(tree)).encode())
    return hashed.hexdigest()[:_DIGITS]


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                del node.body[0]
    return tree
