"""Schedule-free SGD is the published package's, and the averages that it holds."""

import chains
import pytest

import nqm_study as nqm


@pytest.mark.parametrize("schedule", chains.SCHEDULES, ids=lambda each: type(each).__name__)
def test_it_is_the_published_package_step_by_step(schedule: nqm.Schedule) -> None:
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("schedulefree")

    def loop(theta, rates, gradient):
        y = torch.nn.Parameter(torch.from_numpy(theta.copy()))
        power = 2.0 if schedule == nqm.Constant() else 0.0
        optimizer = package.SGDScheduleFree([y], 1.0, momentum=0.9, weight_lr_power=power)
        for t, rate in enumerate(rates):
            optimizer.train()
            optimizer.param_groups[0]["lr"] = rate
            y.grad = torch.from_numpy(gradient(y.detach().numpy(), t))
            optimizer.step()
            optimizer.eval()
            yield y.detach().numpy().copy()

    chains.require_same(nqm.ScheduleFree(0.5, 0.9), schedule, loop)


@pytest.mark.parametrize("outer", [nqm.Averaged, nqm.Preconditioned])
def test_it_is_wrapped_as_its_rule_says(outer: type[nqm.LinearOptimizer]) -> None:
    def loop(z, rates, gradient):
        x = average = z
        for t, rate in enumerate(rates):
            z = z - rate * gradient(0.2 * z + 0.8 * x, t)
            x = x + (z - x) / (t + 1.0)
            average = 0.6 * average + 0.4 * x
            yield average if outer is nqm.Averaged else x

    averaged = outer is nqm.Averaged
    optimizer = outer(nqm.ScheduleFree(0.4, 0.8), 0.6 if averaged else 0.5)  # type: ignore[call-arg]
    chains.require_same(optimizer, nqm.Cosine(0.1), loop, power=0.0 if averaged else 0.5)


def test_without_beta_it_is_the_average_of_sgd() -> None:
    free, mean = nqm.ScheduleFree(0.7, 0.0), nqm.PolyakAverage(nqm.SGD(0.7))
    problem = nqm.NoisyQuadratic(nqm.power_law(200), 32)
    found = [nqm.steps_to_target(problem, each, target=0.05) for each in (free, mean)]
    assert found[0].steps == found[1].steps is not None


def test_it_is_stable_below_what_the_gradient_sees_of_the_iterate() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 32)
    found = nqm.stability_limit(problem, nqm.ScheduleFree(0.1, 0.9))
    assert found == pytest.approx(2.0 / (1.0 - 0.9), rel=1e-6)


@pytest.mark.parametrize("values", [{"learning_rate": 0.0}, {"learning_rate": 1.0, "beta": 1.1}])
def test_what_is_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"^(learning_rate=0|beta=1\.1).*: must be"):
        nqm.ScheduleFree(**values)
