"""Studies of Adam's weight decay: its range, where they begin, and what they find."""

import pytest

import nqm_study as nqm
from nqm_study.config.plan import StudyPlan, python_plan

SMALL = nqm.power_law(1000)


def plan(problem: nqm.NoisyQuadratic, target: float, **given: float) -> StudyPlan:
    return python_plan(problem, "adamw", target=target, hyperparameters=given)


@pytest.mark.parametrize(("batch_size", "target"), [(16, 0.1), (2**12, 0.02), (2**16, 0.1)])
def test_beyond_the_range_no_rate_reaches_the_target(batch_size: int, target: float) -> None:
    problem = nqm.NoisyQuadratic(SMALL, batch_size)
    (found,) = (
        each
        for each in plan(problem, target).search.space.coordinates
        if each.hyperparameter == "weight_decay"
    )
    assert found.low == 0.0

    def reached(weight_decay: float) -> bool:
        optimizers = (nqm.Adam(10.0**-k, weight_decay=weight_decay) for k in range(1, 5))
        runs = (nqm.steps_to_target(problem, each, target=target) for each in optimizers)
        return any(run.steps for run in runs)

    assert reached(0.8 * found.high)
    assert not reached(1.1 * found.high)


def test_the_range_does_not_depend_on_the_unit_of_theta() -> None:
    one, other = (
        plan(nqm.NoisyQuadratic(spectrum, 256), target).search.space.coordinates[0].high
        for spectrum, target in (
            (SMALL, 0.02),
            (nqm.Spectrum(SMALL.curvature, 9.0 * SMALL.noise, initial_variance=9.0), 0.18),
        )
    )
    assert other == pytest.approx(one / 3.0, rel=1e-4)


@pytest.mark.parametrize(("batch_size", "gained"), [(2**8, False), (2**14, True)])
def test_a_study_finds_what_the_decay_is_worth(batch_size: int, *, gained: bool) -> None:
    # It is of use where rates are so large that it damps the swing of steep modes.
    problem = nqm.NoisyQuadratic(nqm.power_law(300), batch_size)
    study = nqm.run_study(problem, "adamw", target=0.01, n_trials=100)
    adam, best = (nqm.tuned(problem, name, target=0.01).steps for name in ("adam", "adamw"))
    assert adam is not None
    assert best is not None
    assert study.best_value <= 1.01 * best
    assert (study.best_value < 0.99 * adam) == gained


def test_it_may_be_given() -> None:
    made = plan(nqm.NoisyQuadratic(SMALL, 256), 0.02, weight_decay=0.01)
    assert made.search.space.fixed["weight_decay"] == 0.01
    assert made.definition.searched == ("learning_rate",)
