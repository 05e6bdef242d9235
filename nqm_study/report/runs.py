"""The runs whose course is known: one for each curve and batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nqm_study.report.grouping import by_curve
from nqm_study.report.scaling import Curve, curves
from nqm_study.study.records import StudyRecord, Training


@dataclass(frozen=True)
class Run:
    """The best trial's run of a study, and what it belongs to.

    Attributes:
        curve: the curve of its study.
        batch_size: examples per step.
        learning_rate: as it was given or found; 0 where there is none.
        steps: steps to the target; None where it was not reached.
        diverged: whether it diverged at once, and there is no training to show.
        training: the expected loss and the noise scale along it; None where they are not known.
    """

    curve: Curve
    batch_size: float
    learning_rate: float
    steps: int | None
    diverged: bool
    training: Training | None


def runs(records: Sequence[StudyRecord], by: Sequence[str] = ()) -> tuple[Run, ...]:
    """The runs of studies whose training is known, or which diverged, in the order of the curves.

    Of several seeds it is the one with the fewest steps. ``by`` names the curves, as in ``curves``.
    """
    made = {curve.key: curve for curve in curves(records, by)}
    found = []
    for group in by_curve(records):
        curve = made[group[0].definition.curve]
        for size in sorted({record.definition.one_batch_size for record in group}):
            at_size = [r for r in group if r.definition.one_batch_size == size]
            known = [run for record in at_size if (run := _run(curve, record)) is not None]
            if known:
                found.append(min(known, key=lambda run: (run.steps is None, run.steps or 0)))
    return tuple(found)


def _run(curve: Curve, record: StudyRecord) -> Run | None:
    training = record.training
    diverged = training is None and all(trial.status == "diverged" for trial in record.trials)
    if training is None and not diverged:
        return None
    number = training.trial if training is not None else record.trials[0].number
    trial = next((each for each in record.trials if each.number == number), None)
    if trial is None:
        return None
    return Run(
        curve=curve,
        batch_size=record.definition.one_batch_size,
        learning_rate=trial.hyperparameters.get("learning_rate", 0.0),
        steps=trial.steps,
        diverged=diverged,
        training=training,
    )
