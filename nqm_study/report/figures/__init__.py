"""The figures of the report: one module each, which is all that a new figure needs.

Such a module has ``draw(studies)``, which takes the table of studies (``frame.studies_frame``) and
returns a Matplotlib figure, or None where there is nothing to draw; and, if it has numbers of its
own, ``table(studies)``, a DataFrame with a row for each that is drawn. Everything else finds it by
its name: files, pages, MLflow and ``nqm.plot``. What several figures share is in the report itself.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType

FORMATS = ("png", "svg", "pdf")
"""Each figure is a file in all of these."""


@functools.cache
def names() -> tuple[str, ...]:
    """The names of all figures, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def module(name: str) -> ModuleType:
    """The module of one of ``names``."""
    return importlib.import_module(f"{__name__}.{name}")
