"""Linear optimizers of one's own: by their rule alone they are as exact as the built-in ones."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from moments import rule_recursion

import nqm_study as nqm

SPECTRUM = nqm.Spectrum(
    1.0 / np.arange(1.0, 61.0) ** 1.2, initial_mean=np.linspace(0.0, 1.0, 60), noise=0.7
)
PROBLEM = nqm.NoisyQuadratic(SPECTRUM, 8)
RISK = SPECTRUM.initial_risk


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
    """Risks of PROBLEM, step by step."""
    return rule_recursion(PROBLEM, optimizer, rates, scale)


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
    (nqm.HeavyBall(0.03, 0.9), nqm.SGD(0.03, momentum=0.9)),
    (nqm.Nesterov(0.03, 0.9), nqm.SGD(0.03, momentum=0.9, nesterov=True)),
    (
        nqm.Averaged(nqm.Nesterov(0.03, 0.9), 0.8),
        nqm.SGD(0.03, momentum=0.9, nesterov=True, ema_decay=0.8),
    ),
    (
        nqm.Preconditioned(nqm.Averaged(nqm.HeavyBall(0.03, 0.9), 0.8), 0.5),
        nqm.SGD(0.03, momentum=0.9, ema_decay=0.8, preconditioner_power=0.5),
    ),
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
        (nqm.HeavyBall(0.1, 0.5), 2.0 * 1.5),
        (nqm.Nesterov(0.1, 0.5), 2.0 * 1.5 / 2.0),
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
    optimizer = (nqm.Nesterov if nesterov else nqm.HeavyBall)(0.3, momentum)
    rates = np.array([1e-4, 1e-2, 0.3, 1.0])[:, None]
    swinging = 0
    for rate in rates.ravel():
        formula = optimizer.swing(SPECTRUM.curvature, rate)
        found = nqm.LinearOptimizer.swing(optimizer, SPECTRUM.curvature, rate)
        both = np.isfinite(formula) & np.isfinite(found)
        swinging += int(both.sum())
        np.testing.assert_allclose(found[both], formula[both], rtol=1e-3)
    assert swinging >= 5, "modes that swing were compared"


@dataclass(frozen=True)
class Bounded(Plain):
    """theta' = theta - r / (1 + r) g: not linear in the rate."""

    def update(self, step: Any, rate: Any) -> nqm.Update:
        return super().update(step, rate / (1.0 + rate))


@pytest.mark.parametrize("schedule", [nqm.Cosine(), nqm.InverseSqrt(10.0)])
def test_a_rule_that_is_not_linear_in_the_rate_is_run_under_schedules(schedule: Any) -> None:
    optimizer = Bounded(3.0)
    factors = [schedule.at_steps(np.arange(float(end)), end) for end in range(1, 81)]
    runs = [[RISK], *(recursion(optimizer, 3.0 * each) for each in factors)]
    lasts = np.array([run[-1] for run in runs])
    found = nqm.risk_curve(PROBLEM, optimizer, schedule, steps=range(81), horizon=80)
    np.testing.assert_allclose(found, runs[-1], rtol=1e-11)
    for share in (0.8, 0.3, 0.1, 0.05):
        target = lasts.min() + share * (lasts[0] - lasts.min())
        first = int(np.flatnonzero(lasts <= target)[0])
        assert nqm.steps_to_target(PROBLEM, optimizer, schedule, target=target).steps == first


@dataclass(frozen=True)
class Implicit(nqm.LinearOptimizer):
    """theta' = theta - r g(theta'): it has a transition only."""

    learning_rate: float

    def transition(self, curvature: Any, _: int = 0) -> nqm.Transition:
        left = 1.0 / (1.0 + self.learning_rate * curvature)
        theta = np.ones(1)
        return nqm.Transition(left[None, None], -self.learning_rate * left[None], theta, theta)


@pytest.mark.parametrize("gamma", [0.0, 0.9])
def test_a_step_that_is_implicit_is_run_at_constant_rates(gamma: float) -> None:
    optimizer = nqm.Averaged(Implicit(3.0), gamma) if gamma else Implicit(3.0)
    h, c = SPECTRUM.curvature, SPECTRUM.noise / PROBLEM.batch_size
    left = 1.0 / (1.0 + 3.0 * h)
    a = np.zeros((h.size, 2, 2))
    a[:, 0, 0], a[:, 1, 0], a[:, 1, 1] = left, (1.0 - gamma) * left, gamma
    b = -3.0 * left[:, None] * np.array([1.0, 1.0 - gamma])
    moments = SPECTRUM.second_moment[:, None, None] * np.ones((2, 2))
    risks = []
    for _ in range(200):
        risks.append(float(0.5 * SPECTRUM.multiplicity * h @ moments[:, 1, 1]))
        moments = a @ moments @ np.moveaxis(a, 1, 2)
        moments += c[:, None, None] * b[:, :, None] * b[:, None, :]
    found = nqm.risk_curve(PROBLEM, optimizer, steps=range(200))
    np.testing.assert_allclose(found, risks, rtol=1e-11)
    target = 0.5 * (min(risks) + risks[0])
    first = next(step for step, risk in enumerate(risks) if risk <= target)
    assert nqm.steps_to_target(PROBLEM, optimizer, target=target).steps == first


@pytest.mark.parametrize("optimizer", [Implicit(3.0), nqm.Averaged(Implicit(3.0))])
def test_a_step_that_is_implicit_is_refused_elsewhere(optimizer: Any) -> None:
    for run in (
        lambda: nqm.steps_to_target(PROBLEM, optimizer, nqm.Linear(), target=0.5),
        lambda: nqm.risk_curve(PROBLEM, optimizer, nqm.Linear(), steps=[1], horizon=2),
        lambda: nqm.simulate(PROBLEM, optimizer, n_steps=2),
    ):
        with pytest.raises(ValueError, match=r"Implicit\(.*: must have update\(\) to be run under"):
            run()


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


@dataclass(frozen=True)
class Polyak(nqm.LinearOptimizer):
    """x' = (1 - k) x + k theta', k = 1 / (t + 1), the mean of SGD's iterates; state (theta, x)."""

    learning_rate: float
    constant = False

    def update(self, step: Any, rate: Any) -> nqm.Update:
        k, zero, one = 1.0 / (step + 1.0), 0.0 * rate, 1.0 + 0.0 * rate
        drift = np.moveaxis(np.array([[one, zero], [k, 1.0 - k]]), 2, 0)
        gain = np.stack((-rate, -k * rate), axis=1)
        return nqm.Update(drift, gain, [[1.0, 0.0]], (1.0, 1.0), (0.0, 1.0))  # type: ignore[arg-type]


CHANGING = [
    (Polyak(0.8), 1.0),
    (nqm.Averaged(Polyak(0.8), 0.5), 1.0),
    (nqm.Preconditioned(Polyak(0.3), 0.5), SPECTRUM.curvature**-0.5),
]


@pytest.mark.parametrize(("optimizer", "scale"), CHANGING)
def test_a_run_whose_coefficients_change_is_that_of_the_rule(optimizer: Any, scale: Any) -> None:
    risks = recursion(optimizer, [optimizer.learning_rate] * 1000, scale)
    found = nqm.risk_curve(PROBLEM, optimizer, steps=range(1001))
    np.testing.assert_allclose(found, risks, rtol=1e-11)
    scaled = nqm.gradient_noise_scale(PROBLEM, optimizer, steps=[0, 100])
    assert scaled[1] > scaled[0] > 0.0
    least = min(risks)
    # The last one is half-way between two steps: on the risk of a step rounding decides.
    shares = [least + share * (risks[0] - least) for share in (0.8, 0.3, 0.05, 0.01)]
    before = sorted(set(risks))[:2]
    for target in (*shares, 0.5 * sum(before)):
        first = next(step for step, risk in enumerate(risks) if risk <= target)
        crossing = nqm.steps_to_target(PROBLEM, optimizer, target=target)
        assert (crossing.steps, crossing.status, crossing.smallest) == (first, "reached", True)
        if first:
            missed = nqm.steps_to_target(PROBLEM, optimizer, target=target, max_steps=first - 1)
            assert (missed.steps, missed.status, missed.smallest) == (None, "max_steps", True)
            assert missed.risk == pytest.approx(min(risks[:first]), rel=1e-9)


@pytest.mark.parametrize(("optimizer", "scale"), CHANGING)
def test_runs_under_a_schedule_whose_coefficients_change_are_those_of_the_rule(
    optimizer: Any, scale: Any
) -> None:
    factors = [nqm.Cosine().at_steps(np.arange(float(end)), end) for end in range(1, 81)]
    runs = [recursion(optimizer, optimizer.learning_rate * each, scale) for each in factors]
    lasts = np.array([RISK, *(run[-1] for run in runs)])
    found = nqm.risk_curve(PROBLEM, optimizer, nqm.Cosine(), steps=range(81), horizon=80)
    np.testing.assert_allclose(found, runs[-1], rtol=1e-11)
    for share in (0.8, 0.3, 0.05, 0.01):
        target = lasts.min() + share * (RISK - lasts.min())
        first = int(np.flatnonzero(lasts <= target)[0])
        crossing = nqm.steps_to_target(PROBLEM, optimizer, nqm.Cosine(), target=target)
        assert (crossing.steps, crossing.smallest) == (first, True)
        missed = nqm.steps_to_target(
            PROBLEM, optimizer, nqm.Cosine(), target=target, max_steps=first - 1
        )
        assert (missed.status, missed.smallest) == ("max_steps", True)


def test_a_longer_run_whose_coefficients_change_is_stepped_through() -> None:
    optimizer = Polyak(0.3)
    risks = np.array(recursion(optimizer, [0.3] * 10_000))
    found = nqm.risk_curve(PROBLEM, optimizer, steps=[9000, 10_000])
    np.testing.assert_allclose(found, risks[[9000, 10_000]], rtol=1e-9)
    crossing = nqm.steps_to_target(PROBLEM, optimizer, target=risks[9_500])
    assert crossing.steps in (first := np.flatnonzero(risks <= risks[9_500] * (1 + 1e-12)))[:2]
    assert crossing.steps >= first[0]
    assert crossing.smallest


def test_a_run_whose_coefficients_change_is_cut_short() -> None:
    for steps, every in ((20_000, True), (10**6, False)):
        beyond = nqm.steps_to_target(PROBLEM, Polyak(0.3), target=1e-9, max_steps=steps)
        assert (beyond.steps, beyond.status, beyond.smallest) == (None, "max_steps", every)
    grown = nqm.steps_to_target(PROBLEM, Polyak(2.1), target=1e-9)
    assert (grown.steps, grown.status) == (None, "diverged")
    kept = nqm.steps_to_target(PROBLEM, Polyak(1.9), target=0.5 * RISK, max_growth=1.0)
    assert kept.status == "reached"


def test_simulated_runs_whose_coefficients_change_have_the_expected_loss() -> None:
    found = nqm.simulate(PROBLEM, Polyak(0.8), n_steps=60, n_replicas=64, seed=1)
    z = (found.mean - recursion(Polyak(0.8), [0.8] * 60))[1:] / found.standard_error[1:]
    assert np.abs(z).max() < 5.0


def test_a_rule_of_another_number_of_steps_is_refused() -> None:
    @dataclass(frozen=True)
    class Short(Plain):
        def update(self, step: Any, rate: Any) -> nqm.Update:
            return super().update(step[:2], rate[:2])

    with pytest.raises(ValueError, match=r"^Short: update\(\) gave 2 rows for \d+ steps"):
        nqm.risk_curve(PROBLEM, Short(0.1), nqm.Linear(), steps=[5], horizon=5)
