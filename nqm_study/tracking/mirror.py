"""The mirror of studies and their summaries in MLflow.

Optuna's storage is the truth. MLflow shows a view of it, which can be rebuilt at any time: logging
a study and catching up with one are the same code. Importing this module imports MLflow, which
takes a second or two.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Run

from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.study.text import markdown
from nqm_study.tracking import layout
from nqm_study.tracking.drafts import (
    CURVE,
    DIGEST,
    FINISHED,
    KIND,
    NOTE,
    STUDY_NAME,
    TRIAL_NUMBER,
    Draft,
    Point,
    finite,
)
from nqm_study.tracking.layout import ORIGINS, RESULTS, milliseconds
from nqm_study.tracking.process import Summary
from nqm_study.tracking.settings import Tracking
from nqm_study.tracking.store import RunStore

VIEW = "?workflowType=machine_learning"
"""Without it MLflow shows the runs of an experiment, and a run, as those of a language model."""

SUMMARY = "\n\nIts summary: "
"""The beginning of the link of a study's description to its summary."""


@dataclass(frozen=True)
class Mirror:
    """One MLflow experiment that shows studies. ``of`` opens it."""

    store: RunStore

    @classmethod
    def of(cls, root: Path, tracking: Tracking) -> Mirror:
        """Open the mirror that a study's tracking asks for, under ``root`` or on a server."""
        if tracking.uri:
            return cls(RunStore.server(tracking.uri, tracking.experiment))
        return cls(RunStore.local(root, tracking.experiment))

    def clear(self) -> None:
        """Delete every run that this program made in the experiment."""
        for kind in ("trial", "report", "summary", "study"):
            self.store.delete(self.store.find({KIND: kind}))

    @property
    def page(self) -> str:
        """The path at which MLflow's server shows the runs: its front page shows none of them."""
        return f"/#/experiments/{self.store.experiment_id}/runs{VIEW}"

    @property
    def uri(self) -> str:
        """The tracking URI, as ``mlflow ui --backend-store-uri`` takes it."""
        return self.store.uri

    def study(self, record: StudyRecord) -> StudyRun:
        """The study's run, found or created, and marked RUNNING.

        What earlier processes left half-logged of its trials is completed when they are mirrored or
        the study is finished, what they logged twice is deleted.
        """
        return StudyRun(self.store, record)

    def summary(self, summary: Summary, runs: Mapping[str, str]) -> None:
        """Write one run for a scaling curve: metrics ``steps_to_target`` and each hyperparameter.

        The same data leaves the run as it is, other data replaces it. The files are always
        replaced; those of a run that stays and are not among the summary's remain.

        Args:
            summary: the content of the run. Its description links to its studies' runs, and these
                to it.
            runs: identifiers of the studies' runs by the studies' names, as ``study_runs`` gives
                them.
        """
        studies = {
            row: {text: runs[name] for text, name in links.items() if name in runs}
            for row, links in summary.studies.items()
        }
        tags = {KIND: summary.kind, CURVE: summary.key}
        draft = Draft(
            name=summary.name,
            tags={**tags, NOTE: markdown(summary.note) + self._rows(studies)},
            params=summary.params,
            points=tuple(
                Point(metric, value, batch_size)
                for batch_size, steps, values in summary.points
                for metric, value in (("steps_to_target", steps), *values.items())
            ),
        )
        run_id = self.store.write(draft, self.store.find(tags))
        for file in summary.files:
            self.store.client.log_artifact(run_id, file, "figures")
        if summary.kind != "summary":  # a study has one curve, and any number of reports
            return
        for row in studies.values():
            for study in row.values():
                self._link_back(study, summary.name, run_id)

    def study_runs(self) -> dict[str, str]:
        """The identifiers of the studies' runs, by the studies' names."""
        return {
            run.data.tags[STUDY_NAME]: run.info.run_id
            for run in self.store.find({KIND: "study"})
            if STUDY_NAME in run.data.tags
        }

    def _rows(self, studies: Mapping[str, Mapping[str, str]]) -> str:
        """A list of links for the end of a summary's description."""
        rows = [
            f"- {markdown(row)}: " + ", ".join(self._link(*link) for link in links.items())
            for row, links in studies.items()
            if links
        ]
        return "\n".join(["", "", "Studies:", "", *rows]) if rows else ""

    def _link_back(self, study: str, name: str, summary: str) -> None:
        """End the description of a study with a link to its summary, unless it does so already."""
        said = self.store.client.get_run(study).data.tags.get(NOTE, "")
        note = f"{said.partition(SUMMARY)[0]}{SUMMARY}{self._link(name, summary)}"
        if note != said:
            self.store.client.set_tag(study, NOTE, note)

    def _link(self, text: str, run_id: str) -> str:
        """A link to a run's page, from another page: it holds wherever the server is mounted."""
        return f"[{markdown(text)}](#/experiments/{self.store.experiment_id}/runs/{run_id}{VIEW})"


class StudyRun:
    """A study's run in MLflow. ``Mirror.study`` makes it.

    Several processes may mirror one study: what one of them finds half-logged, or logged twice, it
    completes or deletes, and ``finish`` looks again at whatever it did not log itself.
    """

    def __init__(self, store: RunStore, record: StudyRecord) -> None:
        self._store = store
        self._name = record.name
        self._tracked = record.tracked
        self._run = self._find_or_create(record)
        store.client.update_run(self.run_id, status="RUNNING")
        self._mirrored: set[int] = set()
        self._seconds, self._written = 0.0, 0
        # Runs by their trial's number, as far as they were not looked at. Those that stand for no
        # trial at the end are deleted: the trial was lost, or it is not to have a run.
        self._found = self._find_trials()

    @property
    def run_id(self) -> str:
        """MLflow's identifier of the study's run."""
        run_id: str = self._run.info.run_id
        return run_id

    def has(self, number: int) -> bool:
        """Whether nothing is left to do for a trial before the end of the study."""
        return self._tracked != "all" or number in self._mirrored

    def add(self, trials: Iterable[TrialRecord]) -> None:
        """Mirror finished trials as child runs; nothing happens to those that are there already.

        Call it after the trials were written to the storage.
        """
        self._write([trial for trial in trials if not self.has(trial.number)])

    def finish(self, record: StudyRecord) -> None:
        """Mirror what is missing and the study's results, and mark its run FINISHED.

        Args:
            record: the study as the storage has it now.
        """
        before, self._run = self.run_id, self._find_or_create(record)
        wanted = layout.tracked(record)
        # Which trials have runs may have been said after this began.
        if self.run_id != before or self._mirrored != {trial.number for trial in wanted}:
            self._found = self._find_trials()
            self._write(wanted)
        for number in list(self._found):
            self._store.delete(self._found.pop(number))
        end = max((milliseconds(trial.finished) for trial in record.trials), default=None)
        end = end or self._run.info.start_time
        results = layout.results_digest(record, len(record.trials))
        origins = self._note_origins(record)
        costs = layout.costs(record, self._seconds, self._written)
        shown = layout.results(record)
        # The run was begun before some of what is known now.
        lacking = self._lacking(layout.bounds(record))
        if self._run.data.tags.get(RESULTS) != results:
            points = [
                *shown,
                *lacking,
                *costs,
                *self._missing_history(record),
            ]
            tags = {**origins, NOTE: layout.note(record), RESULTS: results}
            self._store.log(self.run_id, points, end, tags=tags)
        elif (lacking := [*lacking, *self._lacking([*shown, *costs])]) or origins:
            self._store.log(self.run_id, lacking, end, tags={**origins, NOTE: layout.note(record)})
        self._store.client.set_terminated(self.run_id, FINISHED, end)

    def attached(self, folder: str, digest: str) -> bool:
        """Whether artifacts of this digest were attached, as far as ``finish`` saw."""
        return self._run.data.tags.get(f"nqm.{folder}") == digest

    def attach(self, folder: str, digest: str, files: Mapping[str, bytes]) -> None:
        """Write artifacts, in place of those of the same names, and remember their digest.

        Args:
            folder: where they go among the run's artifacts.
            digest: what ``attached`` compares.
            files: contents by name.
        """
        if files:
            with TemporaryDirectory() as directory:
                for name, content in files.items():
                    (Path(directory) / name).write_bytes(content)
                self._store.client.log_artifacts(self.run_id, directory, folder)
        # The tag comes last: with it the files are there.
        self._store.client.set_tag(self.run_id, f"nqm.{folder}", digest)

    def _find_or_create(self, record: StudyRecord) -> Run:
        runs = self._store.find({KIND: "study", STUDY_NAME: record.name})
        kept = next((run for run in runs if layout.continues(run, record)), None)
        run = kept or self._create(record)
        self._store.delete(other for other in runs if other.info.run_id != run.info.run_id)
        return run

    def _create(self, record: StudyRecord) -> Run:
        started = min((milliseconds(trial.started) for trial in record.trials), default=None)
        started = started or int(time.time() * 1000)
        run = self._store.client.create_run(
            self._store.experiment_id,
            start_time=started,
            tags={KIND: "study", STUDY_NAME: record.name, NOTE: layout.note(record)},
            run_name=layout.title(record),
        )
        # The digest comes last: a run without it lacks its parameters and is not taken up again.
        self._store.log(
            run.info.run_id,
            layout.bounds(record),
            started,
            params=layout.params(record),
            tags={DIGEST: layout.definition_digest(record)},
        )
        return run

    def _note_origins(self, record: StudyRecord) -> dict[str, str]:
        """Write the configuration; tags that say what the trials were made with, if that is new."""
        digest = layout.origins_digest(record)
        if not record.origins or self._run.data.tags.get(ORIGINS) == digest:
            return {}
        config = record.origins[-1].config
        if config:
            self._store.client.log_text(self.run_id, config, "config.yaml")
        return {**layout.origin_tags(record), ORIGINS: digest}

    def _find_trials(self) -> dict[int, list[Run]]:
        found: defaultdict[int, list[Run]] = defaultdict(list)
        for run in self._store.find({KIND: "trial", STUDY_NAME: self._name}):
            number = run.data.tags.get(TRIAL_NUMBER, "")
            # Someone may have changed it; then it stands for no trial.
            found[int(number) if number.isdecimal() else -1].append(run)
        return dict(found)

    def _write(self, trials: Iterable[TrialRecord]) -> None:
        drafts = {trial.number: layout.draft(trial, self._name, self.run_id) for trial in trials}
        new = [draft for number, draft in drafts.items() if number not in self._found]
        if new:
            started = time.perf_counter()
            self._store.add(new)
            self._seconds += time.perf_counter() - started
            self._written += len(new)
        for number in sorted(drafts.keys() & self._found.keys()):
            self._store.write(drafts[number], self._found.pop(number))
        self._mirrored |= drafts.keys()

    def _lacking(self, points: Iterable[Point]) -> list[Point]:
        return [point for point in finite(points) if point.key not in self._run.data.metrics]

    def _missing_history(self, record: StudyRecord) -> list[Point]:
        history = self._store.client.get_metric_history(self.run_id, "steps_to_target")
        logged = {metric.step for metric in history}
        return [
            Point("steps_to_target", trial.steps, trial.number)
            for trial in record.trials
            if trial.steps is not None and trial.number not in logged
        ]
