"""Linear optimizers of one's own: by their rule alone they are as exact as the built-in ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import nqm_study as nqm

SPECTRUM = nqm.Spectrum(
    1.0 / np.arange(1.0, 61.0) ** 1.2, initial_mean=np.linspace(0.0, 1.0, 60), noise=0.7
)
PROBLEM = nqm.NoisyQuadratic(SPECTRUM, 8)


@dataclass(frozen=True)
class QHM(nqm.LinearOptimizer):
    """theta' = theta - r ((1 - v) g + v u'),  u' = b u + (1 - b) g;  state (theta, u)."""

    learning_rate: float
    momentum: float = 0.9
    v: float = 0.7

    def update(self, _: Any, rate: Any) -> nqm.Update:
        b, v, r = self.momentum, self.v, rate
        zero, one = 0.0 * r, 1.0 + 0.0 * r
        drift = np.moveaxis(np.array([[one, -r * v * b], [zero, b * one]]), 2, 0)
        gain = np.stack((-r * ((1.0 - v) + v * (1.0 - b)), (1.0 - b) * one), axis=1)
        return nqm.Update(drift, gain, [[1.0, 0.0]], (1.0, 0.0), (1.0, 0.0))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Shifted(QHM):
    """The same in the components (theta + 2 u, u): no component is the readout."""

    def update(self, step: Any, rate: Any) -> nqm.Update:
        made = super().update(step, rate)
        there, back = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[1.0, -2.0], [0.0, 1.0]])
        return nqm.Update(
            there @ made.drift @ back, made.gain @ there.T, made.point @ back,
            there @ made.start, made.readout @ back,
        )  # fmt: skip


@dataclass(frozen=True)
class Plain(nqm.LinearOptimizer):
    """theta' = theta - r g."""

    learning_rate: float

    def update(self, _: Any, rate: Any) -> nqm.Update:
        return nqm.Update([[[1.0]]], -rate[:, None], [[1.0]], [1.0], [1.0])  # type: ignore[arg-type]


def recursion(optimizer: nqm.LinearOptimizer, rates: Any, scale: Any = 1.0) -> list[float]:
    """Risks by the means and covariances of all modes, from the rule itself, step by step."""
    h, first = SPECTRUM.curvature, optimizer.update(np.zeros(1, np.int64), np.ones(1))
    weight, variance = 0.5 * SPECTRUM.multiplicity * h, SPECTRUM.noise / PROBLEM.batch_size
    z = np.multiply.outer(np.sqrt(SPECTRUM.second_moment), first.start)
    covariance = np.zeros((h.size, first.start.size, first.start.size))
    risks = []
    for step in range(len(rates) + 1):
        read = (z @ first.readout) ** 2 + first.readout @ covariance @ first.readout
        risks.append(float(weight @ read))
        if step < len(rates):
            made = optimizer.update(np.array([step]), np.array([rates[step]]))
            gain = np.multiply.outer(scale * np.ones(h.size), made.gain[0])
            a = made.drift[0] + gain[:, :, None] * (h[:, None] * made.point[0])[:, None]
            z = np.einsum("nij,nj->ni", a, z)
            covariance = a @ covariance @ np.moveaxis(a, 1, 2)
            covariance += variance[:, None, None] * gain[:, :, None] * gain[:, None, :]
    return risks


CASES = [
    (QHM(0.4), 1.0),
    (QHM(1.5, momentum=0.97, v=1.0), 1.0),
    (Shifted(0.4), 1.0),
    (Plain(0.2), 1.0),
    (nqm.Averaged(Plain(0.3), 0.9), 1.0),
    (nqm.Averaged(QHM(0.4), 0.8), 1.0),
    (nqm.Averaged(Shifted(0.4), 0.8), 1.0),
    (nqm.Preconditioned(QHM(0.1), 0.5), SPECTRUM.curvature**-0.5),
    (nqm.Averaged(nqm.Preconditioned(Plain(0.1), 0.5), 0.7), SPECTRUM.curvature**-0.5),
    (nqm.SGD(0.1, momentum=0.9, nesterov=True), 1.0),
    (nqm.SGD(0.1, momentum=0.9, ema_decay=0.8, preconditioner_power=0.5), SPECTRUM.curvature**-0.5),
]


@pytest.mark.parametrize(("optimizer", "scale"), CASES)
def test_risks_are_those_of_the_rule_step_by_step(optimizer: Any, scale: Any) -> None:
    expected = recursion(optimizer, [optimizer.learning_rate] * 300, scale)
    found = nqm.risk_curve(PROBLEM, optimizer, steps=range(301))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize(("optimizer", "scale"), CASES)
@pytest.mark.parametrize("schedule", [nqm.Cosine(), nqm.Linear(warmup_fraction=0.2)])
def test_risks_under_a_schedule_are_those_of_the_rule(
    optimizer: Any, scale: Any, schedule: Any
) -> None:
    factors = schedule.at_steps(np.arange(200.0), 200)
    expected = recursion(optimizer, optimizer.learning_rate * factors, scale)
    found = nqm.risk_curve(PROBLEM, optimizer, schedule, steps=range(201), horizon=200)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(("optimizer", "scale"), CASES)
def test_first_crossings_are_those_of_the_rule(optimizer: Any, scale: Any) -> None:
    risks = recursion(optimizer, [optimizer.learning_rate] * 1000, scale)
    least = min(risks)
    for share in (0.8, 0.5, 0.2, 0.05, 0.01, 0.001):
        target = least + share * (risks[0] - least)
        first = next(step for step, risk in enumerate(risks) if risk <= target)
        assert nqm.steps_to_target(PROBLEM, optimizer, target=target).steps == first
    below = nqm.steps_to_target(PROBLEM, optimizer, target=1e-9)
    assert below.status == "floor_above_target"


@pytest.mark.parametrize(("optimizer", "scale"), CASES)
def test_simulated_runs_have_the_expected_loss(optimizer: Any, scale: Any) -> None:
    found = nqm.simulate(PROBLEM, optimizer, nqm.Cosine(), n_steps=60, n_replicas=64, seed=1)
    factors = nqm.Cosine().at_steps(np.arange(60.0), 60)
    expected = recursion(optimizer, optimizer.learning_rate * factors, scale)
    z = (found.mean - expected)[1:] / found.standard_error[1:]
    assert np.abs(z).max() < 5.0
    assert np.abs(z).mean() > 0.05, "the error is that of the runs"


TWINS = [
    (Plain(0.3), nqm.SGD(0.3)),
    (QHM(0.3, momentum=0.9, v=1.0), nqm.SGD(0.03, momentum=0.9)),
    (nqm.Averaged(nqm.SGD(0.3), 0.9), nqm.SGD(0.3, ema_decay=0.9)),
    (
        nqm.Preconditioned(nqm.SGD(0.3, momentum=0.5), 0.5),
        nqm.SGD(0.3, momentum=0.5, preconditioner_power=0.5),
    ),
    (
        nqm.Averaged(nqm.Preconditioned(nqm.SGD(0.3, momentum=0.5, nesterov=True), 1.0), 0.9),
        nqm.SGD(0.3, momentum=0.5, nesterov=True, preconditioner_power=1.0, ema_decay=0.9),
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), TWINS)
@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Linear()])
def test_the_same_rule_takes_the_same_steps(ours: Any, theirs: Any, schedule: Any) -> None:
    for target in (1.0, 0.3, 0.15):
        one, other = (
            nqm.steps_to_target(PROBLEM, each, schedule, target=target, max_steps=10**5)
            for each in (ours, theirs)
        )
        assert (one.steps, one.status) == (other.steps, other.status)
        assert one.risk == pytest.approx(other.risk, rel=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "limit"),
    [
        (Plain(0.1), 2.0),
        (QHM(0.1, momentum=0.9, v=1.0), 2.0 * 1.9 / 0.1),
        (nqm.Averaged(Plain(0.1), 0.9), 2.0),
        (nqm.Preconditioned(Plain(0.1), 0.5), 2.0 / SPECTRUM.curvature[0] ** 0.5),
        (nqm.SGD(0.1, momentum=0.5, nesterov=True), 2.0 * 1.5 / 2.0),
    ],
)
def test_the_limit_of_stability_is_that_of_the_spectral_radius(
    optimizer: Any, limit: float
) -> None:
    found = nqm.stability_limit(PROBLEM, optimizer)
    assert found == pytest.approx(limit, rel=1e-6)
    assert optimizer.with_rate(0.999 * found).is_stable(SPECTRUM.curvature)
    assert not optimizer.with_rate(1.001 * found).is_stable(SPECTRUM.curvature)


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("nesterov", [False, True])
def test_swings_by_eigenvalues_are_those_of_the_formula(momentum: float, nesterov: bool) -> None:
    optimizer = nqm.SGD(0.3, momentum=momentum, nesterov=nesterov)
    rates = np.array([1e-4, 1e-2, 0.3, 1.0])[:, None]
    swinging = 0
    for rate in rates.ravel():
        formula = optimizer.swing(SPECTRUM.curvature, rate)
        found = nqm.LinearOptimizer.swing(optimizer, SPECTRUM.curvature, rate)
        both = np.isfinite(formula) & np.isfinite(found)
        swinging += int(both.sum())
        np.testing.assert_allclose(found[both], formula[both], rtol=1e-3)
    assert swinging >= 5, "modes that swing were compared"


def test_a_rule_that_is_not_linear_in_the_rate_is_refused_under_a_schedule() -> None:
    @dataclass(frozen=True)
    class Squared(Plain):
        def update(self, step: Any, rate: Any) -> nqm.Update:
            return super().update(step, rate**2)

    assert nqm.steps_to_target(PROBLEM, Squared(0.5), target=0.5).steps is not None
    with pytest.raises(ValueError, match=r"^Squared: must have a drift and a gain that are linear"):
        nqm.steps_to_target(PROBLEM, Squared(0.5), nqm.Linear(), target=0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drift": np.eye(3)[None]}, r"^drift has shape \(1, 3, 3\): must be \(steps or 1, 2, 2\)"),
        ({"gain": np.zeros(2)}, r"^gain has shape \(2,\): must be \(steps or 1, 2,\)"),
        ({"readout": np.zeros(3)}, r"^start has shape \(2,\) and readout \(3,\)"),
    ],
)
def test_arrays_of_another_shape_are_refused(changes: dict[str, Any], message: str) -> None:
    arrays = {
        "drift": np.eye(2)[None], "gain": np.zeros((1, 2)), "point": np.zeros((1, 2)),
        "start": np.ones(2), "readout": np.ones(2),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        nqm.Update(**{**arrays, **changes})


def test_only_linear_optimizers_are_wrapped() -> None:
    for wrapper in (nqm.Averaged, nqm.Preconditioned):
        with pytest.raises(ValueError, match="must be a LinearOptimizer"):
            wrapper(nqm.Adam(0.1))  # type: ignore[arg-type]


def test_coefficients_that_change_are_refused() -> None:
    @dataclass(frozen=True)
    class Growing(Plain):
        constant = False

    with pytest.raises(ValueError, match="must have coefficients that are the same at each step"):
        nqm.steps_to_target(PROBLEM, Growing(0.1), target=0.5)
