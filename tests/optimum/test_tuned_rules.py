"""The optima of rules that move as no SGD does, and the studies that end beside them."""

import math
from dataclasses import replace

import numpy as np
import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(100), 256)
FREE = {
    "polyak": (),
    "schedule_free": ("beta",),
    "two_averages": ("beta3",),
    "dana": ("g3",),
    "qhm": ("momentum", "v"),
    "sgdw": ("weight_decay",),
}
"""What is searched beside the rate, by the name of the configuration."""


@pytest.mark.parametrize(
    "family",
    # What is steep and winding takes a dense search of thousands of looks.
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "schedule_free")) for n in FREE],
)
def test_no_member_nearby_is_better_than_the_optimum(family):
    best = nqm.tuned(PROBLEM, family, target=0.05, max_steps=400)
    assert (best.exact, best.complete) == (False, True)
    found = nqm.steps_to_target(PROBLEM, best.optimizer, target=0.05, max_growth=1000)
    assert found.steps == best.steps
    rng = np.random.default_rng(0)
    for trial in range(60):
        width = (0.5, 0.05, 0.005)[trial % 3]
        rate = best.optimizer.learning_rate * math.exp(width * rng.normal())
        moved = best.optimizer.with_rate(rate)
        for name in FREE[family]:
            value = getattr(moved, name)
            far = math.exp(width * rng.normal())
            near_one = name in ("beta", "beta3", "momentum", "v")
            value = max(1.0 - (1.0 - value) * far, 0.0) if near_one else value * far
            moved = replace(moved, **{name: value})
        other = nqm.steps_to_target(
            PROBLEM, moved, target=0.05, max_steps=best.steps - 1, max_growth=1000
        )
        assert other.steps is None, f"{moved}: {other.steps} < {best.steps}"


@pytest.mark.parametrize("family", ["two_averages", "sgdw"])
def test_a_study_ends_near_the_optimum(family):
    problem = nqm.NoisyQuadratic(PROBLEM.spectrum, 16)
    study = nqm.run_study(problem, family, target=0.05, n_trials=60)
    assert set(study.best_params) == {"learning_rate", *FREE[family]}
    best = nqm.Benchmark(problem, family, target=0.05).optimum
    assert best.steps <= study.best_value <= 1.02 * best.steps
