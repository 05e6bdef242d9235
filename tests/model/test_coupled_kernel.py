"""Stretches of a run whose noise falls with the loss: the kernel against its rule, step by step."""

from typing import Any

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.linear.coupled import Coupled
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.schedule_kernel import Rule

LENGTHS = np.array([1, 2, 5, 1, 16, 37, 64, 100])
OPTIMIZERS = [
    nqm.SGD(0.3),
    nqm.SGD(0.05, momentum=0.8),
    nqm.SGD(0.05, momentum=0.8, nesterov=True, preconditioner_power=0.5),
    nqm.SGD(0.1, momentum=0.5, ema_decay=0.9),
    nqm.ScheduleFree(0.3),
]


def stretches(
    problem: nqm.LeastSquares, optimizer: nqm.LinearOptimizer, rule: Rule, lengths: Any
) -> list[float]:
    """The risks after each stretch, f = 2 L + label noise being linear within it."""
    spectrum = problem.spectrum
    h, m, c = spectrum.curvature, spectrum.multiplicity, spectrum.noise
    scale = optimizer.preconditioner(h)
    start = optimizer.rule(np.zeros(1, np.int64), np.ones(1))
    read = start.component
    second = np.multiply.outer(spectrum.second_moment, np.outer(start.start, start.start))
    found = []
    for stretch, steps in enumerate(lengths):
        drift, gain, point, share = (part[min(stretch, len(part) - 1)] for part in rule)
        matrix = drift + np.multiply.outer(scale * h, np.outer(gain, point))
        noise = np.multiply.outer(share * scale**2 / problem.batch_size, np.outer(gain, gain))
        steady = problem.label_noise
        # By linearity the state is ``states[0]`` + growth ``states[1]``, f that + step growth.
        states = [second, np.zeros_like(second)]
        for step in range(steps + 1):
            squares = [np.einsum("i,nij,j->n", point, state, point) for state in states]
            losses = [float(np.sum(m * h * square)) for square in squares]
            if step == 0:
                f = start_f = steady + losses[0]
            if step == steps:
                break
            for each, (square, driven) in enumerate(zip(squares, (f, float(step)), strict=True)):
                moved = np.einsum("nij,njk,nlk->nil", matrix, states[each], matrix)
                states[each] = moved + (h**2 * square + c * driven)[:, None, None] * noise
        growth = (steady + losses[0] - start_f) / (steps - losses[1])
        second = states[0] + growth * states[1]
        found.append(0.5 * np.sum(m * h * second[:, read, read]))
    return found


def nodes_of(problem: nqm.LeastSquares, optimizer: nqm.LinearOptimizer, made: Any) -> Coupled:
    """All modes as nodes, each of which counts in the risk as it is."""
    modes = Modes.of(problem, optimizer, problem.spectrum.last_level)
    every = np.ones(modes.curvature.size)
    return Coupled.of(problem, modes, made.start, made.component, every)


@pytest.mark.parametrize("changes", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_stretches_follow_the_trapezoidal_rule(
    optimizer: nqm.LinearOptimizer, changes: bool
) -> None:
    spectrum = nqm.Spectrum(
        [1.0, 0.5, 0.1, 0.01], noise=[1.0, 0.2, 0.0, 0.3], initial_mean=[0.0, 1.0, -1.0, 2.0]
    )
    problem = nqm.LeastSquares(spectrum, 8.0, label_noise=0.3)
    rows = LENGTHS.size if changes else 1
    rates = optimizer.learning_rate * np.linspace(1.0, 0.1, rows)
    made = optimizer.rule(np.arange(rows), rates)
    rule = Rule(made.drift, made.gain, made.point, np.linspace(1.0, 3.0, rows))
    nodes = nodes_of(problem, optimizer, made)
    marks = np.arange(1, LENGTHS.size + 1)
    signal, noise = nodes.parts(rule, LENGTHS, marks)
    expected = stretches(problem, optimizer, rule, LENGTHS)
    np.testing.assert_allclose(signal + noise, expected, rtol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[:4], ids=repr)
def test_error_falls_with_the_square_of_the_stretches(optimizer: nqm.LinearOptimizer) -> None:
    problem = nqm.LeastSquares(nqm.power_law(20), 8.0, label_noise=0.0)
    made = optimizer.with_rate(0.1 * optimizer.learning_rate).rows(np.ones(1))
    rule = Rule(made.drift, made.gain, made.point, np.ones(1))
    nodes = nodes_of(problem, optimizer, made)

    def after(steps: int) -> float:
        lengths = np.repeat((1, steps), (64, 256 // steps))
        signal, noise = nodes.parts(rule, lengths, np.array([lengths.size]))
        return float(signal[0] + noise[0])

    exact = after(1)
    errors = [abs(after(steps) - exact) for steps in (32, 16, 8)]
    assert errors[0] < 1e-2 * exact
    assert errors[1] / errors[0] == pytest.approx(0.25, abs=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.25, abs=0.02)


def test_a_loss_that_doubles_for_ever_is_no_number() -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 1.0]), 0.1)
    optimizer = nqm.SGD(0.5)
    made = optimizer.rows(np.ones(1))
    rule = Rule(made.drift, made.gain, made.point, np.ones(1))
    nodes = nodes_of(problem, optimizer, made)
    signal, noise = nodes.parts(rule, np.array([10, 1000]), np.arange(3))
    assert signal[0] + noise[0] == problem.spectrum.initial_risk
    assert np.isnan(signal[2])
    assert np.isnan(noise[2])
