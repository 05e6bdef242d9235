"""Numbers as the tables, figures and descriptions write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from nqm_study.report.laws import Method, SlopeFit


def count(value: float) -> str:
    """A count with thousands separated: ``378,197``; a half where a median has one."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def rounded(value: float) -> str:
    """Three digits of a count: ``436``, ``24,500``."""
    return count(float(f"{value:.3g}"))


def typed(value: float) -> str:
    """A batch size as it is typed on the command line: ``1048576``."""
    return f"{value:.0f}" if float(value).is_integer() else f"{value:g}"


def power_of_two(value: float) -> str:
    """``2^8`` for 256; the plain count where the value is no power of two."""
    exponent = math.log2(value)
    return f"2^{exponent:.0f}" if exponent.is_integer() else count(value)


def batch_range(low: float, high: float) -> str:
    """``B = 2^4..2^8``."""
    return f"B = {power_of_two(low)}..{power_of_two(high)}"


def hyperparameter(value: float) -> str:
    """Three digits; just below one, two of the distance from it: ``0.0541``, ``0.99987``."""
    if 0.9 < value < 1.0:
        return f"{value:.{1 - math.floor(math.log10(1.0 - value))}f}".rstrip("0")
    return f"{value:.3g}"


def ratio(value: float) -> str:
    """Three digits, or all those before the point: ``2.81``, ``3,508``."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:#.3g}"


def percent(value: float) -> str:
    """A relative excess: ``0 %``, ``<0.1 %``, ``0.3 %``, ``12 %``; below 0 ``-0.3 %``."""
    size = abs(100.0 * value)
    if math.isinf(value):
        return "-"
    if 0.0 < size < 0.05:  # 0 % is said of what is exactly there
        return "<0.1 %"
    sign = "-" if value < 0.0 else ""
    return f"{sign}{size:,.0f} %" if size >= 9.95 or size == 0.0 else f"{sign}{size:.1f} %"


def slope(fit: SlopeFit) -> str:
    """``slope 0.50 ± 0.01 (95 %), true optima 0.51, B = 2^6..2^10, ends near 2^11``.

    After ± is what the slope may be off by, and in brackets from what: ``95 %`` from the scatter,
    ``95 %, seeds`` from a bootstrap, ``bend`` from the exact optima's curvature. After B are the
    batch sizes fitted. With two points it says that there are two, without an end or true optima
    nothing of these.
    """
    return ", ".join(slope_lines(fit))


def slope_lines(fit: SlopeFit) -> list[str]:
    """The same in two or three short lines: the slope, that of the true optima, the range."""
    half = fit.interval
    if half is None:
        size = f"{fit.slope:.2f} (2 points)"
    else:
        size = f"{plus_minus(fit.slope, half)} ({_KINDS[fit.method]})"
    end = "" if fit.end is None else f", ends near 2^{math.log2(fit.end):.0f}"
    lines = [f"slope {size}", f"{batch_range(*fit.batch_sizes)}{end}"]
    if fit.true_slope is not None:
        name = "true optima" if fit.true_exact else "dense search"
        lines.insert(1, f"{name} {fit.true_slope:.{_digits(half)}f}")
    return lines


def plus_minus(value: float, half: float) -> str:
    """``0.50 ± 0.01``: a slope and what it may be off by, with a third digit below 0.01."""
    spread = f"{half:.{_digits(half)}f}" if half >= 0.0005 else "<0.001"
    return f"{value:.{_digits(half)}f} ± {spread}"


def _digits(half: float | None) -> int:
    return 2 if half is None or half >= 0.01 else 3


_KINDS: dict[Method, str] = {"scatter": "95 %", "bootstrap": "95 %, seeds", "curvature": "bend"}

_SLOPES = {
    "scatter": "± is half the 95 % confidence interval of a slope, from the points' scatter about "
    "the line, plus what the slope changes by along the range where the scatter does not hide it.",
    "known": "± is half the 95 % confidence interval of a slope, from the points' scatter about "
    "the line (plus what the slope changes by along the range, where that shows) and, where "
    "known, the distance from the true optima's slope.",
    "bootstrap": "± (seeds) is half the 95 % interval of a slope by a bootstrap over seeds, "
    "and what bend they agree on.",
    "curvature": "± (bend) adds up how far the slope found is off that of the true optima, and how "
    "much theirs changes over the batch sizes fitted: the law is not quite straight.",
}
"""What ± means after a slope, by its method; ``known``: scatter, with optima that are not exact."""


def slopes(fits: Iterable[SlopeFit]) -> str:
    """Sentences that explain ± in the texts of these slopes; empty where none has it."""
    uncertain = [fit for fit in fits if fit.interval is not None]
    methods = {fit.method for fit in uncertain}
    scattered = [fit for fit in uncertain if fit.method == "scatter"]
    first = "known" if any(fit.true_slope is not None for fit in scattered) else "scatter"
    found = [first if method == "scatter" else method for method in _KINDS if method in methods]
    return " ".join(_SLOPES[method] for method in found)


def too_few(name: str, fit: SlopeFit | None) -> str:
    """Sentence on a curve's slope by two points, and what to add; empty for other slopes."""
    if fit is None or fit.n_points > 2:
        return ""
    low, high = fit.batch_sizes
    smaller = [typed(size) for size in (low / 4.0, low / 16.0) if size >= 1.0]
    more = f"batch_size={','.join(smaller)}" if smaller else f"some from {low:g} to {high:g}"
    return (
        f"{name}: the slope is of two batch sizes alone, and not yet a law: the sweep has too few "
        f"small ones; add {more}."
    )


ENDS = "A power law ends where the best rate is more than 20 % off it."
"""What ``slope`` says of a law's end, in full."""


def as_math(text: str) -> str:
    """The same with ``2^8`` as a raised power, in Matplotlib's math text."""
    return re.sub(r"(\d)\^(-?\d+)", r"$\1^{\2}$", text)
