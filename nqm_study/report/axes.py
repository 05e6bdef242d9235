"""The style of all figures: their panels, axes in powers of two, colours and markers, legends."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
from matplotlib import colormaps, rc_context, style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

GREY = "0.45"
BATCH_SIZE = "batch size, B (examples)"
Entry = tuple[Line2D, str, str]  # of a legend: a line, its label, a remark below it
LINES = ("-", "--", ":", "-.")
_MOST_TICKS = 12
_RAISED = str.maketrans("-0123456789", "\N{SUPERSCRIPT MINUS}⁰¹²³⁴⁵⁶⁷⁸⁹")
_LABEL_WIDTH = 33  # characters
_CAPTION_HEIGHT = 0.3  # inches: two lines
_PALEST = 0.84  # of viridis: beyond it yellow vanishes on white
_WIDTH = 7.2  # inches, of a figure of panels
PANEL_HEIGHT = 3.4  # inches
_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_NO_LAYOUT: Any = {"figure.constrained_layout.use": False}
_LEGEND_WIDTH = 2.0  # inches, of the style's figure width


@dataclass(frozen=True)
class Look:
    """The colour, marker and line of one curve."""

    color: str
    marker: str
    linestyle: str = "-"


class StyledFigure(Figure):
    """A Matplotlib figure that notebooks show in this package's style."""

    def _repr_png_(self) -> bytes:
        return rendered(self, "png")


def rendered(figure: Figure, extension: str) -> bytes:
    """The figure as a file of one of ``figures.FORMATS``: the same bytes each time."""
    buffer = io.BytesIO()
    with nqm_style(), rc_context(_NO_LAYOUT):
        figure.savefig(buffer, format=extension, metadata=_METADATA[extension])
    return buffer.getvalue()


def lay_out(figure: Figure) -> None:
    """Lay a figure out once for all formats, which takes as long as writing one.

    Nothing lays it out again. With an engine, even one that does nothing, Matplotlib would draw
    each format twice.
    """
    with nqm_style():
        figure.draw_without_rendering()
        with rc_context(_NO_LAYOUT):
            figure.set_layout_engine(None)


@contextmanager
def nqm_style() -> Iterator[None]:
    """Matplotlib's own defaults with this package's style, whatever the user's settings are."""
    with (
        as_file(files("nqm_study.report") / "nqm.mplstyle") as path,
        style.context(["default", path]),
    ):
        yield


def shades(values: Iterable[float]) -> dict[float, str]:
    """A colour for each positive value, by its logarithm: dark ones are small."""
    logarithms = {value: math.log(value) for value in values}
    low = min(logarithms.values(), default=0.0)
    span = (max(logarithms.values(), default=0.0) - low) or 1.0
    return {
        value: to_hex(colormaps["viridis"](_PALEST * (logarithm - low) / span))
        for value, logarithm in logarithms.items()
    }


def log2_axes(x_label: str, y_label: str, caption: str) -> tuple[Figure, Axes]:
    """A figure with one pair of logarithmic axes and a caption line below them.

    Labels are Matplotlib's math text. A caption is plain text.
    """
    figure = StyledFigure()
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    caption_line(figure, caption)
    return figure, axes


def panels(
    heights: Sequence[float], x_label: str, caption: str, *, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with axes below each other, and a caption line below them.

    Args:
        heights: of the axes, in inches.
        x_label: of the last ones.
        caption: plain text.
        shared: whether all have one horizontal axis.
    """
    # Without ticks between them, panels need less room.
    figure = StyledFigure(figsize=(_WIDTH, sum(heights) + (0.3 if shared else 0.4)))
    grid = figure.subplots(
        len(heights), sharex=shared, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    all_axes = list(grid[:, 0])
    all_axes[-1].set_xlabel(x_label)
    caption_line(figure, caption)
    return figure, all_axes


def caption_line(figure: Figure, text: str) -> None:
    """Put a caption below everything: plain text, which may hold names of files."""
    figure.supxlabel(plain(fill(text, 110)), x=0.01, ha="left", fontsize=8, color="0.25")


def set_powers(
    axes: Axes,
    name: Literal["x", "y"],
    values: Sequence[float],
    *,
    room: float = 0.0,
    most: int = _MOST_TICKS,
) -> None:
    """Set limits half an octave beyond the positive values, and ticks 2^k.

    Args:
        axes: what to set them on.
        name: which axis.
        values: what must be inside.
        room: share of the axis to leave free at its upper end.
        most: ticks, at most.
    """
    exponents = [math.log2(value) for value in values if value > 0.0] or [0.0]
    low, high = min(exponents) - 0.5, max(exponents) + 0.5
    if high - low < 2.0:  # a narrow range would show one tick or none
        low, high = low - 0.5, high + 0.5
    high += (high - low) * room / (1.0 - room)
    ticks = range(math.ceil(low), math.floor(high) + 1)
    step = 1
    while len(shown := [k for k in ticks if k % step == 0]) > most:
        step += 1
    _set_axis(axes, name, (2.0**low, 2.0**high), [2.0**k for k in shown], _as_power)


def set_steps(axes: Axes, last: float) -> None:
    """Set a horizontal axis of steps from 0 on: logarithmic from 1, with ticks 0, 1, 2, 4, ..."""
    axes.set_xscale("symlog", base=2, linthresh=1.0)
    exponents = range(math.floor(math.log2(max(last, 2.0))) + 1)
    gap = math.ceil(len(exponents) / _MOST_TICKS)
    ticks = [0.0, *(2.0**k for k in exponents[::gap])]
    write = {0.0: "0"}
    _set_axis(axes, "x", (0.0, last * 2.0**0.5), ticks, lambda v: write.get(v) or _as_power(v))


def set_losses(axes: Axes, name: Literal["x", "y"], values: Sequence[float]) -> None:
    """Set a logarithmic axis of losses that holds some positive values: 0.01, 0.02, 0.05, ...

    Args:
        axes: what to set it on.
        name: which axis.
        values: what must be inside, a little room beyond.
    """
    low, high = 0.8 * min(values), 1.25 * max(values)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    heads = (1, 2, 5) if len(powers) <= _MOST_TICKS // 2 else (1,)
    ticks = [head * 10.0**power for power in powers for head in heads]
    axes.set(**{f"{name}scale": "log"})
    _set_axis(axes, name, (low, high), [t for t in ticks if low <= t <= high], "{:g}".format)


def _set_axis(
    axes: Axes,
    name: Literal["x", "y"],
    limits: tuple[float, float],
    ticks: Sequence[float],
    write: Callable[[float], str],
) -> None:
    axes.set(**{f"{name}lim": limits})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def _as_power(value: float) -> str:
    return power(round(math.log2(value)))


def power(exponent: int) -> str:
    """``2¹⁰`` for 10. Letters, since a formula takes a hundred times as long to set."""
    return f"2{str(exponent).translate(_RAISED)}"


def legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Put a legend beside the axes, where it hides no point.

    The figure grows with the legend and a long caption, so that the axes keep their size, no entry
    is cut off and none stands upon the caption.

    Args:
        figure: where to put it, in place of one put there before.
        entries: a line, its label (plain text, wrapped where long) and a remark below it (math
            text), or an empty one. Without entries there is no legend.
    """
    for old in figure.legends:
        old.remove()
    if not entries:
        return
    texts = [
        "\n".join([label_text(label), *([remark] if remark else [])])
        for _, label, remark in entries
    ]
    made = figure.legend([line for line, *_ in entries], texts, loc="outside right upper")
    figure.draw_without_rendering()
    box = made.get_window_extent()
    width, height = mpl.rcParams["figure.figsize"]
    excess = max(0.0, box.width / figure.dpi - _LEGEND_WIDTH)
    below = sum(text.get_window_extent().height for text in figure.texts) / figure.dpi
    height += max(0.0, below - _CAPTION_HEIGHT)
    figure.set_size_inches(width + excess, max(height, box.height / figure.dpi + below + 0.2))


def side_legend(axes: Axes, lines: Sequence[Line2D], labels: Sequence[str]) -> None:
    """Put a legend beside a panel; labels are Matplotlib's math text."""
    axes.legend(lines, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def label_text(label: str) -> str:
    """A curve's label as it is drawn: in several lines where it is long."""
    return plain(fill(label, _LABEL_WIDTH))


def plain(text: str) -> str:
    """A text that users may have written, as it can stand in a figure of this style.

    A dollar sign would begin a formula, so it is escaped. A character that the font lacks, which
    would be drawn as an empty box with a warning, becomes a question mark.
    """
    known = get_font(findfont(FontProperties())).get_charmap()
    shown = (c if c == "\n" or ord(c) in known else "?" for c in text)
    return "".join(shown).replace("$", r"\$")
