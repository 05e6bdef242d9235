"""The sampler that asks another in coordinates; integers, choices and conditions; resuming."""

import functools
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from hypothesis import given, settings, strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from studies import SAMPLERS, definition, journal, run_in

import nqm_study as nqm
from nqm_study.config.plan import python_plan
from nqm_study.model.outcome import Crossing
from nqm_study.search.ranges import fit
from nqm_study.study.definition import Choices, Range
from nqm_study.study.samplers.coordinates import CoordinateSampler
from nqm_study.study.samplers.optuna_samplers import make_sampler
from nqm_study.study.space import Search, SearchSpace
from nqm_study.study.trials import Evaluation, in_coordinates, suggest

MIXED = {
    "kind": Choices(("a", "b")),
    "learning_rate": Range(1e-4, 1.0),
    "blocks": Range(1, 8, "linear", integer=True),
    "shift": Range(0.0, 1.0, "linear", when={"kind": "b"}),
    "momentum": Range(0.0, 0.999, "log_one_minus"),
    "nesterov": True,
}
SPACE = SearchSpace.of(MIXED)
ALL = {
    **SAMPLERS,
    "gp": {"name": "gp", "n_startup_trials": 5},
    "nsgaii": {"name": "nsgaii", "population_size": 6},
    "grid": {"name": "grid", "size": 4**5},
}


def mixed(values: Mapping[str, object]) -> Evaluation:
    """Steps with their least, 100, at kind b, 6 blocks, shift 0.7, rate 0.01 and momentum 0.9."""
    rate, gap = float(values["learning_rate"]), 1.0 - float(values["momentum"])
    away = 0.05 * math.log(rate / 0.01) ** 2 + 0.05 * math.log(gap / 0.1) ** 2
    away += 0.05 * (int(values["blocks"]) - 6) ** 2
    away += 4.0 * (float(values["shift"]) - 0.7) ** 2 if values["kind"] == "b" else 1.0
    assert ("shift" in values) == (values["kind"] == "b")
    steps = 100.0 * math.exp(away)
    if steps > 2000.0:
        return Evaluation(Crossing(None, "diverged", 0.2 * steps / 100.0))
    return Evaluation(Crossing(math.ceil(steps), "reached", 0.2 * steps / math.ceil(steps)))


def study_of(sampler: str, folder: Path, n_trials: int, seed: int = 3) -> optuna.Study:
    what = replace(definition(hyperparameters=MIXED, seed=seed), sampler=ALL[sampler])
    return run_in(journal(folder), what, n_trials, evaluation=mixed)


def test_optuna_knows_integers_choices_and_numbers_in_the_users_units() -> None:
    assert SPACE.distributions == {
        "kind": CategoricalDistribution(("a", "b")),
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "blocks": IntDistribution(1, 8),
        "shift": FloatDistribution(0.0, 1.0),
        "momentum": FloatDistribution(0.0, 0.999),
    }
    assert SPACE.conditional == {"shift"}
    assert SearchSpace.from_json(SPACE.to_json()) == SPACE


@pytest.mark.parametrize("when", [{"absent": 1.0}, {"shift": 0.5}, {"later": 1}])
def test_a_condition_on_what_is_not_decided_before_is_refused(when: Mapping[str, float]) -> None:
    ranges = {"shift": Range(0.0, 1.0, "linear", when=when), "later": Range(1, 3, integer=True)}
    with pytest.raises(ValueError, match=rf"^shift\.when\.{next(iter(when))}: must be a fixed"):
        SearchSpace.of(ranges)


SLOW = {"gp": pytest.mark.slow}
"""PyTorch takes seconds to import."""


def each_of(names: Mapping[str, object]) -> list[object]:
    return [pytest.param(name, marks=SLOW.get(name, ())) for name in sorted(names)]


@pytest.mark.parametrize("sampler", each_of(ALL))
def test_a_resumed_study_of_choices_and_conditions_ends_as_an_unbroken_one(
    tmp_path: Path, sampler: str
) -> None:
    if sampler == "gp":
        pytest.importorskip("torch")
    most = 9 if sampler == "gp" else 23
    unbroken = study_of(sampler, tmp_path / "a", most).get_trials()
    for n_trials in (1, 7, most):
        resumed = study_of(sampler, tmp_path / "b", n_trials).get_trials()
    assert [t.params for t in resumed] == [t.params for t in unbroken]
    assert [t.values for t in resumed] == [t.values for t in unbroken]
    for trial in unbroken:
        assert type(trial.params["blocks"]) is int
        assert ("shift" in trial.params) == (trial.params["kind"] == "b")
        assert trial.distributions == {n: SPACE.distributions[n] for n in trial.params}
    assert {trial.params["kind"] for trial in unbroken} == {"a", "b"}


@pytest.mark.parametrize(
    ("sampler", "n_trials", "most"),
    [
        ("finish", 100, 103),
        ("tpe", 100, 125),
        ("cmaes", 100, 160),
        ("nsgaii", 100, 160),
        ("random", 100, 200),
        ("qmc", 100, 200),
        ("grid", 500, 160),
    ],
)
def test_choices_integers_and_what_depends_on_them_are_found(
    sampler: str, n_trials: int, most: int
) -> None:
    what = replace(definition(hyperparameters=MIXED), sampler=ALL[sampler])
    study = run_in(InMemoryStorage(), what, n_trials, evaluation=mixed)
    assert study.best_params["kind"] == "b"
    assert study.best_value <= most


PUBLIC = {
    "tpe": lambda: TPESampler(seed=0),
    "group": lambda: TPESampler(seed=0, group=True),
    "random": lambda: RandomSampler(seed=0),
    "cmaes": lambda: CmaEsSampler(seed=0, warn_independent_sampling=False),
    "qmc": lambda: QMCSampler(seed=0, warn_independent_sampling=False),
    "nsgaii": lambda: NSGAIISampler(seed=0, population_size=6),
    "gp": lambda: GPSampler(seed=0, warn_independent_sampling=False),
    "grid": lambda: GridSampler(
        {
            "kind": ["a", "b"], "blocks": [2, 6], "shift": [0.5, 0.7],
            "learning_rate": [0.01], "one_minus_momentum": [0.1, 0.5],
        }
    ),
}  # fmt: skip


def stored_by(study: optuna.Study) -> float:
    """An objective of a user's own: it says the value only."""

    def objective(trial: optuna.Trial) -> float:
        found = mixed(suggest(trial, SPACE))
        return math.inf if found.crossing.steps is None else float(found.crossing.steps)

    study.optimize(objective, n_trials=16)
    return study.best_value


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", each_of(PUBLIC))
def test_any_of_optunas_samplers_can_be_wrapped(name: str) -> None:
    if name == "gp":
        pytest.importorskip("torch")
    study = optuna.create_study(sampler=CoordinateSampler(PUBLIC[name](), SPACE))
    assert stored_by(study) < math.inf
    for trial in study.trials:
        assert set(trial.params) == set(SPACE.distributions) - (
            set() if trial.params["kind"] == "b" else {"shift"}
        )
    if name == "grid":
        assert study.best_value == 100.0
        assert len(study.trials) == 16
    assert pickle.loads(pickle.dumps(study.sampler))._space == SPACE  # noqa: S301 (our own)


class Looking(RandomSampler):
    """A sampler that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[FrozenTrial] = []

    def sample_relative(self, study: optuna.Study, *_: object) -> dict[str, object]:
        self.seen = study.get_trials()
        if any(trial.constraints.get("not_reached") == 0.0 for trial in self.seen):
            self.best = study.best_trial
        return {}


def test_a_wrapped_sampler_sees_coordinates_ranked_and_running_trials_too() -> None:
    benchmark = nqm.Benchmark("momentum", 16, spectrum=nqm.power_law(50), target=0.2)
    looking = Looking()
    study = optuna.create_study(sampler=CoordinateSampler(looking, benchmark))
    study.optimize(benchmark, n_trials=20)
    running = study.ask(benchmark.space.distributions)
    study.ask(benchmark.space.distributions)
    names = {"one_minus_momentum", "effective_learning_rate"}
    assert all(set(trial.params) == names for trial in looking.seen[:-1])
    assert looking.seen[20].params == benchmark.space.point(running.params)
    reached = [t for t in looking.seen[:20] if t.user_attrs["steps"] is not None]
    missed = [t for t in looking.seen[:20] if t.user_attrs["steps"] is None]
    assert reached
    assert missed
    assert [t.value for t in reached] == [math.log(t.user_attrs["steps"]) for t in reached]
    assert min(t.value for t in missed) > max(t.value for t in reached)
    by_risk = sorted(missed, key=lambda trial: trial.user_attrs["risk"])
    assert by_risk == sorted(missed, key=lambda trial: trial.value)
    assert looking.best.number == study.best_trial.number
    stored = {trial.number: trial.value for trial in study.trials}
    assert all(stored[t.number] == t.user_attrs["steps"] for t in reached)
    assert all(stored[t.number] == math.inf for t in missed)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_wrapped_a_sampler_ends_nearer_to_the_optimum_than_by_itself() -> None:
    benchmark = nqm.Benchmark("momentum", 16, spectrum=nqm.power_law(1000), target=0.05)

    def ends(make: object, seeds: range = range(3)) -> list[float]:
        found = []
        for seed in seeds:
            study = optuna.create_study(sampler=make(seed))  # type: ignore[operator]
            study.optimize(benchmark, n_trials=60)
            found.append(benchmark.regret(study)[-1])
        return sorted(found)

    def plain(seed: int) -> BaseSampler:
        return TPESampler(seed=seed)

    assert ends(lambda seed: CoordinateSampler(plain(seed), benchmark))[1] < 0.05 < ends(plain)[1]


FAMILIES = st.sampled_from(
    [("sgd", "constant"), ("momentum", "constant"), ("nesterov", "cosine"), ("ema", "constant")]
)


@functools.cache
def fitted(family: str, schedule: str, *, two_objectives: bool) -> SearchSpace:
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
    plan = python_plan(problem, family, schedule=schedule, sampler="random")
    made = plan.definition
    if two_objectives:
        made = replace(made, batch_size=Range(2, 512))
    return fit(problem, plan.recipes, made).space


@given(FAMILIES, st.booleans(), st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4))
@settings(derandomize=True, max_examples=100, deadline=None)
def test_what_coordinates_give_is_inside_the_box_and_comes_back(
    family: tuple[str, str], two_objectives: bool, shares: list[float]
) -> None:
    space = fitted(*family, two_objectives=two_objectives)
    point = {
        each.name: each.unscaled(
            each.scaled(each.low) + share * (each.scaled(each.high) - each.scaled(each.low))
        )
        for each, share in zip(space.coordinates, shares, strict=False)
    }
    values = space.values(point)
    for name, distribution in space.distributions.items():
        assert distribution.low <= values[name] <= distribution.high
    settled = space.point(values)
    assert space.settled(point) == settled
    assert space.values(settled) == pytest.approx(values, rel=1e-6)


def test_an_enqueued_trial_is_in_the_users_units() -> None:
    benchmark = nqm.Benchmark("momentum", 16, spectrum=nqm.power_law(50), target=0.2)
    study = optuna.create_study(sampler=CoordinateSampler(TPESampler(seed=0), benchmark))
    given = {"learning_rate": 0.3, "momentum": 0.5}
    study.enqueue_trial(given)
    study.optimize(benchmark, n_trials=3)
    assert study.trials[0].params == given
    assert not any(map(in_coordinates, study.trials))


def test_a_given_point_with_choices_is_the_first_trial(tmp_path: Path) -> None:
    first = {"kind": "a", "blocks": 3, "learning_rate": 0.1, "momentum": 0.5}
    start = SPACE.point(first)
    what = definition("finish", hyperparameters=MIXED)
    study = run_in(journal(tmp_path), what, 2, evaluation=mixed, starts=(start,))
    assert study.trials[0].params == first
    assert Search(SPACE, (start,)).to_json()["starts"] == [start]


def test_each_of_the_first_points_is_given_once_whatever_its_last_digits() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
    made = python_plan(problem, "momentum", sampler="tpe", target=0.05)
    what = replace(made.definition, max_steps=10**6)
    space, random = made.search.space, np.random.default_rng(0)
    starts = tuple(space.anywhere(random) for _ in range(40))
    study = optuna.create_study(sampler=make_sampler(what, Search(space, starts)))
    study.optimize(lambda trial: 100.0 + suggest(trial, space)["momentum"], n_trials=60)
    given = [space.values(each) for each in starts]
    for trial, values in zip(study.trials, given, strict=False):
        assert trial.params == {name: values[name] for name in space.distributions}
    assert len({tuple(trial.params.values()) for trial in study.trials}) == 60
