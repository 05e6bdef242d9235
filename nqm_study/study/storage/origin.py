"""The versions that make trials: of packages, and the program's own revision."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from nqm_study.study.records import Origin

PACKAGES = ("nqm-study", "numba", "numpy", "optuna", "scipy")
"""The packages that decide what a trial comes to."""


def origin(first_trial: int, config: str = "") -> Origin:
    """The versions and configuration that make a trial now.

    Args:
        first_trial: how many trials there are before it.
        config: the composed configuration as YAML.
    """
    return Origin(first_trial, _versions(), revision(Path(__file__).resolve().parents[3]), config)


@functools.cache
def _versions() -> dict[str, str]:
    found = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


@functools.cache
def revision(checkout: Path) -> str:
    """The git revision of a checkout; empty for a folder that is none, or that git refuses.

    Git refuses a checkout that another user owns, unless its settings name it as safe.
    """
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # Without optional locks nothing is written in the checkout.
        done = subprocess.run(  # noqa: S603 (our own words)
            [*command, "--match="],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        # No git here, or a checkout it will not read: the versions still say what this is.
        return ""
    return done.stdout.strip()
