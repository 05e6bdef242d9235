"""What the steps of every curve are measured against: two bounds and SGD's optimal schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nqm_study.report.axes import GREY, Entry, Look
from nqm_study.report.scaling import Curve, one_problem_each
from nqm_study.study.records import OPTIMAL

CLASSICAL = "d / (2 C B)"
_DARK = "0.15"
_PALE = 0.3  # opacity of a bound in a curve's colour
_SAME = 0.01  # relative difference in steps below which two lines are one
_HALF_BAR = 2.0**0.05  # what a line over a single batch size reaches to either side

Line = list[tuple[float, float]]


def bayes_line(curves: Sequence[Curve]) -> Line:
    """The Bayes bound against batch size."""
    return sorted({(p.batch_size, float(p.bayes_bound)) for c in curves for p in c.points})


def classical_line(curves: Sequence[Curve]) -> Line:
    """The large-sample limit d / (2 C B) against batch size, where it is known."""
    known = ((p.batch_size, p.classical_bound) for c in curves for p in c.points)
    return sorted({(batch_size, steps) for batch_size, steps in known if steps is not None})


def optimal_line(curves: Sequence[Curve]) -> Line:
    """The steps of SGD's optimal schedule against batch size, where they are known.

    Empty where one of the curves is that line.
    """
    known = ((p.batch_size, p.optimal_steps) for c in curves for p in c.points)
    line = sorted({(batch_size, float(steps)) for batch_size, steps in known if steps is not None})
    return [] if any(_is_drawn(line, curve) for curve in curves) else line


def reference_values(curves: Sequence[Curve]) -> list[float]:
    """The steps that the lines go through."""
    problems = one_problem_each(curves)
    lines = [line for line, *_ in _styles(len(problems))]
    return [steps for line in lines for problem in problems for _, steps in line(problem)]


def draw_reference(axes: Axes, curves: Sequence[Curve], looks: Sequence[Look]) -> list[Entry]:
    """The lines over the curves' batch sizes; returns their entries for the legend.

    Each problem has lines of its own. Of several problems only the Bayes bounds are drawn, each in
    the colour of its first curve.
    """
    colors = {curve.key: look.color for curve, look in zip(curves, looks, strict=True)}
    problems = one_problem_each(curves)
    several = len(problems) > 1
    entries: list[Entry] = []
    for line, label, look in _styles(len(problems)):
        drawn = [(problem, points) for problem in problems if (points := line(problem))]
        if not drawn:
            continue
        for problem, points in drawn:
            own = {"marker": look.get("marker", "") if len(points) > 1 else ""}
            own |= {"color": colors[problem[0].key], "alpha": _PALE} if several else {}
            axes.plot(*zip(*_visible(points), strict=True), **{**look, **own})
        entries.append((Line2D([], [], **look), label, ""))
    return entries


def _visible(points: Line) -> Line:
    """The points, or a short bar in place of a single one."""
    if len(points) > 1:
        return points
    ((batch_size, steps),) = points
    return [(batch_size / _HALF_BAR, steps), (batch_size * _HALF_BAR, steps)]


def _is_drawn(line: Line, curve: Curve) -> bool:
    if (curve.optimizer, curve.schedule) != ("sgd", "optimal"):
        return False
    steps = {point.batch_size: point.steps for point in curve.points}
    return all(abs(steps.get(size, 0.0) - value) <= _SAME * value for size, value in line)


Style = tuple[Callable[[Sequence[Curve]], Line], str, dict[str, Any]]


def _styles(n_problems: int) -> list[Style]:
    """What is drawn: of several problems only the Bayes bounds."""
    return [style for style in _STYLES if n_problems == 1 or style[0] is bayes_line]


# The Bayes bound is broad and pale with the classical line dotted upon it: the two mostly coincide.
_STYLES: tuple[Style, ...] = (
    (optimal_line, OPTIMAL, {"color": _DARK, "linewidth": 1.1, "marker": ".", "zorder": 2.6}),
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
