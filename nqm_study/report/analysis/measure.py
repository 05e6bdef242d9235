"""The scaling of a curve in numbers, each with what it may be off by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from nqm_study.report.curves import Curve, Point
from nqm_study.report.estimate import Estimate
from nqm_study.report.hyperbola import Hyperbola, fit_hyperbola, product
from nqm_study.report.laws import SlopeFit, fit_learning_rate, perfect_scaling, small_batches
from nqm_study.report.limits import (
    CriticalBatchSize,
    critical_batch_size,
    fewest_examples,
    fewest_steps,
)
from nqm_study.report.misses import Miss, misses

Source = Literal["exact", "dense", "found"]
"""What is analysed: the true optima, the best of dense searches, or what the studies found."""

SOURCES: dict[Source, str] = {"exact": "exact", "dense": "dense search", "found": "found"}
"""The sources in the order of the tables, with what people read for each."""


@dataclass(frozen=True)
class Analysis:
    """Scaling of one curve: limits in examples and steps, critical batch size, laws.

    Attributes:
        curve: the curve; its points are those of the source, with steps above 0.
        source: where the points are from.
        perfect_scaling: k of T = k / B in examples, with the range of T B in the regime of small
            batches; None where fewer than two points are in it.
        regime: smallest and largest batch size of that regime.
        fewest_examples, fewest_steps: E_min and S_min.
        critical: B_20; None where the sweep does not tell.
        hyperbola: the hyperbola nearest to the curve; None with fewer than three points.
        products: batch sizes with (T / S_min - 1) (T B / E_min - 1), which has the limits above.
            Without the points that are these limits, where it is 0 however sharp the knee is. Up to
            the end of its range it goes with the limits at the ends of theirs.
        fit: the power law of the best rate at small batches; None where there is none.
        misses: batch sizes whose search missed, of what was found: neither hyperbola nor products
            have them, and limits and B_20 that would rest on them are bounds, or not given.
    """

    curve: Curve
    source: Source
    perfect_scaling: Estimate | None
    regime: tuple[float, float]
    fewest_examples: Estimate
    fewest_steps: Estimate
    critical: CriticalBatchSize | None
    hyperbola: Hyperbola | None
    products: tuple[tuple[float, Estimate], ...]
    fit: SlopeFit | None
    misses: tuple[Miss, ...] = ()

    @property
    def slope(self) -> Estimate | None:
        """Slope of the best rate at small batches: the power of B that it goes as.

        Of true optima it is that at the smallest batch size, by a parabola in ln B and ln(rate),
        give or take what it changes by along the range. Of what was found it is the fitted line's.
        """
        if self.fit is None:
            return None
        value, half = self.fit.slope, self.fit.interval
        if self.source == "exact" and self.fit.bend is not None:
            value, half = self.fit.bend.end_slope, abs(self.fit.bend.change)
        if half is None:
            return Estimate(value, method="2 points")
        return Estimate(value, value - half, value + half, method=self.fit.method)

    @property
    def product_range(self) -> tuple[float, float] | None:
        """The least and the largest of the products.

        None where the sweep does not reach both limits: each product is a lower bound then.
        """
        found = [estimate for _, estimate in self.products]
        values = [estimate.value for estimate in found]
        if not values or any(estimate.bound for estimate in found):
            return None
        return min(values), max(values)


def analyses(curves: Sequence[Curve]) -> tuple[Analysis, ...]:
    """Analyse the curves with two or more batch sizes that reached the target.

    A curve has one from its true optima where two or more are exact (or else from those of dense
    searches), and one from what was found.
    """
    return tuple(found for curve in curves for found in _of_curve(curve))


def analysis(curve: Curve, source: Source) -> Analysis:
    """Analyse a curve with the points of one source, one or more with steps above 0."""
    points = curve.points
    told = misses(curve) if source == "found" else ()
    missed = {miss.batch_size for miss in told}
    unsure = missed.difference(point.batch_size for point in points if point.optimum is not None)
    least = fewest_examples(points, curve.tolerance)
    fewest = fewest_steps(points, curve.tolerance)
    sound = [point for point in points if point.batch_size not in missed]
    products = ((point.batch_size, _product(point, fewest, least)) for point in sound)
    regime = small_batches(curve)
    constant = perfect_scaling(curve)
    examples = [point.examples for point in regime]
    return Analysis(
        curve=curve,
        source=source,
        perfect_scaling=None
        if constant is None
        else Estimate(constant, min(examples), max(examples), method="range in the regime"),
        regime=(regime[0].batch_size, regime[-1].batch_size),
        fewest_examples=least,
        fewest_steps=fewest,
        critical=critical_batch_size(points, least, unsure.union(curve.unreached)),
        hyperbola=fit_hyperbola([p.batch_size for p in sound], [p.steps for p in sound]),
        products=tuple((size, value) for size, value in products if value.value > 0.0),
        fit=fit_learning_rate(curve),
        misses=told,
    )


def _product(point: Point, fewest: Estimate, least: Estimate) -> Estimate:
    value = product(point.steps, point.examples, fewest.value, least.value)
    if fewest.low is None or least.low is None:
        return Estimate(value, bound=">=", method="sweep ends")
    high = product(point.steps, point.examples, fewest.low, least.low)
    return Estimate(value, value, high, method="limits")


def from_source(curve: Curve, source: Source) -> Curve:
    """Take the points of a source for a curve's: one for each batch size, with steps above 0."""
    points = {
        point.batch_size: found
        for point in sorted(curve.points, key=lambda p: (p.batch_size, -p.steps))
        if (found := _sourced(point, source)) is not None and found.steps > 0.0
    }
    return replace(curve, points=tuple(points.values()))


def _of_curve(curve: Curve) -> Iterator[Analysis]:
    known = {source: from_source(curve, source) for source in SOURCES}
    if len(known["exact"].points) >= 2:
        del known["dense"]
    for source, points in known.items():
        if len(points.points) >= 2:
            yield analysis(points, source)


def _sourced(point: Point, source: Source) -> Point | None:
    if source == "found":
        return point
    optimum, found = point.optimum, point.at_optimum()
    if optimum is None or found is None or optimum.exact is not (source == "exact"):
        return None
    return replace(found, seeds=1, seeds_unreached=0)
