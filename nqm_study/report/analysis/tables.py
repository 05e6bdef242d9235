"""The tables of analyses: one of numbers for programs, and those that people read.

Each column is declared once: where its value is in an ``Analysis``, and how people read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any, Literal, NamedTuple

from pandas import DataFrame, concat
from rich.console import Group
from rich.text import Text

from nqm_study.report import data_checks, ramps, words
from nqm_study.report.analysis.measure import SOURCES, Analysis
from nqm_study.report.estimate import Estimate
from nqm_study.report.sheet import NAMING, Sheet

NONE = "-"
_PRECISE = 0.003  # relative uncertainty below which a number has four digits
_COUNTED = 1e5  # from here on numbers have a power of ten
_METHODS = {"curvature": "bend", "bootstrap": "seeds", "scatter": "scatter"}
_LEAST_MISSED = ("max", "product", "k", "S")
_ENDINGS = {"estimate": ("", "_low", "_high", "_bound", "_method"), "range": ("_low", "_high")}


def amount(estimate: Estimate, write: Callable[[float], str] | None = None) -> str:
    """Text of a number with its uncertainty or bound: ``6.03e6 ± 0.3 %``, ``<= 7,147``.

    Args:
        estimate: the number.
        write: of the value alone; else it has three digits, or four if it is so precise.
    """
    spread = estimate.relative
    digits = 4 if spread is not None and spread < _PRECISE else 3
    text = write(estimate.value) if write else _digits(estimate.value, digits)
    if spread is None:
        return f"{estimate.bound} {text}".strip()
    return f"{text} ± {words.percent(spread) if spread < 0.01 else f'{100.0 * spread:,.0f} %'}"


def _digits(value: float, digits: int) -> str:
    rounded = float(f"{value:.{digits}g}")
    if 1.0 <= rounded < _COUNTED:
        places = max(0, digits - 1 - math.floor(math.log10(rounded)))
        return f"{rounded:,.{places}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _steps(estimate: Estimate) -> str:
    """Text of steps that were found, which are whole numbers or nearly so."""
    return amount(estimate, words.count if estimate.value < _COUNTED else None)


def _critical(estimate: Estimate) -> str:
    """Text of a batch size and the range it may be in: ``112 (2^6..2^8)``."""
    text = amount(replace(estimate, low=None, high=None))
    if estimate.bound:
        return text
    return f"{text} ({_size(estimate.low)}..{_size(estimate.high)})"


def _size(value: float | None) -> str:
    if value is None:
        return "?"
    return words.power_of_two(value) if math.log2(value).is_integer() else _digits(value, 3)


def _sharpness(estimate: Estimate) -> str:
    return amount(replace(estimate, low=None, high=None), "{:#.2g}".format)


def _slope(estimate: Estimate) -> str:
    if estimate.high is None:
        return f"{estimate.value:.2f}"
    return words.plus_minus(estimate.value, estimate.high - estimate.value)


class Column(NamedTuple):
    """Column of the tables: names for programs and people, its value's place, and its text."""

    name: str
    heading: str
    kind: Literal["estimate", "range", "number", "name"]
    place: str
    write: Callable[[Any], str]

    def value(self, analysis: Analysis) -> Any:
        """The column's value in an analysis; None where it is not known."""
        found: Any = analysis
        for attribute in self.place.split("."):
            found = None if found is None else getattr(found, attribute)
        return found

    def text(self, analysis: Analysis) -> str:
        """The column's text for an analysis."""
        return _text(self.value(analysis), self.write)


class Section(NamedTuple):
    """Table for people: label, title, what else a line has room for, note and columns."""

    name: str
    title: str
    brief: str
    note: str
    columns: tuple[Column, ...] = ()


Part = tuple[Section, DataFrame]
"""A table for people, in texts."""

_NAMES = (
    Column("curve", "curve", "name", "curve.label", str),
    Column("source", "from", "name", "source", SOURCES.__getitem__),
)
SECTIONS = (
    Section(
        "limits",
        "Limits of scaling",
        "<= or >= is a bound: the sweep ends before the limit",
        "T are the fewest steps to the target at batch size B, and k = T B in examples where twice "
        "the batch halves the steps (the median there, ± its range). E_min are the examples T B at "
        "small batches, S_min the steps at large ones, ± what they change by over the last factor "
        "of four in B and what the search is off by; <= where they change by more than 2 %, so "
        "that the sweep does not reach the limit, or where a point it rests on needs more than "
        "another allows. At B_20 the examples are 20 % above E_min; in brackets the batch sizes it "
        "is between, wider where the search is more uncertain.",
        (
            Column("perfect_scaling", "k", "estimate", "perfect_scaling", amount),
            Column("fewest_examples", "E_min", "estimate", "fewest_examples", amount),
            Column("fewest_steps", "S_min", "estimate", "fewest_steps", _steps),
            Column("critical_batch_size", "B_20", "estimate", "critical.estimate", _critical),
        ),
    ),
    Section(
        "hyperbola",
        "Nearest hyperbola",
        "T = S (1 + B_crit / B), and its misfit",
        "T = S (1 + B_crit / B), with E = S B_crit, fitted in ln T; ± is the 95 % interval by the "
        "scatter about it. rms and max are the misfit T / T_fit - 1. The product "
        "(T / S_min - 1) (T B / E_min - 1), with the limits as measured, is 1 on the hyperbola and "
        "less at a sharper knee.",
        (
            Column(
                "hyperbola_critical_batch_size",
                "B_crit",
                "estimate",
                "hyperbola.critical_batch_size",
                amount,
            ),
            Column("hyperbola_steps", "S", "estimate", "hyperbola.fewest_steps", amount),
            Column("hyperbola_examples", "E", "estimate", "hyperbola.fewest_examples", amount),
            Column("hyperbola_rms", "rms", "number", "hyperbola.rms", words.percent),
            Column("hyperbola_largest", "max", "number", "hyperbola.largest", words.percent),
            Column(
                "product", "product", "range", "product_range", "{0[0]:#.2g}..{0[1]:#.2g}".format
            ),
        ),
    ),
    Section(
        "rate",
        "Best rate at small batches",
        "it goes as B^slope",
        "The best rate goes as B^slope over these B, and is 20 % off this law from where it ends. "
        "± is by the bend: how much the slope of the exact optima changes over these B, plus "
        "how far the slope found is off; by seeds: a 95 % bootstrap interval; by scatter: the 95 % "
        "interval by the scatter about the line. The slope from exact optima is that at the "
        "smallest B.",
        (
            Column("slope", "slope", "estimate", "slope", _slope),
            Column("slope_by", "by", "name", "slope.method", lambda m: _METHODS.get(m, m)),
            Column(
                "slope_batch_sizes",
                "B",
                "range",
                "fit.batch_sizes",
                lambda b: "..".join(map(words.power_of_two, b)),
            ),
            Column(
                "slope_end", "ends near", "number", "fit.end", lambda b: f"2^{math.log2(b):.0f}"
            ),
        ),
    ),
)
CRITICAL = (
    "B_20: where does a larger batch begin to cost? Examples are 20 % above E_min.",
    "B_crit: where do steps and examples trade evenly? Both are twice their least.",
    "ends near: where does the best rate leave its law? It is 20 % off B^slope.",
)
"""The question that each of the three critical batch sizes answers."""

PRODUCTS = Section(
    "products",
    "Sharpness of the knee",
    "",
    "(T / S_min - 1) (T B / E_min - 1), with the limits as measured: 1 on McCandlish's hyperbola, "
    "less at a sharper knee. The points that are the limits themselves have none: it is 0 there, "
    "however sharp the knee is.",
)

_OTHERS = (
    (Section("ramps", ramps.TITLE, "", ramps.NOTE), ramps.ramps, ramps.ramp_frame),
    (
        Section("data", data_checks.TITLE, "", data_checks.NOTE),
        data_checks.data_checks,
        data_checks.check_frame,
    ),
)
"""Tables whose rows are no analyses: what they say, their rows, and the texts of these."""


def analysis_frame(analyses: Sequence[Analysis]) -> DataFrame:
    """Make the table of numbers, in full: one row for each analysis.

    An estimate has five columns: its value, ``_low``, ``_high``, ``_bound`` and ``_method``; a
    range has ``_low`` and ``_high``. Units are examples, steps and shares of 1; batch sizes and k
    are in examples. What is not known is missing.
    """
    columns = [*_NAMES, *(column for section in SECTIONS for column in section.columns)]
    return DataFrame(
        {
            name: number
            for column in columns
            for name, number in _numbers(column.name, column.kind, column.value(each)).items()
        }
        for each in analyses
    )


def products_frame(analyses: Sequence[Analysis]) -> DataFrame:
    """Make the table of how sharp each curve's knee is, in numbers: a row for each batch size."""
    frames = [
        DataFrame(
            [
                _numbers(_title(each), "estimate", dict(each.products).get(point.batch_size))
                for point in each.curve.points
            ],
            index=[point.batch_size for point in each.curve.points],
        )
        for each in analyses
    ]
    return concat(frames, axis=1).sort_index().rename_axis("batch_size").reset_index()


def text_frames(analyses: Sequence[Analysis]) -> list[Part]:
    """Make the tables that people read, in texts; the last has a row for each batch size."""
    found = [
        (
            section,
            DataFrame(
                {
                    column.heading: [column.text(each) for each in analyses]
                    for column in (*_NAMES, *section.columns)
                }
            ),
        )
        for section in SECTIONS
    ]
    sizes = sorted({point.batch_size for each in analyses for point in each.curve.points})
    products = {
        _title(each): [_text(dict(each.products).get(size), _sharpness) for size in sizes]
        for each in analyses
    }
    frame = DataFrame({"batch size": [words.typed(size) for size in sizes], **products})
    return [*found, (PRODUCTS, frame)]


def other_parts(studies: DataFrame) -> list[Part]:
    """Make the tables for people that stand below the analyses, of those that have rows."""
    rows = [(section, found(studies), texts) for section, found, texts in _OTHERS]
    return [(section, texts(found)) for section, found, texts in rows if not found.empty]


def sides(frame: DataFrame) -> list[str]:
    """Sides that the columns for people are flush with: names left, numbers right."""
    return ["left" if heading in NAMING else "right" for heading in frame]


def _numbers(name: str, kind: str, value: Any) -> dict[str, Any]:
    """Numbers that a value consists of, by the names of their columns in CSV."""
    names = [f"{name}{ending}" for ending in _ENDINGS.get(kind, ("",))]
    if value is None:
        return dict.fromkeys(names)
    parts = astuple(value) if kind == "estimate" else value if kind == "range" else (value,)
    return dict(zip(names, parts, strict=True))


def _title(analysis: Analysis) -> str:
    return f"{analysis.curve.label}, {SOURCES[analysis.source]}"


def _text(value: Any, write: Callable[[Any], str]) -> str:
    return NONE if value is None else write(value)


def analysis_table(analyses: Sequence[Analysis]) -> Group:
    """Make the tables of a terminal, below each other: all but that of the knee's sharpness.

    What was found has no row of its own where it says the same as the exact optima: the row is of
    both. Columns that a line has no room for are left out, the least missed first; the files have
    all. Rows and tables in which nothing is known are left out.
    """
    found = [_sheet(*each) for each in text_frames(analyses)[: len(SECTIONS)]]
    tables = [sheet for sheet in found if not sheet.cells.empty]
    if not tables:
        return Group()
    notes = Text("\n".join([*CRITICAL, "The other columns: analysis.md, beside the figures."]))
    return Group(*(part for table in tables for part in (Text(), table)), notes)


def _sheet(section: Section, frame: DataFrame) -> Sheet:
    twice = frame.duplicated([heading for heading in frame if heading != "from"], keep=False)
    merged = frame.assign(**{"from": frame["from"].mask(twice, "both")}).drop_duplicates()
    numbers = [heading for heading in reversed(list(frame)) if heading not in NAMING]
    merged = merged[(merged[numbers] != NONE).any(axis=1)]
    spare = tuple(dict.fromkeys([*_LEAST_MISSED, *numbers]))
    return Sheet(f"{section.title}: {section.brief}", merged, spare)
