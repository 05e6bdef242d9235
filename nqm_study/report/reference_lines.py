"""The lines that steps are measured against, drawn: bounds, the optimal schedule, true optima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nqm_study.report.axes import GREY, Entry, Look
from nqm_study.report.curves import Curve, one_problem_each
from nqm_study.report.reference import (
    CLASSICAL,
    Line,
    bayes_line,
    classical_line,
    interpolation_sizes,
    optimal_line,
    stability_line,
    with_optimum,
)
from nqm_study.study.records import OPTIMAL

_PALE = 0.3  # opacity of a bound in a curve's colour
_OPTIMUM: dict[str, Any] = {"linewidth": 0.9, "zorder": 2.8}


def reference_values(curves: Sequence[Curve]) -> list[float]:
    """The steps that the lines of ``draw_reference`` go through."""
    problems = one_problem_each(curves)
    lines = [line for line, *_ in _styles(len(problems))]
    return [steps for line in lines for problem in problems for _, steps in line(problem)]


def draw_reference(axes: Axes, curves: Sequence[Curve], looks: Sequence[Look]) -> list[Entry]:
    """Draw the three lines over the curves' batch sizes; returns their entries for the legend.

    Each problem has lines of its own. Of several problems only the Bayes bounds are drawn, each in
    the colour of its first curve.
    """
    colors = {curve.key: look.color for curve, look in zip(curves, looks, strict=True)}
    problems = one_problem_each(curves)
    several = len(problems) > 1
    entries: list[Entry] = []
    for line, label, look in _styles(len(problems)):
        drawn = [(problem, points) for problem in problems if (points := line(problem))]
        for problem, points in drawn:
            own = {"marker": look.get("marker", "") if len(points) > 1 else ""}
            own |= {"color": colors[problem[0].key], "alpha": _PALE} if several else {}
            axes.plot(*zip(*_visible(points, 0.05), strict=True), **{**look, **own})
        entries += [(Line2D([], [], **look), label, "")] if drawn else []
    return entries


def draw_optimum(axes: Axes, look: Look, line: Line) -> None:
    """Draw a thin line through the true optima, or a short bar at a single one."""
    if line:
        style = {"color": look.color, "linestyle": look.linestyle, **_OPTIMUM}
        axes.plot(*zip(*_visible(line, 0.15), strict=True), **style)


def draw_stability(axes: Axes, curves: Sequence[Curve]) -> list[Entry]:
    """Draw the largest stable rates of SGD; returns their entry for the legend, if any is known."""
    line = stability_line(curves)
    if not line:
        return []
    style: dict[str, Any] = {"color": "0.15", "linewidth": 1.1, "linestyle": (0, (6, 2))}
    axes.plot(*zip(*_visible(line, 0.15), strict=True), **style, zorder=2.6)
    return [(Line2D([], [], **style), "limit of stability of SGD at a constant rate", "")]


def draw_interpolation(axes: Axes, curves: Sequence[Curve]) -> list[Entry]:
    """Mark the batch size tr(H) / h_1 + 1; returns its entry for the legend, if there is one."""
    sizes = interpolation_sizes(curves)
    if len(sizes) != 1:
        return []
    style: dict[str, Any] = {"color": GREY, "linewidth": 0.9, "linestyle": "-."}
    low, high = axes.get_xlim()
    if low <= sizes[0] <= high:
        axes.axvline(sizes[0], **style, zorder=1.7)
    name = f"tr(H)/h_1 + 1 = {sizes[0]:.3g}: perfect scaling ends without label noise"
    return [(Line2D([], [], **style), name, "")]


def optimum_entry(curves: Sequence[Curve]) -> list[Entry]:
    """The entry for the true optima's lines in the legend, where there are any."""
    names = {True: "true optimum", False: "best of a dense search"}
    found = [
        name
        for exact, name in names.items()
        if any(with_optimum(curve, exact=exact) for curve in curves)
    ]
    line = Line2D([], [], color=GREY, **_OPTIMUM)
    return [(line, f"{', or '.join(found)}, same search space", "")] if found else []


def _visible(points: Line, half: float) -> Line:
    """The points, or a bar around a single one, ``half`` octaves to either side."""
    if len(points) > 1:
        return points
    ((size, value),) = points
    return [(size / 2.0**half, value), (size * 2.0**half, value)]


Style = tuple[Callable[[Sequence[Curve]], Line], str, dict[str, Any]]


def _styles(n_problems: int) -> list[Style]:
    """The lines to draw: of several problems only the Bayes bounds."""
    return [style for style in _STYLES if n_problems == 1 or style[0] is bayes_line]


# The Bayes bound is broad and pale with the classical line dotted upon it: the two mostly coincide.
_STYLES: tuple[Style, ...] = (
    (optimal_line, OPTIMAL, {"color": "0.15", "linewidth": 1.1, "marker": ".", "zorder": 2.6}),
    (
        bayes_line,
        "Bayes bound: no algorithm can need fewer steps",
        {"color": "0.75", "linewidth": 4.0, "solid_capstyle": "butt", "zorder": 1.8},
    ),
    (
        classical_line,
        f"{CLASSICAL}: a large-sample limit, not a strict bound",
        {"color": GREY, "linewidth": 1.2, "linestyle": ":", "zorder": 1.9},
    ),
)
