"""The record of what the figures of a folder were drawn from, so that none is drawn twice.

It is a JSON file, with the versions of the libraries that draw, a digest of this room's sources and
one of the studies, and a digest of each file by the part that it belongs to: a figure, the analysis
or the page. A part is drawn again where any of these differs. A record
that is missing or damaged means that all parts are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from pandas import DataFrame

from nqm_study.study.digests import digest, file_digest, made_with

LIBRARIES = ("jinja2", "matplotlib", "numpy", "pandas", "plotly", "scipy", "tabulate")
"""Distributions that decide the bytes of a file."""


@dataclass(frozen=True)
class Drawn:
    """What the files of a folder were made from.

    Attributes:
        versions: of the libraries, and a digest of the sources, by name.
        studies: a digest of the table of studies.
        parts: for each part the digests of its files, by name, in the order of drawing.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    studies: str = ""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, studies: DataFrame) -> Self:
        """What would be drawn now, without the files."""
        return cls(
            made_with(Path(__file__).parent, *LIBRARIES),
            digest(repr(studies.to_dict("records")).encode()),
        )

    @classmethod
    def read(cls, record: Path) -> Self:
        """A record; an empty one where it is missing or damaged."""
        try:
            kept = json.loads(record.read_bytes())
            parts = {part: {**files} for part, files in kept["parts"].items()}
            return cls(dict(kept["versions"]), str(kept["studies"]), parts)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def fresh(self, folder: Path, now: Drawn) -> dict[str, Mapping[str, str]]:
        """The parts that need not be drawn again: all files are there, and as they were drawn."""
        if (self.versions, self.studies) != (now.versions, now.studies):
            return {}
        return {
            part: files
            for part, files in self.parts.items()
            if all(file_digest(folder / name) == kept for name, kept in files.items())
        }

    def to_json(self) -> bytes:
        """The contents of the record."""
        return json.dumps(asdict(self), indent=1).encode()
