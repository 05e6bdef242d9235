"""The local search: it is replayed from the trials, keeps to the space, and gets to the bottom."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings, strategies as st
from optuna.trial import TrialState
from studies import definition, journal, run_in

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.simplex import nelder_mead
from nqm_study.model.outcome import Crossing
from nqm_study.study.definition import Range
from nqm_study.study.samplers.local_search import CLOSE, PERIOD, Value, is_local
from nqm_study.study.samplers.optuna_samplers import make_sampler
from nqm_study.study.space import Search, SearchSpace
from nqm_study.study.trials import Evaluation, suggest, trial_records

WIDE = definition(
    "finish",
    hyperparameters={
        "learning_rate": Range(1e-5, 1e3),
        "momentum": Range(0.0, 0.9999, "log_one_minus"),
    },
)


def bowl(values: dict[str, float]) -> Evaluation:
    """Steps whose logarithm is a bowl: 1,000 at its bottom, at rate 0.3 and momentum 0.9."""
    x = math.log(values["learning_rate"] / 0.3)
    y = math.log((1.0 - values["momentum"]) / 0.1)
    steps = 1000.0 * math.exp(0.5 * (x + 0.9 * y) ** 2 + 0.3 * y**2)
    whole = math.ceil(steps)
    return Evaluation(Crossing(whole, "reached", 0.2 * steps / whole))


def fewest(study: object, first: int | None = None) -> int:
    records = trial_records(study.get_trials())[:first]  # type: ignore[attr-defined]
    return min(record.steps for record in records if record.steps is not None)


def test_turns_do_not_depend_on_the_budget() -> None:
    turns = [is_local(number, 0.6) for number in range(2 * PERIOD)]
    assert sum(turns) == round(0.6 * 2 * PERIOD)
    assert turns[:PERIOD] == turns[PERIOD:]
    assert not turns[0]
    assert turns[PERIOD - 1]
    assert not any(is_local(number, 0.0) for number in range(PERIOD))


def test_a_larger_budget_goes_on_as_if_it_had_been_asked_for_at_once(tmp_path: Path) -> None:
    at_once = run_in(journal(tmp_path / "a"), WIDE, 57, evaluation=bowl)
    for n_trials in (19, 20, 33, 57):
        grown = run_in(journal(tmp_path / "b"), WIDE, n_trials, evaluation=bowl)
    assert [t.params for t in grown.get_trials()] == [t.params for t in at_once.get_trials()]


def test_the_finish_gets_to_the_bottom_where_the_sampler_alone_does_not(tmp_path: Path) -> None:
    found = fewest(run_in(journal(tmp_path / "a"), WIDE, 100, evaluation=bowl))
    alone = definition(hyperparameters=WIDE.hyperparameters)
    assert found <= 1001
    assert fewest(run_in(journal(tmp_path / "b"), alone, 100, evaluation=bowl)) > found


def test_the_first_trials_are_the_given_ones(tmp_path: Path) -> None:
    starts = (
        {"learning_rate": 0.2, "one_minus_momentum": 0.5},
        {"learning_rate": 0.1, "one_minus_momentum": 0.25},
    )
    study = run_in(journal(tmp_path), WIDE, 5, evaluation=bowl, starts=starts)
    given = [{"learning_rate": 0.2, "momentum": 0.5}, {"learning_rate": 0.1, "momentum": 0.75}]
    assert [trial.params for trial in study.get_trials()[:2]] == given
    assert study.get_trials()[2].params not in given


def test_equal_steps_are_told_apart_by_the_risk(tmp_path: Path) -> None:
    def plateau(values: dict[str, float]) -> Evaluation:
        x = (
            math.log(values["learning_rate"] / 0.3) ** 2
            + math.log((1 - values["momentum"]) / 0.1) ** 2
        )
        # 7 steps nearly everywhere, and 6 where the risk is least.
        return Evaluation(Crossing(6 if x < 1e-4 else 7, "reached", 0.1 + 1e-3 * x))

    narrow = definition(
        "finish",
        hyperparameters={
            "learning_rate": Range(0.1, 1.0),
            "momentum": Range(0.5, 0.99, "log_one_minus"),
        },
    )
    assert fewest(run_in(journal(tmp_path), narrow, 100, evaluation=plateau)) == 6


def asked_for(
    start: Array, value: Callable[[Array], Value], side: float, box: tuple[Array, Array]
) -> Iterator[Array]:
    """All points of a search to its end."""
    asked = nelder_mead(
        start, value(start), [side] * start.size, box, lambda size, *_: size < CLOSE
    )
    point = next(asked)
    with contextlib.suppress(StopIteration):
        while True:
            yield point
            point = asked.send(value(point))


@given(st.integers(1, 4), st.integers(0, 2**31), st.floats(0.01, 10.0))
@settings(derandomize=True, max_examples=60, deadline=None)
def test_the_simplex_keeps_to_its_box_and_comes_to_an_end(n: int, seed: int, side: float) -> None:
    random = np.random.default_rng(seed)
    low, high = -random.uniform(0.1, 3.0, n), random.uniform(0.1, 3.0, n)
    bottom = random.uniform(-4.0, 4.0, n)  # may be outside

    def value(point: Array) -> tuple[float]:
        return (float(np.sum(np.abs(point - bottom) ** 1.5)),)

    start = random.uniform(low, high)
    points = list(asked_for(start, value, side, (low, high)))
    assert len(points) < 3000
    assert all(np.all((low <= point) & (point <= high)) for point in points)


def test_the_simplex_finds_the_bottom_of_a_narrow_valley() -> None:
    def value(p: Array) -> tuple[float]:
        return (float(100.0 * (p[1] - p[0] ** 2) ** 2 + (1.0 - p[0]) ** 2),)

    start, box = np.array([-1.2, 1.0]), (np.full(2, -5.0), np.full(2, 5.0))
    best = min(value(point) for point in asked_for(start, value, 0.5, box))
    assert best[0] < 1e-5  # Rosenbrock's function, 0 at (1, 1)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_local_search_that_has_nothing_left_goes_on_the_same_when_resumed(
    tmp_path: Path, sampler: str
) -> None:
    # One coordinate: all that the local search could ask is known before the hundredth trial.
    own = {"qmc": {"qmc_type": "sobol"}, "tpe": {"n_startup_trials": 5}}[sampler]
    what = replace(
        definition(hyperparameters={"learning_rate": Range(1e-2, 10.0), "momentum": 0.9}),
        sampler={"name": sampler, "finish": 0.6, **own},
    )
    at_once = run_in(journal(tmp_path / "a"), what, 140, evaluation=bowl)
    for n_trials in (97, 118, 140):
        grown = run_in(journal(tmp_path / "b"), what, n_trials, evaluation=bowl)
    points = [trial.params["learning_rate"] for trial in at_once.get_trials()]
    assert [trial.params["learning_rate"] for trial in grown.get_trials()] == points
    # Not twice, nor as good as twice: a simplex comes to some of its points by several ways.
    assert len({round(math.log(point), 8) for point in points}) == 140


def test_a_given_point_whose_trial_failed_is_given_again() -> None:
    space = SearchSpace.of(WIDE.hyperparameters)
    start = {"learning_rate": 0.2, "one_minus_momentum": 0.5}
    study = optuna.create_study(sampler=make_sampler(WIDE, Search(space, (start,))))
    given = {"learning_rate": 0.2, "momentum": 0.5}

    def asked() -> tuple[optuna.Trial, dict[str, float]]:
        trial = study.ask()
        suggest(trial, space)
        return trial, trial.params

    trial, params = asked()
    assert params == given
    study.tell(trial, state=TrialState.FAIL)
    trial, params = asked()
    assert params == given
    assert asked()[1] != given, "while it runs, no one else is given it"
    study.tell(trial, 1.0)
    assert asked()[1] != given


def test_another_process_is_given_another_point(tmp_path: Path) -> None:
    study = run_in(journal(tmp_path), WIDE, PERIOD, evaluation=bowl)
    space = SearchSpace.of(WIDE.hyperparameters)
    # The sampler's trials of the second period, and two of the local search that are running.
    study = run_in(journal(tmp_path), WIDE, PERIOD + 8, evaluation=bowl)
    study.sampler = make_sampler(WIDE, Search(space))
    asked = [study.ask(space.distributions) for _ in range(2)]
    assert [trial.number for trial in asked] == [PERIOD + 8, PERIOD + 9]
    assert asked[0].params != asked[1].params
