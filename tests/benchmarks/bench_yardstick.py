"""Whether random members ever take fewer steps than the optimum of a dense search: opt-in, minutes.

    python -m pytest -s tests/benchmarks/bench_yardstick.py

Half of the members are drawn all over the study's ranges, half ever closer around the optimum. One
fails if it takes 0.1 % fewer steps, and one step at least. ``CASES`` in the environment divides or
multiplies them all.
"""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.config.plan import python_plan
from nqm_study.study.evaluation import evaluation

SCALE = float(os.environ.get("CASES", "1"))

SCHEDULES = ("linear", "cosine", "warmup_stable_decay", "one_cycle")

MEMBERS = 200


@pytest.mark.parametrize("family", ["sgd", "momentum", "nesterov", "ema"])
def test_no_random_member_is_better_under_a_schedule(family: str) -> None:
    rng = np.random.default_rng(len(family))
    cases, better, slowest, worst = max(1, round(SCALE * 10)), [], 0.0, 0.0
    for case in range(cases):
        spectrum = nqm.power_law(int(rng.choice((30, 300, 10_000))), rng.uniform(0.6, 1.6))
        problem = nqm.NoisyQuadratic(spectrum, float(round(4.0 ** rng.uniform(1.0, 9.0))))
        schedule = SCHEDULES[case % len(SCHEDULES)]
        target = spectrum.initial_risk * 10.0 ** rng.uniform(-2.5, -0.5)
        start = time.perf_counter()
        best = nqm.tuned(problem, family, schedule=schedule, target=target)
        slowest = max(slowest, time.perf_counter() - start)
        if best.steps is None or best.steps < 2:
            continue
        plan = python_plan(problem, family, schedule=schedule, target=target)
        space, fewest = plan.search.space, best.steps
        middle = space.point(best.hyperparameters)
        for member in range(round(SCALE * MEMBERS) or 1):
            place = space.anywhere(rng)
            if member % 2:
                width = 10.0 ** rng.uniform(-3.0, 0.0)
                place = {
                    each.name: each.unscaled(each.scaled(middle[each.name]) + width * rng.normal())
                    for each in space.coordinates
                }
            shorter = replace(plan.definition, max_steps=fewest - 1)
            found = evaluation(problem, plan.recipes, shorter)(space.values(place)).crossing
            fewest = min(fewest, found.steps or fewest)
        worst = max(worst, 1.0 - fewest / best.steps)
        if best.steps - fewest > max(1.0, 1e-3 * best.steps):
            better.append((schedule, spectrum, problem.batch_size, target, best.steps, fewest))
    print(f"\n{family}: {cases} cases, {len(better)} failures, worst {worst:.2%}, {slowest:.1f} s")
    assert not better
