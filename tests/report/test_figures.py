import io
import math
import os
import re
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import matplotlib as mpl
import pytest
from fake_records import (
    POWERS,
    adam,
    bounded,
    crossed,
    curves,
    greedy,
    learning_rate_figure,
    momentum,
    optimal,
    optimal_steps,
    sgd,
    steps_figure,
    study,
    sweep,
    trial,
)
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

import nqm_study as nqm
from nqm_study.report import figures, parallel
from nqm_study.report.axes import nqm_style
from nqm_study.report.describe import describe
from nqm_study.report.frame import studies_frame
from nqm_study.report.looks import curve_looks
from nqm_study.report.parallel import contents_on_all_cores
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord

FINE = [2**k for k in range(2, 21)]
EIGHT = [record for i in range(8) for record in sgd(POWERS[i:], optimizer=f"sgd_{i}")]
CASES = {
    "one": sgd(),
    "three": sgd(FINE) + momentum(FINE) + adam(FINE),
    "eight": EIGHT,
    "bounded": bounded(sgd() + adam()),
    "computed": optimal() + greedy(),
    "single": sgd([256]) + adam([256]),
    "odd": sgd([100]) + adam([7, 300, 1000]),
    "unreached": [study(trial(None), batch_size=4)],
}


def tick_labels(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    (axes,) = figure.axes
    return [
        label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()
    ]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def texts_in_axes(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_tick_labels_are_powers_of_two_and_few(records: list[StudyRecord]) -> None:
    for figure in (steps_figure(records), learning_rate_figure(records)):
        labels = tick_labels(figure)
        assert 1 <= len(labels) <= 24
        assert all(re.fullmatch(r"2⁻?[⁰¹²³⁴⁵⁶⁷⁸⁹]+", label) for label in labels)


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_legend_stands_clear_of_the_axes_and_inside_the_figure(
    records: list[StudyRecord],
) -> None:
    for figure in (steps_figure(records), learning_rate_figure(records)):
        figure.draw_without_rendering()
        axes = figure.axes[0].get_window_extent()
        assert axes.width > 400
        for legend in figure.legends:
            box = legend.get_window_extent()
            assert box.x0 > axes.x1
            assert box.x1 <= figure.bbox.x1
            assert box.y0 >= 0


def test_every_curve_is_in_the_legend_with_a_look_of_its_own() -> None:
    figure = steps_figure(EIGHT)
    texts = legend_texts(figure)
    assert texts[:8] == [f"sgd_{i}" for i in range(8)]
    lines = figure.legends[0].get_lines()[:8]
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 8


def test_perfect_scaling_line_is_drawn_where_it_exists_only() -> None:
    def dashed(records: list[StudyRecord]) -> int:
        lines = steps_figure(records).axes[0].get_lines()
        return sum(line.get_linestyle() == "--" for line in lines)

    assert dashed(sgd() + adam()) == 2
    assert dashed(sgd([256])) == 0
    assert dashed(EIGHT[: len(EIGHT) // 8]) == 1


def test_perfect_scaling_lines_do_not_clutter_more_than_four_curves() -> None:
    for n_curves in (4, 5):
        records = [record for i in range(n_curves) for record in sgd(optimizer=f"sgd_{i}")]
        figure = steps_figure(records)
        lines = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == "--"]
        assert len(lines) == (4 if n_curves == 4 else 0)
        named = any("perfect scaling" in text for text in legend_texts(figure))
        assert named == bool(lines)


def reference_lines(records: list[StudyRecord]) -> dict[str, list[float]]:
    """The steps of each line that is no curve, by the start of its name in the legend."""
    figure = steps_figure(records)
    (axes,) = figure.axes
    drawn = {(line.get_color(), line.get_linestyle()): line for line in axes.get_lines()}
    entries = zip(figure.legends[0].get_lines(), legend_texts(figure), strict=True)
    return {
        text.split(":")[0].replace("\n", " "): list(
            drawn[line.get_color(), line.get_linestyle()].get_ydata()
        )
        for line, text in entries
        if text.startswith(("Bayes", "d /", "SGD"))
    }


def test_bounds_and_the_optimal_schedule_are_drawn_and_named() -> None:
    sizes = [4, 64]
    assert reference_lines(bounded(sgd(sizes))) == {
        "Bayes bound": [round(495_016 / size) for size in sizes],
        "d / (2 C B)": [500_000 / size for size in sizes],
        "SGD's optimal schedule, rate <= 2/h_1": [optimal_steps(size) for size in sizes],
    }


def test_studies_of_earlier_versions_have_the_bayes_bound_alone() -> None:
    assert list(reference_lines(sgd([4, 64]))) == ["Bayes bound"]
    assert "noise over curvature" not in steps_figure(sgd()).get_supxlabel()


def test_a_bound_at_a_single_batch_size_is_a_short_bar() -> None:
    assert set(reference_lines(bounded(sgd([256])))["d / (2 C B)"]) == {500_000 / 256}


def test_classical_bound_is_said_not_to_be_one() -> None:
    figure = steps_figure(bounded(sgd()))
    (text,) = [t.replace("\n", " ") for t in legend_texts(figure) if t.startswith("d /")]
    assert text == "d / (2 C B): a large-sample limit, not a strict bound"
    assert "C is the target loss" in " ".join(figure.get_supxlabel().split())


def test_the_formula_in_the_caption_is_not_broken() -> None:
    for spectrum in ("x" * n for n in range(30, 60, 2)):
        shown = steps_figure(bounded(sgd([4], spectrum=spectrum))).get_supxlabel()
        assert "d\xa0/\xa0(2\xa0C\xa0B)" in shown


def test_the_dotted_line_is_above_the_broader_bayes_line() -> None:
    figure = steps_figure(bounded(sgd()))
    entries = zip(figure.legends[0].get_lines(), legend_texts(figure), strict=True)
    lines = {text.split()[0]: line for line, text in entries}
    assert lines["d"].get_linestyle() == ":"
    assert lines["Bayes"].get_linewidth() > 2 * lines["d"].get_linewidth()
    drawn = {line.get_linestyle(): line for line in figure.axes[0].get_lines()}
    (bayes,) = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 4.0]
    assert drawn[":"].get_zorder() > bayes.get_zorder()


def test_optimal_schedule_is_not_drawn_twice() -> None:
    name = "SGD's optimal schedule, rate <= 2/h_1"
    assert name not in reference_lines(optimal() + bounded(sgd()))
    assert name in reference_lines(optimal(POWERS[:3]) + bounded(sgd())), "it has all batch sizes"
    assert name in reference_lines(greedy())
    momentum_only = optimal(optimizer="momentum") + bounded(adam())
    assert name in reference_lines(momentum_only), "it is not that of SGD"


def test_peak_rates_are_called_so() -> None:
    def label(records: list[StudyRecord]) -> str:
        return learning_rate_figure(records).axes[0].get_ylabel()

    assert label(sgd()) == "best learning rate (as in PyTorch)"
    assert label(sgd() + adam(schedule="cosine")) == "best peak learning rate (as in PyTorch)"
    assert label(momentum(schedule="cosine")).startswith("best peak learning rate\nwith momentum")
    assert label(optimal()) == "peak learning rate (as in PyTorch)"


def test_computed_schedules_have_no_place_among_best_rates() -> None:
    figure = learning_rate_figure(sgd() + optimal() + greedy() + adam())
    assert [text.split("\n")[0] for text in texts_in_axes(figure)] == [
        "sgd",
        "adam",
    ]
    assert "Schedule: constant." in figure.get_supxlabel()
    assert figure.axes[0].get_ylabel() == "best learning rate (as in PyTorch)"
    alone = learning_rate_figure(optimal() + greedy())
    assert texts_in_axes(alone) + legend_texts(alone) == ["sgd, greedy", "sgd, optimal"], "no fit"


def test_a_curve_looks_alike_in_both_figures() -> None:
    records = sgd() + optimal() + adam()
    found = curves(records)
    with nqm_style():
        looks = curve_looks(found)
    (look,) = [look for curve, look in zip(found, looks, strict=True) if curve.label == "adam"]
    for figure in (steps_figure(records), learning_rate_figure(records)):
        assert (look.color, look.marker) in {
            (line.get_color(), line.get_marker()) for line in figure.axes[0].get_lines()
        }


def test_more_than_four_schedules_are_various() -> None:
    names = ["constant", "linear", "cosine", "one_cycle", "step_decay"]
    records = [record for name in names for record in sgd([4, 16], schedule=name)]
    assert "Schedule: various." in steps_figure(records).get_supxlabel()
    four = steps_figure(records[:-2]).get_supxlabel()
    assert "Schedule: constant, linear, cosine, one_cycle." in four


def test_slope_its_error_and_range_stand_beside_the_fit() -> None:
    records = sweep(lambda b: 2**30 / b, lambda b: 0.01 * b**0.5, [64, 256, 1024])
    figure = learning_rate_figure(records)
    assert texts_in_axes(figure) == ["sgd\nslope 0.500 ± <0.001 (95 %)\nB = $2^{6}$..$2^{10}$"]


LAW_TO_1024 = sweep(
    lambda b: 2**30 / b if b <= 64 else 2**30 / 64,
    lambda b: 0.01 * min(b, 1024) ** 0.5,
    [4, 8, 16, 32, 64, 256, 1024, 4096, 16384],
)


def test_where_a_law_ends_is_told_and_marked_on_its_line() -> None:
    figure = learning_rate_figure(LAW_TO_1024)
    (text,) = texts_in_axes(figure)
    assert text.endswith("B = $2^{2}$..$2^{6}$, ends near $2^{11}$")
    assert "its end: best rate 20 % off" in legend_texts(figure)
    (bar,) = [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    end = 1024 / 0.8**2
    assert list(bar.get_xdata()) == pytest.approx([end])
    assert list(bar.get_ydata()) == pytest.approx([0.01 * end**0.5])
    (band,) = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 6]
    assert list(band.get_xdata()) == [4, 64], "the batch sizes fitted"


def test_a_law_that_does_not_end_has_no_bar_and_is_drawn_where_it_was_fitted() -> None:
    examples = {4: 1.0, 16: 1.0, 64: 2.0}
    records = sweep(lambda b: 2**30 * examples[int(b)] / b, lambda b: 0.01 * b**0.5, [4, 16, 64])
    figure = learning_rate_figure(records)
    assert texts_in_axes(figure) == ["sgd\nslope 0.50 (2 points)\nB = $2^{2}$..$2^{4}$"]
    assert not [line for line in figure.axes[0].get_lines() if line.get_marker() == "|"]
    assert "its end: best rate 20 % off" not in legend_texts(figure)
    (band,) = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 6]
    assert list(band.get_xdata()) == [4, 16]


def test_the_caption_says_what_the_interval_is_of_where_there_is_one() -> None:
    caption = " ".join(learning_rate_figure(LAW_TO_1024).get_supxlabel().split())
    assert "± is half the 95 % confidence interval of a slope" in caption
    assert "plus what the slope changes by along the range" in caption
    assert "±" not in learning_rate_figure(sgd([4, 16])).get_supxlabel()
    assert "±" not in steps_figure(LAW_TO_1024).get_supxlabel()


def test_description_gives_the_interval_and_the_end_and_explains_both() -> None:
    text = describe(curves(LAW_TO_1024))
    assert "slope 0.500 ± <0.001 (95 %), B = 2^2..2^6, ends near 2^11." in text
    assert "± is half the 95 % confidence interval of a slope" in text
    assert "A power law ends where the best rate is more than 20 % off it." in text
    two = describe(curves(sgd([4, 16])))
    assert "±" not in two
    assert "A power law ends" not in two


def test_slopes_move_into_the_legend_where_there_is_no_room() -> None:
    many = [record for i in range(8) for record in adam(optimizer=f"adam_{i}")]
    figure = learning_rate_figure(many)
    assert texts_in_axes(figure) == []
    assert sum("slope" in text for text in legend_texts(figure)) == 8


def test_slope_texts_cover_neither_points_nor_each_other() -> None:
    figure = learning_rate_figure(CASES["three"])
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 3
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[i + 1 :]) == 0
        for line in axes.get_lines():
            assert box.count_contains(line.get_transform().transform(line.get_xydata())) == 0


def test_few_curves_are_named_beside_them_and_not_in_the_legend() -> None:
    for figure in (steps_figure(sgd() + adam()), learning_rate_figure(sgd())):
        (axes,) = figure.axes
        names = {text.get_text().split("\n")[0]: text.get_color() for text in axes.texts}
        assert set(names) <= {"sgd", "adam"}
        assert not set(names) & set(legend_texts(figure))
        marked = {line.get_color() for line in axes.get_lines() if line.get_marker() in ("o", "P")}
        assert set(names.values()) == marked, "in the colours of the curves"


def test_a_name_is_nearer_to_its_own_curve_than_to_any_other() -> None:
    records = bounded(sgd() + adam())
    found = curves(records)
    figure = steps_figure(records)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [curve.label for curve in found]
    for text in axes.texts:
        box = text.get_window_extent()
        gaps = {True: math.inf, False: math.inf}
        for line in axes.get_lines():
            pixels = line.get_transform().transform(line.get_xydata())
            own = to_hex(line.get_color()) == to_hex(text.get_color())
            for x, y in pixels:
                over = max(box.x0 - x, x - box.x1, 0.0), max(box.y0 - y, y - box.y1, 0.0)
                gaps[own] = min(gaps[own], math.hypot(*over))
        assert 0.0 < gaps[True] < gaps[False]


def test_names_move_into_the_legend_where_curves_lie_upon_each_other() -> None:
    labels = ["sgd_0", "sgd_1", "sgd_2"]
    alike = [record for name in labels for record in sgd(optimizer=name)]
    figure = steps_figure(alike)
    assert texts_in_axes(figure) == []
    assert legend_texts(figure)[:3] == labels


def test_curves_of_one_colour_are_told_apart_in_the_legend() -> None:
    made = curves(crossed())
    figure = steps_figure(crossed())
    assert texts_in_axes(figure) == []
    assert legend_texts(figure)[:4] == [curve.label for curve in made]


def test_seed_ranges_are_drawn() -> None:
    seeds = [
        study(trial(1000 + seed, learning_rate=0.1 + seed), seed=seed, batch_size=batch_size)
        for seed in range(3)
        for batch_size in (4, 16)
    ]
    assert len(steps_figure(seeds).axes[0].collections) == 1
    assert len(learning_rate_figure(seeds).axes[0].collections) == 1
    assert len(steps_figure(seeds[:2]).axes[0].collections) == 0


def test_unreached_batch_sizes_are_marked() -> None:
    figure = steps_figure([study(trial(None), batch_size=4), *sgd([16, 64])])
    assert "target not reached" in legend_texts(figure)
    assert [4] in [list(line.get_xdata()) for line in figure.axes[0].get_lines()]
    nothing = steps_figure(CASES["unreached"])
    assert "no batch size reached the target" in texts_in_axes(nothing)


def test_axes_and_caption_name_units_spectrum_and_target() -> None:
    figure = steps_figure(sgd())
    (axes,) = figure.axes
    assert axes.get_xlabel() == "batch size, B (examples)"
    assert axes.get_ylabel() == "steps to target, T (optimizer steps)"
    assert figure.get_supxlabel().startswith("Spectrum: paper. Target loss: 0.01.")


def test_several_targets_have_one_bound_each_in_the_colour_of_their_curve() -> None:
    records = [*bounded(sgd()), *sgd(target=0.1)]
    figure = steps_figure(records)
    bounds = [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 4.0]
    points = [line for line in figure.axes[0].get_lines() if line.get_marker() in ("o", "D")]
    assert [line.get_color() for line in bounds] == [line.get_color() for line in points]
    assert len({line.get_color() for line in bounds}) == 2
    assert "Target loss: 0.01, 0.1." in figure.get_supxlabel()
    # The other lines would be two each, and are of no help here.
    assert not any("2/h_1" in text or "d / (2 C B)" in text for text in legend_texts(figure))


@pytest.mark.parametrize("name", figures.names())
def test_nothing_makes_no_figure(name: str, tmp_path: Path) -> None:
    nothing = studies_frame([])
    assert figures.module(name).draw(nothing) is None
    with pytest.raises(ValueError, match="must be at least one"):
        write_figures(nothing, tmp_path)


def test_a_figure_is_found_by_its_file_and_shown_in_notebooks() -> None:
    assert set(dir(nqm.plot)) == set(figures.names()) >= {"steps_to_target", "regret", "pareto"}
    figure = nqm.plot.steps_to_target(nqm.studies_frame(sgd([4, 16])))
    assert figure is not None
    assert figure._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(AttributeError, match="must be one of batch_ramps, "):
        _ = nqm.plot.steps


def test_files_are_byte_identical_when_written_twice(tmp_path: Path) -> None:
    first = write_figures(studies_frame(sgd() + adam()), tmp_path / "a")
    again = write_figures(studies_frame(adam() + sgd()), tmp_path / "b")
    drawn = ("learning_rate", "steps_to_target")
    names = [f"{name}.{kind}" for name in drawn for kind in ("png", "svg", "pdf")]
    assert [path.name for path in first[:6]] == names
    assert {path.suffix for path in first[6:-1]} == {".csv", ".tex", ".md", ".json"}
    assert first[-1].name == "report.html"
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_files_drawn_on_all_cores_are_the_same_bytes_also_where_a_process_was_killed(
    tmp_path: Path,
) -> None:
    first = write_figures(studies_frame(sgd() + adam()), tmp_path / "a")
    for name in ("b", "c"):
        again = write_figures(
            studies_frame(sgd() + adam()), tmp_path / name, make=contents_on_all_cores
        )
        assert [path.name for path in again] == [path.name for path in first]
        for one, other in zip(first, again, strict=True):
            assert one.read_bytes() == other.read_bytes()
        if name == "b":
            killed = parallel._pool().submit(os._exit, 1)
            assert isinstance(killed.exception(), BrokenProcessPool)
    parallel._pool.cache_clear()


def test_writing_replaces_files_and_leaves_no_others(tmp_path: Path) -> None:
    write_figures(studies_frame(sgd()), tmp_path)
    old = (tmp_path / "steps_to_target.png").read_bytes()
    written = write_figures(studies_frame(adam()), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert (tmp_path / "steps_to_target.png").read_bytes() != old


def test_figures_leave_global_matplotlib_state_alone() -> None:
    code = (
        # Reading the backend's name would load pyplot by itself.
        "import matplotlib as mpl\n"
        "def state(): return {k: mpl.rcParams[k] for k in mpl.rcParams if k != 'backend'}\n"
        "before = state()\n"
        "from fake_records import sgd, steps_figure\n"
        "steps_figure(sgd())\n"
        "assert state() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    path = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = f"import sys; sys.path[:0] = {path!r}\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_description_gives_the_fitted_numbers() -> None:
    text = describe(curves([*sgd([4, 16]), study(trial(None), batch_size=64)]))
    assert "sgd: 1,513,434 steps at B = 4, 385,039 at B = 16" in text
    assert "Perfect scaling T = 6.107e+06 / B" in text
    assert "slope 1.00 (2 points), B = 2^2..2^4" in text
    assert "Target not reached at B = 64." in text
    assert describe([]) == "No finished trials."


def test_description_gives_both_ratios_and_says_what_they_are_of() -> None:
    text = describe(curves(bounded(sgd([4, 16]))))
    both = "12.2 to 12.4 times the Bayes bound, 7.11 to 7.69 times SGD's optimal schedule"
    assert f"{both}, rate <= 2/h_1" in text
    assert "The Bayes bound is the fewest steps any algorithm could need." in text
    assert "not a strict bound" in text
    assert "at most 0.9998 of that" in text
    old = describe(curves(sgd([4, 16])))
    assert "optimal" not in old
    assert "strict" not in old


def test_description_of_a_schedule_speaks_of_peak_rates() -> None:
    assert "Best peak learning rate 0.0" in describe(curves(sgd(schedule="cosine")))
    assert "learning rate 0" not in describe(curves(optimal()))


def written_texts(figure: Figure) -> str:
    """What a reader of the figure can read, with formulas resolved."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    return " ".join(re.findall(r"<text [^>]*>([^<]*)</text>", buffer.getvalue()))


def on_files(*names: str) -> list[StudyRecord]:
    settings = [{"file": name, "modes": 13.5} for name in names]
    return [r for each in settings for r in sgd(spectrum="file", spectrum_settings=each)]


def test_a_name_that_looks_like_a_formula_is_drawn_as_it_is() -> None:
    names = ("$a$b.csv", "x_$y^{2.csv", r"\$m_0$.csv")
    for figure in (steps_figure, learning_rate_figure):
        shown = written_texts(figure(on_files(*names)))
        for name in names:
            assert f"file ({name}, modes 13.5)" in shown, "the caption"
        for name in names[1:]:
            assert f"sgd, {name}" in shown, "the legend"


def test_characters_that_the_font_lacks_are_question_marks() -> None:
    shown = written_texts(steps_figure(on_files("\u5149\u03bb B\u00fccher.csv")))
    assert "file (?\u03bb B\u00fccher.csv, modes 13.5)" in shown
