"""Decoupled weight decay pulls parameters back to their start, as PyTorch's pulls them to 0."""

import chains
import numpy as np
import pytest

import nqm_study as nqm


@pytest.mark.parametrize("schedule", chains.SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("kind", ["momentum", "averaged", "preconditioned", "polyak", "dana"])
def test_it_is_a_plain_loop_step_by_step(kind: str, schedule: nqm.Schedule) -> None:
    def loop(theta, rates, gradient):
        first, buffer, iterates = theta, np.zeros_like(theta), []
        average = theta
        for t, rate in enumerate(rates):
            g = gradient(theta, t)
            theta = theta - rate * 0.1 * (theta - first)
            if kind == "dana":
                buffer = (1.0 - 8.0 / (1.0 + t)) * buffer + g
                theta = theta - rate * g - rate / 0.2 * 0.01 * buffer
            else:
                buffer = 0.5 * buffer + g
                theta = theta - rate * buffer
            iterates.append(theta)
            average = 0.7 * average + 0.3 * theta
            yield {"averaged": average, "polyak": np.mean(iterates, axis=0)}.get(kind, theta)

    inner: nqm.LinearOptimizer = nqm.HeavyBall(0.2, 0.5)
    if kind == "dana":
        inner = nqm.DANA(0.2)
    elif kind == "averaged":
        inner = nqm.Averaged(inner, 0.7)
    elif kind == "preconditioned":
        inner = nqm.Preconditioned(inner, 0.5)
    optimizer: nqm.LinearOptimizer = nqm.WeightDecayed(inner, 0.1)
    if kind == "polyak":
        optimizer = nqm.PolyakAverage(optimizer)
    chains.require_same(optimizer, schedule, loop, power=0.5 if kind == "preconditioned" else 0)


def test_it_is_pytorchs_where_weights_start_at_zero() -> None:
    torch = pytest.importorskip("torch")

    def loop(theta, rates, gradient):
        weights = torch.nn.Parameter(torch.zeros(theta.shape, dtype=torch.float64))
        # Without memory, and with an eps that dwarfs the root, AdamW is SGD with decoupled decay.
        huge = 1e12
        optimizer = torch.optim.AdamW([weights], lr=1.0, betas=(0.0, 0.0), eps=huge)
        for t, rate in enumerate(rates):
            optimizer.param_groups[0].update(lr=rate * huge, weight_decay=0.1 / huge)
            weights.grad = torch.from_numpy(gradient(theta + weights.detach().numpy(), t))
            optimizer.step()
            yield theta + weights.detach().numpy()

    chains.require_same(nqm.WeightDecayed(nqm.SGD(0.2), 0.1), nqm.Constant(), loop)


def test_a_mode_ends_where_pull_and_gradient_are_equal() -> None:
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 0.1], noise=0.0), 1)
    optimizer = nqm.WeightDecayed(nqm.SGD(0.5), 0.1)
    left = (0.1 / (0.1 + problem.spectrum.curvature)) ** 2
    floor = float(0.5 * problem.spectrum.curvature @ left)
    assert nqm.risk_curve(problem, optimizer, steps=[10_000])[0] == pytest.approx(floor)
    assert nqm.steps_to_target(problem, optimizer, target=1.01 * floor).status == "reached"
    assert nqm.steps_to_target(problem, optimizer, target=0.99 * floor).steps is None


def test_the_pull_makes_steep_modes_unstable_earlier() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 8)
    found = nqm.stability_limit(problem, nqm.WeightDecayed(nqm.SGD(0.1), 0.25))
    assert found == pytest.approx(2.0 / 1.25)


@pytest.mark.parametrize(
    "inner", [nqm.ScheduleFree(0.1), nqm.Averaged(nqm.WeightDecayed(nqm.SGD(0.1)))]
)
def test_what_it_cannot_go_around_is_refused(inner: nqm.LinearOptimizer) -> None:
    with pytest.raises(ValueError, match=r"^optimizer=.*: must be one without weight decay, whose"):
        nqm.WeightDecayed(inner)
    with pytest.raises(ValueError, match=r"^weight_decay=-1.*: must be"):
        nqm.WeightDecayed(nqm.SGD(0.1), -1.0)


def test_ranges_end_where_the_target_cannot_be_reached() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 8)
    _, most, _ = nqm.WeightDecayed.coordinates(problem, 0.05, {})["weight_decay"]
    left = (most / (most + problem.spectrum.curvature)) ** 2
    assert 0.5 * problem.spectrum.curvature @ left == pytest.approx(0.05)
