"""The tables of studies and trials, as users get them."""

import dataclasses
import math
from pathlib import Path

import optuna
import pandas as pd
import pytest
from fake_records import adam, bounded, momentum, optimal, searched, sgd, study, trial, with_optima

import nqm_study as nqm
from nqm_study.report.curves import curves
from nqm_study.study.definition import Range

RECORDS = [*with_optima(bounded(sgd([4, 64])), lambda _: 0.25), *adam([64])]


def test_a_study_is_a_row_of_what_it_is_and_what_it_found() -> None:
    frame = nqm.studies_frame(RECORDS)
    assert list(frame.optimizer) == ["sgd", "sgd", "adam"]
    row = frame.iloc[1]
    best = RECORDS[1].trials[0]
    assert (row.study, row.batch_size, row.target, row.seed) == (RECORDS[1].name, 64, 0.01, 0)
    assert (row.n_trials, row.reached, row.diverged) == (1, True, False)
    assert (row.steps_to_target, row.examples_to_target) == (best.steps, 64 * (best.steps or 0))
    assert row.learning_rate == row.effective_learning_rate == best.hyperparameters["learning_rate"]
    assert row.excess == pytest.approx(0.25, abs=1e-4)
    assert (row.classical_bound, row.bayes_bound) == (500_000 / 64, round(495_016 / 64))
    assert row.optimum_learning_rate == row.learning_rate
    assert bool(row.optimum_exact)
    assert math.isnan(row.beta1)
    assert pd.isna(frame.iloc[2].optimum_steps)
    assert frame.iloc[2][["momentum", "beta1", "beta2"]].tolist()[1:] == [0.9, 0.999]
    assert str(frame.steps_to_target.dtype) == str(frame.optimum_steps.dtype) == "Int64"


def test_a_fixed_value_is_known_without_a_best_trial_and_a_searched_one_is_not() -> None:
    (missed,) = nqm.studies_frame([study(trial(None, learning_rate=9.0))]).itertuples()
    assert not missed.reached
    assert pd.isna(missed.steps_to_target)
    assert math.isnan(missed.learning_rate)
    assert math.isnan(missed.examples_to_target)
    assert missed.momentum == 0.0


def test_rows_keep_their_order_whatever_that_of_the_records() -> None:
    records = [*RECORDS, *momentum([4, 16]), *optimal([4]), study()]
    frame = nqm.studies_frame(records)
    pd.testing.assert_frame_equal(nqm.studies_frame(records[::-1]), frame, check_like=True)
    assert list(frame.schedule + " " + frame.optimizer) == [
        *["constant sgd"] * 2, "optimal sgd", *["constant momentum"] * 2, "constant adam",
    ]  # fmt: skip
    assert list(frame.columns[:7]) == list(nqm.studies_frame([]).columns[:7])


def test_curves_are_those_of_the_rows_that_are_left_in_any_order() -> None:
    frame = nqm.studies_frame([*RECORDS, *momentum([4, 16])])
    assert curves(frame.sample(frac=1.0, random_state=0)) == curves(frame)
    assert curves(frame.query("optimizer != 'sgd'")) == curves(frame)[1:]
    assert curves(frame.query("batch_size > 64")) == ()


def test_a_study_that_searches_the_batch_size_has_that_of_its_trials() -> None:
    one = dataclasses.replace(trial(100), hyperparameters={"learning_rate": 1.0, "batch_size": 8.0})
    records = [study(one, batch_size=Range(4, 64))]
    (row,) = nqm.studies_frame(records).itertuples()
    assert row.two_objectives
    assert math.isnan(row.batch_size)
    assert row.examples_to_target == 800
    (found,) = nqm.trials_frame(records).itertuples()
    assert (found.batch_size, found.examples_to_target) == (8, 800)


def test_a_trial_is_a_row_with_the_fewest_steps_so_far() -> None:
    frame = nqm.trials_frame([searched({"name": "tpe"}, [None, 1500, 2000, 1100])])
    assert list(frame.trial) == [0, 1, 2, 3]
    names = ["trial", "batch_size", "learning_rate", "momentum", "steps_to_target"]
    assert list(frame)[8:13] == names
    assert frame.steps_to_target.tolist()[1:] == [1500, 2000, 1100]
    assert frame.fewest_steps.tolist() == [math.inf, 1500, 1500, 1100]
    assert set(frame.status) == {"reached", "floor_above_target"}
    assert set(nqm.trials_frame([]).columns) <= set(frame.columns)


def test_tables_are_read_from_storages_and_folders(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size=16)
    nqm.run_study(problem, "sgd", target=0.5, n_trials=3, storage=url)
    for source in (url, optuna.storages.get_storage(url), tmp_path, str(tmp_path)):
        (row,) = nqm.studies_frame(source).itertuples()
        assert (row.optimizer, row.n_trials, row.batch_size) == ("sgd", 3, 16)
        assert len(nqm.trials_frame(source)) == 3
    (tmp_path / "mlruns").mkdir()
    with pytest.raises(ValueError, match="must be a folder that holds studies"):
        nqm.studies_frame(tmp_path / "mlruns")
