"""The analyses as tables: columns of cells, which the terminal, CSV, LaTeX and Markdown share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from nqm_study.report import words
from nqm_study.report.analysis import Analysis
from nqm_study.report.estimate import Estimate
from nqm_study.report.hyperbola import Hyperbola

NONE = "-"
_PRECISE = 0.003  # relative uncertainty below which a number has four digits
_COUNTED = 1e5  # from here on numbers have a power of ten
SOURCES = {"exact": "exact", "dense": "dense search", "found": "found"}
_METHODS = {"curvature": "bend", "bootstrap": "seeds", "scatter": "scatter"}


Kind = Literal["name", "number", "estimate", "range"]
Value = Estimate | float | str | tuple[float, float] | None


@dataclass(frozen=True)
class Cell:
    """What people read, and what programs do.

    Attributes:
        text: with ``±``, ``<=``, ``2^8`` and ``6.03e6`` where these are meant.
        value: the same in full, of its column's kind; None where nothing is known.
    """

    text: str
    value: Value


@dataclass(frozen=True)
class AnalysisColumn:
    """A heading and its cells, one per row.

    Attributes:
        name: for programs.
        heading: for people.
        kind: of the values: a name, a number, an estimate with its range and bound, or a range.
        cells: one per row.
    """

    name: str
    heading: str
    kind: Kind
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """A table.

    Attributes:
        name: a word for labels.
        title: what it is, in a few words.
        brief: what else a line has room for.
        note: what its columns mean.
        columns: with equally many cells each.
    """

    name: str
    title: str
    brief: str
    note: str
    columns: tuple[AnalysisColumn, ...]

    @property
    def rows(self) -> list[list[str]]:
        """What people read, row by row."""
        texts = ([cell.text for cell in column.cells] for column in self.columns)
        return [list(row) for row in zip(*texts, strict=True)]


def sections(analyses: Sequence[Analysis]) -> tuple[Section, ...]:
    """Three tables with a row for each analysis: limits, hyperbola, and best rate."""
    return tuple(
        Section(
            name,
            title,
            brief,
            note,
            tuple(
                AnalysisColumn(key, heading, kind, tuple(read(each) for each in analyses))
                for key, heading, kind, read in (*_NAMES, *columns)
            ),
        )
        for name, title, brief, note, columns in (
            ("limits", "Limits of scaling", "<= where the sweep ends first", LIMITS, _LIMITS),
            (
                "hyperbola",
                "Nearest hyperbola",
                "T = S (1 + B_crit / B), and its misfit",
                HYPERBOLA,
                _HYPERBOLA,
            ),
            ("rate", "Best rate at small batches", "it goes as B^slope", RATE, _RATE),
        )
    )


def products(analyses: Sequence[Analysis]) -> Section:
    """A row for each batch size and a column for each analysis: how sharp the knee is."""
    sizes = sorted({size for analysis in analyses for size, _ in analysis.products})
    columns = [
        AnalysisColumn(
            "batch_size", "batch size", "number", tuple(Cell(words.typed(b), b) for b in sizes)
        )
    ]
    for each in analyses:
        known = dict(each.products)
        name = f"{each.curve.label}, {SOURCES[each.source]}"
        cells = tuple(_sharpness(known.get(size)) for size in sizes)
        columns.append(AnalysisColumn(name, name, "estimate", cells))
    return Section("products", "Sharpness of the knee", "", PRODUCTS, tuple(columns))


LIMITS = (
    "T are the fewest steps to the target at batch size B, and k = T B in examples where twice the "
    "batch halves the steps (the median there, ± its range). E_min are the examples T B at small "
    "batches, S_min the steps at large ones, ± what they change by over the last factor of four in "
    "B and what the search is off by; <= where they change by more than 2 %, so that the sweep "
    "does not reach the limit. At B_20 the examples are 20 % above E_min; in brackets the batch "
    "sizes it is between, wider where the search is more uncertain."
)
HYPERBOLA = (
    "T = S (1 + B_crit / B), with E = S B_crit, fitted in ln T; ± is the 95 % interval by the "
    "scatter about it. rms and max are the misfit T / T_fit - 1. The product "
    "(T / S_min - 1) (T B / E_min - 1), with the limits as measured, is 1 on the hyperbola and "
    "less at a sharper knee."
)
RATE = (
    "The best rate goes as B^slope over these B, and is 20 % off this law from where it ends. ± is "
    "by the bend: what the slope of the exact optima changes by along the range, and how far what "
    "was found is off it; by seeds: a 95 % bootstrap interval; by scatter: the 95 % interval by "
    "the scatter about the line. The slope from exact optima is that at the smallest B."
)
PRODUCTS = (
    "(T / S_min - 1) (T B / E_min - 1), with the limits as measured: 1 on McCandlish's hyperbola, "
    "less at a sharper knee, 0 at a limit."
)


def spread_text(value: float) -> str:
    """A relative uncertainty: ``19 %``, ``8 %``, ``0.3 %``, ``<0.1 %``."""
    return f"{100.0 * value:,.0f} %" if value >= 0.01 else words.percent(value)


def amount(estimate: Estimate | None) -> Cell:
    """``6.03e6 ± 0.3 %``, ``6,720 ± 0.8 %``, ``<= 7,147``; three digits, or four if so precise."""
    if estimate is None:
        return Cell(NONE, None)
    spread = estimate.relative
    text = _digits(estimate.value, 4 if spread is not None and spread < _PRECISE else 3)
    if estimate.bound:
        return Cell(f"{estimate.bound} {text}", estimate)
    return Cell(text if spread is None else f"{text} ± {spread_text(spread)}", estimate)


def _digits(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits}g}")
    if 1.0 <= rounded < _COUNTED:
        places = max(0, digits - 1 - math.floor(math.log10(rounded)))
        return f"{rounded:,.{places}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _steps(estimate: Estimate) -> Cell:
    """The same of a number of steps that was found, which is whole or nearly so."""
    cell = amount(estimate)
    if estimate.value >= _COUNTED:
        return cell
    parts = cell.text.split(" ")
    parts[1 if estimate.bound else 0] = words.count(estimate.value)
    return Cell(" ".join(parts), estimate)


def _critical(analysis: Analysis) -> Cell:
    if analysis.critical is None:
        return Cell(NONE, None)
    estimate = analysis.critical.estimate
    text = f"{estimate.bound} {_digits(estimate.value, 3)}".strip()
    if not estimate.bound:
        low, high = (_size(end) for end in (estimate.low, estimate.high))
        text = f"{text} ({low}..{high})"
    return Cell(text, estimate)


def _size(value: float | None) -> str:
    if value is None:
        return "?"
    return words.power_of_two(value) if math.log2(value).is_integer() else _digits(value, 3)


def _hyperbola(read: Callable[[Hyperbola], Cell]) -> Callable[[Analysis], Cell]:
    return lambda analysis: (
        Cell(NONE, None) if analysis.hyperbola is None else read(analysis.hyperbola)
    )


def _share(value: float) -> Cell:
    return Cell(words.percent(value), value)


def _sharpness(estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(NONE, None)
    if estimate.value == 0.0:
        return Cell("0", estimate)
    return Cell(f"{estimate.bound} {estimate.value:#.2g}".strip(), estimate)


def _product_range(analysis: Analysis) -> Cell:
    """Nothing where the sweep does not reach both limits: each product is a lower bound then."""
    found = [estimate for _, estimate in analysis.products]
    values = [estimate.value for estimate in found if estimate.value > 0.0]
    if not values or any(estimate.bound for estimate in found):
        return Cell(NONE, None)
    low, high = min(values), max(values)
    return Cell(f"{low:#.2g}..{high:#.2g}", (low, high))


def _slope(analysis: Analysis) -> Cell:
    estimate = analysis.slope
    if estimate is None:
        return Cell(NONE, None)
    if estimate.high is None:
        return Cell(f"{estimate.value:.2f}", estimate)
    return Cell(words.plus_minus(estimate.value, estimate.high - estimate.value), estimate)


def _slope_by(analysis: Analysis) -> Cell:
    if analysis.slope is None:
        return Cell(NONE, None)
    method = analysis.slope.method
    return Cell(_METHODS.get(method, method), method)


def _slope_range(analysis: Analysis) -> Cell:
    if analysis.fit is None:
        return Cell(NONE, None)
    low, high = analysis.fit.batch_sizes
    return Cell(words.batch_range(low, high).removeprefix("B = "), (low, high))


def _slope_end(analysis: Analysis) -> Cell:
    if analysis.fit is None or analysis.fit.end is None:
        return Cell(NONE, None)
    return Cell(f"2^{math.log2(analysis.fit.end):.0f}", analysis.fit.end)


_Columns = tuple[tuple[str, str, Kind, Callable[[Analysis], Cell]], ...]

_NAMES: _Columns = (
    ("curve", "curve", "name", lambda a: Cell(a.curve.label, a.curve.label)),
    ("source", "from", "name", lambda a: Cell(SOURCES[a.source], a.source)),
)
_LIMITS: _Columns = (
    ("perfect_scaling", "k", "estimate", lambda a: amount(a.perfect_scaling)),
    ("fewest_examples", "E_min", "estimate", lambda a: amount(a.fewest_examples)),
    ("fewest_steps", "S_min", "estimate", lambda a: _steps(a.fewest_steps)),
    ("critical_batch_size", "B_20", "estimate", _critical),
)
_HYPERBOLA: _Columns = (
    (
        "hyperbola_critical_batch_size",
        "B_crit",
        "estimate",
        _hyperbola(lambda fit: amount(fit.critical_batch_size)),
    ),
    ("hyperbola_steps", "S", "estimate", _hyperbola(lambda fit: amount(fit.fewest_steps))),
    ("hyperbola_examples", "E", "estimate", _hyperbola(lambda fit: amount(fit.fewest_examples))),
    ("hyperbola_rms", "rms", "number", _hyperbola(lambda fit: _share(fit.rms))),
    ("hyperbola_largest", "max", "number", _hyperbola(lambda fit: _share(fit.largest))),
    ("product", "product", "range", _product_range),
)
_RATE: _Columns = (
    ("slope", "slope", "estimate", _slope),
    ("slope_by", "by", "name", _slope_by),
    ("slope_batch_sizes", "B", "range", _slope_range),
    ("slope_end", "ends near", "number", _slope_end),
)
