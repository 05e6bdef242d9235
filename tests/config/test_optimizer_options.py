"""The policies of beta2, from the command line and from Python, to what is stored and resumed."""

import math
from pathlib import Path

import pytest
from fake_records import curves
from program import ALONE, run, runs

import nqm_study as nqm
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.recipes import set_by_policy
from nqm_study.study.records import TrialRecord
from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import read_records, study_record

SPECTRUM = nqm.power_law(50)
TARGET = 0.3
HALF_LIFE = {"beta2_policy": "half_life", "beta2_batch_size": 256.0}


def found(
    batch_size: float, n_trials: int = 1, family: str = "adam", **given: object
) -> tuple[TrialRecord, ...]:
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    study = nqm.run_study(problem, family, target=TARGET, n_trials=n_trials, **given)  # type: ignore[arg-type]
    return study_record(study).trials


@pytest.mark.parametrize("batch_size", [64.0, 256.0, 300.5, 4096.0])
def test_a_trial_has_the_beta2_of_its_batch_size_and_the_steps_of_that(batch_size: float) -> None:
    fixed = {"learning_rate": 0.02, **HALF_LIFE}
    (trial,) = found(batch_size, hyperparameters=fixed)
    beta2 = trial.hyperparameters["beta2"]
    half_life_in_steps = math.log(0.5) / math.log(beta2)
    assert half_life_in_steps * batch_size == pytest.approx(256 * math.log(0.5) / math.log(0.999))
    crossing = nqm.steps_to_target(
        nqm.NoisyQuadratic(SPECTRUM, batch_size), nqm.Adam(0.02, beta2=beta2), target=TARGET
    )
    assert (trial.steps, trial.status, trial.risk) == (
        crossing.steps,
        crossing.status,
        crossing.risk,
    )


def test_with_fixed_nothing_is_changed() -> None:
    fixed = {"learning_rate": 0.02, "beta2_policy": "fixed", "beta2_batch_size": 7.0}
    (trial,) = found(4096, hyperparameters=fixed)
    assert trial.hyperparameters["beta2"] == 0.999
    assert set_by_policy({"beta2": 0.999}, {}, 4096) == {}


@pytest.mark.slow
def test_a_beta2_too_small_for_a_number_is_none_at_all() -> None:
    # 0.5^(2^20) is below every positive number; Adam then scales by the gradient at hand.
    fixed = {"learning_rate": 0.02, "beta2": 0.5, "beta2_policy": "half_life"}
    (trial,) = found(2.0**20, hyperparameters={**fixed, "beta2_batch_size": 1.0})
    assert trial.hyperparameters["beta2"] == 0.0
    crossing = nqm.steps_to_target(
        nqm.NoisyQuadratic(SPECTRUM, 2.0**20), nqm.Adam(0.02, beta2=0.0), target=TARGET
    )
    assert trial.steps == crossing.steps


def test_a_beta2_that_would_round_to_one_is_refused_before_any_trial() -> None:
    with pytest.raises(ValueError, match=r"^optimizer\.beta2_batch_size=256: beta2=0"):
        found(1e-12, hyperparameters=HALF_LIFE)
    with pytest.raises(ValueError, match=r"^optimizer\.beta2_policy=x: must be one of fixed, half"):
        found(4, hyperparameters={"beta2_policy": "x"})
    with pytest.raises(ValueError, match=r"^optimizer\.beta2_policy=half_life: SGD has only"):
        found(4, family="sgd", hyperparameters={"beta2_policy": "half_life"})


def test_a_searched_beta2_is_the_one_at_the_batch_size_given() -> None:
    given = {**HALF_LIFE, "beta2": Range(0.9, 0.999, "log_one_minus")}
    plain = found(1024, 4, hyperparameters={**given, "beta2_policy": "fixed"})
    half = found(1024, 4, hyperparameters=given)
    # The first trials are random, and the same for both.
    for one, other in zip(plain, half, strict=True):
        assert other.hyperparameters["beta2"] == pytest.approx(one.hyperparameters["beta2"] ** 4)
        assert other.hyperparameters["learning_rate"] == one.hyperparameters["learning_rate"]


def test_studies_of_a_policy_resume_and_make_one_curve(tmp_path: Path) -> None:
    unbroken = found(64, 14, hyperparameters=HALF_LIFE)
    for batch_size, n_trials in ((64, 3), (64, 14), (4096, 12)):
        storage = open_journal(tmp_path / "optuna.journal")
        resumed = found(batch_size, n_trials, storage=storage, hyperparameters=HALF_LIFE)
        assert len(resumed) == n_trials
    records = read_records(open_journal(tmp_path / "optuna.journal"))
    (curve,) = curves(records)
    again = {record.definition.batch_size: record.trials for record in records}[64.0]
    assert [t.hyperparameters for t in again] == [t.hyperparameters for t in unbroken]
    assert [point.hyperparameters["beta2"] for point in curve.points] == pytest.approx(
        [0.999 ** (64 / 256), 0.999 ** (4096 / 256)]
    )
    for record in records:
        made = record.definition
        assert made.hyperparameters["beta2"] == 0.999
        assert made.optimizer_settings == HALF_LIFE
        assert StudyDefinition.from_json(made.to_json()) == made
        assert made.varied == {"learning_rate", "beta2"}


def test_both_policies_run_in_a_sweep_and_are_told_apart_everywhere(tmp_path: Path) -> None:
    command = (
        "optimizer=rmsprop", "optimizer.beta2_policy=fixed,half_life", "target=0.2",
        "spectrum=paper_small", "batch_size=256,1024", "study.n_trials=6",
        "tracking.diagnostics=false", ALONE, "-m",
    )  # fmt: skip
    done = run(tmp_path, *command)
    assert "rmsprop half_life B=256 C=0.2 seed=0: " in done.stderr
    assert "beta2 half_life" in " ".join(done.stdout.split())
    again = run(tmp_path, *command)
    assert again.stderr.count("6 trials (0 new)") == 4
    names = {summary.info.run_name for summary in runs(tmp_path, "summary")}
    assert names == {
        "rmsprop scaling, paper_small, target=0.2",
        "rmsprop half_life scaling, paper_small, target=0.2",
    }
    for summary in runs(tmp_path, "summary"):
        half = "half_life" in summary.info.run_name
        assert summary.data.params.get("optimizer.beta2_policy") == ("half_life" if half else None)
        assert summary.data.params.get("optimizer.beta2") == ("0.99" if half else None)
        assert summary.data.params.get("fixed.beta2") == (None if half else "0.99")
        assert summary.data.metrics.get("beta2") == (pytest.approx(0.99**4) if half else None)
    for study in runs(tmp_path, "study"):
        space = study.data.params["space.beta2"]
        half = "half_life" in study.info.run_name
        assert space == ("fixed at 0.99, of batch size 256" if half else "fixed at 0.99")
    logged = {float(trial.data.params["beta2"]) for trial in runs(tmp_path, "trial")}
    assert sorted(logged) == pytest.approx([0.99**4, 0.99])
