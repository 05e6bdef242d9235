"""The figures by their names, for notebooks: ``nqm.plot.steps_to_target(nqm.studies_frame())``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nqm_study.report import figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


def __getattr__(name: str) -> Callable[[DataFrame], Figure | None]:
    """The function that draws a figure from the table of studies; its module says of what."""
    if name not in figures.names():
        raise AttributeError(f"plot.{name}: must be one of {', '.join(figures.names())}")
    draw: Callable[[DataFrame], Figure | None] = figures.module(name).draw
    return draw


def __dir__() -> list[str]:
    return list(figures.names())
