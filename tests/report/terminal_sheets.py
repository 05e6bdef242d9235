"""Tables as a terminal of some width shows them."""

import io

from rich.console import Console

from nqm_study.report.sheet import NAMING, Sheet

WIDTHS = range(20, 201)


def render(sheet: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(sheet, crop=False)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def body(sheet: Sheet, width: int) -> list[str]:
    """The lines of the rows."""
    lines = render(sheet, width)
    (start,) = [i for i, line in enumerate(lines) if line.startswith("──")]
    after = [i for i, line in enumerate(lines) if line.startswith("No room")]
    if sheet.note:
        after += [i for i, line in enumerate(lines) if i > start and line[:9] == sheet.note[:9]]
    return lines[start + 1 : min(after, default=None)]


def require_whole_numbers(sheet: Sheet) -> None:
    """Every number that is shown at any width is one of the sheet's, and none of a column lacks."""
    words = {word for row in sheet.cells.to_numpy() for text in row for word in text.split()}
    numbers = [heading for heading in sheet.cells if heading not in NAMING]
    for width in WIDTHS:
        lines = body(sheet, width)
        found = {word for line in lines for word in line.split() if any(map(str.isdigit, word))}
        assert found <= words, width
        for heading in sheet.fitting(width):
            if heading in numbers:
                text = " ".join(lines)
                assert all(cell in text for cell in sheet.cells[heading]), (width, heading)
