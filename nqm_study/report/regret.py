"""Regret of samplers: the excess of their steps over the true optimum, against trials.

| symbol | name in code | meaning |
|---|---|---|
| k | trials | trials done |
| T_k | fewest_steps | fewest steps to the target of the first k trials; infinite where none is |
| T* | optimum_steps | steps of the true optimum |
| r_k | regret | T_k / T* - 1 |
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, concat

from nqm_study.report import words
from nqm_study.report.curves import best_optimum, on_curves
from nqm_study.report.labels import labels, told_apart
from nqm_study.study.records import regret

QUARTILES = ("lower_quartile", "median", "upper_quartile", "worst")
COLUMNS = ("sampler", "optimizer", "schedule", "trials", *QUARTILES, "comparison")
_CASE = ["batch_size", "seed"]


def regrets(studies: DataFrame) -> DataFrame:
    """The regrets of samplers wherever two or more searched the same, and its optimum is known.

    Only batch sizes and seeds that all samplers of a ``comparison`` have in common count, and only
    as many trials as all these studies have. Samplers without any in common are not compared.

    Returns:
        a row for each comparison, sampler and number of ``trials``, with ``lower_quartile``,
        ``median``, ``upper_quartile`` and ``worst`` over the studies, infinite where too few have
        reached the target. Beside ``optimizer`` and ``schedule`` it has of a comparison
        ``spectrum``, ``target``, ``batch_sizes`` (ascending), the numbers of ``seeds`` and of
        ``studies`` of each sampler, and ``exact``: whether every true optimum is.
    """
    groups = []
    for _, group in _contenders(studies).groupby("benchmark", sort=False):
        n_contenders = group.contender.nunique()
        in_common = group.groupby(_CASE).contender.transform("nunique") == n_contenders
        if n_contenders > 1 and in_common.any():
            groups.append(group[in_common].sort_values(["contender", *_CASE]))
    # Comparisons are told apart by everything but the samplers.
    firsts = [group.definition.iloc[0] for group in groups]
    names = labels([replace(definition, sampler={"name": ""}) for definition in firsts])
    found = [DataFrame(columns=list(COLUMNS))]
    for name, group, first in zip(names, groups, firsts, strict=True):
        members = [studies for _, studies in group.groupby("contender")]
        definitions = [studies.definition.iloc[0] for studies in members]
        samplers = told_apart([each.sampler_text for each in definitions], definitions)
        for sampler, mine in sorted(zip(samplers, members, strict=True), key=lambda pair: pair[0]):
            of = {"spectrum": first.spectrum_text, "target": first.target, "comparison": name}
            sizes = tuple(sorted(group.batch_size.unique().tolist()))
            rows = _regrets(sampler, mine, group)
            rows["batch_sizes"] = [sizes] * len(rows)
            found.append(rows.assign(**of, seeds=group.seed.nunique()))
    return concat(found[1:] or found, ignore_index=True)


def curve_regrets(studies: DataFrame) -> DataFrame:
    """The regrets over the studies of one scaling curve whose optima are known; no rows without."""
    members = _contenders(studies)
    if members.empty:
        return DataFrame(columns=list(COLUMNS))
    return _regrets(members.definition.iloc[0].sampler_text, members, members)


def checkpoints(trials: int) -> list[int]:
    """Numbers of trials after which a regret is shown: a quarter, half and all of them."""
    return list(dict.fromkeys(math.ceil(share * trials) for share in (0.25, 0.5, 1.0)))


def regret_sentence(regrets: DataFrame) -> str:
    """``The sampler, tpe, is above the true optimum by 12 % after 25 trials, 0.3 % after 50, ...``.

    It gives the median over studies, and the worst after all trials.
    """
    median, last = regrets.set_index("trials")["median"], regrets.iloc[-1]
    parts = [f"{_said(median[count])} after {count:,}" for count in checkpoints(last.trials)]
    parts[0] += " trial" if parts[0].endswith(" 1") else " trials"
    name = "the true optimum" if last.exact else "the true optimum or the best of a dense search"
    text = f"The sampler, {last.sampler}, is above {name} by {', '.join(parts)}"
    if last.studies == 1:
        return f"{text}."
    worst = _said(last.worst)
    return f"{text} (medians of {last.studies:,} studies; the worst at the end: {worst})."


def _contenders(studies: DataFrame) -> DataFrame:
    """The studies whose optimum is known; of one ``contender``, a sampler, and case the longest."""
    known = on_curves(studies)
    known = known[(known.optimum_steps > 0).fillna(False)]
    keys = []
    for definition in known.definition:
        # No local search may be written as one of no trials.
        settings = {k: v for k, v in definition.sampler.items() if k != "finish" or v}
        keys.append(json.dumps(settings, sort_keys=True))
    longest_last = known.assign(contender=keys).sort_values(["n_trials", "study"])
    cases = ["benchmark", "contender", *_CASE]
    return longest_last.drop_duplicates(cases, keep="last").sort_index()


def _regrets(sampler: str, studies: DataFrame, others: DataFrame) -> DataFrame:
    """The regrets of a sampler over its studies, after as many trials as all others have."""
    optima = {
        size: optimum
        for size, each in others.groupby("batch_size")
        if (optimum := best_optimum(each.optimum)) is not None
    }
    n_trials = others.n_trials.min()
    table = np.sort(
        [regret(each.trials[:n_trials], optima[each.batch_size]) for each in studies.itertuples()],
        axis=0,
    )
    shares = zip(QUARTILES, (0.25, 0.5, 0.75, 1.0), strict=True)
    first = studies.definition.iloc[0]
    return DataFrame(
        {
            "sampler": sampler,
            "optimizer": first.optimizer_text,
            "schedule": first.schedule,
            "trials": np.arange(1, n_trials + 1),
            **{name: _quantile(table, share) for name, share in shares},
            "studies": len(studies),
            "exact": all(optima[size].exact for size in studies.batch_size),
        }
    )


def _quantile(columns: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The quantile of each sorted column, linear between its values; infinite next to infinity."""
    place = share * (len(columns) - 1)
    low, high = columns[math.floor(place)], columns[math.ceil(place)]
    weight = place - math.floor(place)
    between = np.where(np.isinf(high), 0.0, high) * weight + low * (1.0 - weight)
    return np.asarray(np.where(np.isinf(high), high, between))


def _said(value: float) -> str:
    return "an unknown share (target not reached)" if math.isinf(value) else words.percent(value)
