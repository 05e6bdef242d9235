"""Optimal batch sizes where the noise falls with the loss: stationary, and better than others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import nqm_study as nqm
from tests.model.least_squares import risks

STEPS, TARGET = 60, 0.2
RNG = np.random.default_rng(5)
SPECTRUM = nqm.Spectrum(
    curvature=np.geomspace(1.0, 0.02, 15), initial_variance=RNG.uniform(0.5, 2.0, 15)
)
CASES = [
    (nqm.SGD(0.5), nqm.Constant(), 1.0),
    (nqm.SGD(0.5), nqm.Linear(), 0.0),
    (nqm.HeavyBall(0.2, momentum=0.7), nqm.Cosine(), 0.3),
    (nqm.PolyakAverage(nqm.SGD(0.7)), nqm.Constant(), 0.3),
]


def last_risk(
    label_noise: float, optimizer: nqm.LinearOptimizer, schedule: nqm.Schedule, sizes: np.ndarray
) -> float:
    problem = nqm.LeastSquares(SPECTRUM, batch_size=1.0, label_noise=label_noise)
    factors = schedule.at_steps(np.arange(float(STEPS)), STEPS) * np.ones(STEPS)
    return float(risks(problem, optimizer, STEPS, factors, sizes)[-1])


@pytest.mark.parametrize(("optimizer", "schedule", "label_noise"), CASES)
def test_batch_sizes_end_at_the_target_and_no_small_change_of_them_saves_examples(
    optimizer: nqm.LinearOptimizer, schedule: nqm.Schedule, label_noise: float
) -> None:
    problem = nqm.LeastSquares(SPECTRUM, batch_size=1.0, label_noise=label_noise)
    best = nqm.optimal_batch_sizes(problem, optimizer, schedule, target=TARGET, steps=STEPS)
    assert best.residual < 1e-6
    assert last_risk(label_noise, optimizer, schedule, best.batch_sizes) == pytest.approx(
        TARGET, rel=1e-6
    )
    # By the recursion over all modes: dE/dB_k = 1, so that dL/dB_k is the same for all k.
    moved = 1e-4
    slopes = []
    for k in range(0, STEPS, 7):
        if best.batch_sizes[k] > 0.01 * best.batch_sizes.max():
            up, down = best.batch_sizes.copy(), best.batch_sizes.copy()
            up[k] *= 1.0 + moved
            down[k] *= 1.0 - moved
            rise, fall = (
                last_risk(label_noise, optimizer, schedule, sizes) for sizes in (up, down)
            )
            slopes.append((rise - fall) / (up[k] - down[k]))
    assert len(slopes) >= 3
    assert np.max(slopes) < 0.0
    assert np.ptp(slopes) < 1e-3 * -np.mean(slopes)


def test_they_take_fewer_examples_than_one_batch_size() -> None:
    problem = nqm.LeastSquares(SPECTRUM, batch_size=1.0, label_noise=1.0)
    best = nqm.optimal_batch_sizes(problem, nqm.SGD(0.5), target=TARGET, steps=STEPS, pieces=10)
    alike = dataclasses.replace(problem, batch_size=best.mean_batch_size)
    assert nqm.risk_curve(alike, nqm.SGD(0.5), steps=[STEPS])[0] > 1.05 * TARGET
    assert best.batch_sizes[-1] > 3.0 * best.batch_sizes[0]


def test_bounds_hold_and_what_is_not_met_is_refused() -> None:
    problem = nqm.LeastSquares(SPECTRUM, batch_size=1.0, label_noise=1.0)
    bounded = nqm.optimal_batch_sizes(
        problem, nqm.SGD(0.5), target=TARGET, steps=STEPS, min_batch_size=2.0, max_batch_size=20.0
    )
    assert bounded.batch_sizes.min() >= 2.0 - 1e-9
    assert bounded.batch_sizes.max() <= 20.0 + 1e-9
    assert bounded.risk == pytest.approx(TARGET, rel=1e-6)
    with pytest.raises(ValueError, match=r"target=0\.001: must be greater than .* signal"):
        nqm.optimal_batch_sizes(problem, nqm.SGD(0.5), target=0.001, steps=STEPS)
    with pytest.raises(ValueError, match="optimal_schedule"):
        nqm.optimal_schedule(problem, target=TARGET)
