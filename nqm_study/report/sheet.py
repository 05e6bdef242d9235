"""A table of texts on a terminal: whole numbers in as many columns as a line holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pandas import DataFrame
from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from nqm_study.study.text import printable

NAMING = ("spectrum", "target", "optimizer", "sampler", "curve", "from", "by")
"""The columns that name a row; all others are numbers, and set flush right."""

_FOLDED = 24
"""Characters of a name's line, at least, while there are columns to leave out."""

_SHORTEST = 6
"""Characters of a name's line where no more columns can be left out."""


@dataclass(frozen=True)
class Sheet:
    """A table of texts with the columns that a terminal's line has room for.

    Half a number is a wrong number: a column of numbers is shown whole or left out, and the line
    below the table says which are left out. Names are folded. Where even the columns that always
    stay are wider than the terminal, it breaks the lines as it does those of any text.

    Attributes:
        title: what stands above.
        cells: a row of texts for each row; its columns are the headings.
        spare: headings that may be left out, the least missed first.
        instead: what the title says in place of a column that is left out.
        note: what stands below.
        narrow: whether headings are broken into words.
        ends: the numbers of rows that a line is below.
    """

    title: str
    cells: DataFrame
    spare: Sequence[str] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    narrow: bool = True
    ends: Collection[int] = ()

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """What Rich prints."""
        shown = self.fitting(options.max_width)
        cells = self.cells[shown]
        missing = [heading for heading in self.cells if heading not in shown]
        said = [self.instead[heading] for heading in missing if heading in self.instead]
        yield Text(", ".join([printable(self.title), *said]), overflow="fold")
        yield self._table(cells, options.max_width)
        if self.note:
            yield Text(printable(self.note), overflow="fold")
        unsaid = [" ".join(heading.split()) for heading in missing if heading not in self.instead]
        if unsaid:
            them = "it" if len(unsaid) == 1 else "them"
            yield Text(
                f"No room for {', '.join(unsaid)}: a terminal of "
                f"{self._least(list(self.cells))} columns shows {them}."
            )

    def fitting(self, width: int) -> list[str]:
        """The headings of the columns that fit a number of characters, in order."""
        left_out: list[str] = []

        def shown() -> list[str]:
            return [heading for heading in self.cells if heading not in left_out]

        for heading in self.spare:
            if self._least(shown()) <= width:
                break
            if heading in self.cells:
                left_out.append(heading)
        # A wide one that went last may have made room for others that went before it.
        for heading in reversed(left_out[:-1]):
            left_out.remove(heading)
            if self._least(shown()) > width:
                left_out.append(heading)
        # Two spaces between columns read better than one: worth what the title can say as well.
        told = [heading for heading in self.instead if heading in shown()]
        if not left_out and told and self._spaces(shown(), width) == 1:
            fewer = [heading for heading in shown() if heading not in told]
            return fewer if self._spaces(fewer, width) == 2 else shown()
        return shown()

    def _table(self, cells: DataFrame, width: int) -> Table:
        spaces = self._spaces(list(cells), width)
        result = Table(
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, spaces - 1, 0, 0),
            pad_edge=False,
        )
        least = self._least(list(cells), _SHORTEST)
        if least > width:
            result.width = least
        names = self._name_widths(list(cells), width)
        for heading in cells:
            title = Text(printable(heading, "\n"))
            if heading in names:
                result.add_column(title, width=names[heading], overflow="fold")
            else:
                result.add_column(title, justify="right", width=self._width(heading), no_wrap=False)
        for i, row in enumerate(cells.itertuples(index=False), start=1):
            result.add_row(*(Text(printable(text)) for text in row), end_section=i in self.ends)
        return result

    def _name_widths(self, shown: Sequence[str], width: int) -> dict[str, int]:
        """Characters of each column of names: what the numbers leave goes to the longest."""
        names = {heading: self._width(heading) for heading in shown if heading in NAMING}
        least = self._least(shown) <= width
        shortest = {name: min(w, _FOLDED if least else _SHORTEST) for name, w in names.items()}
        spare = width - self._least(shown, _FOLDED if least else _SHORTEST)
        for name in sorted(names, key=lambda name: names[name] - shortest[name]):
            more = min(names[name] - shortest[name], max(spare, 0))
            shortest[name] += more
            spare -= more
        return shortest

    def _least(self, shown: Sequence[str], name: int = _FOLDED) -> int:
        """Characters that a line needs, with names folded to a number of them, and one space."""
        widths = [
            min(self._width(heading), name) if heading in NAMING else self._width(heading)
            for heading in shown
        ]
        return sum(widths) + len(shown) - 1

    def _spaces(self, shown: Sequence[str], width: int) -> int:
        """Two between columns, or one where two would fold a name or be too wide."""
        whole = sum(map(self._width, shown))
        return 2 if whole + 2 * (len(shown) - 1) <= width else 1

    def _width(self, heading: str) -> int:
        """The longest cell, or word of the heading (or line of it), in characters."""
        parts = heading.split() if self.narrow else heading.splitlines()
        texts = [*parts, *self.cells[heading]]
        return max(cell_len(printable(text)) for text in texts)
