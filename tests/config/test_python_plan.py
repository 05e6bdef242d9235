"""A study asked for in Python goes the way of the command line: the same checks and values."""

from dataclasses import dataclass

import numpy as np
import pytest
from composing import composed
from hydra import compose, initialize_config_dir

import nqm_study as nqm
from nqm_study.config.plan import python_plan, study_plan
from nqm_study.model.schedules import Batched
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.options import conf_dir

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size=256)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1), ("seed", 2**32), ("n_trials", 0), ("n_trials", 1.5), ("max_growth", 0.5),
        ("truth", "some"), ("warm_start", 1),
    ],
)  # fmt: skip
def test_both_refuse_the_same_values_in_the_same_words(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}=") as python:
        python_plan(PROBLEM, "sgd", **{key: value})
    typed = f"'{value}'" if isinstance(value, str) else value
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = composed(f"study.{key}={typed}")
    with pytest.raises(ValueError, match=r"^study\.") as command_line:
        study_plan(cfg)
    assert str(command_line.value) == f"study.{python.value}"


@pytest.mark.parametrize("family", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup_stable_decay", "optimal"])
def test_both_make_the_same_definition_but_for_the_spectrums_name(
    family: str, schedule: str
) -> None:
    if family == "adam" and schedule == "optimal":
        return
    python = python_plan(PROBLEM, family, schedule=schedule).definition.to_json()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = composed(f"optimizer={family}", f"schedule={schedule}")
    command_line = study_plan(cfg).definition.to_json()
    names = {"spectrum", "spectrum_settings"}
    assert {k: v for k, v in python.items() if k not in names} == {
        k: v for k, v in command_line.items() if k not in names
    }


@dataclass(frozen=True)
class Late(nqm.BatchSchedule):
    """One batch size, and a larger one in the last part of the run."""

    share: float = 0.9
    times: float = 10.0

    @property
    def knots(self) -> tuple[float, ...]:
        return (self.share,)

    def factor(self, fraction: np.ndarray) -> np.ndarray:
        return np.where(fraction < self.share, 1.0, self.times)


def test_a_batch_schedule_of_ones_own_is_searched_by_its_hyperparameters() -> None:
    free = {"batch_times": {"low": 1.0, "high": 50.0, "scale": "log"}}
    plan = python_plan(PROBLEM, "sgd", batch_schedule=Late, hyperparameters=free)
    assert plan.definition.batch_schedule == "late"
    assert plan.definition.searched == ("learning_rate", "batch_times")
    assert plan.definition.hyperparameters["batch_share"] == 0.9
    assert plan.definition.code["batch_schedule"].startswith(f"{Late.__module__}.Late ")
    values = {**plan.search.space.values(plan.search.starts[0])}
    _, schedule = parts_of_run(PROBLEM, plan.recipes, plan.definition, values)
    assert isinstance(schedule, Batched)
    assert schedule.batches == Late(0.9, values["batch_times"])
    for wrong, line in (
        ({"batch_end": 2.0}, r"^batch_schedule\.end=2\.0: late has only "),
        ({"batch_share": None}, r"^batch_schedule\.share"),
    ):
        with pytest.raises(ValueError, match=line):
            python_plan(PROBLEM, "sgd", batch_schedule=Late, hyperparameters=wrong)
    with pytest.raises(ValueError, match=r"^batch_schedule=bump: must be one of constant, "):
        python_plan(PROBLEM, "sgd", batch_schedule="bump")


def test_a_study_in_python_has_the_objectives_of_the_command_line() -> None:
    given = {"n_trials": 3, "hyperparameters": {"learning_rate": 1.0}}
    steps = nqm.run_study(PROBLEM, "sgd", target=0.05, **given).best_value
    machine = {"hardware_batch_size": 16.0, "hardware_exponent": 0.5}
    time = nqm.run_study(PROBLEM, "sgd", target=0.05, objective="time", **machine, **given)
    assert time.best_value == pytest.approx(4.0 * steps)
    fewest = nqm.run_study(PROBLEM, "sgd", target=0.05, objective="examples", steps=20_000, **given)
    best = nqm.NoisyQuadratic(PROBLEM.spectrum, fewest.best_value / 20_000)
    ends = nqm.risk_curve(best, nqm.SGD(1.0), steps=[20_000])
    assert ends[0] == pytest.approx(0.05, rel=1e-9)
    for wrong, line in (
        ({"objective": "speed"}, "^objective=speed: must be one of "),
        ({"objective": "examples"}, r"^study\.steps=null: must be the length of every run"),
        ({"sped": 3}, "^sped=3: "),
    ):
        with pytest.raises(ValueError, match=line):
            nqm.run_study(PROBLEM, "sgd", **wrong)


def test_a_study_in_python_leaves_a_running_hydra_as_it_is() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        before = compose("config", ["optimizer=ema"])
        python_plan(PROBLEM, "nesterov", schedule="exponential")
        assert compose("config", ["optimizer=ema"]) == before
