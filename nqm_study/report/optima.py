"""The true optima that a curve's points are measured against: in words, and as a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nqm_study.report import words
from nqm_study.report.axes import GREY, Entry, Look
from nqm_study.report.point import Point, effective_rate
from nqm_study.report.scaling import Curve
from nqm_study.study.records import Optimum

_LINE: dict[str, Any] = {"linewidth": 0.9, "zorder": 2.8}
_HALF_BAR = 2.0**0.15  # what a line over a single batch size reaches to either side


def excesses(curve: Curve) -> list[str]:
    """How far the points are above the true optima, and above those that are not exact."""
    found = []
    for exact in (True, False):
        known = [
            excess
            for point in _with_optimum(curve, exact=exact)
            if (excess := point.excess) is not None
        ]
        if known:
            found.append(_excess(max(known), exact=exact))
    return found


def meaning(curves: Sequence[Curve]) -> list[str]:
    """What ``excesses`` are of, explained where there are any."""
    sentences = []
    if any(_with_optimum(curve, exact=True) for curve in curves):
        sentences.append(
            "The true optimum is the fewest steps that any values of the searched hyperparameters "
            "take, computed without a search like those it is compared with."
        )
    if any(_with_optimum(curve, exact=False) for curve in curves):
        sentences.append(
            "A dense search stands in for the true optimum where this cannot be computed; it may "
            "be beaten."
        )
    return sentences


def all_known(curve: Curve) -> bool:
    """Whether the true optimum is known at each of the curve's points."""
    return bool(curve.points) and all(point.optimum is not None for point in curve.points)


def optimum_steps(curve: Curve) -> list[tuple[float, float]]:
    """The true optima's steps against batch size, where they are known."""
    return _line(curve, lambda optimum: float(optimum.steps))


def optimum_rates(curve: Curve) -> list[tuple[float, float]]:
    """The true optima's effective rates against batch size, where they are known."""
    return _line(curve, lambda optimum: effective_rate(optimum.hyperparameters))


def draw_optimum(axes: Axes, look: Look, line: Sequence[tuple[float, float]]) -> None:
    """A thin line through the true optima, or a short bar at a single one."""
    if len(line) == 1:
        ((batch_size, value),) = line
        line = [(batch_size / _HALF_BAR, value), (batch_size * _HALF_BAR, value)]
    if line:
        axes.plot(*zip(*line, strict=True), color=look.color, linestyle=look.linestyle, **_LINE)


def optimum_entry(curves: Sequence[Curve]) -> list[Entry]:
    """The entry for these lines in the legend, where there are any."""
    exact = any(_with_optimum(curve, exact=True) for curve in curves)
    dense = any(_with_optimum(curve, exact=False) for curve in curves)
    if not (exact or dense):
        return []
    names = ["true optimum"] if exact else []
    names += ["best of a dense search"] if dense else []
    return [(Line2D([], [], color=GREY, **_LINE), f"{', or '.join(names)}, same search space", "")]


def _with_optimum(curve: Curve, *, exact: bool) -> list[Point]:
    return [p for p in curve.points if p.optimum is not None and p.optimum.exact is exact]


def _line(curve: Curve, read: Callable[[Optimum], float]) -> list[tuple[float, float]]:
    pairs = [(batch_size, read(optimum)) for batch_size, optimum in curve.optima]
    return [(batch_size, value) for batch_size, value in pairs if value > 0.0]


def _excess(most: float, *, exact: bool) -> str:
    name = "the true optimum" if exact else "the best of a dense search"
    if most > 0.0:
        size = words.percent(most)
        return f"{'less than ' + size[1:] if size[0] == '<' else 'at most ' + size} above {name}"
    return f"at {name}" if most == 0.0 else f"below {name}"
