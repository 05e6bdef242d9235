"""What changing batch sizes are worth: the optima beside studies, their figures and table."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_records import csv_rows, figure_of, optimal, sgd
from rich.console import Console
from terminal_sheets import require_whole_numbers

import nqm_study as nqm
from nqm_study.app.publish import publish, show
from nqm_study.optimum.ramps import KEPT, SHARES, ramps_wanted, true_ramps
from nqm_study.report.figures import batch_ramps, examples_frontier
from nqm_study.report.frame import studies_frame
from nqm_study.report.ramps import ramps
from nqm_study.report.tables import ramp_table
from nqm_study.report.write import write_figures
from nqm_study.study.definition import Range
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes
from nqm_study.study.records import Ramp, StudyRecord

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(100), batch_size=16)
TARGET = 0.1
SIZES = [16, 64, 256, 1024]
FIGURES = ("examples_frontier", "batch_ramps")


@pytest.fixture(scope="module")
def found() -> tuple[Ramp, ...]:
    (record,) = sgd([16], target=TARGET, batch_schedule="ramp")
    return true_ramps(PROBLEM, Recipes(Recipe(nqm.SGD), CONSTANT), record.definition)


def ramped(found: Sequence[Ramp], **changes: Any) -> list[StudyRecord]:
    """A curve without a batch schedule, and one with the optima of its problem."""
    given = {"target": TARGET, **changes}
    growing = sgd(SIZES, batch_schedule="ramp", **given)
    return [
        *sgd(SIZES, **given),
        *(dataclasses.replace(each, ramps=tuple(found)) for each in growing),
    ]


def test_the_optima_are_those_of_optimal_schedule_at_each_length(found: tuple[Ramp, ...]) -> None:
    assert len(found) >= len(SHARES) - 2
    for ramp in found:
        pieces = min(50, ramp.steps)
        given: dict[str, Any] = {"target": TARGET, "steps": ramp.steps, "pieces": pieces}
        one = nqm.optimal_schedule(PROBLEM, batch_sizes="constant", **given)
        best = nqm.optimal_schedule(PROBLEM, batch_sizes="optimal", **given)
        assert ramp.one_size == pytest.approx(one.examples, rel=1e-12)
        assert ramp.examples == pytest.approx(best.examples, rel=1e-12)
        if ramp.batch_sizes:
            assert ramp.batch_sizes == pytest.approx(best.batch_sizes, rel=1e-5)
            assert ramp.learning_rates == pytest.approx(best.learning_rates, rel=1e-5)
    assert len([ramp for ramp in found if ramp.batch_sizes]) == len(KEPT)
    # One batch size for all is one of the choices, and a longer run may do as a shorter one does.
    assert all(ramp.examples < ramp.one_size for ramp in found)
    for name in ("one_size", "examples"):
        values = [getattr(ramp, name) for ramp in found]
        assert values == sorted(values, reverse=True), name


def test_the_optima_are_known_only_where_the_target_can_be_reached() -> None:
    (record,) = sgd([16], target=TARGET, max_steps=3)
    assert true_ramps(PROBLEM, Recipes(Recipe(nqm.SGD), CONSTANT), record.definition) == ()


def test_only_studies_with_a_batch_schedule_have_them() -> None:
    (plain,), (growing,) = sgd([16]), sgd([16], batch_schedule="ramp")
    assert ramps_wanted(True, growing.definition)
    assert ramps_wanted("all", growing.definition)
    assert not ramps_wanted(False, growing.definition)
    assert not ramps_wanted(True, plain.definition)
    both = dataclasses.replace(growing.definition, batch_size=Range(4, 64))
    assert not ramps_wanted(True, both)


def test_the_saved_shares_are_at_equal_steps_and_at_equal_examples(
    found: tuple[Ramp, ...],
) -> None:
    rows = list(ramps(studies_frame(ramped(found))).itertuples())
    assert [row.steps for row in rows] == [ramp.steps for ramp in found]
    known = 0
    for row, ramp in zip(rows, found, strict=True):
        assert row.saved == 1.0 - ramp.examples / ramp.one_size
        if math.isnan(row.equal_steps):
            assert ramp.one_size > found[0].examples
            continue
        known += 1
        assert row.saved_steps == 1.0 - row.equal_steps / ramp.steps
        # By interpolation: the steps around them take more and fewer examples.
        low, high = (
            nqm.optimal_schedule(
                PROBLEM, target=TARGET, steps=steps, batch_sizes="optimal", pieces=min(50, steps)
            ).examples
            for steps in (math.floor(0.97 * row.equal_steps), math.ceil(1.03 * row.equal_steps))
        )
        assert high < ramp.one_size < low
    assert known > len(found) // 2


def test_the_frontier_shows_the_curves_and_both_optima(found: tuple[Ramp, ...]) -> None:
    records = ramped(found)
    (axes,) = figure_of("examples_frontier")(records).axes
    drawn = [list(zip(*map(list, line.get_data()), strict=True)) for line in axes.get_lines()]
    for name in ("one_size", "examples"):
        assert [(ramp.steps, getattr(ramp, name)) for ramp in found] in drawn
    for curve in (records[:4], records[4:]):
        points = [(each.best.steps, each.definition.batch_size) for each in curve if each.best]
        assert [(steps, steps * size) for steps, size in points] in drawn
    bound = min(each.bayes_bound * each.definition.one_batch_size for each in records)
    assert [(0, bound), (1, bound)] in drawn
    kinds = [row["kind"] for row in csv_rows("examples_frontier", records)]
    assert [kinds.count(kind) for kind in ("found", "one_size", "examples")] == [
        *(8, len(found), len(found)),
    ]


def test_of_several_problems_only_the_curves_are_in_one_frontier(found: tuple[Ramp, ...]) -> None:
    records = [*ramped(found), *ramped(found, spectrum_digest="d2", spectrum="other")]
    (axes,) = figure_of("examples_frontier")(records).axes
    assert len(axes.get_lines()) == 4
    assert len(figure_of("batch_ramps")(records).axes) == 4
    require_whole_numbers(ramp_table(ramps(studies_frame(records))))


def test_batch_sizes_are_above_the_rates_of_the_same_pieces(found: tuple[Ramp, ...]) -> None:
    records = ramped(found)
    stored = [ramp for ramp in found if ramp.batch_sizes]
    above, below = figure_of("batch_ramps")(records).axes
    for axes, name in ((above, "batch_sizes"), (below, "learning_rates")):
        for line, ramp in zip(axes.get_lines(), stored, strict=True):
            values = getattr(ramp, name)
            assert list(line.get_ydata()) == [*values, values[-1]]
            assert list(line.get_xdata())[:2] == [0.0, 1.0 / len(values)]
    assert len({line.get_color() for line in above.get_lines()}) == len(stored)
    legend = above.get_legend()
    assert legend is not None
    texts = [text.get_text().split(",")[0] for text in legend.get_texts()]
    assert texts == [f"T = {ramp.steps}" for ramp in stored]
    rows = csv_rows("batch_ramps", records)
    assert len(rows) == sum(len(ramp.batch_sizes) for ramp in stored)
    last = rows[len(stored[0].batch_sizes) - 1]
    # Step t belongs to piece floor(t * pieces / steps).
    pieces = len(stored[0].batch_sizes)
    assert int(last["first_step"]) * pieces // stored[0].steps == pieces - 1
    assert (int(last["first_step"]) - 1) * pieces // stored[0].steps == pieces - 2


def test_reports_without_a_batch_schedule_are_as_they_were(tmp_path: Path) -> None:
    plain = studies_frame([*sgd(SIZES), *optimal(SIZES)])
    assert examples_frontier.draw(plain) is None
    assert batch_ramps.draw(plain) is None
    written = {path.name for path in write_figures(plain, tmp_path)}
    assert not any(name.startswith(FIGURES) for name in written)
    assert "batch sizes save" not in (tmp_path / "analysis.md").read_text()


def test_without_the_optima_there_is_the_frontier_of_what_was_found() -> None:
    records = ramped(())
    (axes,) = figure_of("examples_frontier")(records).axes
    assert len(axes.get_lines()) == 3
    assert batch_ramps.draw(studies_frame(records)) is None
    assert ramps(studies_frame(records)).empty


def test_the_table_is_in_the_terminal_and_in_the_analysis(
    tmp_path: Path, found: tuple[Ramp, ...]
) -> None:
    studies = studies_frame(ramped(found))
    published = publish(tmp_path, studies)
    console = Console(width=120)
    with console.capture() as capture:
        show(published, console, None)
    assert capture.get().count("What the best batch sizes save") == 1
    (folder,) = published.folders
    text = (folder / "analysis.md").read_text()
    lines = text[text.index("## What the best batch sizes save") :].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in lines if "e+" in line]
    assert [row[0] for row in cells] == [f"{ramp.steps:,}" for ramp in found]
    for row, ramp in zip(cells, found, strict=True):
        assert float(row[1]) == pytest.approx(ramp.one_size, rel=1e-3)
        assert float(row[2]) == pytest.approx(ramp.examples, rel=1e-3)
        saved = 100.0 * (1.0 - ramp.examples / ramp.one_size)
        assert float(row[3].removesuffix(" %").lstrip("\\<")) == pytest.approx(saved, abs=0.5)
    assert "What the best batch sizes save" in (folder / "analysis.tex").read_text()
    assert {f"{name}.png" for name in FIGURES} <= {file.name for file in folder.iterdir()}


def test_numbers_of_the_table_are_whole_at_every_width(found: tuple[Ramp, ...]) -> None:
    require_whole_numbers(ramp_table(ramps(studies_frame(ramped(found)))))
