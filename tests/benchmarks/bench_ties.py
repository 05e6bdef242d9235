"""Targets within rounding of a risk: opt-in, a minute.

    python -m pytest -s tests/benchmarks/bench_ties.py

The right answers are from the textbook's recursion in long doubles. An integer may be wrong only
where ``Crossing.tie`` says that rounding may have decided, and that is said only near a tie.
"""

import os

import campaign
import numpy as np
import textbook

import nqm_study as nqm

SCALE = float(os.environ.get("CASES", "1"))

CLEAR = 1e-9
"""A risk further than this from the target, relative, is no tie in runs of these lengths; a bound
by which steps are passed may be nearer to it than they are."""


def precise(problem, optimizer, rates):
    """The risks of a run, whose moments are long doubles."""
    spectrum = problem.spectrum
    long = np.longdouble
    return textbook._linear.py_func(
        spectrum.curvature.astype(long),
        spectrum.noise.astype(long) / long(problem.batch_size),
        0.5 * spectrum.multiplicity * spectrum.curvature,
        (spectrum.initial_mean**2 + spectrum.initial_variance).astype(long),
        np.asarray(rates, dtype=long),
        long(optimizer.momentum),
        optimizer.nesterov,
        long(optimizer.preconditioner_power),
        long(optimizer.ema_decay),
    )


def ends(problem, optimizer, schedule, last):
    if not schedule.needs_horizon:
        steps = np.arange(last, dtype=float)
        return precise(problem, optimizer, optimizer.learning_rate * schedule.at_steps(steps, last))
    found = [problem.spectrum.initial_risk]
    for horizon in range(1, last + 1):
        factors = schedule.at_steps(np.arange(horizon, dtype=float), horizon)
        found.append(precise(problem, optimizer, optimizer.learning_rate * factors)[-1])
    return np.array(found)


def test_rounding_decides_only_where_that_is_said():
    rng = np.random.default_rng(77)
    asked = ties = wrong = false_alarms = 0
    failures = []
    while asked < SCALE * 10_000:
        spectrum = campaign.random_spectrum(rng, 4)
        problem = nqm.NoisyQuadratic(spectrum, float(4.0 ** rng.integers(0, 15)))
        optimizer = campaign.random_optimizer(
            rng, spectrum.curvature.max(), [0.0, 0.5, 0.9, 0.99, 0.999]
        )
        schedule = nqm.Constant() if rng.random() < 0.7 else campaign.random_schedule(rng)
        last = 60 if schedule.needs_horizon else int(np.exp(rng.uniform(np.log(50), np.log(1500))))
        risks = ends(problem, optimizer, schedule, last)
        usable = np.flatnonzero((risks > 1e-250) & (risks < risks[0]) & np.isfinite(risks))
        if usable.size < 2:
            continue
        for _ in range(50):
            near = float(rng.choice([-1.0, 1.0])) * 10.0 ** -float(rng.uniform(9.0, 16.0))
            target = float(risks[rng.choice(usable)]) * (1.0 + near)
            below = np.flatnonzero(risks <= target)
            first = int(below[0]) if below.size else None
            found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=last)
            asked += 1
            ties += found.tie
            if found.steps != first:
                wrong += 1
                if not found.tie:
                    failures.append((problem, optimizer, schedule, target, first, found))
            up_to = risks[: last + 1 if first is None else first + 1]
            distance = float(np.min(np.abs(up_to / target - 1.0)))
            false_alarms += found.tie and distance > CLEAR
    print(
        f"\n{asked} targets near a risk: {ties} said to be ties, {wrong} integers other than the "
        f"right ones, {len(failures)} of them not said; {false_alarms} ties said where none is"
    )
    for each in failures[:5]:
        print("  ", each)
    assert not failures
    assert false_alarms == 0
