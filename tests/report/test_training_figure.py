"""Training curves at given rates, and the gradient noise scale along the best runs."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from fake_records import (
    LEARNING_RATE,
    csv_rows,
    curves,
    definition,
    figure_of,
    momentum,
    optimal,
    sgd,
    study,
    trial,
)
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nqm_study.report.curves import compared, runs_frame
from nqm_study.report.figures import noise_scale, training
from nqm_study.report.figures.noise_scale import course, shown_runs
from nqm_study.report.frame import studies_frame
from nqm_study.report.looks import curve_looks
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord, Training

STEPS = (0, *(2**k for k in range(15)))


def with_training(record: StudyRecord, target: float = 0.01) -> StudyRecord:
    """A loss that falls from 4.9 to the target as 1 / steps, and twice as far after it."""
    (only,) = record.trials
    end = only.steps or 10**5
    steps = (0, *(step for step in STEPS if 0 < step < end), end, 2 * end)
    falls = [4.9 / (1 + step * (4.9 / target - 1) / end) for step in steps]
    losses = falls if only.steps is not None else [loss + 2 * target for loss in falls]
    made = Training(only.number, steps, tuple(losses), tuple(30.0 / loss for loss in losses))
    return dataclasses.replace(record, training=made)


def fixed(
    rate: float, steps: int | None, batch_size: float = 256, **changes: object
) -> StudyRecord:
    values = {"learning_rate": rate, "momentum": 0.0}
    record = study(
        trial(steps, **values),
        batch_size=batch_size,
        **{"hyperparameters": values, **changes},
    )
    return with_training(record)


def diverged(rate: float) -> StudyRecord:
    made = fixed(rate, None)
    one = dataclasses.replace(made.trials[0], status="diverged")
    return dataclasses.replace(made, trials=(one,), training=None)


FIVE = [fixed(1.9, None), fixed(0.03, 8000), fixed(0.3, 900), fixed(0.1, 2600), fixed(1.0, 300)]


drawn = figure_of("training")


def lines(axes: Axes) -> list[Line2D]:
    """The training curves; a dotted line goes from one side to the other, a point is a marker."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


def points(axes: Axes) -> list[tuple[float, float]]:
    marked = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return [(line.get_xdata()[0], line.get_ydata()[0]) for line in marked]  # type: ignore[index]


def texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_every_given_rate_has_a_line_with_its_steps_the_lowest_first() -> None:
    (axes,) = drawn(FIVE).axes
    assert len(lines(axes)) == 5
    assert texts(axes) == [
        "lr = 0.03: T = 8,000",
        "lr = 0.1: T = 2,600",
        "lr = 0.3: T = 900",
        "lr = 1: T = 300",
        "lr = 1.9: not reached",
        "target, 0.01",
    ]
    assert (axes.get_xscale(), axes.get_yscale()) == ("symlog", "log")
    assert len({line.get_color() for line in lines(axes)}) == 5
    first = lines(axes)[0]
    assert tuple(first.get_xdata()) == FIVE[1].training.steps  # type: ignore[union-attr]
    assert tuple(first.get_ydata()) == FIVE[1].training.risks  # type: ignore[union-attr]


def test_a_point_is_where_a_run_first_is_at_the_target() -> None:
    (axes,) = drawn(FIVE).axes
    assert points(axes) == [(t, pytest.approx(0.01)) for t in (8000, 2600, 900, 300)]
    (dotted,) = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
    assert set(dotted.get_ydata()) == {0.01}


def test_a_rate_that_diverges_is_named_without_a_line_and_a_colour() -> None:
    (axes,) = drawn([*FIVE, diverged(2.1)]).axes
    assert len(lines(axes)) == 5
    assert "lr = 2.1: diverges" in texts(axes)
    (plain,) = drawn(FIVE).axes
    assert [a.get_color() for a in lines(axes)] == [b.get_color() for b in lines(plain)]
    assert training.draw(studies_frame([diverged(2.1)])) is None


def test_the_best_runs_of_searches_are_drawn_as_their_curves_look() -> None:
    searched = [with_training(record) for record in sgd([64, 256])]
    computed = [with_training(record) for record in optimal([64])]
    first, second = drawn(searched + computed).axes
    assert [len(lines(axes)) for axes in (first, second)] == [2, 1]
    assert texts(first)[0] == f"sgd: T = {searched[0].trials[0].steps:,}"
    assert texts(first)[1].startswith("sgd, optimal: T = ")
    looks = curve_looks(curves(searched + computed))
    assert [line.get_color() for line in lines(first)] == [look.color for look in looks]
    assert lines(first)[0].get_xdata()[0] == 0  # type: ignore[index]
    assert first.get_xlim()[0] == 0.0
    assert {row["batch_size"] for row in csv_rows("training", searched)} == {"64", "256"}


def test_given_rates_come_first_and_have_panels_of_their_own() -> None:
    searched = [with_training(record) for record in sgd([64, 256])]
    given, *best = drawn(searched + FIVE).axes
    assert len(lines(given)) == 5
    assert [len(lines(axes)) for axes in best] == [1, 1]


def test_ten_batch_sizes_of_two_optimizers_have_four_panels_of_two_lines() -> None:
    figure = drawn([with_training(record) for record in sgd() + momentum()])
    assert [len(lines(axes)) for axes in figure.axes] == [2] * 4
    assert "Of 10 batch sizes 4 are shown" in " ".join(figure.texts[0].get_text().split())


def test_batch_sizes_have_panels_of_their_own_and_four_at_most() -> None:
    sizes = [4**k for k in range(1, 8)]
    many = [fixed(rate, 500, size) for size in sizes for rate in (0.1, 1.0)]
    figure = drawn(many)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["B = $2^{2}$", "B = $2^{6}$", "B = $2^{10}$", "B = $2^{14}$"]
    assert [len(lines(axes)) for axes in figure.axes] == [2] * 4
    assert "Of 7 batch sizes 4 are shown" in " ".join(
        text.get_text().replace("\n", " ") for text in figure.texts
    )
    colors = [[line.get_color() for line in lines(axes)] for axes in figure.axes]
    assert len({tuple(each) for each in colors}) == 1


def test_optimizers_are_told_apart_by_dashes_and_names() -> None:
    both = [*FIVE, fixed(0.1, 800, optimizer="momentum")]
    (axes,) = drawn(both).axes
    assert len({line.get_linestyle() for line in lines(axes)}) == 2
    assert "sgd, lr 0.1: T = 2,600" in texts(axes)
    assert "momentum, lr 0.1, momentum 0:\nT = 800" in texts(axes)


@pytest.mark.parametrize(
    "records",
    [FIVE, [fixed(10.0**-k, 100 * k) for k in range(1, 25)], [fixed(0.1, 5, b) for b in (4, 16)]],
    ids=["five", "many", "panels"],
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
        assert box.y0 >= 0.0


def test_a_divergence_does_not_stretch_the_axis() -> None:
    wild = fixed(2.0, 50)
    assert wild.training is not None
    grown = dataclasses.replace(wild.training, risks=(*wild.training.risks[:-1], 4000.0))
    (axes,) = drawn([dataclasses.replace(wild, training=grown)]).axes
    assert axes.get_ylim()[1] < 20.0


def test_the_table_has_a_row_for_every_point_of_every_batch_size() -> None:
    records = [*FIVE, fixed(0.1, 40, 1024)]
    rows = csv_rows("training", records)
    columns = ["optimizer", "schedule", "batch_size", "learning_rate", "steps_to_target"]
    assert list(rows[0]) == [*columns, "step", "loss", "curve"]
    found = [row for row in rows if row["batch_size"] == "1024"]
    made = records[-1].training
    assert made is not None
    assert tuple(int(row["step"]) for row in found) == made.steps
    assert tuple(float(row["loss"]) for row in found) == made.risks
    assert {row["steps_to_target"] for row in found} == {"40"}
    missed = [row for row in rows if row["learning_rate"] == "1.9"]
    assert {row["steps_to_target"] for row in missed} == {""}


def test_of_seeds_the_one_with_the_fewest_steps_is_shown() -> None:
    seeds = [fixed(0.1, steps, seed=seed) for seed, steps in enumerate((900, 700, 800))]
    (run,) = runs_frame(studies_frame(seeds)).itertuples()
    assert run.steps == 700


def test_fixed_curves_leave_the_figures_of_searches_alone() -> None:
    searched, computed = sgd([64, 256]), optimal([64, 256])
    everything = curves([*FIVE, *searched, *computed])
    assert {curve.schedule for curve in compared(everything)} == {"constant", "optimal"}
    assert len(compared(everything)) == 2
    assert len(compared(curves(FIVE))) == 5


scales = figure_of("noise_scale")


def shown(records: list[StudyRecord]) -> list[Any]:
    return list(shown_runs(studies_frame(records)).itertuples())


def test_the_noise_scale_is_shown_where_perfect_scaling_ends_up_to_the_target() -> None:
    records = [with_training(record) for record in sgd() + momentum()]
    figure = scales(records)
    runs = shown(records)
    # T B is within 20 % of its least up to there.
    assert [(run.label, run.batch_size) for run in runs] == [
        ("sgd", 4**3),
        ("momentum", 4**6),
    ]
    drawn_lines = lines(figure.axes[0])
    assert len(drawn_lines) == 2
    for line, run in zip(drawn_lines, runs, strict=True):
        assert line.get_xdata()[-1] == pytest.approx(0.01)  # type: ignore[index]
        assert list(line.get_ydata()) == [30.0 / loss for loss in line.get_xdata()]
        assert len(line.get_xdata()) == len(run.training.steps) - 1  # type: ignore[union-attr]
    low, high = figure.axes[0].get_xlim()
    assert low > high, "the loss does not fall to the right"
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said[:2] == [
        "sgd\nB = $2^{6}$, ends at the target",
        "momentum\nB = $2^{12}$, ends at the target",
    ]
    assert all(line.get_marker() not in ("", "None") for line in drawn_lines)


def test_a_run_that_missed_the_target_says_so() -> None:
    figure = scales([fixed(1.9, None)])
    (entry, *_) = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entry.endswith("B = $2^{8}$, target not reached")


def test_a_marker_is_where_the_noise_scale_is_the_runs_batch_size() -> None:
    figure = scales([with_training(record) for record in sgd([64])])
    (marker,) = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    assert marker.get_ydata()[0] == 64  # type: ignore[index]
    assert marker.get_xdata()[0] == pytest.approx(30.0 / 64)  # type: ignore[index]
    without = scales([with_training(record) for record in sgd([2**16])])
    assert not [line for line in without.axes[0].get_lines() if len(line.get_xdata()) == 1]


def test_of_a_loss_that_swings_only_new_lows_are_joined() -> None:
    (record,) = [with_training(record) for record in sgd([64])]
    training = Training(
        0, (0, 1, 2, 3, 4), (4.0, 2.0, 3.0, 1.0, 0.5), (1.0, 2.0, 1.5, math.inf, 9.0)
    )
    one = dataclasses.replace(record, training=training)
    (run,) = shown([one])
    assert run.course == course(training, None) == [(0, 4.0, 1.0), (1, 2.0, 2.0), (4, 0.5, 9.0)]
    said = " ".join(scales([one]).texts[0].get_text().split())
    assert "Where the loss swings" in said
    assert "Where the loss swings" not in " ".join(scales([record]).texts[0].get_text().split())


def test_there_is_no_noise_scale_without_a_training_record_or_noise() -> None:
    assert noise_scale.draw(studies_frame(sgd())) is None
    (record,) = [with_training(record) for record in sgd([64])]
    assert record.training is not None
    still = dataclasses.replace(record.training, noise_scales=(0.0,) * len(record.training.steps))
    assert noise_scale.draw(studies_frame([dataclasses.replace(record, training=still)])) is None


def test_fixed_rates_have_noise_scales_only_among_themselves() -> None:
    assert len(shown(FIVE)) == 5
    rates = [run.learning_rate for run in shown(FIVE)]
    assert rates == sorted(rates)
    searched = [with_training(record) for record in sgd([64])]
    assert [run.label for run in shown(FIVE + searched)] != []
    assert not any(run.fixed for run in shown(FIVE + searched))


def test_the_noise_scales_table_is_what_is_drawn() -> None:
    records = [with_training(record) for record in sgd([64, 256])]
    rows = csv_rows("noise_scale", records)
    columns = ["optimizer", "schedule", "batch_size", "step", "loss", "noise_scale", "curve"]
    assert list(rows[0]) == columns
    (run,) = shown(records)
    found = [(int(r["step"]), float(r["loss"]), float(r["noise_scale"])) for r in rows]
    assert found == run.course


def test_files_are_written_where_there_is_something_to_show(tmp_path: Path) -> None:
    records = [*FIVE, *(with_training(record) for record in sgd([64, 256]))]
    names = {path.name for path in write_figures(studies_frame(records), tmp_path)}
    assert {"training.png", "training.svg", "training.csv"} < names
    assert {"noise_scale.png", "noise_scale.svg", "noise_scale.csv"} < names
    plain = {path.name for path in write_figures(studies_frame(sgd()), tmp_path / "b")}
    assert not any(name.startswith(("training", "noise_scale")) for name in plain)
    assert {"steps_to_target.png", "learning_rate.svg"} < plain
    again = write_figures(studies_frame(records[::-1]), tmp_path / "c")
    for path in again:
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_fixed_definition_is_one_that_searches_nothing() -> None:
    assert definition().searched == ("learning_rate",)
    assert curves([fixed(0.1, 5)])[0].fixed
    assert not curves([study(trial(5), hyperparameters={"learning_rate": LEARNING_RATE})])[0].fixed
    assert not curves(optimal([64]))[0].fixed
