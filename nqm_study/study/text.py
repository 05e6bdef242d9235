"""Texts of others as they can be shown: names from configurations, files and storages."""

from __future__ import annotations

import re


def printable(text: str, keep: str = "") -> str:
    r"""A text with what cannot be shown in escapes: ``\x1b[31m``, as Python would write it.

    These are the characters that steer a terminal or the direction of writing, broken ones and,
    but for those to ``keep``, ends of lines.
    """
    return "".join(
        each
        if each.isprintable() or each in keep
        else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def on_one_line(text: str, longest: int = 300) -> str:
    """A text that can be shown, cut off after a number of characters."""
    return printable(text if len(text) <= longest else f"{text[:longest]}...")


def raised(error: BaseException) -> str:
    """What others' code raised, on one line: ``KeyError: 'b'``."""
    return on_one_line(f"{type(error).__name__}: {error}")


def markdown(text: str) -> str:
    """A text on one line of Markdown that shows as it is, in a table as well."""
    return re.sub(r"([\\`*_|<>\[\]$&~])", r"\\\1", printable(" ".join(text.split())))


def file_name(text: str, most: int = 100) -> str:
    """A text as the name of one file or folder on any system: letters, digits, ``.``, _ and -."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:most] or "unnamed"
