from pathlib import Path

import pytest
from fake_records import (
    CAP,
    POWERS,
    csv_rows,
    figure_of,
    greedy,
    optimal,
    optimal_steps,
    sgd,
    with_rates,
)
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from nqm_study.report.figures import schedules
from nqm_study.report.frame import studies_frame
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord

drawn = figure_of("schedules")


def staircases(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_drawstyle() == "steps-post"]


def dashed(axes: Axes) -> list[Line2D]:
    return [line for line in axes.get_lines() if line.get_linestyle() == "--"]


def legend_texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def luminance(color: object) -> float:
    red, green, blue = to_rgb(color)  # type: ignore[arg-type]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_there_is_no_figure_without_computed_schedules() -> None:
    assert schedules.draw(studies_frame(sgd())) is None


def test_a_staircase_has_the_boundaries_of_its_pieces_and_lasts_to_the_end() -> None:
    (record,) = optimal([64])
    (axes,) = drawn([record]).axes
    (line,) = staircases(axes)
    rates, steps = record.trials[0].rates, optimal_steps(64)
    assert list(line.get_xdata()) == [*(first / steps for first, _ in rates), 1.0]
    assert list(line.get_ydata()) == [*(rate for _, rate in rates), rates[-1][1]]
    assert axes.get_xlim() == (0.0, 1.0)
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")


def test_every_batch_size_has_a_line_and_a_label_with_its_steps() -> None:
    (axes,) = drawn(optimal()).axes
    assert len(staircases(axes)) == 10
    texts = legend_texts(axes)
    assert texts[0] == f"B = $2^{{20}}$, T = {optimal_steps(2**20):,}"
    assert texts[-1] == f"B = $2^{{2}}$, T = {optimal_steps(4):,}"


def test_colors_become_lighter_with_the_batch_size_and_stay_off_white() -> None:
    (axes,) = drawn(optimal()).axes
    shades = [luminance(line.get_color()) for line in staircases(axes)]
    assert shades == sorted(shades)
    assert len(set(shades)) == 10
    assert shades[-1] < 0.75


def test_the_cap_is_inside_and_named() -> None:
    (axes,) = drawn(optimal()).axes
    assert axes.get_ylim()[1] > 1.2 * CAP
    assert [text.get_text() for text in axes.texts] == ["cap 1.9996"]
    (line,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert set(line.get_ydata()) == {CAP}


def test_peaks_below_the_cap_are_not_called_one() -> None:
    records = with_rates(
        lambda b, fraction: 1e-3 * b * (1.1 - fraction), optimal_steps, [4, 16], schedule="optimal"
    )
    (axes,) = drawn(records).axes
    assert not axes.texts
    assert not [line for line in axes.get_lines() if line.get_linestyle() == ":"]


def test_greedy_rates_are_dashed_in_the_panel_and_colours_of_the_optimal_ones() -> None:
    (axes,) = drawn(sgd() + optimal() + greedy()).axes
    assert len(staircases(axes)) == len(dashed(axes)) == 10
    pairs = zip(staircases(axes), dashed(axes), strict=True)
    assert all(one.get_color() == other.get_color() for one, other in pairs)
    assert all(line.get_linewidth() < 1.0 for line in dashed(axes))
    texts = legend_texts(axes)
    assert f"T = {optimal_steps(4):,} ({2 * optimal_steps(4):,})" in texts[9]
    assert texts[10:] == ["optimal", "greedy, its T in brackets"]


def test_a_batch_size_that_one_of_the_two_lacks_has_a_dash() -> None:
    (axes,) = drawn(optimal([4]) + greedy([16])).axes
    assert legend_texts(axes)[:2] == [
        f"B = $2^{{4}}$, T = - ({2 * optimal_steps(16):,})",
        f"B = $2^{{2}}$, T = {optimal_steps(4):,} (-)",
    ]


def test_every_optimizer_has_a_panel_and_a_batch_size_one_colour() -> None:
    figure = drawn(optimal() + optimal(POWERS[2:], optimizer="momentum") + greedy())
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "sgd, optimal; sgd, greedy",
        "momentum, optimal, momentum 0",
    ]
    upper, lower = (staircases(axes) for axes in figure.axes)
    assert [line.get_color() for line in upper[2:]] == [line.get_color() for line in lower]


def test_two_optimal_curves_of_one_optimizer_do_not_share_a_panel() -> None:
    few = optimal(schedule_settings={"pieces": 6.0})
    figure = drawn(optimal() + few + greedy())
    assert [len(staircases(axes)) for axes in figure.axes] == [10, 10, 0]
    assert len(dashed(figure.axes[2])) == 10


@pytest.mark.parametrize(
    "records",
    [optimal(), optimal([100]), greedy(), optimal() + greedy() + optimal(optimizer="momentum")],
    ids=["one", "single", "greedy", "three"],
)
def test_legends_stand_clear_of_the_axes_and_inside_the_figure(records: list[StudyRecord]) -> None:
    figure = drawn(records)
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        box, frame = legend.get_window_extent(), axes.get_window_extent()
        assert frame.width > 350
        assert box.x0 > frame.x1
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= frame.y0


def test_table_has_a_row_for_every_piece() -> None:
    records = optimal([64]) + greedy([64])
    found = csv_rows("schedules", sgd() + records)
    columns = ["optimizer", "schedule", "batch_size", "first_step", "learning_rate", "steps"]
    assert list(found[0]) == [*columns, "curve"]
    assert len(found) == 100
    pairs = [(int(row["first_step"]), float(row["learning_rate"])) for row in found[50:]]
    assert tuple(pairs) == records[0].trials[0].rates, "every digit, the greedy curve first"
    said = {
        name: found[50][name] for name in found[0] if name not in ("first_step", "learning_rate")
    }
    assert said == {
        "optimizer": "sgd",
        "schedule": "optimal",
        "batch_size": "64",
        "steps": str(optimal_steps(64)),
        "curve": "sgd, optimal",
    }


def test_files_are_written_where_a_schedule_was_computed(tmp_path: Path) -> None:
    names = [path.name for path in write_figures(studies_frame(sgd() + optimal()), tmp_path / "a")]
    kinds = ["schedules.png", "schedules.svg", "schedules.pdf", "schedules.csv"]
    assert [name for name in names if name.startswith("schedules")] == kinds
    again = write_figures(studies_frame(optimal() + sgd()), tmp_path / "b")
    for name, path in zip(names, again, strict=True):
        assert (tmp_path / "a" / name).read_bytes() == path.read_bytes()
