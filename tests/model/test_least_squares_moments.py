"""The recursion of least squares' second moments, which everything faster is tested against."""

import least_squares
import numpy as np
import pytest

import nqm_study as nqm

SPECTRUM = nqm.Spectrum(
    curvature=[1.0, 0.5, 0.1],
    initial_mean=[0.0, 1.0, -2.0],
    initial_variance=[1.0, 0.0, 2.0],
)
OPTIMIZERS = [
    nqm.SGD(0.4),
    nqm.SGD(0.2, momentum=0.8),
    nqm.SGD(0.1, momentum=0.8, nesterov=True, ema_decay=0.7),
    nqm.SGD(0.1, momentum=0.5, preconditioner_power=0.5),
    nqm.PolyakAverage(nqm.SGD(0.4)),
    nqm.ScheduleFree(0.3),
]


def heavy_ball(problem, learning_rate, momentum, power, n_steps):
    """Q, D, F and A of every mode, as the formulas of the paper have them."""
    spectrum = problem.spectrum
    h, m, c = spectrum.curvature, spectrum.multiplicity, spectrum.noise
    size, p = problem.batch_size, spectrum.curvature**-power
    A, Q, D = spectrum.second_moment, 0.0 * h, 0.0 * h
    found = [0.5 * np.sum(m * h * A)]
    for _ in range(n_steps):
        loss = np.sum(m * h * A)
        g2 = h**2 * A * (1 + 1 / size) + c / size * (loss + problem.label_noise)
        Q = momentum**2 * Q + 2 * momentum * p * h * D + p**2 * g2
        F = momentum * D + p * h * A
        A, D = A - 2 * learning_rate * F + learning_rate**2 * Q, F - learning_rate * Q
        found.append(0.5 * np.sum(m * h * A))
    return found


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_recursion_is_the_formulas_of_heavy_ball(momentum, power):
    spectrum = nqm.Spectrum(
        curvature=[1.0, 0.3, 0.02],
        noise=[1.0, 0.6, 0.0],
        multiplicity=[1.0, 2.5, 40.0],
        initial_mean=[0.0, 1.0, -0.5],
        initial_variance=[1.0, 0.0, 0.5],
    )
    problem = nqm.LeastSquares(spectrum, 3, label_noise=0.4)
    optimizer = nqm.SGD(0.05, momentum=momentum, preconditioner_power=power)
    expected = heavy_ball(problem, 0.05, momentum, power, 200)
    np.testing.assert_allclose(least_squares.risks(problem, optimizer, 200), expected, rtol=1e-11)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_recursion_is_the_mean_of_gradients_on_drawn_inputs(optimizer):
    replicas, factors, sizes = 30_000, [1.0, 0.8, 0.6, 0.9, 0.3, 0.5], [1, 2, 1, 3, 4, 2]
    problem = nqm.LeastSquares(SPECTRUM, 2, label_noise=0.7)
    h, rng = SPECTRUM.curvature, np.random.default_rng(0)
    made = optimizer.update(np.zeros(1, np.int64), np.array([optimizer.learning_rate]))
    theta = SPECTRUM.initial_mean + np.sqrt(SPECTRUM.initial_variance) * rng.normal(
        size=(replicas, h.size)
    )
    z = np.multiply.outer(made.start, theta)
    losses = [0.5 * (made.readout @ z.reshape(made.start.size, -1)).reshape(theta.shape) ** 2 @ h]
    for t, (factor, size) in enumerate(zip(factors, sizes, strict=True)):
        made = optimizer.update(np.array([t]), np.array([factor * optimizer.learning_rate]))
        at = np.einsum("i,irn->rn", made.point[0], z)
        x = np.sqrt(h) * rng.normal(size=(replicas, size, h.size))
        e = np.sqrt(problem.label_noise) * rng.normal(size=(replicas, size))
        residual = np.einsum("rbn,rn->rb", x, at) - e
        g = np.einsum("rbn,rb->rn", x, residual) / size * optimizer.preconditioner(h)
        z = np.einsum("ij,jrn->irn", made.drift[0], z) + np.multiply.outer(made.gain[0], g)
        losses.append(0.5 * np.einsum("i,irn->rn", made.readout, z) ** 2 @ h)
    losses = np.array(losses)
    error = losses.std(axis=1) / np.sqrt(replicas)
    expected = least_squares.risks(problem, optimizer, len(factors), factors, sizes)
    assert len(expected) == len(factors) + 1
    assert np.all(np.abs(losses.mean(axis=1) - expected) < 4.0 * error)


def test_first_crossing_is_the_first_risk_at_the_target():
    problem = nqm.LeastSquares(SPECTRUM, 4, label_noise=0.1)
    optimizer = nqm.SGD(0.3, momentum=0.6)
    every = least_squares.risks(problem, optimizer, 100)
    step = least_squares.first_crossing(problem, optimizer, 0.2, 100)
    assert 0 < step < 100
    assert every[step] <= 0.2 < every[:step].min()
    assert least_squares.first_crossing(problem, optimizer, 0.2, step - 1) is None
