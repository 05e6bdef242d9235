"""What the program prints: in any encoding, to a reader that has left, or to a full disk."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from nqm_study.study.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN = str.maketrans(
    {"±": "+-", "─": "-", "━": "-", "…": "...", "\N{NO-BREAK SPACE}": " "},
)
_ERRORS = "nqm_study.plain"


def begin() -> None:
    """Make standard output and error take every text, whatever becomes of who reads them.

    A character that the encoding lacks is written in plain letters. What a reader who has left, as
    ``head`` does, would have read is dropped. That a disk is full is said once on standard error.
    The work goes on in all cases, and its exit status counts.

    Figures go to files, so that no screen that the environment names for them matters.
    """
    os.environ["MPLBACKEND"] = "agg"
    # A closed one would be the next file that is opened, and a table would go into a database.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error(_ERRORS, _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 (for as long as the program runs)
        elif stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _Output(stream))


def complain(text: str, program: str = "nqm_study") -> None:
    """Say on standard error what went wrong, in one line for each of the text's."""
    print(f"{program}: {printable(text, keep=chr(10))}", file=sys.stderr)  # noqa: T201 (this is the terminal)


def say(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and the terminal alone breaks it."""
    console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


class _Output(io.TextIOWrapper):
    """Standard output or error, whose failures end the output and nothing else."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors=_ERRORS,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str, /) -> int:
        """Write a text, or drop it where nothing can be written any more."""
        try:
            return super().write(text)
        except OSError as error:
            self._end(error)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, or drop it."""
        try:
            super().flush()
        except OSError as error:
            self._end(error)

    def _end(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        with contextlib.suppress(OSError):
            super().flush()
        if not isinstance(error, BrokenPipeError) and self.fileno() != sys.stderr.fileno():
            complain(f"standard output: {error.strerror}; the rest of it is lost")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """The characters that an encoding lacks, in those that all have."""
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101 (nothing is decoded)
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end
