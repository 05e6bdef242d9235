"""A trial under a schedule, against stepping through one run of it.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_*.py

A trial looks at some dozen horizons; stepping is the compiled kernel on the same compression of the
spectrum, one run of the horizon that the trial finds, and NumPy over all modes.
"""

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.linear.runs import Runs, stepped

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(10_000), 16)


@pytest.mark.parametrize(
    ("name", "optimizer", "bound"),
    [
        ("SGD", nqm.SGD(0.07), 10.0),
        ("momentum 0.9", nqm.SGD(0.007, 0.9), 50.0),
        ("momentum 0.99", nqm.SGD(0.0007, 0.99), 50.0),
    ],
    ids=["SGD", "momentum 0.9", "momentum 0.99"],
)
@pytest.mark.parametrize("schedule", [nqm.Cosine(), nqm.WarmupStableDecay(0.0, 0.05, 0.4)])
def test_a_trial_against_stepping_one_run(name, optimizer, bound, schedule, race, bar):
    steps = nqm.steps_to_target(PROBLEM, optimizer, schedule).steps
    runs = Runs(PROBLEM, optimizer, schedule, 0)
    mine, step = race(
        lambda: nqm.steps_to_target(PROBLEM, optimizer, schedule),
        lambda: runs._run(stepped(schedule, steps)),
        rounds=5,
    )
    cosine = isinstance(schedule, nqm.Cosine)
    label = f"{name}, {type(schedule).__name__}, T = {steps}"
    bar(
        label,
        f"{1e3 * mine:.1f} ms",
        bound=f"< {bound:g} ms" if cosine else "",
        met=1e3 * mine < bound if cosine else None,
    )
    bar(f"{label}: stepping one run on its nodes", f"{step / mine:.1f}x ({1e3 * step:.0f} ms)")


def stepped_through(rates):
    """The last risk of SGD over all 10^4 modes, as one would write it: E theta^2 at each step."""
    h = PROBLEM.spectrum.curvature
    square = np.ones_like(h)
    for rate in rates:
        square = (1.0 - rate * h) ** 2 * square + rate**2 * h / PROBLEM.batch_size
    return 0.5 * np.sum(h * square)


@pytest.mark.parametrize("learning_rate", [1.5])
def test_a_trial_against_stepping_all_modes(learning_rate, race, bar):
    optimizer, schedule = nqm.SGD(learning_rate), nqm.Cosine()
    steps = nqm.steps_to_target(PROBLEM, optimizer, schedule).steps
    rates = learning_rate * schedule.at_steps(np.arange(steps, dtype=float), steps)
    assert stepped_through(rates) <= 0.01 * (1.0 + 1e-6)
    mine, step = race(
        lambda: nqm.steps_to_target(PROBLEM, optimizer, schedule),
        lambda: stepped_through(rates),
        rounds=1,
    )
    bar(
        f"SGD, Cosine, T = {steps}: NumPy stepping one run on all 10^4 modes",
        f"{step / mine:.0f}x ({step:.1f} s)",
    )
