"""Names of others: shown in every file, and obeyed in none."""

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fake_records import bounded, study, trial, with_optima

from nqm_study.report.frame import studies_frame
from nqm_study.report.write import write_figures

HOSTILE = "\x1b[31m$\\frac{$ <b>x</b><script>alert(1)</script> [bold]|`*_ \u202e &amp; ${z} $x$\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    records = [
        study(
            trial(10**6 // size + 700),
            optimizer=optimizer,
            batch_size=size,
            spectrum=HOSTILE,
            schedule="linear",
            spectrum_settings={"file": f"{HOSTILE}.csv", "modes": 10.0},
        )
        for optimizer in (HOSTILE, "=sgd()", "+1", "@a")
        for size in (4, 16, 64, 256, 1024)
    ]
    files = write_figures(
        studies_frame(with_optima(bounded(records))), tmp_path_factory.mktemp("figures")
    )
    return {file.name: file for file in files}


@pytest.mark.parametrize(
    "name", ["analysis.csv", "analysis_products.csv", "analysis.md", "analysis.tex", "report.html"]
)
def test_what_steers_a_reader_is_written_in_escapes(written: dict[str, Path], name: str) -> None:
    text = written[name].read_text()
    assert not {*"\x1b\u202e"} & {*text}
    assert "u202e" in text


def test_no_cell_is_a_formula(written: dict[str, Path]) -> None:
    for name in ("analysis.csv", "analysis_products.csv"):
        rows = list(csv.reader(io.StringIO(written[name].read_text())))
        texts = [cell for row in rows for cell in row if not cell or not _number(cell)]
        assert texts
        assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@"))]
        assert any("'=sgd()" in cell for cell in texts)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.bold: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag == "b":
            self.bold.append(tag)


def test_no_name_is_an_element_of_the_page(written: dict[str, Path]) -> None:
    text = written["report.html"].read_text()
    tags = _Tags()
    tags.feed(text)
    assert not tags.bold
    assert "<script>alert" not in text
    assert "&lt;b&gt;x&lt;/b&gt;" in text
    assert text.count("</script>") == tags.scripts


def test_markdown_and_latex_show_it_as_it_is(written: dict[str, Path]) -> None:
    assert r"\$\\frac{\$ \<b\>x\</b\>" in written["analysis.md"].read_text()
    assert r"\&amp; \${z} \$x\$" in written["analysis.md"].read_text()
    latex = written["analysis.tex"].read_text()
    assert r"\$\textbackslash{}frac\{\$ $<$b$>$x$<$/b$>$" in latex
    assert r"\&amp; \$\{z\} \$x\$" in latex
