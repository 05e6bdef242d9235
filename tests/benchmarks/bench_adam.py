"""Adam's trials against stepping its closure: ratios of times within one run.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_*.py

The rival steps the same closure, on the same nodes, compiled, to the step of the answer. That the
steps agree is asserted. A trial is timed from plain numbers to the answer.
"""

import functools

import pytest
from timing import best_times

import nqm_study as nqm
from nqm_study.model.adaptive.run import Closure

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

SPECTRUM = nqm.power_law(10_000)
TARGET = 0.01

# Near the best learning rate of each batch size of the paper's sweep.
BEST = {
    2**2: 0.000341,
    2**4: 0.000683,
    2**6: 0.00136,
    2**8: 0.00276,
    2**10: 0.00574,
    2**12: 0.013,
    2**14: 0.0302,
    2**16: 0.068,
    2**18: 0.0915,
    2**20: 0.173,
}


def trial(batch_size, learning_rate):
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    return nqm.steps_to_target(problem, nqm.Adam(learning_rate), target=TARGET)


def stepped(batch_size, learning_rate, most):
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    closure = Closure.of(problem, nqm.Adam(learning_rate), nqm.Constant(), 0).within(most)
    moments = closure.start()
    closure.step(moments, most, TARGET)
    return moments.steps


@pytest.mark.parametrize("batch_size", BEST)
def test_a_trial_against_stepping(batch_size, race, bar):
    rate = BEST[batch_size]
    found = trial(batch_size, rate)
    most = 2 * found.steps
    if not found.sampled:
        # Where rules for the starts are refined the trial's nodes are not the rival's.
        assert abs(found.steps - stepped(batch_size, rate, most)) <= max(1.0, 0.002 * found.steps)
    mine, theirs = race(
        lambda: trial(batch_size, rate), lambda: stepped(batch_size, rate, most), rounds=5
    )
    bound, met = "", None
    if batch_size == 4:
        bound, met = ">= 20x, <= 150 ms", theirs >= 20.0 * mine and mine <= 0.15
    elif batch_size >= 2**10:
        bound, met = "<= 20 ms", mine <= 0.02
    bar(
        f"Adam, B = {batch_size}, T = {found.steps}{', sampled' if found.sampled else ''}",
        f"{theirs / mine:.1f}x ({1e3 * mine:.1f} ms)",
        bound=bound,
        met=met,
    )


@pytest.mark.parametrize("batch_size", [2**10, 2**14, 2**18, 2**20])
def test_the_slowest_of_many_trials(batch_size, bar):
    # As a search tries them: rates far from the best one, too.
    rates = [BEST[batch_size] * 2.0 ** (k / 4.0) for k in range(-12, 13)]
    calls = [functools.partial(trial, batch_size, rate) for rate in rates]
    times = sorted(1e3 * seconds for seconds in best_times(*calls, rounds=2))
    bar(
        f"Adam, B = {batch_size}, {len(rates)} rates from 1/8 to 8 times the best",
        f"median {times[len(times) // 2]:.1f} ms, slowest {times[-1]:.1f} ms",
    )
