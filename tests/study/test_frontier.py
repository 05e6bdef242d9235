"""Two objectives: the loop is the same, and what it found is measured by the exact frontier."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import TrialState
from studies import FACTS, PROBLEM, definition, journal

import nqm_study as nqm
from nqm_study.optimum.study import true_frontier
from nqm_study.search.ranges import STARTS, fit, sizes_across
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.evaluation import evaluation
from nqm_study.study.frontier import ExactFrontier, non_dominated
from nqm_study.study.loop import run
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes
from nqm_study.study.records import TrialRecord
from nqm_study.study.samplers.coordinates import CoordinateSampler
from nqm_study.study.space import SearchSpace, between
from nqm_study.study.storage.studies import note, open_study, study_record
from nqm_study.study.trials import trial_records

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
SIZES = Range(2, 300, "log")
FITTED = {"learning_rate": Range(None, None), "momentum": Range(None, None, "log_one_minus")}
RECIPES = Recipes(Recipe(nqm.SGD), CONSTANT)
SAMPLERS = {
    "tpe": {"name": "tpe", "n_startup_trials": 5},
    "nsgaii": {"name": "nsgaii", "population_size": 6},
    "random": {"name": "random"},
    "qmc": {"name": "qmc", "qmc_type": "sobol"},
    "grid": {"name": "grid", "size": 64},
}


def searched(sampler: str = "tpe", **changes: object) -> StudyDefinition:
    given = {
        "batch_size": SIZES,
        "hyperparameters": FITTED,
        "sampler": SAMPLERS[sampler],
        "warm_start": True,
    }
    return replace(definition(), **{**given, **changes})


def run_in(
    folder: Path, what: StudyDefinition, n_trials: int, stop: int | None = None
) -> optuna.Study:
    """Run a study, or begin it and be interrupted after so many trials."""
    search = fit(PROBLEM, RECIPES, what)
    stored = open_study(
        journal(folder), "study", what, lambda: {**FACTS, "search": search.to_json()}
    )

    def interrupt(_: TrialRecord, done: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    compute = evaluation(PROBLEM, RECIPES, what)
    try:
        run(stored, what, search, compute, n_trials=n_trials, on_trial=interrupt)
    except KeyboardInterrupt:
        assert stop is not None
    return stored


def points(study: optuna.Study) -> list[Mapping[str, float]]:
    return [trial.hyperparameters for trial in trial_records(study.get_trials())]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_study_ends_as_an_unbroken_one(sampler: str, tmp_path: Path) -> None:
    what = searched(sampler)
    unbroken = points(run_in(tmp_path / "a", what, 30))
    assert len({tuple(values.values()) for values in unbroken}) > 15
    # Generations of 6: one is cut off in its middle, one is whole and has no children yet.
    for stop in (9, 18):
        run_in(tmp_path / f"b{stop}", what, 30, stop)
        assert points(run_in(tmp_path / f"b{stop}", what, 30)) == unbroken
    assert points(run_in(tmp_path / "a", what, 30)) == unbroken


def test_first_trials_are_parents_of_the_next_generation(tmp_path: Path) -> None:
    study = run_in(tmp_path, searched("nsgaii"), 14)
    generations = [
        next(v for k, v in trial.system_attrs.items() if k.endswith(":generation"))
        for trial in study.get_trials()
    ]
    assert generations == [0] * 6 + [1] * 6 + [2] * 2


def test_both_objectives_are_stored_as_they_are(tmp_path: Path) -> None:
    study = run_in(tmp_path, searched(), 25)
    assert len(study.directions) == 2
    trials = trial_records(study.get_trials())
    reached = [trial for trial in trials if trial.steps is not None]
    assert 0 < len(reached) < len(trials)
    for trial, frozen in zip(trials, study.get_trials(), strict=True):
        both = [math.inf, math.inf]
        if trial.steps is not None:
            both = [trial.steps, trial.steps * trial.batch_size]
        assert frozen.values == both


def test_a_trial_is_what_the_model_says_at_its_batch_size(tmp_path: Path) -> None:
    for trial in trial_records(run_in(tmp_path, searched(), 12).get_trials()):
        values = dict(trial.hyperparameters)
        size = values.pop("batch_size")
        assert isinstance(size, int)
        assert SIZES.low <= size <= SIZES.high
        crossing = nqm.steps_to_target(
            replace(PROBLEM, batch_size=size), nqm.SGD(**values), target=0.2, max_steps=10**6
        )
        assert (trial.steps, trial.status) == (crossing.steps, crossing.status)


def test_what_missed_the_target_is_worse_in_both_than_whatever_reached_it(tmp_path: Path) -> None:
    class Looking(RandomSampler):
        def sample_relative(self, study: Study, *_: object) -> dict[str, float]:
            seen[:] = study.get_trials(states=(TrialState.COMPLETE,))
            return {}

    what, seen = searched(max_steps=10**6), []
    study = run_in(tmp_path, what, 25)
    made = fit(PROBLEM, RECIPES, what).space
    most = what.max_steps * SIZES.high
    study.sampler = CoordinateSampler(Looking(), made, target=0.2, max_steps=most)
    study.ask(made.distributions)
    reached = [trial.values for trial in seen if trial.constraints["not_reached"] == 0]
    missed = [trial.values for trial in seen if trial.constraints["not_reached"] == 1]
    assert 0 < len(reached) < len(seen) == 25
    assert max(map(max, reached)) < min(map(min, missed))
    assert max(map(max, missed)) < math.inf


def test_the_first_trials_are_the_rules_across_the_batch_sizes() -> None:
    what = searched()
    search = fit(PROBLEM, RECIPES, what)
    assert len(search.starts) == STARTS
    sizes = []
    for start in search.starts:
        values = search.space.values(start)
        sizes.append(values["batch_size"])
        alone = replace(what, batch_size=values["batch_size"])
        single = fit(replace(PROBLEM, batch_size=values["batch_size"]), RECIPES, alone)
        (rule,) = single.starts
        expected = single.space.values(rule)
        assert values["learning_rate"] == pytest.approx(expected["learning_rate"], rel=0.2)
        assert 1 - values["momentum"] == pytest.approx(1 - expected["momentum"], rel=0.2)
    assert sizes == [2, 7, 24, 86, 300]


@pytest.mark.parametrize("family", ["sgd", "momentum"])
def test_the_optimum_of_every_batch_size_is_inside_of_what_is_searched(family: str) -> None:
    given = FITTED if family == "momentum" else {"learning_rate": FITTED["learning_rate"]}
    space = fit(PROBLEM, RECIPES, searched(hyperparameters=given)).space
    for size in sizes_across(SIZES):
        best = nqm.tuned(replace(PROBLEM, batch_size=size), family, target=0.2).optimizer
        assert best is not None
        values = {name: getattr(best, name) for name in given} | {"batch_size": float(size)}
        found = space.values(space.point(values))
        assert found["learning_rate"] == pytest.approx(values["learning_rate"], rel=1e-3)


def test_the_space_is_stored_and_read_back_as_it_was() -> None:
    for given in (FITTED, {"learning_rate": FITTED["learning_rate"]}):
        space = fit(PROBLEM, RECIPES, searched(hyperparameters=given)).space
        assert SearchSpace.from_json(space.to_json()) == space


def test_a_range_that_is_given_is_searched_as_it_is() -> None:
    given = {"learning_rate": Range(0.01, 1.0)}
    coordinate = fit(PROBLEM, RECIPES, searched(hyperparameters=given)).space.coordinates[1]
    assert (coordinate.low, coordinate.high, coordinate.guide) == (0.01, 1.0, ())


def test_an_enqueued_trial_comes_first_and_the_rest_of_it_is_the_rules() -> None:
    what = searched(enqueued=({"batch_size": 40.0, "momentum": 0.5}, {"batch_size": 2.0}))
    search = fit(PROBLEM, RECIPES, what)
    assert len(search.starts) == STARTS + 2
    first = search.space.values(search.starts[0])
    assert (first["batch_size"], first["momentum"]) == (40.0, pytest.approx(0.5))
    with pytest.raises(ValueError, match=r"study.enqueue.batch_size=1: must be in the range"):
        fit(PROBLEM, RECIPES, searched(enqueued=({"batch_size": 1.0},)))
    with pytest.raises(ValueError, match=r"study.enqueue: must be empty with sampler=grid"):
        fit(PROBLEM, RECIPES, searched("grid", enqueued=({"batch_size": 40.0},)))


def test_batch_sizes_across_a_range_are_powers_of_two_and_the_ends() -> None:
    assert sizes_across(Range(4, 64)) == [4, 8, 16, 32, 64]
    assert sizes_across(Range(3, 40)) == [3, 4, 8, 16, 32, 40]
    assert sizes_across(Range(5, 6)) == [5, 6]


def test_between_the_places_of_a_table_a_value_is_a_power_law() -> None:
    table = ((1.0, 2.0), (100.0, 200.0))
    assert between(table, 10.0) == pytest.approx(20.0)


def test_fingerprints_of_stored_studies_stay_what_they_were() -> None:
    made = definition()
    assert made.to_json()["batch_size"] == 16.0
    assert made.fingerprint[:8] == "fa154774"
    assert made.curve[:8] == "28f29275"
    assert made.benchmark[:8] == "7ec1a153"


def test_a_range_of_batch_sizes_makes_a_study_and_a_curve_of_its_own() -> None:
    made = searched()
    again = StudyDefinition.from_json(made.to_json())
    assert again == made
    assert made.default_name.startswith("momentum-small-constant-B2..300-C0.2-s3-")
    assert made.batch_text == "2..300"
    one = replace(made, batch_size=16.0)
    assert len({made.curve, one.curve, replace(made, batch_size=Range(2, 299)).curve}) == 3
    assert "batch_size" in made.varied
    assert "batch_size" not in one.varied


def trial(number: int, batch_size: float, steps: int | None) -> TrialRecord:
    values = {"batch_size": batch_size, "learning_rate": 0.1}
    return TrialRecord(number, values, steps, "reached", 0.01, NOON, NOON)


def test_a_trial_is_left_out_where_another_has_no_more_of_both() -> None:
    trials = [
        trial(0, 10, 100),
        trial(1, 10, 101),  # more steps, more examples
        trial(2, 4, 200),
        trial(3, 20, 90),
        trial(4, 10, 100),  # the same once more
        trial(5, 40, None),
        trial(6, 5, 200),  # as many steps and more examples than 2
    ]
    assert [each.number for each in non_dominated(trials)] == [2, 0, 3]
    assert non_dominated([trial(0, 4, None)]) == ()


HYPERBOLA = ExactFrontier(tuple((2.0**k, round(1000 + 1e6 / 2.0**k)) for k in range(16)))
"""Steps S = 1000 (1 + 1000 / B): examples 1e6 (1 + B / 1000), 20 % above their least at B = 200."""


def test_the_critical_batch_size_has_a_fifth_more_examples_than_the_least() -> None:
    assert HYPERBOLA.critical_batch_size == pytest.approx(201, rel=0.01)
    assert ExactFrontier(HYPERBOLA.points[:6]).critical_batch_size is None


def test_between_the_computed_batch_sizes_the_frontier_is_smooth() -> None:
    for size in (3.0, 700.0, 3000.0):
        assert HYPERBOLA.steps(size) == pytest.approx(1000 + 1e6 / size, rel=0.005)
    assert HYPERBOLA.steps(0.5) is None
    assert HYPERBOLA.steps(2.0**15 + 1) is None
    assert ExactFrontier(((4.0, 100), (16.0, 50))).steps(8.0) == pytest.approx(
        math.sqrt(100 * 50), rel=1e-6
    )


def test_the_gap_is_how_far_trials_are_from_all_of_the_frontier() -> None:
    sizes, steps = HYPERBOLA.line()
    near = [
        trial(i, size, math.ceil(1.03 * count))
        for i, (size, count) in enumerate(zip(sizes.tolist(), steps.tolist(), strict=True))
    ]
    assert HYPERBOLA.gap(near) == pytest.approx(0.03, abs=2e-3)
    assert HYPERBOLA.excess(near[3]) == pytest.approx(0.03, abs=2e-3)
    # Good trials at one batch size leave the rest uncovered.
    assert HYPERBOLA.gap(near[:1]) > 1.0
    assert HYPERBOLA.gap([trial(0, 8, None)]) == math.inf


def test_the_exact_frontier_is_the_tuned_optimum_at_each_batch_size(tmp_path: Path) -> None:
    what = searched(hyperparameters={"learning_rate": FITTED["learning_rate"]})
    found = true_frontier(PROBLEM, RECIPES, what)
    assert [size for size, _ in found][:4] == [2, 3, 4, 6]
    for size, steps in found:
        assert steps == nqm.tuned(replace(PROBLEM, batch_size=size), "sgd", target=0.2).steps
    study = run_in(tmp_path, what, 40)
    note(study, "frontier", found)
    record = study_record(study)
    assert record.frontier == found
    exact = ExactFrontier(record.frontier)
    # Nothing beats it, but that its steps are rounded.
    for each in non_dominated(record.trials):
        fewest = exact.steps(each.batch_size)
        assert each.steps is not None
        assert fewest is not None
        assert each.steps > fewest - 1.0
    assert exact.gap(record.trials) < 0.5
