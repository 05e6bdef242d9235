"""A class of a user's own is studied from Python as a family of a name is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import optuna
import pytest
from own_parts import classes

import nqm_study as nqm
from nqm_study.config.plan import python_plan
from nqm_study.config.targets import code_of
from nqm_study.study.storage.studies import study_record

QHM, DROP = (classes(version="a")[name] for name in ("QHM", "Drop"))
PROBLEM = nqm.NoisyQuadratic(nqm.power_law(100), 32)
V = {"v": {"low": 0.0, "high": 1.0, "scale": "linear"}}


def test_a_class_is_studied_with_its_rate_and_what_is_said_beside() -> None:
    study = nqm.run_study(PROBLEM, QHM, target=0.05, n_trials=8, hyperparameters=V)
    plan = python_plan(PROBLEM, QHM, target=0.05, hyperparameters=V)
    assert plan.definition.optimizer == "qhm"
    assert plan.definition.code == {"optimizer": "my_parts.QHM a"}
    assert plan.definition.searched == ("learning_rate", "v")
    assert plan.definition.hyperparameters["momentum"] == 0.9
    for trial in study.trials:
        values = trial.user_attrs["hyperparameters"]
        found = nqm.steps_to_target(PROBLEM, QHM(**values), target=0.05, max_growth=1000)
        assert trial.user_attrs["steps"] == found.steps


def test_a_schedule_is_a_class_too() -> None:
    given = {"after": {"low": 0.1, "high": 0.9, "scale": "linear"}}
    study = nqm.run_study(
        PROBLEM, "sgd", target=0.05, n_trials=5, schedule=DROP, hyperparameters=given
    )
    for trial in study.trials:
        values = dict(trial.user_attrs["hyperparameters"])
        schedule = DROP(values.pop("after"), values.pop("to"))
        found = nqm.steps_to_target(
            PROBLEM, nqm.SGD(**values), schedule, target=0.05, max_growth=1000
        )
        assert trial.user_attrs["steps"] == found.steps


def test_a_wrapper_has_the_hyperparameters_of_what_it_wraps_beside_its_own() -> None:
    given = {"optimizer": QHM, "momentum": 0.5, "ema_decay": 0.9}
    plan = python_plan(PROBLEM, nqm.Averaged, target=0.05, hyperparameters=given)
    assert plan.definition.code == {
        "optimizer": "nqm_study.model.optimizers.wrappers.Averaged of my_parts.QHM a"
    }
    made = plan.recipes.optimizer({"learning_rate": 0.3, "momentum": 0.5, "ema_decay": 0.9})
    assert made == nqm.Averaged(QHM(0.3, momentum=0.5), ema_decay=0.9)


def test_a_benchmark_takes_a_class() -> None:
    benchmark = nqm.Benchmark(PROBLEM, QHM, target=0.05, hyperparameters=V)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(benchmark, n_trials=3)
    assert {trial.user_attrs["status"] for trial in study.trials} <= {
        "reached", "diverged", "max_steps", "floor_above_target",
    }  # fmt: skip


def test_a_class_without_source_needs_a_version() -> None:
    with pytest.raises(ValueError, match=r"^my_parts\.QHM: has no source to be known by: give it"):
        nqm.run_study(PROBLEM, classes()["QHM"], target=0.05, n_trials=1)


@dataclass(frozen=True)
class Based(QHM):  # type: ignore[misc, valid-type]
    """A class on another one's rule."""

    v: float = 0.5


def test_code_is_known_by_the_bases_too() -> None:
    before = code_of(Based)
    assert before.startswith(f"{__name__}.Based ")
    assert Based.version == "a"


@dataclass(frozen=True)
class Rule(nqm.Schedule):
    """Has arrays in and out."""

    def factor(self, fraction: np.ndarray) -> np.ndarray:
        """Half of the rate at the end."""
        return 1.0 - 0.5 * fraction


@dataclass(frozen=True)
class ByStep(nqm.Schedule):
    """Needs no horizon."""

    def factor_at(self, step: np.ndarray) -> np.ndarray:
        """1 / sqrt(1 + t / 100)."""
        return 1.0 / np.sqrt(1.0 + step / 100.0)


def test_a_schedule_of_a_few_lines_is_the_one_that_is_here() -> None:
    optimizer = nqm.SGD(0.5)
    for own, here in ((Rule(), nqm.Linear(0.5)), (ByStep(), nqm.InverseSqrt(100.0))):
        assert own.needs_horizon == here.needs_horizon
        found = [nqm.steps_to_target(PROBLEM, optimizer, s, target=0.05).steps for s in (own, here)]
        assert found[0] == found[1] is not None


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (lambda f: -1.0 * f - 1.0, "has the factor -1 at step 0: must be a finite number"),
        (lambda f: f[:1].repeat(2), r"has factors of shape \(2,\) for [0-9]+ steps: must be one"),
        (lambda f: f / 0.0, "has the factor nan at step 0: must be a finite"),
    ],
)
def test_a_schedule_that_gives_no_factors_is_one_line(factors: Any, message: str) -> None:
    wrong = type("Wrong", (nqm.Schedule,), {"factor": lambda _, fraction: factors(fraction)})
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=f"^Wrong: {message}"),
    ):
        nqm.risk_curve(PROBLEM, nqm.SGD(0.5), wrong(), steps=[1], horizon=1)


@dataclass(frozen=True)
class Moody(nqm.LinearOptimizer):
    """SGD that raises at some values of v, and has no numbers at others."""

    learning_rate: float
    v: float = 0.5
    version: ClassVar[str] = "1"

    def update(self, step: np.ndarray, rate: np.ndarray) -> nqm.Update:  # noqa: ARG002
        """The rule."""
        if 0.3 < self.v < 0.4:
            raise KeyError("v")
        gain = -rate[:, None] * (np.nan if 0.6 < self.v < 0.7 else 1.0)
        return nqm.Update(np.ones((1, 1, 1)), gain, np.ones((1, 1)), [1.0], [1.0])


def moody(n_trials: int, low: float, high: float, storage: Any = None) -> optuna.Study:
    between = {"low": low, "high": high, "scale": "linear"}
    return nqm.run_study(
        PROBLEM, Moody, target=0.05, n_trials=n_trials, storage=storage, sampler="random",
        hyperparameters={"v": between, "learning_rate": 0.5},
    )  # fmt: skip


def test_a_trial_that_fails_is_kept_does_not_count_and_the_study_goes_on() -> None:
    study = moody(30, 0.0, 1.0)
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == 30
    failures = {
        t.params["v"]: t.user_attrs["failure"] for t in study.trials if t.state.name == "FAIL"
    }
    assert {why.split(":")[0] for why in failures.values()} == {"KeyError", "ValueError"}
    assert all(0.3 < v < 0.4 or 0.6 < v < 0.7 for v in failures)
    assert study_record(study).failures == tuple(failures.values())


def test_a_study_with_failures_resumes_as_an_unbroken_one(tmp_path: Path) -> None:
    whole = moody(30, 0.0, 1.0)
    for n_trials in (7, 19, 30):
        resumed = moody(n_trials, 0.0, 1.0, str(tmp_path / "a.journal"))
    assert [(t.state, t.params) for t in resumed.trials] == [
        (t.state, t.params) for t in whole.trials
    ]


def test_three_failures_in_a_row_end_the_study() -> None:
    with pytest.raises(ValueError, match=r"^3 trials in a row failed, KeyError: 'v'$"):
        moody(500, 0.299, 0.51)


@pytest.mark.parametrize(
    "sampler",
    [
        optuna.samplers.TPESampler, optuna.samplers.RandomSampler, optuna.samplers.CmaEsSampler,
        optuna.samplers.NSGAIISampler, optuna.samplers.NSGAIIISampler,
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_sampler_is_a_class_of_optunas(sampler: type, tmp_path: Path) -> None:
    def study(n_trials: int, storage: Any = None) -> optuna.Study:
        return nqm.run_study(
            PROBLEM, "momentum", target=0.05, n_trials=n_trials, storage=storage, sampler=sampler
        )

    whole = study(12)
    for n_trials in (5, 12):
        resumed = study(n_trials, str(tmp_path / "a.journal"))
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]
    assert len({tuple(trial.params.values()) for trial in whole.trials}) == 12


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (dict, r"sampler\._target_=builtins\.dict: must be a sampler of Optuna's, or one with its"),
        (optuna.samplers.PartialFixedSampler, r"sampler\.fixed_params: is missing"),
    ],
)
def test_what_is_no_sampler_is_one_line(sampler: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        nqm.run_study(PROBLEM, "sgd", target=0.05, n_trials=1, sampler=sampler)


HUB = """
import optuna
import optunahub


class EvenSampler(optunahub.samplers.SimpleBaseSampler):
    def __init__(self, seed=None):
        super().__init__()
        self._random = optuna.samplers.RandomSampler(seed=seed)

    def sample_relative(self, study, trial, search_space):
        ask = self._random.sample_independent
        return {name: ask(study, trial, name, each) for name, each in search_space.items()}
"""


def test_a_sampler_of_optunahub_is_taken(tmp_path: Path) -> None:
    hub = pytest.importorskip("optunahub")
    package = tmp_path / "package" / "samplers" / "even"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(HUB)
    made = hub.load_local_module("samplers/even", registry_root=str(tmp_path / "package"))
    study = nqm.run_study(PROBLEM, "momentum", target=0.05, n_trials=6, sampler=made.EvenSampler)
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 6
