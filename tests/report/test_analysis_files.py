"""The scaling analysis as a terminal table, CSV, LaTeX, Markdown and JSON."""

import csv
import io
import json
import random
import re
from pathlib import Path

import pytest
from fake_records import POWERS, adam, curves, momentum, optimal, sgd, study, trial, with_optima
from rich.console import Console

from nqm_study.app.publish import Published, show
from nqm_study.report import words
from nqm_study.report.analysis.files import (
    ANALYSIS_FILES,
    SCHEMA,
    analysis_files,
    analysis_json,
    analysis_latex,
    analysis_markdown,
    latex_text,
)
from nqm_study.report.analysis.measure import Analysis, analyses
from nqm_study.report.analysis.tables import amount, analysis_table
from nqm_study.report.describe import describe_curve
from nqm_study.report.estimate import Estimate
from nqm_study.report.frame import studies_frame
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord


def mixed() -> list[StudyRecord]:
    """Curves of several kinds, one of which has seeds and one a point that was not reached."""
    few = [4**k for k in range(1, 6)]
    return [
        *with_optima(sgd()),
        *momentum(few),
        *momentum(few, seed=1),
        *adam(),
        *optimal(few),
        study(trial(None), batch_size=2),
    ]


def told(records: list[StudyRecord]) -> tuple[Analysis, ...]:
    return analyses(curves(records))


def csv_rows(found: tuple[Analysis, ...], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(analysis_files(found)[name].decode())))


def terminal(records: list[StudyRecord], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(analysis_table(told(records)))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_every_format_of_every_selection_has_the_same_rows() -> None:
    found = told(mixed())
    rows = csv_rows(found, "analysis.csv")
    assert [(row["curve"], row["source"]) for row in rows] == [
        ("sgd", "exact"),
        ("sgd", "found"),
        ("sgd, optimal", "found"),
        ("momentum", "found"),
        ("adam", "found"),
    ]
    markdown, latex = re.sub(" +", " ", analysis_markdown(found)), analysis_latex(found)
    assert "| sgd, optimal | found | - | - | - | - |" in markdown, "its rate follows no law"
    for label, source in ((row["curve"], row["source"]) for row in rows):
        assert markdown.count(f"| {label} | {source} |") == 3
        assert latex.count(f"{label} & {source} &") == 3
    curves_told = json.loads(analysis_json(found))["curves"]
    assert [c["label"] for c in curves_told] == [
        "sgd",
        "sgd, optimal",
        "momentum",
        "adam",
    ]
    assert curves_told[0]["exact"] is not None
    assert curves_told[1]["exact"] is None


def test_csv_and_json_have_numbers_in_full_and_nothing_where_nothing_is_known() -> None:
    found = told(mixed())
    row, _, _, second, last = csv_rows(found, "analysis.csv")
    first = found[0]
    assert float(row["fewest_examples"]) == first.fewest_examples.value
    assert float(row["hyperbola_rms"]) == first.hyperbola.rms  # type: ignore[union-attr]
    assert second["fewest_steps_bound"] == "<="
    assert second["fewest_steps_low"] == ""
    assert last["slope_method"] == "scatter"
    document = json.loads(analysis_json(found))
    assert document["schema"] == SCHEMA
    exact, other = document["curves"][0]["exact"], document["curves"][2]["found"]
    assert exact["fewest_examples"]["value"] == first.fewest_examples.value
    assert exact["fewest_examples"]["reached"] is True
    assert other["fewest_steps"]["low"] is None
    assert other["fewest_steps"]["reached"] is False
    assert document["curves"][1]["found"]["learning_rate_slope"] is None, "computed"
    assert document["curves"][0]["unreached_batch_sizes"] == [2]
    assert [each["batch_size"] for each in exact["points"]] == POWERS
    for key in ("critical_batch_size", "perfect_scaling", "fewest_steps"):
        assert key in document["units"]


def test_products_have_a_row_for_each_batch_size() -> None:
    found = told(mixed())
    rows = csv_rows(found, "analysis_products.csv")
    assert [float(row["batch_size"]) for row in rows] == POWERS
    assert float(rows[3]["sgd, exact"]) == dict(found[0].products)[256].value
    assert rows[-1]["momentum, found"] == "", "not studied there"


def test_order_of_the_records_changes_no_file() -> None:
    records = mixed()
    shuffled = records.copy()
    random.Random(0).shuffle(shuffled)  # noqa: S311 - order, not secrets
    assert analysis_files(told(shuffled)) == analysis_files(told(records))


def test_files_stand_beside_the_figures_where_there_are_two_batch_sizes(tmp_path: Path) -> None:
    names = {path.name for path in write_figures(studies_frame(sgd([4, 16])), tmp_path)}
    assert names > {"analysis.csv", "analysis.tex", "analysis.md", "analysis.json"}
    alone = write_figures(studies_frame(sgd([4])), tmp_path / "alone")
    assert not any("analysis" in path.name for path in alone)


def unescaped(text: str, characters: str) -> list[str]:
    return re.findall(rf"(?<!\\)[{re.escape(characters)}]", text)


def test_latex_has_balanced_tables_with_equally_many_cells() -> None:
    text = analysis_latex(told([*mixed(), *sgd([4, 16], spectrum="a_b & 50 %")]))
    assert text.isascii()
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 4
    assert len(unescaped(text, "{")) == len(unescaped(text, "}"))
    assert len(unescaped(text, "$")) % 2 == 0
    body = text.split("\n", maxsplit=1)[1]  # the first line is a comment
    assert not unescaped(body, "%#~")
    assert r"a\_b \& 50\,\%" in body
    outside = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", body)
    assert not unescaped(outside, "_^")
    for tabular in body.split(r"\begin{tabular}")[1:]:
        kinds = re.match(r"{([lr]+)}", tabular)
        assert kinds is not None
        lines = [line for line in tabular.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 2
        for line in lines:
            assert len(unescaped(line, "&")) == len(kinds[1]) - 1
    labels = re.findall(r"\\label{(.*?)}", text)
    assert len(set(labels)) == 4


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("6.03e6 ± 0.3 %", r"$6.03\times10^{6}$ $\pm$ 0.3\,\%"),
        ("<= 7,147", r"$\le$ 7,147"),
        ("406 (2^8..2^10)", r"406 ($2^{8}$--$2^{10}$)"),
        ("B_20", r"$B_{\mathrm{20}}$"),
        (r"a_b\{c}$", r"a\_b\textbackslash{}\{c\}\$"),
        ("sgd, file x^2~", r"sgd, file x\textasciicircum{}2\textasciitilde{}"),
    ],
)
def test_latex_text_is_escaped_and_numbers_are_mathematics(text: str, latex: str) -> None:
    assert latex_text(text) == latex


def test_markdown_tables_have_equally_many_cells_whatever_a_name_holds() -> None:
    text = analysis_markdown(told([*mixed(), *sgd([4, 16], optimizer="a|b")]))
    assert r"a\|b" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(unescaped(line, "|")) for line in block.splitlines()}) == 1


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(6_030_120, 6_009_088, 6_030_120), "6.03e6 ± 0.3 %"),
        (Estimate(1_391_904, 1_391_584, 1_391_904), "1.392e6 ± <0.1 %"),
        (Estimate(6571.3, 6072.0, 7111.0), "6,570 ± 8 %"),
        (Estimate(7147.0, bound="<="), "<= 7,150"),
        (Estimate(52.48), "52.5"),
        (Estimate(0.0123), "1.23e-2"),
    ],
)
def test_numbers_have_the_digits_their_uncertainty_allows(estimate: Estimate, text: str) -> None:
    assert amount(estimate) == text


def test_table_fits_eighty_characters_and_cuts_no_number() -> None:
    text = terminal(mixed())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "…" not in text
    wide = terminal(mixed(), width=300)
    for part in ("1.00 ±", "2^4..2^6", "<= 7,", "(2^12..2^14)"):
        assert (part in text) == (part in wide)
    assert "4,150 (2^12..2^14)" in text
    long = terminal([*sgd(), *adam(optimizer="a_name_without_a_space")])
    assert max(len(line.rstrip()) for line in long.splitlines()) <= 80
    assert all(name in long for name in ("E_min", "S_min", "B_20", "B_crit"))


def test_what_says_the_same_as_the_exact_optima_has_no_row_of_its_own() -> None:
    text = terminal(with_optima(sgd()))
    limits, _, rate = text.split("\n\n")
    assert limits.count("sgd") == 1
    assert " both " in limits
    assert " exact " in rate
    assert " found " in rate, "the slope of exact optima is that at the smallest batch"


def test_analysis_is_shown_after_the_results_where_there_are_two_batch_sizes() -> None:
    def shown(records: list[StudyRecord]) -> str:
        console = Console(file=io.StringIO(), width=80)
        show(Published(studies_frame(records)), console, None)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    text = shown(sgd([4, 16]))
    assert text.index("Fewest steps") < text.index("Limits of scaling")
    assert "Limits of scaling" not in shown(sgd([4]))


def test_a_slope_of_two_points_says_what_batch_sizes_to_add() -> None:
    (found,) = told(sgd([16, 64]))
    assert found.fit is not None
    assert found.fit.n_points == 2
    said = words.too_few("sgd", found.fit)
    assert said.endswith("too few small ones; add batch_size=4,1.")
    assert said in describe_curve(found.curve)
    assert "batch\\_size=4,1" in analysis_files([found])["analysis.md"].decode()
    assert words.too_few("sgd", told(sgd())[0].fit) == ""


def test_each_critical_batch_size_says_which_question_it_answers() -> None:
    text = terminal(mixed())
    for name in ("B_20", "B_crit", "ends near"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}: where do")]
        assert "?" in line
        assert line.rstrip().endswith(".")


def test_files_that_there_is_nothing_for_any_more_go(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    before = write_figures(studies_frame(sgd([4, 16])), tmp_path)
    after = write_figures(studies_frame(sgd([4])), tmp_path)
    assert {path.name for path in before} > {path.name for path in after}
    assert {*tmp_path.iterdir()} == {*after, tmp_path / "mine.txt"}
    assert {path.name for path in before} - {path.name for path in after} == {*ANALYSIS_FILES}
