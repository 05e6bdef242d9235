"""Schedules, from the command line and from Python, to what is stored, shown and resumed."""

from pathlib import Path

import pytest
from program import ALONE, run, stored

import nqm_study as nqm
from nqm_study.model.schedules.computed.greedy import greedy_schedule
from nqm_study.model.schedules.computed.optimal import optimal_schedule
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.evaluation import facts
from nqm_study.study.records import TrialRecord
from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import read_records, study_record

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(50), batch_size=16)
TARGET = 0.2


def found(schedule: str, n_trials: int = 3, **given: object) -> tuple[TrialRecord, ...]:
    study = nqm.run_study(PROBLEM, target=TARGET, n_trials=n_trials, schedule=schedule, **given)  # type: ignore[arg-type]
    return study_record(study).trials


def test_a_sweep_over_schedules_runs_from_an_empty_folder(tmp_path: Path) -> None:
    # With a smaller target or more momentum the optimal schedule takes long to compute.
    done = run(
        tmp_path, "optimizer=momentum", "optimizer.momentum.high=0.5", "target=0.2",
        "schedule=warmup_stable_decay,optimal", "spectrum=paper_small", "batch_size=256,1024",
        "study.n_trials=3", "tracking=none", ALONE, "-m",
    )  # fmt: skip
    assert sorted(stored(tmp_path).values()) == [3] * 4
    records = read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))
    for record in records:
        made = record.definition
        label = f"momentum {made.schedule} B={made.batch_size:g} C=0.2 seed=0: "
        assert label in done.stderr
        assert record.best is not None
        assert f"{record.best.steps:,}" in done.stdout
        assert record.classical_bound is not None
        assert record.optimal_steps is not None
        for trial in record.trials:
            assert "momentum" in trial.hyperparameters
            assert bool(trial.rates) == (made.schedule == "optimal" and trial.steps is not None)


@pytest.mark.parametrize(
    ("schedule", "given", "made"),
    [
        ("cosine", {"exponent": 2.0}, nqm.Cosine(0.1, exponent=2.0)),
        ("linear", {"warmup_fraction": 0.2}, nqm.Linear(0.1, warmup_fraction=0.2)),
    ],
)
def test_a_trial_under_a_schedule_records_what_the_model_says(
    schedule: str, given: dict[str, float], made: nqm.Cosine
) -> None:
    fixed = {"final_fraction": 0.1, **given}
    for trial in found(schedule, family="sgd", hyperparameters=fixed):
        expected = nqm.steps_to_target(
            PROBLEM, nqm.SGD(trial.hyperparameters["learning_rate"]), made, target=TARGET
        )
        assert (trial.steps, trial.status, trial.risk) == (
            expected.steps,
            expected.status,
            expected.risk,
        )


def test_the_pieces_of_a_schedule_are_searched_one_by_one() -> None:
    (first, *_) = found("piecewise_constant", family="sgd", hyperparameters={"pieces": 3})
    values = first.hyperparameters
    assert set(values) == {"learning_rate", "ratio_2", "ratio_3", "warmup_fraction"}
    schedule = nqm.PiecewiseConstant(
        (1.0, values["ratio_2"], values["ratio_2"] * values["ratio_3"])
    )
    crossing = nqm.steps_to_target(
        PROBLEM, nqm.SGD(values["learning_rate"]), schedule, target=TARGET
    )
    assert first.steps == crossing.steps


def test_adam_runs_under_a_schedule() -> None:
    rate = {"learning_rate": 0.05}
    (trial, *_) = found("cosine", 1, family="adam", hyperparameters=rate)
    made = nqm.Cosine(trial.hyperparameters["final_fraction"])
    crossing = nqm.steps_to_target(PROBLEM, nqm.Adam(0.05), made, target=TARGET)
    assert trial.steps == crossing.steps


def test_a_study_of_an_optimal_schedule_is_one_trial_that_keeps_the_rates() -> None:
    (trial,) = found("optimal", family="sgd", hyperparameters={"pieces": 4})
    best = optimal_schedule(PROBLEM, target=TARGET, pieces=4)
    assert (trial.steps, trial.status, trial.risk_error) == (best.steps, "reached", best.error)
    assert trial.rates == tuple(
        zip((0, *best.boundaries.tolist()), best.learning_rates.tolist(), strict=True)
    )
    assert trial.hyperparameters == {"learning_rate": best.learning_rates.max()}


def test_the_largest_rate_of_an_optimal_schedule_can_be_bounded() -> None:
    bounds = {"pieces": 4, "max_learning_rate": 0.5}
    (trial,) = found("optimal", family="sgd", hyperparameters=bounds)
    assert trial.hyperparameters["learning_rate"] == 0.5


def test_momentum_is_searched_with_the_optimal_schedule_of_each() -> None:
    momentum = {"pieces": 2, "momentum": Range(0.0, 0.5, "linear")}
    for trial in found("optimal", family="momentum", hyperparameters=momentum):
        value = trial.hyperparameters["momentum"]
        best = optimal_schedule(PROBLEM, target=TARGET, pieces=2, momentum=value)
        assert trial.steps == best.steps


def test_a_study_of_a_greedy_schedule_is_one_trial_that_keeps_some_rates() -> None:
    (trial,) = found("greedy", family="sgd")
    made = greedy_schedule(PROBLEM, target=TARGET)
    assert (trial.steps, trial.status) == (made.steps, made.status)
    assert dict(trial.rates) == dict(
        zip(made.at_steps.tolist(), made.learning_rates.tolist(), strict=True)
    )
    assert trial.hyperparameters["learning_rate"] == made.learning_rates.max()


def test_where_fewer_steps_than_pieces_are_needed_there_are_fewer_pieces() -> None:
    easy = nqm.NoisyQuadratic(nqm.power_law(50), batch_size=2**20)
    target = 0.6 * easy.spectrum.initial_risk
    with pytest.raises(ValueError, match="pieces=50: must be at most"):
        optimal_schedule(easy, target=target, pieces=50)
    study = nqm.run_study(easy, "sgd", target=target, schedule="optimal")
    record = study_record(study)
    (trial,) = record.trials
    assert trial.steps is not None
    assert len(trial.rates) <= trial.steps
    assert (record.optimal_steps, record.optimal_gap) == (trial.steps, 0.0)


def test_a_study_is_compared_with_the_refined_optimum_of_its_cap() -> None:
    refined = optimal_schedule(PROBLEM, target=TARGET, pieces=None)
    record = study_record(nqm.run_study(PROBLEM, "momentum", target=TARGET, n_trials=1))
    assert (record.optimal_steps, record.optimal_gap) == (refined.steps, refined.gap)
    assert refined.peak_learning_rate == pytest.approx(2.0 * 0.9998, rel=1e-12)


def test_a_target_that_no_schedule_reaches_in_time_is_not_reached() -> None:
    made = StudyDefinition(
        optimizer="sgd", hyperparameters={}, spectrum="custom", spectrum_digest="",
        schedule="optimal", batch_size=16.0, target=1e-9, seed=0, sampler={"name": "random"},
        max_steps=100,
    )  # fmt: skip
    assert facts(PROBLEM, made)["optimal_steps"] is None
    (trial,) = found("optimal", family="sgd", hyperparameters={"max_learning_rate": 1e-12})
    assert (trial.steps, trial.status, trial.rates) == (None, "max_steps", ())


def test_a_study_under_a_schedule_resumes_as_if_never_interrupted(tmp_path: Path) -> None:
    unbroken = found("warmup_stable_decay", 7, family="sgd")
    for n_trials in (3, 3, 7):
        storage = open_journal(tmp_path / "optuna.journal")
        resumed = found("warmup_stable_decay", n_trials, family="sgd", storage=storage)
        assert len(resumed) == n_trials
    assert [t.hyperparameters for t in resumed] == [t.hyperparameters for t in unbroken]
    (record,) = read_records(open_journal(tmp_path / "optuna.journal"))
    assert record.definition.schedule_settings == {"decay": "linear"}


def test_a_hyperparameter_of_neither_is_refused_under_the_optimizers_name() -> None:
    with pytest.raises(ValueError, match=r"^optimizer\.exponent=1\.0: SGD has only"):
        found("linear", family="sgd", hyperparameters={"exponent": 1.0})
    with pytest.raises(ValueError, match=r"^schedule=foo: must be one of constant, cosine"):
        found("foo", family="sgd")
