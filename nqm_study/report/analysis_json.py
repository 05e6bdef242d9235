"""The analyses as JSON, for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from nqm_study.report.analysis import Analysis
from nqm_study.report.estimate import Estimate
from nqm_study.report.hyperbola import Hyperbola
from nqm_study.report.laws import SlopeFit
from nqm_study.report.limits import CriticalBatchSize

SCHEMA = 1
"""Grows where a key changes its meaning or goes; new keys may come without."""

UNITS = {
    "batch_size": "examples",
    "critical_batch_size": "examples",
    "fewest_examples": "examples",
    "fewest_steps": "steps",
    "perfect_scaling": "examples",
    "product": "1",
    "rms": "1",
    "largest": "1",
    "learning_rate_slope": "1",
}


def analysis_json(analyses: Sequence[Analysis]) -> str:
    """The analyses of one spectrum and target, by curve and source, numbers in full.

    An estimate is an object with ``value``, ``low``, ``high``, ``bound`` and ``method``; what is
    not known is null. Curves are in the order of the figures, and keys always in the same.
    """
    grouped = groupby(analyses, key=lambda each: each.curve.key)
    document = {
        "schema": SCHEMA,
        "units": UNITS,
        "curves": [_curve(list(found)) for _, found in grouped],
    }
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _curve(analyses: Sequence[Analysis]) -> dict[str, Any]:
    curve = analyses[0].curve
    found = {analysis.source: _analysis(analysis) for analysis in analyses}
    return {
        "key": curve.key,
        "label": curve.label,
        "optimizer": curve.optimizer,
        "schedule": curve.schedule,
        "spectrum": curve.spectrum_text,
        "spectrum_digest": curve.spectrum_digest,
        "target": curve.target,
        "unreached_batch_sizes": list(curve.unreached),
        **{source: found.get(source) for source in ("exact", "dense", "found")},
    }


def _analysis(analysis: Analysis) -> dict[str, Any]:
    known = dict(analysis.products)
    return {
        "perfect_scaling": _estimate(analysis.perfect_scaling),
        "small_batches": list(analysis.regime),
        "fewest_examples": _limit(analysis.fewest_examples),
        "fewest_steps": _limit(analysis.fewest_steps),
        "critical_batch_size": _critical(analysis.critical),
        "hyperbola": _hyperbola(analysis.hyperbola),
        "learning_rate_slope": _slope(analysis.slope, analysis.fit),
        "points": [
            {
                "batch_size": point.batch_size,
                "steps": point.steps,
                "examples": point.examples,
                "product": _estimate(known[point.batch_size]),
            }
            for point in analysis.curve.points
        ],
    }


def _estimate(estimate: Estimate | None) -> dict[str, Any] | None:
    if estimate is None:
        return None
    return {**dataclasses.asdict(estimate), "bound": estimate.bound or None}


def _limit(estimate: Estimate) -> dict[str, Any]:
    return {**(_estimate(estimate) or {}), "reached": not estimate.bound}


def _critical(critical: CriticalBatchSize | None) -> dict[str, Any] | None:
    if critical is None:
        return None
    return {
        **(_estimate(critical.estimate) or {}),
        "grid": list(critical.grid),
        "searched": list(critical.searched),
    }


def _hyperbola(hyperbola: Hyperbola | None) -> dict[str, Any] | None:
    if hyperbola is None:
        return None
    return {
        "critical_batch_size": _estimate(hyperbola.critical_batch_size),
        "fewest_steps": _estimate(hyperbola.fewest_steps),
        "fewest_examples": _estimate(hyperbola.fewest_examples),
        "rms": hyperbola.rms,
        "largest": hyperbola.largest,
    }


def _slope(estimate: Estimate | None, fit: SlopeFit | None) -> dict[str, Any] | None:
    if estimate is None or fit is None:
        return None
    return {
        **(_estimate(estimate) or {}),
        "batch_sizes": list(fit.batch_sizes),
        "n_batch_sizes": fit.n_points,
        "ends_at_batch_size": fit.end,
    }
