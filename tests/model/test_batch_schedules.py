"""Batch sizes that change in a run: of Adam's closure, its samples, and the direct simulation."""

from dataclasses import dataclass

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.adaptive.chains import sampled_risks
from nqm_study.model.adaptive.run import Closure, Rest

CONSTANT = nqm.Constant()


@dataclass(frozen=True)
class Ramp(nqm.Schedule):
    """A batch size that rises by a line, of mean 1, over that of the problem; and a rate."""

    first: float = 0.25
    rate: nqm.Schedule = CONSTANT
    steady = False
    needs_horizon = True

    @property
    def knots(self):
        return self.rate.knots

    def at_steps(self, steps, horizon):
        return self.rate.at_steps(steps, horizon)

    def noise(self, steps, horizon):
        return 1.0 / (self.first + 2.0 * (1.0 - self.first) * steps / horizon)


@dataclass(frozen=True)
class Stages(Ramp):
    """A batch size that doubles from each quarter of the run to the next."""

    @property
    def knots(self):
        return (0.25, 0.5, 0.75)

    def noise(self, steps, horizon):
        return 1.0 / (self.first * 2.0 ** np.floor(4.0 * steps / horizon))


RAMPS = [Ramp(0.05), Ramp(0.3), Ramp(1.7), Ramp(0.2, nqm.Cosine(warmup_fraction=0.1)), Stages(0.3)]


@pytest.mark.parametrize(
    ("optimizer", "ramp"),
    [*((nqm.Adam(0.01), ramp) for ramp in RAMPS), (nqm.Adam(0.01, weight_decay=0.3), RAMPS[0])],
)
def test_closure_is_the_mean_of_simulated_runs(optimizer, ramp):
    problem, steps = nqm.NoisyQuadratic(nqm.power_law(10), 4), [100, 200, 300, 400]
    run = nqm.simulate(problem, optimizer, ramp, n_steps=400, n_replicas=64, seed=1)
    risks = nqm.risk_curve(problem, optimizer, ramp, steps=steps, horizon=400)
    assert np.all(np.abs(risks - run.mean[steps]) < 4.0 * run.standard_error[steps])
    steady = nqm.risk_curve(problem, optimizer, ramp.rate, steps=steps, horizon=400)
    assert np.any(np.abs(steady - run.mean[steps]) > 8.0 * run.standard_error[steps])


@pytest.mark.parametrize("ramp", RAMPS, ids=repr)
def test_sampled_risks_are_those_of_the_simulation(ramp):
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(10), 64), nqm.Adam(0.1, 0.9, 0.9)
    run = nqm.simulate(problem, optimizer, ramp, n_steps=40, n_replicas=100, seed=2)
    found = sampled_risks(problem, optimizer, ramp, n_steps=40, level=0)
    error = np.hypot(run.standard_error, found.standard_errors)
    assert np.all(np.abs(found.risks - run.mean) < 4.0 * error)


@pytest.mark.parametrize("ramp", RAMPS, ids=repr)
@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (4, nqm.Adam(1e-3)),
        (64, nqm.Adam(0.01, 0.5, 0.99)),
        (2**10, nqm.Adam(0.03, 0.95, 0.9999)),
        (16, nqm.Adam(2e-3, weight_decay=0.03)),
    ],
    ids=repr,
)
def test_jumping_agrees_with_stepping(batch_size, optimizer, ramp):
    problem, horizon = nqm.NoisyQuadratic(nqm.power_law(4), batch_size), 150_000
    closure = Closure.of(problem, optimizer, ramp, 0).within(horizon)
    stepping, jumping = closure.start(), closure.start()
    for steps in (horizon // 2, horizon):
        closure.step(stepping, steps - stepping.steps)
        closure.advance(jumping, steps)
        assert closure.risk(jumping) == pytest.approx(closure.risk(stepping), rel=1e-3)
    assert np.any(jumping.values != stepping.values), "all of it is stepped"


def test_the_floor_is_that_of_the_last_batch():
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(10), 64), nqm.Adam(0.03, 0.0, 0.99)
    last = nqm.NoisyQuadratic(nqm.power_law(10), 64 * 8 * 0.25)
    floors = [
        Rest.of(Closure.of(each, optimizer, schedule, 0)).floor
        for each, schedule in ((problem, Stages(0.25)), (last, nqm.Constant()))
    ]
    assert floors[0] == pytest.approx(floors[1], rel=1e-12)
    closure = Closure.of(problem, optimizer, Stages(0.25), 0).within(10_000)
    moments = closure.start()
    closure.step(moments, 10_000)
    assert closure.risk(moments) == pytest.approx(floors[0], rel=1e-6)


def momentum(theta, gradient, steps):
    """SGD of rate 0.2 and momentum 0.9; yields theta."""
    buffer = np.zeros_like(theta)
    for t in range(steps):
        buffer = 0.9 * buffer + gradient(theta, t)
        theta = theta - 0.2 * buffer
        yield theta


def averaged(theta, gradient, steps):
    """SGD of rate 0.3; yields the mean of all thetas after a step."""
    mean = np.zeros_like(theta)
    for t in range(steps):
        theta = theta - 0.3 * gradient(theta, t)
        mean = mean + (theta - mean) / (t + 1)
        yield mean


@pytest.mark.parametrize("ramp", [Ramp(0.05), Ramp(1.7), Stages(0.3)], ids=repr)
@pytest.mark.parametrize(
    ("optimizer", "loop"),
    [(nqm.SGD(0.2, 0.9), momentum), (nqm.PolyakAverage(nqm.SGD(0.3)), averaged)],
)
def test_simulated_linear_runs_are_those_of_a_plain_loop(optimizer, loop, ramp):
    problem, steps, chains = nqm.NoisyQuadratic(nqm.power_law(5), 4), 60, 10_000
    run = nqm.simulate(problem, optimizer, ramp, n_steps=steps, n_replicas=200, seed=3)
    rng, h = np.random.default_rng(4), problem.spectrum.curvature[:, None]
    batches = problem.batch_size / ramp.noise(np.arange(float(steps)), steps)

    def gradient(theta, t):
        scatter = np.sqrt(problem.spectrum.noise[:, None] / batches[t])
        return h * theta + scatter * rng.standard_normal(theta.shape)

    start = np.sqrt(problem.spectrum.initial_variance)[:, None] * rng.standard_normal((5, chains))
    losses = [0.5 * np.sum(h * each**2, axis=0) for each in loop(start, gradient, steps)]
    error = np.hypot(run.standard_error[1:], np.std(losses, axis=1) / np.sqrt(chains))
    assert np.all(np.abs(run.mean[1:] - np.mean(losses, axis=1)) < 4.0 * error)
