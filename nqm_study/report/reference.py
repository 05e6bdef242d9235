"""What the steps are measured against: bounds, SGD's optimal schedule, and the true optima."""

from __future__ import annotations

from collections.abc import Sequence

from nqm_study.report import words
from nqm_study.report.curves import Curve, Point
from nqm_study.report.frame import effective_rate

CLASSICAL = "d / (2 C B)"
_SAME = 0.01  # relative difference in steps below which two lines are one

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


def stability_line(curves: Sequence[Curve]) -> Line:
    """The largest stable rate of SGD against batch size, where it is known.

    It does not depend on the label noise, so that problems that differ in it alone share the line.
    Empty where several problems have several.
    """
    line = _line_of(curves, "stability_limit")
    return line if len({size for size, _ in line}) == len(line) else []


def interpolation_sizes(curves: Sequence[Curve]) -> list[float]:
    """The batch sizes tr(H) / h_1 + 1 of the curves' problems, where they are known."""
    return sorted({size for _, size in _line_of(curves, "interpolation_batch_size")})


def excesses(curve: Curve) -> list[str]:
    """Phrases on the steps of a curve: their largest excess over its true optima, in per cent."""
    found = []
    for exact, name in ((True, "the true optimum"), (False, "the best of a dense search")):
        known = [p.excess for p in with_optimum(curve, exact=exact) if p.excess is not None]
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
    if any(with_optimum(curve, exact=True) for curve in curves):
        sentences.append(
            "The true optimum is the fewest steps that any values of the searched hyperparameters "
            "take, computed without a search like those it is compared with."
        )
    if any(with_optimum(curve, exact=False) for curve in curves):
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


def with_optimum(curve: Curve, *, exact: bool) -> list[Point]:
    """The points whose optimum is known, and exact or not."""
    return [p for p in curve.points if p.optimum is not None and p.optimum.exact is exact]


def _line_of(curves: Sequence[Curve], name: str) -> Line:
    found = {(p.batch_size, getattr(p, name)) for curve in curves for p in curve.points}
    return sorted((size, float(steps)) for size, steps in found if steps)


def _is_drawn(line: Line, curve: Curve) -> bool:
    if (curve.optimizer, curve.schedule) != ("sgd", "optimal"):
        return False
    steps = {point.batch_size: point.steps for point in curve.points}
    return all(abs(steps.get(size, 0.0) - value) <= _SAME * value for size, value in line)
