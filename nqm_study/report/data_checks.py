"""Runs on data beside what was predicted of them: the rows of the table and of the figure."""

from __future__ import annotations

import math
from typing import Any

from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.curves import labelled, on_curves
from nqm_study.report.sheet import Sheet
from nqm_study.study.text import printable

TITLE = "Excess risk of the best runs on the data, over the predicted one"
NOTE = (
    "Means over runs with one standard error. Predicted are Gaussian inputs of the data's "
    "covariance. All steps: check_data.csv."
)
_COLUMNS = (
    *("curve", "label", "spectrum_text", "target", "optimizer", "schedule", "batch_size"),
    *("learning_rate", "runs", "step", "predicted", "measured", "standard_error", "ratio"),
    "ratio_error",
)


def data_checks(studies: DataFrame) -> DataFrame:
    """The risks measured on data: a row for each curve, batch size and number of steps.

    | column | meaning |
    |---|---|
    | curve, label, optimizer, schedule | of the study |
    | spectrum_text, target | the problem |
    | batch_size, learning_rate | of the run; of several seeds the study with the fewest steps |
    | runs | how many there were |
    | step | optimizer steps, ascending |
    | predicted, measured | expected excess risk, and the runs' mean; infinite: one diverged |
    | standard_error | of the mean |
    | ratio, ratio_error | measured / predicted, and its standard error |
    """
    known = labelled(on_curves(studies)).sort_values("steps_to_target", kind="stable")
    known = known[[check is not None and check.runs > 0 for check in known.data_check]]
    rows = []
    for study in known.drop_duplicates(["curve", "batch_size"]).sort_index().itertuples():
        check = study.data_check
        trial = next(each for each in study.trials if each.number == check.trial)
        arrays = (check.steps, check.predicted, check.measured, check.standard_errors)
        for step, predicted, measured, error in zip(*arrays, strict=True):
            rows.append(
                (
                    *(study.curve, study.label, printable(study.definition.spectrum_text)),
                    *(study.target, study.optimizer, study.schedule, study.batch_size),
                    *(trial.hyperparameters.get("learning_rate", math.nan), check.runs),
                    *(step, predicted, measured, error, measured / predicted, error / predicted),
                )
            )
    return DataFrame(rows, columns=list(_COLUMNS))


def check_table(found: DataFrame) -> Sheet:
    """Measured over predicted, of the rows of ``data_checks``, for a terminal."""
    spare = ("runs", "at step", "furthest off", "steps")
    return Sheet(TITLE, check_frame(found), spare, note=NOTE)


def check_frame(found: DataFrame) -> DataFrame:
    """Measured over predicted, of the rows of ``data_checks``, in texts: a row for each run."""
    groups = [run for _, run in found.groupby(["curve", "batch_size"], sort=False)]
    ends = [run.iloc[-1] for run in groups]
    furthest = [run.loc[(run.ratio - 1.0).abs().idxmax()] for run in groups]
    cells = {
        "spectrum": [end.spectrum_text for end in ends],
        "target": [f"{end.target:g}" for end in ends],
        "curve": [end.label for end in ends],
        "batch size": [words.typed(end.batch_size) for end in ends],
        "steps": [words.count(end.step) for end in ends],
        "at the end": list(map(_ratio, ends)),
        "furthest off": list(map(_ratio, furthest)),
        "at step": [words.count(row.step) for row in furthest],
        "runs": [words.count(end.runs) for end in ends],
    }
    same = [name for name in ("spectrum", "target") if len(set(cells[name])) == 1]
    return DataFrame({name: cell for name, cell in cells.items() if name not in same})


def _ratio(row: Any) -> str:
    """``0.981 ± 0.012``."""
    return f"{row.ratio:.3f} ± {row.ratio_error:.3f}" if math.isfinite(row.ratio) else "diverged"
