"""Time and examples in the tables and in the figure of time against batch size."""

import dataclasses
import math
from collections.abc import Iterator

import pytest
from fake_records import curves, definition, figure_of, sgd, study, trial

import nqm_study as nqm
from nqm_study.report import figures
from nqm_study.report.describe import describe
from nqm_study.report.frame import studies_frame
from nqm_study.report.tables import result_frame
from nqm_study.study.definition import Range
from nqm_study.study.records import StudyRecord
from nqm_study.tracking.layout import draft, note, results, title

TIME = {
    "objective": "time",
    "objective_settings": {"hardware_batch_size": 64.0, "hardware_exponent": 0.5},
}


def timed(*sizes: int) -> Iterator[StudyRecord]:
    for record in sgd(sizes, **TIME):
        (one,) = record.trials
        assert one.steps is not None
        time = one.steps * max(1.0, record.definition.one_batch_size / 64.0) ** 0.5
        yield dataclasses.replace(record, trials=(dataclasses.replace(one, time=time),))


def searched() -> StudyRecord:
    """A study that searched the batch size, of which a trial with more steps took less time."""
    trials = (
        dataclasses.replace(trial(900, 0, batch_size=256.0), time=1800.0),
        dataclasses.replace(trial(1000, 1, batch_size=64.0), time=1000.0),
        trial(None, 2, batch_size=4.0),
    )
    return study(*trials, batch_size=Range(4, 1024), **TIME)


def test_a_study_of_time_is_a_row_with_its_time_at_the_batch_size_it_found() -> None:
    found, (given,) = searched(), timed(256)
    frame = studies_frame([found, given]).set_index("batch_size")
    row = frame.loc[64.0]
    assert (row.objective, row.steps_to_target, row.time_to_target) == ("time", 1000, 1000.0)
    assert row.examples_to_target == 64_000.0
    assert not row.two_objectives
    assert frame.loc[256.0].time_to_target == 2.0 * frame.loc[256.0].steps_to_target
    trials = nqm.trials_frame([found])
    assert trials.time_to_target.tolist()[:2] == [1800.0, 1000.0]
    assert math.isnan(trials.time_to_target[2])


def test_a_search_that_reached_no_target_is_at_the_batch_size_of_the_least_risk() -> None:
    near = dataclasses.replace(trial(None, 1, batch_size=16.0), risk=0.02)
    far = dataclasses.replace(trial(None, 0, batch_size=4.0), risk=0.5)
    (curve,) = curves([study(far, near, batch_size=Range(4, 1024), **TIME)])
    assert curve.unreached == (16.0,)
    assert list(result_frame([curve]).time) == ["target not reached"]


def test_the_result_table_has_time_and_examples_where_they_are_what_matters() -> None:
    frame = result_frame(curves([searched()]))
    assert frame[["batch size", "time", "steps", "examples"]].iloc[0].tolist() == [
        *("64", "1,000", "1,000", "6.400e+04"),
    ]
    assert not any("bound" in name for name in frame)
    assert not {"time", "examples"} & set(result_frame(curves(sgd([4, 64]))))
    ramp = dataclasses.replace(trial(100), summed_examples=6301.0)
    ramped = curves([study(ramp, batch_size=64, batch_schedule="ramp")])
    assert list(result_frame(ramped).examples) == ["6.301e+03"]
    assert ramped[0].points[0].examples == 6301.0


def test_curves_of_time_have_names_of_their_own() -> None:
    found = curves([*sgd([64]), *timed(64), searched()])
    assert [curve.label for curve in found] == [
        *("sgd", "sgd, least time", "sgd, least time, B 4..1024"),
    ]
    text = describe(found[2:])
    assert "1,000 steps at B = 64" in text
    assert "nan" not in text
    assert "Bayes" not in text


def test_the_figure_shows_times_on_an_axis_that_says_so() -> None:
    figure = figure_of("time_to_target")([*sgd([4]), *timed(16, 64, 256, 1024), searched()])
    (axes,) = figure.axes
    assert axes.get_ylabel().startswith("time to target")
    drawn = [[*zip(*line.get_data(), strict=True)] for line in axes.lines]
    (curve,) = curves(timed(16, 64, 256, 1024))
    assert [(p.batch_size, p.time) for p in curve.points] in drawn
    assert [(64.0, 1000.0)] in drawn
    assert "max(1, B / 64)^0.5" in figure.texts[0].get_text().replace("\n", " ")
    assert figures.module("time_to_target").draw(studies_frame(sgd([4]))) is None


def test_runs_in_mlflow_have_the_time_and_the_examples() -> None:
    record = searched()
    told = {point.key: point.value for point in results(record)}
    assert told["best_time_to_target"] == told["best_steps_to_target"] == 1000.0
    assert (told["best_examples_to_target"], told["best_batch_size"]) == (64_000.0, 64.0)
    assert "ratio_to_bayes_bound" not in told
    points = {point.key: point.value for point in draft(record.trials[0], "s", "p").points}
    assert (points["time_to_target"], points["examples_to_target"]) == (1800.0, 256 * 900.0)
    assert "in 1000 steps and a time of 1000 with" in note(record)
    assert title(record).endswith("seed=0 time")
    plain = {point.key for point in results(sgd([64])[0])}
    assert not {"best_time_to_target", "best_examples_to_target"} & plain
    assert not title(study(trial(5), name=definition().default_name)).endswith("time")


def test_examples_of_a_batch_schedule_are_those_of_its_batches_in_mlflow() -> None:
    ramp = dataclasses.replace(trial(100), summed_examples=6301.0)
    record = study(ramp, batch_size=64, batch_schedule="ramp")
    told = {point.key: point.value for point in results(record)}
    assert told["best_examples_to_target"] == pytest.approx(6301.0)
    points = {point.key: point.value for point in draft(ramp, "s", "p").points}
    assert points["examples_to_target"] == 6301.0
