"""The simulation against torch.optim itself, step for step, on the same noise.

    pip install -e '.[torch]'

A gradient is set by hand rather than by backpropagation: it is h theta + e.
"""

import chains
import numpy as np
import pytest

import nqm_study as nqm

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed: pip install -e '.[torch]' brings it"
)

STEPS, REPLICAS, SEED = 200, 3, 7
PROBLEM = nqm.NoisyQuadratic(
    nqm.Spectrum(
        curvature=[1.0, 0.5, 0.1, 0.01, 3.0],
        noise=[1.0, 2.0, 0.0, 0.3, 1e-6],
        multiplicity=[1.0, 3.0, 2.0, 5.0, 1.0],
        initial_mean=[0.0, 1.0, -0.5, 2.0, 0.3],
        initial_variance=[1.0, 0.0, 0.5, 1.0, 1.0],
    ),
    4,
)


@pytest.fixture(autouse=True)
def _one_thread():
    # Its threads would compete with those of the simulation and of the other test processes.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def squares_of(make, schedule, starts, noise, origin):
    """theta^2 of every chain after each step, by an optimizer of torch whose weights have origin 0.

    The weights are theta less that share of the start.
    """
    spectrum = PROBLEM.spectrum
    curvature = torch.from_numpy(spectrum.curvature[:, None].copy())
    errors = torch.from_numpy(np.sqrt(spectrum.noise / PROBLEM.batch_size)[:, None] * noise)
    first = torch.from_numpy(origin * starts)
    weights = torch.nn.Parameter(torch.from_numpy(starts.copy()) - first)
    optimizer = make([weights])
    factors = schedule.at_steps(np.arange(float(STEPS)), STEPS).tolist()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: (*factors, 0.0)[t])
    squares = [starts**2]
    for t in range(STEPS):
        weights.grad = curvature * (weights.detach() + first) + errors[t]
        optimizer.step()
        scheduler.step()
        squares.append((weights.detach() + first).numpy() ** 2)
    return np.array(squares)


def compare(optimizer, make, schedule, origin=0.0):
    run = nqm.simulate(PROBLEM, optimizer, schedule, n_steps=STEPS, n_replicas=REPLICAS, seed=SEED)
    starts, weights, noise = chains.drawn(PROBLEM, STEPS, REPLICAS, SEED)
    mean, error = chains.told(weights, squares_of(make, schedule, starts, noise, origin))
    np.testing.assert_allclose(run.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(run.standard_error, error, rtol=1e-9)


SCHEDULES = [nqm.Constant(), nqm.Cosine(0.05, warmup_fraction=0.1), nqm.StepDecay()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("lr", "beta1", "beta2", "eps"),
    [
        (0.05, 0.9, 0.999, 1e-8),
        (0.05, 0.0, 0.999, 1e-8),
        (0.1, 0.95, 0.9, 1e-3),
        (0.02, 0.5, 0.99, 0.0),
        (0.02, 0.3, 0.0, 1e-2),
        (1.0, 0.99, 0.9999, 1.0),
    ],
)
def test_adam_is_torchs_step_for_step(lr, beta1, beta2, eps, schedule):
    compare(
        nqm.Adam(lr, beta1, beta2, eps),
        lambda theta: torch.optim.Adam(theta, lr=lr, betas=(beta1, beta2), eps=eps),
        schedule,
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("lr", "beta1", "beta2", "eps", "weight_decay"),
    [
        (0.05, 0.9, 0.999, 1e-8, 0.01),
        (0.02, 0.5, 0.99, 1e-2, 1.0),
        (0.5, 0.95, 0.99, 1e-3, 3.0),
    ],
)
def test_weight_decay_is_that_of_torchs_adamw_for_weights_of_0(
    lr, beta1, beta2, eps, weight_decay, schedule
):
    compare(
        nqm.Adam(lr, beta1, beta2, eps, weight_decay),
        lambda weights: torch.optim.AdamW(
            weights, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
        ),
        schedule,
        origin=1.0,
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("lr", "momentum", "nesterov"),
    [(0.5, 0.0, False), (0.1, 0.9, False), (0.1, 0.9, True), (0.01, 0.99, True)],
)
def test_sgd_is_torchs_step_for_step(lr, momentum, nesterov, schedule):
    compare(
        nqm.SGD(lr, momentum, nesterov),
        lambda theta: torch.optim.SGD(theta, lr=lr, momentum=momentum, nesterov=nesterov),
        schedule,
    )
