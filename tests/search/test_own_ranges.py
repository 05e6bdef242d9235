"""A class may say itself in which ranges a study searches it, and where the study begins."""

import dataclasses

import pytest

import nqm_study as nqm
from nqm_study.config.plan import python_plan

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
OPEN = {"low": None, "high": None}


@dataclasses.dataclass(frozen=True)
class Told(nqm.HeavyBall):
    """Heavy ball, with ranges and a first guess of its own."""

    version = "1"

    @classmethod
    def coordinates(cls, problem, target, given):
        assert (problem, target) == (PROBLEM, 0.02)
        low = 1e-4 if "momentum" in given else 1e-3
        return {"learning_rate": (low, 0.5, "log"), "momentum": (0.5, 0.99, "log_one_minus")}

    @classmethod
    def first_guess(cls, *_):
        return {"learning_rate": 0.02, "momentum": 0.9}


def space_of(make, **given):
    plan = python_plan(PROBLEM, make, target=0.02, hyperparameters=given)
    return plan.search


def ends(search, name):
    each = next(e for e in search.space.coordinates if e.hyperparameter == name)
    return tuple(sorted(each.value(end, {"momentum": 0.0}) for end in (each.low, each.high)))


def test_its_ranges_stand_where_bounds_are_open():
    search = space_of(Told, momentum={**OPEN, "scale": "log_one_minus"})
    assert ends(search, "learning_rate") == (1e-3, 0.5)
    assert ends(search, "momentum") == pytest.approx((0.5, 0.99))
    assert search.space.values(search.starts[0]) == pytest.approx(
        {"learning_rate": 0.02, "momentum": 0.9}
    )


def test_bounds_and_values_that_are_given_stay():
    search = space_of(Told, learning_rate={"low": None, "high": 0.1, "scale": "log"}, momentum=0.8)
    assert ends(search, "learning_rate") == (1e-4, 0.1)
    assert search.space.values(search.starts[0]) == {"learning_rate": 0.02, "momentum": 0.8}


def test_a_study_of_it_and_its_true_optimum_take_them():
    free = {"momentum": {**OPEN, "scale": "log_one_minus"}}
    study = nqm.run_study(PROBLEM, Told, target=0.02, n_trials=8, hyperparameters=free)
    assert study.trials[0].params == pytest.approx({"learning_rate": 0.02, "momentum": 0.9})
    assert all(1e-3 <= trial.params["learning_rate"] <= 0.5 for trial in study.trials)
    best = nqm.tuned(PROBLEM, Told, target=0.02, hyperparameters=free)
    assert best.steps <= study.best_value


@pytest.mark.parametrize(
    ("method", "said", "line"),
    [
        ("coordinates", {"lr": (1, 2, "log")}, "coordinates.*: lr: must be one of the hyper"),
        ("coordinates", {"learning_rate": (2.0, 1.0, "log")}, "learning_rate=.*must be less than"),
        ("coordinates", {"learning_rate": 1.0}, "learning_rate=1.0: .*unpack"),
        ("coordinates", {"learning_rate": (1.0, 2.0, "cube")}, "scale=cube: must be one of"),
        ("first_guess", {"learning_rate": float("nan")}, "learning_rate=nan: must be a number"),
        ("first_guess", {"learning_rate": "a"}, "learning_rate=a: must be a number"),
        ("first_guess", None, "first_guess.*: TypeError: "),
    ],
)
def test_what_it_says_wrongly_is_one_line(method, said, line, monkeypatch):
    monkeypatch.setattr(Told, method, classmethod(lambda *_: said))
    with pytest.raises(ValueError, match=line) as caught:
        space_of(Told)
    assert "\n" not in str(caught.value)
