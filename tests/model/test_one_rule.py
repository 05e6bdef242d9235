"""Runs by one rule in blocks of steps: every risk against the recursion over all modes."""

import math

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.linear import one_rule
from nqm_study.model.linear.coupled import Coupled
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.one_rule import OneRule
from nqm_study.model.linear.schedule_kernel import Rule
from tests.model.least_squares import risks

STEPS = 700
SPECTRUM = nqm.Spectrum(
    np.geomspace(1.0, 1e-4, 30),
    noise=np.where(np.arange(30) % 3 > 0, np.geomspace(1.0, 1e-5, 30), 0.0),
    initial_mean=np.linspace(-1.0, 2.0, 30),
)
OPTIMIZERS = [
    nqm.SGD(0.3),
    nqm.HeavyBall(0.05, momentum=0.8),
    nqm.HeavyBall(0.001, momentum=0.99),
    nqm.Nesterov(0.02, momentum=0.9),
    nqm.SGD(0.05, momentum=0.8, nesterov=True, preconditioner_power=0.5),
    nqm.SGD(0.1, momentum=0.5, ema_decay=0.9),
]


@pytest.fixture(autouse=True)
def _blocks_from_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_rule, "SINGLE", 0)


def run_of(problem: nqm.LeastSquares, optimizer: nqm.LinearOptimizer) -> OneRule:
    """The run of all modes as nodes."""
    modes = Modes.of(problem, optimizer, problem.spectrum.last_level)
    made = optimizer.rows(np.ones(1))
    every = np.ones(modes.curvature.size)
    nodes = Coupled.of(problem, modes, made.start, made.component, every)
    return OneRule(nodes, Rule(made.drift, made.gain, made.point, np.ones(1)))


@pytest.mark.parametrize("label_noise", [0.0, 2.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_every_risk_is_that_of_the_recursion(
    optimizer: nqm.LinearOptimizer, label_noise: float
) -> None:
    problem = nqm.LeastSquares(SPECTRUM, 8.0, label_noise=label_noise)
    run = run_of(problem, optimizer)
    expected = risks(problem, optimizer, STEPS)
    np.testing.assert_allclose(run.risks(np.arange(STEPS + 1)), expected, rtol=1e-11)
    some = np.array([0, 1, 63, 64, 65, 500, STEPS])
    signal, noise = run.parts(some)
    np.testing.assert_allclose(signal + noise, expected[some], rtol=1e-11)
    assert np.all(signal >= 0.0)
    assert noise[0] == pytest.approx(0.0, abs=1e-12)


def test_signal_and_what_noise_gathers_make_up_the_risk_of_label_noise() -> None:
    # Without a start, a run gathers noise alone: what it adds is linear in the label noise.
    steps = np.array([100, STEPS])
    optimizer = OPTIMIZERS[1]
    noisy, clean = (
        run_of(nqm.LeastSquares(SPECTRUM, 8.0, label_noise=sigma), optimizer)
        for sigma in (3.0, 0.0)
    )
    gathered = noisy.at_rest.risks(steps)
    np.testing.assert_allclose(clean.risks(steps) + gathered, noisy.risks(steps), rtol=1e-11)
    assert not clean.at_rest.risks(steps).any()


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_risk_that_falls_by_many_orders_in_a_block_keeps_its_digits(momentum: float) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.9]), 1e6, label_noise=0.0)
    optimizer = nqm.HeavyBall(0.3, momentum=momentum)
    expected = risks(problem, optimizer, 200)
    assert expected[64] < 1e-6 * expected[0]
    found = run_of(problem, optimizer).risks(np.arange(201))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_run_ends_soon_after_a_risk_that_ends_it() -> None:
    problem = nqm.LeastSquares(SPECTRUM, 8.0, label_noise=0.0)
    run, every = run_of(problem, OPTIMIZERS[1]), np.arange(10_001)
    whole = run.risks(every)
    first = int(np.argmax(whole <= 0.5 * whole[0]))
    ended = run.risks(every, low=0.5 * whole[0])
    assert first < ended.size <= first + 2**one_rule.DOUBLINGS
    np.testing.assert_array_equal(ended, whole[: ended.size])
    assert run.risks(every, high=0.5 * whole[0]).size <= 2**one_rule.DOUBLINGS


def test_a_run_that_grows_beyond_all_numbers_ends_there() -> None:
    problem = nqm.LeastSquares(SPECTRUM, 1.0, label_noise=1.0)
    optimizer = nqm.HeavyBall(3.0, momentum=0.9)
    found = run_of(problem, optimizer).risks(np.arange(STEPS + 1))
    with np.errstate(over="ignore", invalid="ignore"):
        expected = risks(problem, optimizer, STEPS)[: found.size]
    assert 1 < found.size < STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    for rate in np.geomspace(1.001, 1.6, 30) * nqm.stability_limit(problem, optimizer):
        growing = run_of(problem, nqm.HeavyBall(rate, momentum=0.9)).risks(np.arange(20_001))
        assert np.all((growing >= 0.0) & (growing < math.inf))
    signal, noise = run_of(problem, optimizer).parts(np.array([1, STEPS]))
    assert np.isfinite(signal[0] + noise[0])
    assert math.isnan(signal[1] + noise[1])
