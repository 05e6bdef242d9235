"""The compiler's options, and the key by which compiled code is kept."""

from __future__ import annotations

import functools
import hashlib
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

Like = tuple[float, ...]
"""As many numbers as a state has components. A kernel is compiled for each length, so that loops
over components unroll."""

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    # Sums and products may use vector registers; infinities and NaN keep their meaning, since a
    # divergence shows in them.
    "fastmath": {"reassoc", "contract"},
}

WITHIN: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of what only other kernels call: a fifth of the time to compile it goes to its way in."""

INLINED: dict[str, Any] = {"forceinline": True, **WITHIN}

_IMPORTS = re.compile(r"^from ([\w.]+) import (\([^)]*|.*)", re.MULTILINE)
"""What a module's import lines name. To parse the sources would take a tenth of a second."""


def compiled(function: F) -> F:
    """The function, compiled when it is first called, without the interpreter's lock.

    Compiled code is kept beside the package, or in the user's cache folder where that is read-only.
    Where neither can be written to, each process compiles for itself. It is kept for as long as the
    sources stay the same that it was made from: the function's own file, and those of this package
    that this one imports, in whatever depth. Edits of other files leave it.
    """
    return _kept(function)


def compiled_within(function: F) -> F:
    """The function, compiled for the kernels that call it; Python cannot call it."""
    return _kept(function, WITHIN)


def inlined(function: F) -> F:
    """The same, put in place of each call: matrices of cells that it gets stay in registers."""
    return _kept(function, INLINED)


def _kept(function: F, options: Mapping[str, Any] = MappingProxyType({})) -> F:
    try:
        kernel = numba.njit(cache=True, **options, **OPTIONS)(function)
    except RuntimeError:  # numba found no folder for its cache
        return cast("F", numba.njit(**options, **OPTIONS)(function))
    # Numba looks at the function's own file only.
    kernel._cache._cache_file._source_stamp = sources_stamp(function.__module__)
    return cast("F", kernel)


@functools.cache
def sources_stamp(module: str) -> str:
    """A digest of the sources that the kernels of a module are compiled from."""
    digest = hashlib.sha256()
    for source in (_source(each) for each in sorted(_sources(module, set()))):
        digest.update(source)
    return digest.hexdigest()


def _sources(module: str, known: set[str]) -> set[str]:
    """The module and those of its package that it imports from, added to the known ones.

    Kernels take constants from them as well, which are part of what is compiled.
    """
    if module in known:
        return known
    known.add(module)
    for start, names in _IMPORTS.findall(_source(module).decode()):
        if start.partition(".")[0] == module.partition(".")[0]:
            for name in (start, *(f"{start}.{each}" for each in re.findall(r"\w+", names))):
                if name in sys.modules:
                    _sources(name, known)
    return known


def _source(module: str) -> bytes:
    file = sys.modules[module].__file__
    return Path(file).read_bytes() if file else b""
