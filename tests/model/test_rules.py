"""First crossings of every rule are those of the second moments of all modes, step by step."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import nqm_study as nqm

RANDOM: dict[str, Callable[[Any, float], nqm.LinearOptimizer]] = {
    "qhm": lambda rng, rate: nqm.QHM(rate, 1.0 - 10.0 ** rng.uniform(-3.0, 0.0), rng.uniform()),
    "polyak": lambda rng, rate: nqm.PolyakAverage(
        nqm.HeavyBall(rate, rng.uniform(0.0, 0.9)), int(rng.choice([0, 0, 7, 60]))
    ),
    "schedule_free": lambda rng, rate: nqm.ScheduleFree(rate, rng.uniform()),
    "two_averages": lambda rng, rate: nqm.TwoAverages(
        rate, *(1.0 - 10.0 ** rng.uniform(-3.0, 0.0, 2)), 10.0 ** rng.uniform(-1.0, 1.0)
    ),
    "dana": lambda rng, rate: nqm.DANA(
        rate, 1.0, rate * 10.0 ** rng.uniform(-3.0, 0.0), rng.uniform(0.0, 9.0), rng.uniform()
    ),
    "weight_decayed": lambda rng, rate: nqm.WeightDecayed(
        nqm.QHM(rate, rng.uniform(0.0, 0.9), rng.uniform()), 10.0 ** rng.uniform(-5.0, -1.0)
    ),
}
"""Random optimizers, from a random generator and the rate at which SGD forgets a mode in a step."""

WRAPPERS = (
    lambda each, _: each,
    lambda each, rng: nqm.Averaged(each, rng.uniform(0.0, 0.99)),
    lambda each, rng: nqm.Preconditioned(each, rng.uniform(0.0, 1.0)),
)


@numba.njit
def _risks(h, scale, variance, weight, second_moment, drift, gain, point, start, readout):
    """The risks L_0, L_1, ... of a rule, from means and covariances of each mode."""
    steps, k = drift.shape[0], start.size
    risks = np.zeros(steps + 1)
    for i in range(h.size):
        z, s = start.copy(), np.zeros((k, k))
        for t in range(steps + 1):
            part = 0.0
            for a in range(k):
                for b in range(k):
                    part += readout[a] * readout[b] * (s[a, b] + second_moment[i] * z[a] * z[b])
            risks[t] += weight[i] * part
            if t < steps:
                m = drift[t].copy()
                for a in range(k):
                    for b in range(k):
                        m[a, b] += gain[t, a] * scale[i] * h[i] * point[t, b]
                z = m @ z
                s = m @ s @ m.T
                for a in range(k):
                    for b in range(k):
                        s[a, b] += variance[i] * scale[i] ** 2 * gain[t, a] * gain[t, b]
    return risks


def oracle(problem: nqm.NoisyQuadratic, optimizer: nqm.LinearOptimizer, rates: Any) -> Any:
    """The risks of a run over all modes."""
    spectrum, made = problem.spectrum, optimizer.update(np.arange(rates.size), rates)
    rows = (
        np.ascontiguousarray(np.broadcast_to(part, (rates.size, *part.shape[1:])))
        for part in (made.drift, made.gain, made.point)
    )
    return _risks(
        spectrum.curvature, optimizer.preconditioner(spectrum.curvature),
        spectrum.noise / problem.batch_size, 0.5 * spectrum.multiplicity * spectrum.curvature,
        spectrum.second_moment, *rows, made.start, made.readout,
    )  # fmt: skip


def target_among(rng: Any, risks: Any) -> float:
    """A target between the first and the least of some risks, or below all of them."""
    finite = risks[np.isfinite(risks)]
    share = float(np.exp(rng.uniform(-6.0, 0.0)))
    if rng.random() < 0.1 or finite.min() == risks[0]:
        return float(0.5 * finite.min())
    return float(finite.min() + share * (risks[0] - finite.min()))


def require_same(
    problem: nqm.NoisyQuadratic,
    optimizer: nqm.LinearOptimizer,
    schedule: nqm.Schedule,
    risks: Any,
    target: float,
) -> None:
    """The crossing within the steps of an oracle is the oracle's, and so is its absence."""
    last = risks.size - 1
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=last)
    hits = np.flatnonzero(risks <= target)
    first = int(hits[0]) if hits.size else None
    said = f"{optimizer} {schedule} at {target}: {found}, and not {first}"
    assert found.steps == first or found.tie, said
    if first is not None and found.steps == first:
        assert found.status == "reached"
        assert found.risk == pytest.approx(risks[first], rel=1e-6)
    elif first is None:
        spectrum = problem.spectrum
        fastest = optimizer.with_rate(optimizer.learning_rate)
        stable = fastest.is_stable(spectrum.curvature)
        assert found.status != "reached", said
        assert (found.status == "diverged") <= (not stable or risks[-1] > risks[0]), said
        assert (found.status == "floor_above_target") <= stable, said


def random_case(name: str, seed: int, most: int = 30, steps: int = 600) -> None:
    """One random problem, optimizer, schedule and target against the oracle."""
    rng = np.random.default_rng([seed, *name.encode()])
    count = int(rng.integers(1, most + 1))
    curvature = np.arange(1.0, count + 1.0) ** -rng.uniform(0.3, 2.0)
    noise = curvature * rng.uniform(0.0, 2.0, count)
    spectrum = nqm.Spectrum(curvature, noise, initial_mean=rng.normal(size=count))
    problem = nqm.NoisyQuadratic(spectrum, float(np.exp(rng.uniform(0.0, 8.0))))
    rate = float(np.exp(rng.uniform(-4.0, 1.0)))
    optimizer = WRAPPERS[rng.integers(len(WRAPPERS))](RANDOM[name](rng, rate), rng)
    schedule = (nqm.Constant(), nqm.InverseSqrt(30.0), nqm.Cosine(0.1))[rng.integers(3)]
    with np.errstate(over="ignore", invalid="ignore"):  # some runs diverge
        if schedule.needs_horizon:
            every = [
                oracle(problem, optimizer, optimizer.learning_rate * schedule.at_steps(*each))[-1]
                for each in ((np.arange(t), t) for t in np.arange(1.0, steps // 10))
            ]
            risks = np.array([spectrum.initial_risk, *every])
        else:
            factors = schedule.at_steps(np.arange(float(steps)), steps)
            risks = oracle(problem, optimizer, optimizer.learning_rate * factors)
    require_same(problem, optimizer, schedule, risks, target_among(rng, risks))


@pytest.mark.parametrize("name", RANDOM)
def test_first_crossings_are_those_of_the_recursion(name: str) -> None:
    for seed in range(20):
        random_case(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", RANDOM)
def test_first_crossings_of_many_cases_are_those_of_the_recursion(name: str) -> None:
    for seed in range(20, 300):
        random_case(name, seed, most=100, steps=1000)


@pytest.mark.slow
@pytest.mark.parametrize(("modes", "steps"), [(10_000, 5_000), (100, 100_000)])
@pytest.mark.parametrize("name", RANDOM)
def test_first_crossings_of_large_problems_are_those_of_the_recursion(
    name: str, modes: int, steps: int
) -> None:
    rng = np.random.default_rng(modes)
    problem = nqm.NoisyQuadratic(nqm.power_law(modes), 16.0)
    optimizer = RANDOM[name](rng, 0.1 if steps < 10_000 else 0.003)
    risks = oracle(problem, optimizer, np.full(steps, optimizer.learning_rate))
    for step in (steps // 100, steps // 10, steps - 1):
        # No rounding decides half-way between the risks of two steps, and no extrapolation.
        target = float(risks[step - 1 : step + 1].mean())
        require_same(problem, optimizer, nqm.Constant(), risks, target)
        found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=steps)
        assert not found.tie
