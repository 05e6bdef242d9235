"""Optima that are the best of a dense search: Adam's families, and any under a schedule."""

import math
from dataclasses import replace

import numpy as np
import pytest
from own_parts import classes

import nqm_study as nqm
from nqm_study.config.plan import python_plan
from nqm_study.model.linear.stability import largest_peak
from nqm_study.optimum.dense_search import dense_search
from nqm_study.optimum.tuned import dense_optimum
from nqm_study.study.storage.studies import study_record

PAPER = nqm.power_law(10_000)
SMALL = nqm.power_law(100)
SHAPES = nqm.ShapeFamily(
    lambda values: nqm.WarmupStableDecay(**values),
    {"warmup_fraction": (1e-3, 0.5, "log"), "decay_fraction": (0.01, 1.0, "log")},
)


def checked(problem, family, **keywords):
    """The optimum, checked to be what its own optimizer takes under its own schedule."""
    best = nqm.tuned(problem, family, **keywords)
    target = keywords.get("target", 0.01)
    found = nqm.steps_to_target(
        problem, best.optimizer, best.schedule, target=target, max_steps=best.steps
    )
    assert found.steps == best.steps
    assert (best.exact, best.complete) == (False, True)
    return best


def jitter(rng, optimizer, width):
    """The optimizer with its rates and decays moved by about so much, on log scales."""
    moved = {"learning_rate": optimizer.learning_rate * math.exp(width * rng.normal())}
    for name in ("momentum", "ema_decay") if isinstance(optimizer, nqm.SGD) else ():
        decay = getattr(optimizer, name)
        if decay > 0.0:
            moved[name] = max(1.0 - (1.0 - decay) * math.exp(width * rng.normal()), 0.0)
    return replace(optimizer, **moved)


def not_beaten(problem, best, target, n, reshape=None):
    rng = np.random.default_rng(0)
    for trial in range(n):
        optimizer = jitter(rng, best.optimizer, (1.0, 0.1, 0.01)[trial % 3])
        if best.schedule != nqm.Constant() and isinstance(optimizer, nqm.SGD):
            peak = min(optimizer.learning_rate, largest_peak(problem, optimizer))
            optimizer = replace(optimizer, learning_rate=peak)
        schedule = reshape(rng) if reshape and trial % 2 else best.schedule
        found = nqm.steps_to_target(
            problem, optimizer, schedule, target=target, max_steps=best.steps - 1
        )
        assert found.steps is None, f"{optimizer}, {schedule}: {found.steps} < {best.steps}"


@pytest.mark.parametrize("family", ["sgd", "momentum", "nesterov", "ema", "preconditioned"])
@pytest.mark.parametrize("batch_size", [64, 2**14])
def test_dense_searches_find_the_exact_optima_of_linear_families(family, batch_size):
    problem = nqm.NoisyQuadratic(SMALL, batch_size)
    exact = nqm.tuned(problem, family, target=0.02)
    assert exact.exact
    assert (exact.schedule, exact.evaluations) == (nqm.Constant(), None)
    plan = python_plan(problem, family, target=0.02)
    assert dense_optimum(problem, plan.recipes, plan.definition).steps == exact.steps


@pytest.mark.parametrize("family", ["adam", "rmsprop"])
@pytest.mark.parametrize(("batch_size", "target"), [(1024, 0.1), (2**14, 0.01)])
def test_no_random_rate_of_adam_is_better(family, batch_size, target):
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    best = checked(problem, family, target=target)
    not_beaten(problem, best, target, 60)


def test_small_batches_have_the_known_constants_of_adam():
    # lr* = 1.6e-3 sqrt(B) and T * B = 8.0e4 at C = 0.1.
    best = checked(nqm.NoisyQuadratic(PAPER, 256), "adam", target=0.1)
    assert best.steps * 256 == pytest.approx(8.0e4, rel=0.05)
    assert best.optimizer.learning_rate == pytest.approx(1.6e-3 * 16, rel=0.1)


def test_free_decays_are_no_worse_than_the_standard_ones():
    problem = nqm.NoisyQuadratic(SMALL, 2**12)
    free = checked(problem, "adam_full", target=0.05)
    for family, decays in (("adam", {}), ("rmsprop", {"beta2": 0.999})):
        assert free.steps <= nqm.tuned(problem, family, target=0.05, **decays).steps


@pytest.mark.parametrize("family", ["sgd", "momentum", "nesterov", "ema", "preconditioned"])
def test_no_random_member_is_better_under_a_schedule(family):
    problem = nqm.NoisyQuadratic(SMALL, 64)
    best = checked(problem, family, target=0.1, schedule=nqm.Cosine())
    assert best.schedule == nqm.Cosine()
    not_beaten(problem, best, 0.1, 40)


def test_no_random_shape_is_better():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    best = checked(problem, "sgd", target=0.1, schedule=SHAPES)

    def reshape(rng):
        warmup, decay = 10.0 ** rng.uniform([-3.0, -2.0], [math.log10(0.5), 0.0])
        return nqm.WarmupStableDecay(warmup_fraction=warmup, decay_fraction=decay)

    not_beaten(problem, best, 0.1, 60, reshape)
    one = nqm.tuned(problem, "sgd", target=0.1, schedule=nqm.WarmupStableDecay(0.0, 0.01, 0.2))
    assert best.steps <= one.steps


def test_adam_is_tuned_under_a_schedule():
    problem = nqm.NoisyQuadratic(SMALL, 256)
    best = checked(problem, "adam", target=0.05, schedule=nqm.Linear())
    assert best.steps < nqm.tuned(problem, "adam", target=0.05).steps
    not_beaten(problem, best, 0.05, 30)


def test_fractions_of_a_schedule_count_as_rates_do():
    # Half the factor at twice the rate is the same run.
    problem = nqm.NoisyQuadratic(SMALL, 64)
    whole, half = (
        checked(problem, "sgd", target=0.1, schedule=nqm.PiecewiseConstant((f, 0.1 * f)))
        for f in (1.0, 0.01)
    )
    assert whole.steps == half.steps


def test_the_same_search_finds_the_same_optimum():
    problem = nqm.NoisyQuadratic(SMALL, 256)
    one, other = (nqm.tuned(problem, "adam", target=0.05) for _ in range(2))
    assert one == other


def test_fixed_values_are_kept():
    problem = nqm.NoisyQuadratic(SMALL, 2**12)
    best = checked(problem, "adam", target=0.05, beta1=0.5, eps=1e-3)
    assert (best.optimizer.beta1, best.optimizer.beta2, best.optimizer.eps) == (0.5, 0.999, 1e-3)
    best = checked(problem, "momentum", target=0.05, schedule=nqm.Linear(), momentum=0.8)
    assert best.optimizer.momentum == 0.8


def test_optima_out_of_reach_are_said():
    problem = nqm.NoisyQuadratic(SMALL, 2**12)
    steps = nqm.tuned(problem, "adam", target=0.05).steps
    nothing = nqm.tuned(problem, "adam", target=0.05, max_steps=steps - 1)
    assert (nothing.steps, nothing.optimizer, nothing.schedule) == (None, None, None)
    assert not nothing.exact


def test_targets_met_at_the_start_take_no_steps():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    assert checked(problem, "adam_full", target=10.0).steps == 0
    assert checked(problem, "momentum", target=10.0, schedule=SHAPES).steps == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"schedule": 3}, "schedule=3: must be a schedule"),
        ({"momentum": 0.5}, "momentum: cannot be fixed; beta1, beta2, eps, weight_decay can"),
        ({"learning_rate": 0.5}, "learning_rate: cannot be fixed; beta1"),
        ({"beta1": 1.0}, "beta1=1: must be a finite number of at least 0 and less than 1"),
        ({"most_evaluations": 0}, "most_evaluations=0: must be an integer of at least 1"),
    ],
)
def test_bad_requests_are_refused(arguments, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        nqm.tuned(nqm.NoisyQuadratic(SMALL, 16), "adam", **arguments)


@pytest.mark.parametrize(
    ("make", "free", "named"),
    [
        (None, {"x": (0.1, 1.0, "log")}, "make=None: must be a function"),
        (lambda _: 1.0, {"x": (0.1, 1.0, "log")}, r"make\(...\)=1.0: must be a Schedule"),
        (nqm.Cosine, {}, r"coordinates=\(\): must have at least one"),
        (nqm.Cosine, [], r"free=\[\]: must map names"),
        (
            lambda values: nqm.Cosine(**values),
            {"warmup_fraction": (0.1, 1.0, "linear")},
            "warmup_fraction=1: must be a finite number of at least 0 and less than 1",
        ),
    ],
)
def test_families_of_shapes_refuse_what_makes_no_schedule(make, free, named):
    with pytest.raises(ValueError, match=f"^{named}"):
        nqm.ShapeFamily(make, free)


Mixed = classes(version="1")["QHM"]
FREE_DECAY = {"low": 0.0, "high": 0.9999, "scale": "log_one_minus"}


@pytest.mark.parametrize(("family", "schedule"), [("momentum", "constant"), ("sgd", "one_cycle")])
def test_a_study_and_tuned_have_one_optimum(family, schedule):
    problem = nqm.NoisyQuadratic(SMALL, 256)
    known = nqm.Benchmark(problem, family, target=0.05, schedule=schedule).optimum
    best = nqm.tuned(problem, family, target=0.05, schedule=schedule)
    assert (known.steps, known.hyperparameters) == (best.steps, best.hyperparameters)
    assert known.exact == best.exact


def test_a_schedule_by_name_has_its_shape_free():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    free = checked(problem, "sgd", target=0.1, schedule="cosine")
    assert free.steps <= checked(problem, "sgd", target=0.1, schedule=nqm.Cosine(0.05)).steps
    held = checked(problem, "sgd", target=0.1, schedule="cosine", final_fraction=0.5)
    assert held.schedule.final_fraction == 0.5


def test_a_class_is_tuned_as_its_configuration_is():
    problem, given = nqm.NoisyQuadratic(SMALL, 256), {"momentum": FREE_DECAY}
    for schedule in ("constant", "cosine"):
        named, own = (
            nqm.tuned(problem, family, schedule=schedule, target=0.05, hyperparameters=more)
            for family, more in (("momentum", {}), (nqm.HeavyBall, given))
        )
        assert (named.steps, named.exact) == (own.steps, own.exact)


def test_a_class_of_the_users_is_tuned():
    problem = nqm.NoisyQuadratic(SMALL, 256)
    free = {"v": {"low": 0.0, "high": 1.0, "scale": "linear"}}
    best = checked(problem, Mixed, target=0.05, hyperparameters=free)
    not_beaten(problem, best, 0.05, 30)
    # With v = 0 it is SGD.
    assert best.steps <= nqm.tuned(problem, "sgd", target=0.05).steps


def test_what_leaves_nothing_to_search_is_refused():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    for given in ({"hyperparameters": {"learning_rate": 0.5}}, {"schedule": "optimal"}):
        with pytest.raises(ValueError, match="must leave something to search"):
            nqm.tuned(problem, "sgd", **given)


def test_a_start_near_the_best_saves_looks():
    box = {"x": (1e-3, 1.0, "log"), "y": (1e-3, 1.0, "log")}

    def evaluate(values, max_steps):
        exact = 49.5 * math.exp(sum(math.log(each / 0.1) ** 2 for each in values.values()))
        steps = math.ceil(min(exact, 1e9))
        reached = steps <= max_steps
        return nqm.Crossing(
            steps if reached else None,
            "reached" if reached else "max_steps",
            exact / (steps if reached else max(max_steps, 1)),
        )

    near = dense_search(evaluate, box, target=1.0, starts=[{"x": 0.11, "y": 0.09}])
    far = dense_search(evaluate, box, target=1.0)
    assert near.steps == far.steps == 50
    assert near.evaluations < far.evaluations


def test_choices_have_the_optimum_of_the_best_of_them():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    held = [nqm.tuned(problem, "momentum", target=0.05, momentum=mu) for mu in (0.5, 0.9)]
    given = {"momentum": {"choices": [0.5, 0.9]}}
    both = nqm.tuned(problem, "momentum", target=0.05, hyperparameters=given)
    assert both == min(held, key=lambda each: each.steps)
    study = nqm.run_study(
        problem, "momentum", target=0.05, n_trials=10, hyperparameters=given, truth="all"
    )
    assert study_record(study).optimum.steps == both.steps


def test_a_condition_on_a_range_is_refused():
    problem = nqm.NoisyQuadratic(SMALL, 64)
    when = {"low": 0.0, "high": 1.0, "scale": "linear", "when": {"momentum": 0.9}}
    given = {"momentum": FREE_DECAY, "v": when}
    with pytest.raises(ValueError, match=r"^hyperparameters: must have no range among the cond"):
        nqm.tuned(problem, Mixed, target=0.05, hyperparameters=given)
