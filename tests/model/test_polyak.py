"""The Polyak-Ruppert average is the mean of iterates, as PyTorch has it."""

import chains
import numpy as np
import pytest
from moments import rule_recursion

import nqm_study as nqm


@pytest.mark.parametrize("schedule", chains.SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("start", [0, 1, 70])
def test_it_is_pytorchs_average_step_by_step(start: int, schedule: nqm.Schedule) -> None:
    torch = pytest.importorskip("torch")

    def loop(theta, rates, gradient):
        model = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(theta.copy()))])
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.8)
        average = torch.optim.swa_utils.AveragedModel(model)
        (judged,) = average.module
        for t, rate in enumerate(rates):
            optimizer.param_groups[0]["lr"] = rate
            model[0].grad = torch.from_numpy(gradient(model[0].detach().numpy(), t))
            optimizer.step()
            if t <= start:
                average.n_averaged.fill_(0)  # the next one is the first
            average.update_parameters(model)
            yield judged.detach().numpy().copy()

    chains.require_same(nqm.PolyakAverage(nqm.HeavyBall(0.1, 0.8), start), schedule, loop)


@pytest.mark.parametrize("outside", [False, True])
def test_it_is_the_mean_of_what_is_preconditioned(outside: bool) -> None:
    def loop(theta, rates, gradient):
        iterates = []
        for t, rate in enumerate(rates):
            theta = theta - rate * gradient(theta, t)
            iterates.append(theta)
            yield np.mean(iterates, axis=0)

    inner = nqm.SGD(0.3) if outside else nqm.Preconditioned(nqm.SGD(0.3), 0.5)
    mean = nqm.PolyakAverage(inner)
    optimizer = nqm.Preconditioned(mean, 0.5) if outside else mean
    chains.require_same(optimizer, nqm.Cosine(0.1), loop, power=0.5)


def test_it_is_averaged_again() -> None:
    def loop(theta, rates, gradient):
        iterates, average = [], theta
        for t, rate in enumerate(rates):
            theta = theta - rate * gradient(theta, t)
            iterates.append(theta)
            average = 0.9 * average + 0.1 * np.mean(iterates[5:] or iterates[-1:], axis=0)
            yield average

    optimizer = nqm.Averaged(nqm.PolyakAverage(nqm.SGD(0.3), 5), 0.9)
    chains.require_same(optimizer, nqm.Constant(), loop)


def test_a_long_run_whose_mean_starts_late_is_that_of_the_rule() -> None:
    optimizer, last = nqm.PolyakAverage(nqm.SGD(0.01), 12_345), 30_000
    problem = nqm.NoisyQuadratic(nqm.power_law(3), 4)
    risks = np.array(rule_recursion(problem, optimizer, np.full(last, 0.01)))
    steps = [12_345, 12_346, 12_400, 15_000, last]
    found = nqm.risk_curve(problem, optimizer, steps=steps)
    np.testing.assert_allclose(found, risks[steps], rtol=1e-6)
    target = float(risks[25_000])
    crossing = nqm.steps_to_target(problem, optimizer, target=target)
    assert crossing.steps == int(np.flatnonzero(risks <= target)[0])


@pytest.mark.parametrize("start", [-1, 0.5, True])
def test_a_start_that_is_no_step_is_refused(start: object) -> None:
    with pytest.raises(ValueError, match=r"^start=.*: must be an integer of at least 0"):
        nqm.PolyakAverage(nqm.SGD(0.1), start)  # type: ignore[arg-type]
