"""The record of what MLflow has, by which a call knows that there is nothing to write.

It is a JSON file under mlruns/, one for each experiment. It has a digest of each study, as it was
when its runs were written, a digest of each summary, and how many runs there were. A study is up to
date where its digest is the same, and, in the embedded database, its runs are still as many; a
server is not asked. A record that is missing or damaged means that MLflow is opened and compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

from nqm_study.study.digests import file_digest, made_with, replace_file
from nqm_study.study.records import StudyRecord
from nqm_study.tracking.drafts import CURVE, FINISHED, KIND, STUDY_NAME, digest
from nqm_study.tracking.process import Summary
from nqm_study.tracking.settings import DATABASE, Tracking

LIBRARIES = ("mlflow", "optuna", "plotly")
"""Distributions that decide what runs say."""

_RUNS = """
SELECT k.value || ' ' || coalesce(c.value, s.value), count(*)
FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = :kind
LEFT JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = :study
LEFT JOIN tags c ON c.run_uuid = r.run_uuid AND c.key = :curve
WHERE e.name = :experiment AND r.lifecycle_stage = 'active' AND r.status = :status
GROUP BY 1
"""


@dataclass(frozen=True)
class Kept:
    """What an experiment had when it was last written.

    Attributes:
        uri, page: as in ``MirrorState``.
        studies: the digest of each study, by name.
        summaries: the digest of each summary, by its kind and key.
        runs: how many runs there were, by kind and by study or key; empty for a server.
    """

    uri: str = ""
    page: str = ""
    studies: Mapping[str, str] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, tracking: Tracking) -> Self:
        """The record of an experiment; an empty one where there is none that can be read."""
        try:
            kept = cls(**json.loads(_place(root, tracking).read_bytes()))
            maps = (kept.studies, kept.summaries, kept.runs)
            whole = all(isinstance(each, dict) for each in maps)
        except (OSError, ValueError, TypeError):
            return cls()
        # In a folder that was moved MLflow's database has the old paths.
        return kept if whole and kept.uri == address(root, tracking) else cls()

    def write(self, root: Path, tracking: Tracking) -> None:
        """Write the record at once, in place of the one before."""
        replace_file(_place(root, tracking), json.dumps(asdict(self)).encode())

    def has_study(self, name: str, now: str, runs: Mapping[str, int]) -> bool:
        """Whether a study of this digest is there with all its runs."""
        kinds = [f"{kind} {name}" for kind in ("study", "trial")]
        return self.studies.get(name) == now and self._same(kinds, runs)

    def has_summary(
        self, key: str, now: str, studies: Iterable[str], runs: Mapping[str, int]
    ) -> bool:
        """Whether a summary, by kind and key, is there with this digest, and its studies' runs."""
        linked = [f"study {name}" for name in studies]
        return self.summaries.get(key) == now and self._same([key, *linked], runs)

    def _same(self, keys: Iterable[str], runs: Mapping[str, int]) -> bool:
        return all(self.runs.get(key) == runs.get(key) for key in keys)


def address(root: Path, tracking: Tracking) -> str:
    """The tracking URI that MLflow's client takes."""
    return tracking.uri or f"sqlite:///{root.absolute() / DATABASE}"


def counted(root: Path, tracking: Tracking) -> dict[str, int]:
    """The finished runs of an experiment in the embedded database, by kind and by study or key.

    There are none where it cannot be read, and of a server.
    """
    if tracking.uri:
        return {}
    database = f"file:{quote(str(root.absolute() / DATABASE))}?mode=ro"
    try:
        with closing(sqlite3.connect(database, uri=True)) as connection:
            values = {"experiment": tracking.experiment, "kind": KIND, "study": STUDY_NAME}
            values |= {"curve": CURVE, "status": FINISHED}
            return dict(connection.execute(_RUNS, values))
    except sqlite3.Error:
        return {}


def study_digest(record: StudyRecord, tracking: Tracking) -> str:
    """A digest of what decides a study's runs."""
    with_figures = made_with(Path(__file__).parent, *LIBRARIES), tracking.diagnostics
    return digest(repr((record, with_figures)))


def summary_digest(summary: Summary) -> str:
    """A digest of a summary and of its files."""
    files = [file_digest(Path(file)) for file in summary.files]
    return digest([asdict(summary), files])


def _place(root: Path, tracking: Tracking) -> Path:
    return root / f".mirrored-{digest([tracking.uri, tracking.experiment])[:12]}.json"
