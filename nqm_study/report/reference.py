"""What the steps are measured against: bounds, SGD's optimal schedule, and the true optima."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nqm_study.report import words
from nqm_study.report.axes import GREY, Entry, Look
from nqm_study.report.curves import Curve, Point, one_problem_each
from nqm_study.report.frame import effective_rate
from nqm_study.study.records import OPTIMAL

CLASSICAL = "d / (2 C B)"
_SAME = 0.01  # relative difference in steps below which two lines are one
_PALE = 0.3  # opacity of a bound in a curve's colour
_OPTIMUM: dict[str, Any] = {"linewidth": 0.9, "zorder": 2.8}

Line = list[tuple[float, float]]
"""Steps, or rates, against batch size."""


def bayes_line(curves: Sequence[Curve]) -> Line:
    """The Bayes bound against batch size, in steps."""
    return _line_of(curves, "bayes_bound")


def classical_line(curves: Sequence[Curve]) -> Line:
    """The large-sample limit d / (2 C B) against batch size, in steps, where it is known."""
    return _line_of(curves, "classical_bound")


def optimal_line(curves: Sequence[Curve]) -> Line:
    """The steps of SGD's optimal schedule against batch size, where they are known.

    Empty where one of the curves is that line.
    """
    line = _line_of(curves, "optimal_steps")
    return [] if any(_is_drawn(line, curve) for curve in curves) else line


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


def excesses(curve: Curve) -> list[str]:
    """Phrases on the steps of a curve: their largest excess over its true optima, in per cent."""
    found = []
    for exact, name in ((True, "the true optimum"), (False, "the best of a dense search")):
        known = [p.excess for p in _with_optimum(curve, exact=exact) if p.excess is not None]
        if not known:
            continue
        size = words.percent(max(known))
        amount = f"less than {size[1:]}" if size[0] == "<" else f"at most {size}"
        below = "at" if max(known) == 0.0 else "below"
        found.append(f"{amount} above {name}" if max(known) > 0.0 else f"{below} {name}")
    return found


def meaning(curves: Sequence[Curve]) -> list[str]:
    """Sentences that define the optima of ``excesses``, where there are any."""
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


def optimum_steps(curve: Curve) -> Line:
    """The true optima's steps against batch size, where they are known."""
    return [(size, float(optimum.steps)) for size, optimum in curve.optima if optimum.steps > 0]


def optimum_rates(curve: Curve) -> Line:
    """The true optima's effective rates against batch size, where they are known."""
    rates = [(size, effective_rate(optimum.hyperparameters)) for size, optimum in curve.optima]
    return [(size, rate) for size, rate in rates if rate > 0.0]


def draw_optimum(axes: Axes, look: Look, line: Line) -> None:
    """Draw a thin line through the true optima, or a short bar at a single one."""
    if line:
        style = {"color": look.color, "linestyle": look.linestyle, **_OPTIMUM}
        axes.plot(*zip(*_visible(line, 0.15), strict=True), **style)


def optimum_entry(curves: Sequence[Curve]) -> list[Entry]:
    """The entry for the true optima's lines in the legend, where there are any."""
    names = {True: "true optimum", False: "best of a dense search"}
    found = [
        name
        for exact, name in names.items()
        if any(_with_optimum(curve, exact=exact) for curve in curves)
    ]
    line = Line2D([], [], color=GREY, **_OPTIMUM)
    return [(line, f"{', or '.join(found)}, same search space", "")] if found else []


def _with_optimum(curve: Curve, *, exact: bool) -> list[Point]:
    return [p for p in curve.points if p.optimum is not None and p.optimum.exact is exact]


def _line_of(curves: Sequence[Curve], name: str) -> Line:
    found = {(p.batch_size, getattr(p, name)) for curve in curves for p in curve.points}
    return sorted((size, float(steps)) for size, steps in found if steps is not None)


def _visible(points: Line, half: float) -> Line:
    """The points, or a bar around a single one, ``half`` octaves to either side."""
    if len(points) > 1:
        return points
    ((size, value),) = points
    return [(size / 2.0**half, value), (size * 2.0**half, value)]


def _is_drawn(line: Line, curve: Curve) -> bool:
    if (curve.optimizer, curve.schedule) != ("sgd", "optimal"):
        return False
    steps = {point.batch_size: point.steps for point in curve.points}
    return all(abs(steps.get(size, 0.0) - value) <= _SAME * value for size, value in line)


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
