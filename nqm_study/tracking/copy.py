"""MLflow's copy of the studies of a call: what is up to date, and the processes for the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nqm_study.study.records import StudyRecord
from nqm_study.tracking.kept import Kept, counted, study_digest, summary_digest
from nqm_study.tracking.pool import MirroredStudy, MirrorJob, Mirrors, MirrorState, Summary
from nqm_study.tracking.settings import Tracking


@dataclass
class Copy:
    """What MLflow has of the studies of a call. No process is started where nothing is missing.

    Args:
        root: the directory mlruns/.
        tracking: where the runs go.
        on_change: called, in threads of its own, when there is news of the processes.
        compare: whether MLflow itself is to be compared, whatever the record says.
        rebuild: whether to delete the runs that there are and write all anew.
    """

    root: Path
    tracking: Tracking
    on_change: Callable[[MirrorState], None]
    compare: bool = False
    rebuild: bool = False
    _mirrors: Mirrors | None = field(default=None, init=False)
    _behind: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        known = not (self.compare or self.rebuild)
        self._kept = Kept.read(self.root, self.tracking) if known else Kept()
        self._runs = counted(self.root, self.tracking)

    @property
    def working(self) -> bool:
        """Whether processes write to MLflow."""
        return self._mirrors is not None

    def follow(
        self, studies: Iterable[MirroredStudy], ended: Mapping[str, StudyRecord], *, cores: int
    ) -> None:
        """Begin to write the runs of the studies that are not up to date.

        Args:
            studies: those of the call.
            ended: the records, by name, of those to which nothing will be added.
            cores: how many are free.
        """
        behind = []
        for study in studies:
            record = ended.get(study.name)
            now = study_digest(record, self.tracking) if record is not None else ""
            if not self._kept.has_study(study.name, now, self._runs):
                behind.append(study)
        self._behind = frozenset(study.name for study in behind)
        if behind or self.rebuild:
            self._start(behind, cores)

    def hurry(self, cores: int) -> None:
        """Let more processes write what is left, now that the studies are over."""
        if self._mirrors is not None:
            self._mirrors.hurry(cores)

    def kill(self) -> None:
        """End the processes; what they have not written is written by the next call."""
        if self._mirrors is not None:
            self._mirrors.kill()

    def finish(self, records: Iterable[StudyRecord], summaries: Sequence[Summary]) -> MirrorState:
        """Have all that is missing written, and the summaries; the last news.

        Args:
            records: the studies that were followed, as they ended.
            summaries: those of the call.
        """
        digests = {f"{each.kind} {each.key}": summary_digest(each) for each in summaries}
        stale = [each for each in summaries if not self._has(each, digests)]
        if stale and self._mirrors is None:
            self._start((), os.cpu_count() or 1)
        if self._mirrors is None:
            return MirrorState(self._kept.uri, self._kept.page, done=True)
        state = self._mirrors.finish(stale)
        if state.done:
            studies = {each.name: study_digest(each, self.tracking) for each in records}
            kept = replace(
                self._kept,
                uri=state.uri,
                page=state.page,
                studies={**self._kept.studies, **studies},
                summaries={**self._kept.summaries, **digests},
                runs=counted(self.root, self.tracking),
            )
            kept.write(self.root, self.tracking)
        return state

    def _has(self, summary: Summary, digests: Mapping[str, str]) -> bool:
        """Whether a summary is up to date, and the runs that it links to are still the same."""
        linked = {name for row in summary.studies.values() for name in row.values()}
        if linked & self._behind:
            return False
        key = f"{summary.kind} {summary.key}"
        return self._kept.has_summary(key, digests[key], linked, self._runs)

    def _start(self, studies: Sequence[MirroredStudy], cores: int) -> None:
        job = MirrorJob(self.root, self.tracking, tuple(studies), self.rebuild)
        self._mirrors = Mirrors(self.on_change, job, cores=cores)
