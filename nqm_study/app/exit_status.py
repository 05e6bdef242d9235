"""The exit statuses beside 0."""

FAILED = 1
"""A study failed, or the call did; the presets after it are called all the same."""

REFUSED = 2
"""The input is refused; nothing was written."""

INTERRUPTED = 130
"""The call was interrupted, as by Ctrl-C."""
