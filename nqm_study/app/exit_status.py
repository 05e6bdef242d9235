"""The exit statuses beside 0, and the line on the terminal that says why."""

from __future__ import annotations

import sys

FAILED = 1
"""A study failed, or the call did; the presets after it are called all the same."""

REFUSED = 2
"""The input is refused; nothing was written."""

INTERRUPTED = 130
"""The call was interrupted, as by Ctrl-C."""


def complain(text: str) -> None:
    """Say on the terminal what went wrong."""
    print(f"nqm_study: {text}", file=sys.stderr)  # noqa: T201 (this is the terminal)
