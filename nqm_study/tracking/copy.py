"""MLflow's copy of the studies of a call: what is up to date, and what writes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nqm_study.study.records import StudyRecord
from nqm_study.tracking.kept import Kept, counted, study_digest, summary_digest
from nqm_study.tracking.process import MirroredStudy, MirrorJob, MirrorProcess, MirrorState, Summary
from nqm_study.tracking.settings import Tracking


@dataclass
class Copy:
    """What MLflow has of the studies of a call. None is started where nothing is missing.

    Args:
        root: the directory mlruns/.
        tracking: where the runs go.
        on_change: called, in threads of its own, when there is news of the process.
        compare: whether MLflow itself is to be compared, whatever the record says.
        rebuild: whether to delete the runs that there are and write all anew.
    """

    root: Path
    tracking: Tracking
    on_change: Callable[[MirrorState], None]
    compare: bool = False
    rebuild: bool = False
    _process: MirrorProcess | None = field(default=None, init=False)
    _behind: frozenset[str] = field(default=frozenset(), init=False)

    def __post_init__(self) -> None:
        known = not (self.compare or self.rebuild)
        self._kept = Kept.read(self.root, self.tracking) if known else Kept()
        self._runs = counted(self.root, self.tracking)

    def follow(self, studies: Iterable[MirroredStudy], ended: Mapping[str, StudyRecord]) -> None:
        """Begin to write the runs of the studies that are not up to date.

        Args:
            studies: those of the call.
            ended: the records, by name, of those to which nothing will be added.
        """
        behind = []
        for study in studies:
            record = ended.get(study.name)
            now = study_digest(record, self.tracking) if record is not None else ""
            if not self._kept.has_study(study.name, now, self._runs):
                behind.append(study)
        self._behind = frozenset(study.name for study in behind)
        if behind or self.rebuild:
            self._start(behind)

    def hurry(self) -> None:
        """Have the rest written at once, now that the studies are over."""
        if self._process is not None:
            self._process.hurry()

    def kill(self) -> None:
        """End the process; what it has not written is written by the next call."""
        if self._process is not None:
            self._process.kill()

    def finish(self, records: Iterable[StudyRecord], summaries: Sequence[Summary]) -> MirrorState:
        """Have all that is missing written, and the summaries; the last news.

        Args:
            records: the studies that were followed, as they ended.
            summaries: those of the call.
        """
        digests = {f"{each.kind} {each.key}": summary_digest(each) for each in summaries}
        stale = [each for each in summaries if not self._has(each, digests)]
        if stale and self._process is None:
            self._start(())
        if self._process is None:
            return MirrorState(self._kept.uri, self._kept.page, done=True)
        state = self._process.finish(stale)
        if state.done:
            ours = (each for each in records if each.name not in state.left)
            studies = {each.name: study_digest(each, self.tracking) for each in ours}
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

    def _start(self, studies: Sequence[MirroredStudy]) -> None:
        job = MirrorJob(self.root, self.tracking, tuple(studies), self.rebuild)
        self._process = MirrorProcess(self.on_change, job)
