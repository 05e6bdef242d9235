"""Frontiers of steps and examples: of studies that search the batch size as well."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.curves import labelled, on_frontiers
from nqm_study.report.labels import variant
from nqm_study.study.frontier import ExactFrontier, non_dominated
from nqm_study.study.records import TrialRecord

_OF_STUDY = ("label", "schedule", "spectrum", "problem_digest", "target")
_COLUMNS = (
    *("key", "label", "optimizer", "schedule", "sampler", "spectrum", "spectrum_text", "target"),
    *("variant", "problem", "problem_digest"),
    *("hyperparameters", "low", "high", "trials", "n_trials", "seeds", "found", "exact", "gap"),
)


def frontiers(studies: DataFrame) -> DataFrame:
    """The frontiers of studies that search the batch size: a row for those alike but for the seed.

    Columns, beside what names a curve (``key``, ``label``, ``optimizer``, ``schedule``,
    ``sampler``, ``spectrum``, ``spectrum_text``, ``target``):

    | column | meaning |
    |---|---|
    | hyperparameters | learning_rate, and what else is searched but the batch size |
    | low, high | the ends of the batch sizes |
    | trials | those that reached the target, with their seeds |
    | n_trials | how many there are with the others |
    | seeds | how many there are |
    | found | the trials that no other is better than, by examples, the fewest first |
    | exact | the exact frontier; None where it is not known |
    | gap | how far from all of it a study ends, relative; of several the median; None: not known |
    """
    rows = []
    for key, group in labelled(on_frontiers(studies)).groupby("curve", sort=False):
        first, definition = group.iloc[0], group.definition.iloc[0]
        known = [line for line in group.frontier if len(line) > 1]
        exact = ExactFrontier(known[0]) if known else None
        low, high = (float(end) for end in definition.batch_text.split(".."))
        rows.append(
            {
                **{name: first[name] for name in _OF_STUDY},
                "key": key,
                "optimizer": definition.optimizer_text,
                "variant": variant(definition),
                "sampler": definition.sampler_text,
                "spectrum_text": definition.spectrum_text,
                "problem": definition.problem,
                "hyperparameters": tuple(dict.fromkeys(("learning_rate", *definition.searched))),
                "low": low,
                "high": high,
                "trials": tuple(
                    (study.seed, trial)
                    for study in group.itertuples()
                    for trial in study.trials
                    if trial.steps is not None
                ),
                "n_trials": int(group.n_trials.sum()),
                "seeds": len(group),
                "found": non_dominated(trial for trials in group.trials for trial in trials),
                "exact": exact,
                "gap": exact and median(exact.gap(trials) for trials in group.trials),
            }
        )
    return DataFrame(rows, columns=list(_COLUMNS)).astype({"exact": object, "gap": object})


def spread(found: Sequence[TrialRecord], most: int) -> tuple[TrialRecord, ...]:
    """At most so many of the trials of a frontier: the ends, and others evenly along it."""
    if len(found) <= most:
        return tuple(found)
    lengths = [0.0]
    for before, after in itertools.pairwise(found):
        sides = (math.log(after.examples / before.examples), math.log(_steps(before, after)))
        lengths.append(lengths[-1] + math.hypot(*sides))
    places = (lengths[-1] * k / (most - 1) for k in range(most))
    nearest = {min(range(len(found)), key=lambda i: abs(lengths[i] - p)) for p in places}
    return tuple(found[i] for i in sorted(nearest))


def pareto_sentence(frontier: Any) -> str:
    """Sentence on a row of ``frontiers``: trials on it, and its distance from the exact one."""
    lead = f"{frontier.label} over {words.batch_range(frontier.low, frontier.high)}: "
    seeds = "" if frontier.seeds == 1 else f" of {frontier.seeds} seeds"
    if not frontier.found:
        return f"{lead}none of {frontier.n_trials:,} trials{seeds} reached the target."
    text = (
        f"{lead}{len(frontier.found)} of {frontier.n_trials:,} trials{seeds} are the frontier "
        "found, which no trial beats in both steps and examples."
    )
    if frontier.exact is None:
        return text
    each = "It covers" if frontier.seeds == 1 else "A seed (the median one) covers"
    within = words.percent(frontier.gap)
    size = frontier.exact.critical_batch_size
    known = "not in it" if size is None else words.rounded(size)
    return (
        f"{text} {each} the exact frontier within {within} in steps and in examples. The critical "
        f"batch size, with examples 20 % above their least, is {known}."
    )


def _steps(before: TrialRecord, after: TrialRecord) -> float:
    return max(before.steps or 1, 1) / max(after.steps or 1, 1)
