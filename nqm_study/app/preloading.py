"""What the process imports that the others of a call are forked from, and when it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nqm_study.study import processes
from nqm_study.study.storage.backends import EMBEDDED

FIGURES = (
    "nqm_study.report.contents",
    # What Matplotlib imports when it writes a file.
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "fontTools.subset",
    # For what writes to MLflow.
    "nqm_study.study.storage.studies",
)
"""What draws imports."""

STUDIES = ("nqm_study.app.main", "nqm_study.app.worker")
"""What runs studies imports."""

SWEEP, USUAL = frozenset({"-m", "--multirun"}), frozenset({"--config-dir", "-cd"})
"""Flags of calls that run studies."""


def preload(*, sweep: bool = False) -> None:
    """Begin it, unless it has begun.

    Args:
        sweep: whether studies run in processes of their own.
    """
    processes.prepare((*STUDIES, *FIGURES) if sweep else FIGURES)


def preload_early(arguments: Sequence[str]) -> None:
    """Begin it before the call is composed, where there will be something to do: all is new.

    Args:
        arguments: those of the command line.
    """
    stored = any((Path("mlruns") / file).exists() for file in EMBEDDED.values())
    flags = {each.partition("=")[0] for each in arguments if each.startswith("-")}
    if not stored and flags <= SWEEP | USUAL:
        preload(sweep=bool(flags & SWEEP))
