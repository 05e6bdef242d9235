"""What the figures show, in words: a line for each curve, and what its words mean."""

from __future__ import annotations

from collections.abc import Sequence

from nqm_study.report import words
from nqm_study.report.captions import caption
from nqm_study.report.curves import Curve, Point, scheduled
from nqm_study.report.laws import fit_learning_rate, perfect_scaling, small_batches
from nqm_study.report.misses import misses
from nqm_study.report.reference import CLASSICAL, excesses, meaning
from nqm_study.study.records import OPTIMAL


def describe(curves: Sequence[Curve]) -> str:
    """Paragraph on curves: what they share, their steps and laws, and the meaning of the words."""
    if not curves:
        return "No finished trials."
    return " ".join([caption(curves), *map(describe_curve, curves), *definitions(curves)])


def describe_curve(curve: Curve) -> str:
    """Line on a curve: steps at its ends, ratios to the bounds, its laws, and what was missed."""
    sentences = []
    if curve.points:
        first, last = curve.points[0], curve.points[-1]
        text = f"{curve.label}: {words.count(first.steps)} steps"
        text += f" at B = {words.count(first.batch_size)}"
        if len(curve.points) > 1:
            text += f", {words.count(last.steps)} at B = {words.count(last.batch_size)}"
        sentences.append("; ".join([text, *_ratios(curve.points), *excesses(curve)]) + ".")
    constant, fit = perfect_scaling(curve), fit_learning_rate(curve)
    if constant is not None:
        regime = small_batches(curve)
        span = words.batch_range(regime[0].batch_size, regime[-1].batch_size)
        sentences.append(f"Perfect scaling T = {constant:.4g} / B within 20 % over {span}.")
    if fit is not None:
        name = "Best peak learning rate" if scheduled([curve]) else "Best learning rate"
        sentences.append(f"{name} {fit.learning_rate(1.0):.3g} B^slope, {words.slope(fit)}.")
        sentences += filter(None, [words.too_few(curve.label, fit)])
    sentences += [miss.sentence(curve.label) for miss in misses(curve)]
    if curve.unreached:
        sizes = ", ".join(words.count(batch_size) for batch_size in curve.unreached)
        lead = "Target" if curve.points else f"{curve.label}: target"
        sentences.append(f"{lead} not reached at B = {sizes}.")
    return " ".join(sentences)


def definitions(curves: Sequence[Curve]) -> list[str]:
    """Sentences on the meaning of what lines on these curves say, and of nothing else."""
    fits = [fit for curve in curves if (fit := fit_learning_rate(curve)) is not None]
    points = [point for curve in curves for point in curve.points]
    sentences = [text] if (text := words.slopes(fits)) else []
    if any(fit.end is not None for fit in fits):
        sentences.append(words.ENDS)
    if any(point.bayes_bound for point in points):
        sentences.append("The Bayes bound is the fewest steps any algorithm could need.")
    if any(point.classical_bound is not None for point in points):
        sentences.append(
            f"{CLASSICAL}, with C the target loss and d the sum of noise over curvature, is what "
            "that bound tends to as the target falls: a large-sample limit and not a strict bound, "
            "since it drops the prior."
        )
    if any(point.optimal_steps for point in points):
        sentences.append(
            f"{OPTIMAL}, is the best of all whose rates are at most 0.9998 of that, h_1 the "
            "largest curvature: what any schedule of SGD can be compared with."
        )
        gaps = [point.optimal_gap for point in points if point.optimal_gap is not None]
        if gaps:
            sentences.append(
                f"By its last refinement, others may save {100.0 * max(gaps):.2g} % of its steps."
            )
    return [*sentences, *meaning(curves)]


def _ratios(points: Sequence[Point]) -> list[str]:
    """A phrase with the ratios to the bounds that are known; none where none is."""
    ratios = {
        "the Bayes bound": [point.ratio_to_bound for point in points if point.bayes_bound],
        OPTIMAL: [point.ratio_to_optimal for point in points if point.optimal_steps],
    }
    known = [f"{_span(found)} times {name}" for name, found in ratios.items() if found]
    return [", ".join(known)] if known else []


def _span(ratios: Sequence[float]) -> str:
    low, high = words.ratio(min(ratios)), words.ratio(max(ratios))
    return low if low == high else f"{low} to {high}"
