"""Trials of optimizers whose coefficients change with the step: opt-in, half a minute.

    python -m pytest -s tests/benchmarks/bench_changing.py

A trial whose crossing is near 10^4 steps has to take less than 50 ms, and one near 10^6 less than
half a second, on one thread, where each mode has been compressed before.
"""

import time

import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(10_000), 256)
BOUNDS = {10**4: 0.05, 10**6: 0.5}


@pytest.mark.parametrize("steps", BOUNDS)
@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Cosine()], ids=["constant", "cosine"])
@pytest.mark.parametrize(
    "optimizer",
    [
        nqm.PolyakAverage(nqm.SGD(1.0)),
        nqm.PolyakAverage(nqm.HeavyBall(0.3, 0.9)),
        nqm.ScheduleFree(3.0),
        nqm.DANA(0.3, g3=0.1, power=0.5),
    ],
    ids=["mean", "mean_of_heavy_ball", "schedule_free", "dana"],
)
def test_a_trial_is_quick(optimizer, schedule, steps, bar, benchmark):
    early, late = (round(share * steps) for share in (0.99, 1.01))
    risks = [
        float(nqm.risk_curve(PROBLEM, optimizer, schedule, steps=[end], horizon=end)[0])
        for end in (early, late)
    ]
    target = float((risks[0] * risks[1]) ** 0.5)
    seconds = []

    def trial():
        start = time.thread_time()  # of the processor: others may use it as well
        found = nqm.steps_to_target(PROBLEM, optimizer, schedule, target=target)
        seconds.append(time.thread_time() - start)
        return found

    found = benchmark.pedantic(trial, rounds=5, warmup_rounds=1)
    name = f"{optimizer} {type(schedule).__name__} {found.steps} steps, error {found.error:.0e}"
    bound, least = BOUNDS[steps], min(seconds)
    bar(name, f"{1e3 * least:.0f} ms", bound=f"{1e3 * bound:.0f} ms", met=least <= bound)
