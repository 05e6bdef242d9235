"""What batch sizes that change are worth: SGD's fewest examples at equal steps, and the reverse."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.curves import on_curves
from nqm_study.study.records import Ramp
from nqm_study.study.text import printable

_COLUMNS = (
    *("spectrum_text", "target", "steps", "one_size", "examples", "saved", "equal_steps"),
    *("saved_steps", "batch_sizes", "learning_rates"),
)
TITLE = "What the best batch sizes save"
NOTE = (
    "SGD's fewest examples E to the target in T steps, over the rates of equal pieces of the run "
    "up to 0.9998 times the largest stable one: with one batch size B, and with a batch size for "
    "each piece. At the E of one batch size, changing ones take fewer steps: by interpolation "
    "between the lengths computed; a dash where these are below the shortest."
)


def batches_change(studies: DataFrame) -> bool:
    """Whether any of the studies on curves has a batch schedule."""
    return any(each.batch_schedule for each in on_curves(studies).definition)


def ramps(studies: DataFrame) -> DataFrame:
    """The optima beside the studies with batch schedules: a row for each length and problem.

    | column | meaning |
    |---|---|
    | spectrum_text, target | the problem |
    | steps | T, ascending |
    | one_size | the fewest examples with one batch size |
    | examples | the same with a batch size for each piece of the run |
    | saved | the share of the first that the second saves |
    | equal_steps | steps with which the second takes the first; NaN: below the lengths |
    | saved_steps | the share of T that they save; NaN as well |
    | batch_sizes, learning_rates | of the pieces; empty where they are not stored |
    """
    known = studies[studies.ramps.map(len) > 0].drop_duplicates(["problem_digest", "target"])
    rows = []
    for study in known.itertuples():
        equal = _equal_steps(study.ramps)
        for ramp, steps in zip(study.ramps, equal, strict=True):
            rows.append(
                {
                    **vars(ramp),
                    "spectrum_text": printable(study.definition.spectrum_text),
                    "target": study.target,
                    "saved": 1.0 - ramp.examples / ramp.one_size,
                    "equal_steps": steps,
                    "saved_steps": 1.0 - steps / ramp.steps,
                }
            )
    return DataFrame(rows, columns=list(_COLUMNS))


def ramp_frame(found: DataFrame) -> DataFrame:
    """The rows of ``ramps`` in texts, with a spectrum or target that differs."""

    def known(write: Callable[[float], str], values: Iterable[float]) -> list[str]:
        return ["-" if math.isnan(value) else write(value) for value in values]

    problem = {
        "spectrum": list(found.spectrum_text),
        "target": [f"{target:g}" for target in found.target],
    }
    return DataFrame(
        {
            **{name: texts for name, texts in problem.items() if len(set(texts)) > 1},
            "steps T": [words.count(steps) for steps in found.steps],
            "E, one B": [f"{value:.3e}" for value in found.one_size],
            "E, B changes": [f"{value:.3e}" for value in found.examples],
            "E saved": list(map(words.percent, found.saved)),
            "T at equal E": known(words.rounded, found.equal_steps),
            "T saved": known(words.percent, found.saved_steps),
            "first B": [f"{s[0]:.3g}" if s else "-" for s in found.batch_sizes],
            "largest B": [words.rounded(max(s)) if s else "-" for s in found.batch_sizes],
        }
    )


def _equal_steps(found: Sequence[Ramp]) -> list[float]:
    """The steps with which changing batch sizes take the examples of one batch size, of each."""
    # Both fall as the runs get longer; np.interp wants them to rise, and this to be unique.
    examples = np.log([ramp.examples for ramp in found])[::-1]
    steps = np.log([ramp.steps for ramp in found])[::-1]
    least = np.log([ramp.one_size for ramp in found])
    at = np.exp(np.interp(least, examples, steps, left=math.nan, right=math.nan))
    return [float(value) for value in at]
