import functools

import pytest
from fake_records import adam, bounded, curves, momentum, sgd, study, trial, with_optima
from pandas import DataFrame
from rich.cells import cell_len
from terminal_sheets import WIDTHS, render, require_whole_numbers

from nqm_study.report.analysis.measure import analyses
from nqm_study.report.analysis.tables import analysis_table
from nqm_study.report.sheet import Sheet
from nqm_study.report.tables import result_table

HOSTILE = "\x1b[31mred\x07 [bold]x[/bold] \u202egnp\n\r"


SIZES = [4, 64, 1024, 2**20]


@functools.cache
def sheets() -> list[Sheet]:
    drawn = curves(with_optima(bounded(sgd(SIZES) + momentum(SIZES) + adam(SIZES))))
    several = curves([r for seed in (0, 1) for r in bounded(sgd(SIZES, seed=seed))])
    tables = analysis_table(analyses(drawn)).renderables
    return [
        result_table(drawn),
        result_table(several),
        *(each for each in tables if isinstance(each, Sheet)),
    ]


@pytest.mark.parametrize("number", range(5))
def test_every_number_is_whole_at_every_width(number: int) -> None:
    require_whole_numbers(sheets()[number])


@pytest.mark.parametrize("number", range(5))
def test_a_column_that_is_left_out_is_named(number: int) -> None:
    sheet = sheets()[number]
    for width in WIDTHS:
        text = " ".join(" ".join(render(sheet, width)).split())
        for heading in set(sheet.cells) - set(sheet.fitting(width)):
            assert sheet.instead.get(heading, heading) in text, (width, heading)
    assert sheet.fitting(200) == list(sheet.cells)


@pytest.mark.parametrize("width", [40, 44, 60, 72, 80, 120, 200])
def test_no_line_is_longer_than_the_terminal(width: int) -> None:
    for sheet in sheets():
        assert max(cell_len(line.rstrip()) for line in render(sheet, width)) <= width


def test_a_name_of_any_length_leaves_the_numbers_at_eighty_columns() -> None:
    for name in ("learning_rate_" * 30, "a b " * 90, "\N{CJK UNIFIED IDEOGRAPH-5B66}" * 60):
        sizes = (4**k for k in range(1, 11))
        drawn = curves(study(trial(10**7 // b), optimizer=name, batch_size=b) for b in sizes)
        table = result_table(drawn)
        assert table.fitting(80) == list(table.cells)
        lines = render(table, 80)
        assert max(map(cell_len, lines)) <= 80
        text = " ".join(lines)
        assert all(cell in text for cell in table.cells["steps"])


def test_what_steers_a_terminal_is_shown_and_does_nothing() -> None:
    lines = render(result_table(curves([study(trial(100), optimizer=HOSTILE)])), 200)
    text = "\n".join(lines)
    assert not {*"\x1b\x07\r\u202e"} & {*text}
    assert r"\x1b[31mred\x07 [bold]x[/bold] \u202egnp\n\r" in text


def test_a_title_says_what_a_column_would_where_that_gives_room() -> None:
    cells = DataFrame({"optimizer": ["sgd"], "steps": ["1,000,000"], "trials": ["100"]})
    sheet = Sheet("T", cells, spare=("trials",), instead={"trials": "trials 100"})
    assert render(sheet, 80)[0].strip() == "T"
    assert render(sheet, 20)[0].strip() == "T, trials 100"
