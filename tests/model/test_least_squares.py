"""Least squares in one pass: the engine's steps, curves, limits and floors, against all modes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import least_squares
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from strategies import logarithmic, repeatable

import nqm_study as nqm
from nqm_study.model.linear.stability import is_stable, resting_risk
from nqm_study.model.optimizers.linear import Transition

SHARES = [0.05, 0.3, 0.7, 0.95, 1.05]
"""Rates over the limit of stability."""

EXACT = 8192
"""Longer runs may be seen by stretches."""


def momentum(rng: Any) -> float:
    return float(rng.choice([0.0, 0.5, 0.9, 0.99, 0.999]))


OPTIMIZERS: dict[str, Callable[[Any], nqm.LinearOptimizer]] = {
    "sgd": lambda _: nqm.SGD(1.0),
    "momentum": lambda rng: nqm.HeavyBall(1.0, momentum(rng)),
    "nesterov": lambda rng: nqm.Nesterov(1.0, momentum(rng)),
    "average": lambda rng: nqm.Averaged(nqm.HeavyBall(1.0, momentum(rng)), rng.uniform(0.0, 0.99)),
    "preconditioned": lambda rng: nqm.Preconditioned(
        nqm.Nesterov(1.0, momentum(rng)), rng.uniform()
    ),
    "preconditioned_sgd": lambda rng: nqm.Preconditioned(nqm.HeavyBall(1.0), rng.uniform()),
    "polyak": lambda rng: nqm.PolyakAverage(
        nqm.HeavyBall(1.0, rng.uniform(0.0, 0.9)), int(rng.choice([0, 0, 7, 60]))
    ),
    "schedule_free": lambda rng: nqm.ScheduleFree(1.0, rng.uniform()),
    "qhm": lambda rng: nqm.QHM(1.0, 1.0 - 10.0 ** rng.uniform(-3.0, 0.0), rng.uniform()),
    "two_averages": lambda rng: nqm.TwoAverages(
        1.0, *(1.0 - 10.0 ** rng.uniform(-3.0, 0.0, 2)), 10.0 ** rng.uniform(-1.0, 1.0)
    ),
    "dana": lambda rng: nqm.DANA(
        1.0, 1.0, 10.0 ** rng.uniform(-3.0, -1.0), rng.uniform(0.0, 9.0), rng.uniform()
    ),
    "weight_decayed": lambda rng: nqm.WeightDecayed(
        nqm.QHM(1.0, rng.uniform(0.0, 0.9), rng.uniform()), 10.0 ** rng.uniform(-5.0, -1.0)
    ),
}
"""Random optimizers, whose rate is still to be chosen."""


def random_problem(rng: Any, most: int = 60) -> nqm.LeastSquares:
    """Modes with repeated curvatures, noise other than the curvature, and starts off zero."""
    count = int(rng.integers(1, most + 1))
    curvature = np.exp(rng.uniform(-6.0, 1.0, count))
    curvature[count // 2 : count // 2 + 2] = curvature[0]
    noise = curvature * (1.0 if rng.random() < 0.6 else np.exp(rng.normal(size=count)))
    spectrum = nqm.Spectrum(
        curvature,
        noise * (rng.random(count) > 0.1),
        rng.integers(1, 4, count) * rng.choice([1.0, 0.5]),
        rng.normal(size=count) * (rng.random() < 0.5),
        rng.random(count) * (np.arange(count) % 5 != 1),
    )
    size, label_noise = 2.0 ** rng.uniform(0.0, 16.0), rng.choice([0.0, 0.1, 1.0, 10.0])
    return nqm.LeastSquares(spectrum, float(size), float(label_noise))


def at_share(problem: nqm.LeastSquares, made: nqm.LinearOptimizer, share: float) -> Any:
    """An optimizer at a share of its limit of stability, or of a rate for which there is one."""
    limit = nqm.stability_limit(problem, made)
    if not 0.0 < limit < np.inf:
        limit = nqm.stability_limit(problem, nqm.SGD(1.0))
    return made.with_rate(share * limit)


def target_between(rng: Any, risks: Any) -> float:
    """A target half-way between the risks of two steps, where no rounding decides; or below all."""
    finite = risks[(risks > 1e-200) & (risks < 1e200)]
    pairs = 0.5 * (finite[1:] + finite[:-1])
    apart = np.abs(np.diff(finite)) > 1e-7 * pairs
    # Another step's risk may be there by chance.
    apart[apart] = [np.abs(finite / pair - 1.0).min() > 1e-9 for pair in pairs[apart]]
    if rng.random() < 0.1 or not apart.any():
        return float(0.5 * finite.min())
    return float(rng.choice(pairs[apart]))


def require_same(
    problem: nqm.LeastSquares,
    optimizer: nqm.LinearOptimizer,
    risks: Any,
    target: float,
    schedule: nqm.Schedule | None = None,
    **options: Any,
) -> nqm.Crossing:
    """The crossing within the steps of the recursion is the recursion's, and so is its absence."""
    last, schedule = risks.size - 1, schedule or nqm.Constant()
    found = nqm.steps_to_target(
        problem, optimizer, schedule, target=target, max_steps=last, **options
    )
    first = next(iter(np.flatnonzero(risks <= target).tolist()), None)
    said = f"{problem} {optimizer} {schedule} at {target}: {found}, and not {first}"
    assert found.steps == first, said
    if first is not None:
        assert found.status == "reached", said
        assert found.risk == pytest.approx(risks[first], rel=max(1e-9, found.error)), said
        if first <= EXACT:
            further = nqm.steps_to_target(problem, optimizer, schedule, target=target, **options)
            assert further.steps == first, said
            assert further.smallest or schedule.needs_horizon, said
        return found
    stable = is_stable(problem, optimizer)
    assert found.status != "reached", said
    assert (found.status == "diverged") <= (not stable or not risks[-1] <= risks[0]), said
    assert (found.status == "floor_above_target") <= stable, said
    if optimizer.constant and found.status == "floor_above_target" and schedule == nqm.Constant():
        assert resting_risk(problem, optimizer) > target, said
    return found


def random_case(name: str, seed: int, most: int = 60, most_steps: int = 300) -> None:
    """One random problem, optimizer and target against the recursion over all modes."""
    rng = np.random.default_rng([seed, *name.encode()])
    problem = random_problem(rng, most)
    optimizer = at_share(problem, OPTIMIZERS[name](rng), float(rng.choice(SHARES)))
    steps = int(rng.integers(1, most_steps))
    with np.errstate(over="ignore", invalid="ignore"):  # some runs diverge
        risks = least_squares.risks(problem, optimizer, steps)
    require_same(problem, optimizer, risks, target_between(rng, risks))
    wanted = np.unique(rng.integers(0, steps + 1, 5))
    curve = nqm.risk_curve(problem, optimizer, steps=wanted)
    usual = risks[wanted] < 1e200
    np.testing.assert_allclose(curve[usual], risks[wanted][usual], rtol=2e-9)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_crossings_are_those_of_the_recursion(name: str) -> None:
    for seed in range(5):
        random_case(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_crossings_of_many_cases_are_those_of_the_recursion(name: str) -> None:
    for seed in range(5, 55):
        random_case(name, seed, most=100, most_steps=1500)


@pytest.mark.slow
@pytest.mark.parametrize(("modes", "steps"), [(10_000, 3_000), (100, 60_000)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_crossings_of_large_problems_are_those_of_the_recursion(
    name: str, modes: int, steps: int
) -> None:
    rng = np.random.default_rng(modes)
    problem = nqm.LeastSquares(nqm.power_law(modes), 16.0, label_noise=0.0)
    optimizer = at_share(problem, OPTIMIZERS[name](rng), 0.3 if steps < 10_000 else 0.002)
    risks = least_squares.risks(problem, optimizer, steps)
    for step in (steps // 100, steps // 10, steps - 1):
        target = float(risks[step - 1 : step + 1].mean())
        require_same(problem, optimizer, risks, target)


SCHEDULES = [
    nqm.Cosine(),
    nqm.Linear(),
    nqm.WarmupStableDecay(),
    nqm.Constant(warmup_fraction=0.1),
    nqm.PiecewiseConstant((1.0, 0.1, 0.5)),
    lambda u: 1.0 - 0.5 * u,
]
RAMPS = [None, nqm.BatchRamp(), nqm.BatchSteps(), nqm.BatchRamp(end=0.2, curve="linear")]


def scheduled(problem: nqm.LeastSquares, optimizer: Any, schedule: Any, ramp: Any, steps: int):
    """The risks along a run of so many steps, over all modes."""
    at = np.arange(float(steps))
    rates = (
        schedule.at_steps(at, steps) if isinstance(schedule, nqm.Schedule) else schedule(at / steps)
    )
    sizes = np.full(steps, float(problem.batch_size))
    if ramp is not None:
        sizes = ramp.factor(at / steps)
        sizes *= problem.batch_size / sizes.mean()
    return least_squares.risks(problem, optimizer, steps, rates, sizes)


def scheduled_case(name: str, seed: int) -> None:
    """One random problem, optimizer, schedule of rates and of batch sizes, in short runs."""
    rng = np.random.default_rng([seed, 1, *name.encode()])
    problem = random_problem(rng, 30)
    optimizer = at_share(problem, OPTIMIZERS[name](rng), float(rng.choice(SHARES[:4])))
    schedule, ramp = SCHEDULES[rng.integers(len(SCHEDULES))], RAMPS[rng.integers(len(RAMPS))]
    steps = int(rng.integers(2, 25))
    runs = [scheduled(problem, optimizer, schedule, ramp, each) for each in range(1, steps + 1)]
    curve = nqm.risk_curve(
        problem, optimizer, schedule, steps=range(steps + 1), horizon=steps, batch_schedule=ramp
    )
    np.testing.assert_allclose(curve, runs[-1], rtol=1e-9)
    lasts = np.array([problem.spectrum.initial_risk, *(run[-1] for run in runs)])
    target = target_between(rng, lasts)
    require_same(problem, optimizer, lasts, target, schedule, batch_schedule=ramp)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_smallest_horizons_are_those_of_all_runs(name: str) -> None:
    for seed in range(2):
        scheduled_case(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_smallest_horizons_of_many_cases_are_those_of_all_runs(name: str) -> None:
    for seed in range(2, 32):
        scheduled_case(name, seed)


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.5), nqm.SGD(0.2, momentum=0.5)])
def test_rates_that_fall_take_the_noise_along(optimizer: nqm.SGD) -> None:
    # What the first steps gather is above the target, and no floor.
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.9, 0.8], multiplicity=5.0), 16.0)
    schedule, steps = nqm.InverseSqrt(timescale=10.0), 3000
    risks = least_squares.risks(problem, optimizer, steps, schedule.at_steps(np.arange(3e3), steps))
    target = float(risks[-20:-18].mean())
    assert require_same(problem, optimizer, risks, target, schedule).status == "reached"


@pytest.mark.parametrize(
    ("label_noise", "target", "batch_size", "steps", "rate", "limit"),
    [
        (0.0, 0.01, 1, 158_807, 0.135, 0.1967),
        (0.0, 0.01, 16, 13_215, 1.409, 1.682),
        (0.0, 0.01, 256, 7_285, 1.925, 1.984),
        (0.0, 0.01, 4096, 6_793, 1.984, 1.999),
        (1.0, 0.1, 1, 393_677, 0.0246, 0.1967),
        (1.0, 0.1, 16, 25_467, 0.3755, 1.682),
        (1.0, 0.1, 256, 3_840, 1.727, 1.984),
        (1.0, 0.1, 4096, 2_822, 1.943, 1.999),
    ],
)
def test_tuned_rates_take_the_known_steps(
    label_noise: float, target: float, batch_size: int, steps: int, rate: float, limit: float
) -> None:
    # h = 1/i, d = 10^4, all modes, step by step; best rates were written down to some digits.
    problem = nqm.LeastSquares(nqm.power_law(10_000), batch_size, label_noise)
    rates = (0.996 * rate, rate, min(1.004 * rate, 0.9999 * limit))
    found = [nqm.steps_to_target(problem, nqm.SGD(each), target=target) for each in rates]
    assert min(each.steps for each in found) == pytest.approx(steps, abs=2)
    assert nqm.stability_limit(problem, nqm.SGD(1.0)) == pytest.approx(limit, rel=3e-4)


@pytest.mark.parametrize(("batch_size", "limit"), [(1, 0.30598), (4, 0.99605), (64, 1.93655)])
def test_limits_of_sgd_are_the_known_ones(batch_size: int, limit: float) -> None:
    problem = nqm.LeastSquares(nqm.power_law(200), batch_size)
    assert nqm.stability_limit(problem, nqm.SGD(1.0)) == pytest.approx(limit, abs=6e-6)


def moment_map(problem: nqm.LeastSquares, optimizer: nqm.LinearOptimizer) -> tuple[Any, Any, Any]:
    """The map of all modes' second moments in a step, what it adds, and what the risk counts."""
    spectrum = problem.spectrum
    h, m, c = spectrum.curvature, spectrum.multiplicity, spectrum.noise
    scale, size = optimizer.preconditioner(h), problem.batch_size
    made = optimizer.update(np.array([10**9]), np.array([optimizer.learning_rate]))
    drift, gain, point, read = made.drift[0], made.gain[0], made.point[0], made.readout
    k, n = gain.size, h.size
    whole, added, counted = (
        np.zeros((n, k * k, n, k * k)),
        np.zeros((n, k * k)),
        np.zeros((n, k * k)),
    )
    square, at = np.outer(gain, gain).ravel(), np.outer(point, point).ravel()
    for i in range(n):
        a = drift + scale[i] * h[i] * np.outer(gain, point)
        noise = scale[i] ** 2 / size * square
        whole[i, :, i] = np.kron(a, a) + h[i] ** 2 * np.outer(noise, at)
        for j in range(n):
            whole[i, :, j] += c[i] * m[j] * h[j] * np.outer(noise, at)
        added[i] = c[i] * problem.label_noise * noise
        counted[i] = 0.5 * m[i] * h[i] * np.outer(read, read).ravel()
    return whole.reshape(n * k * k, -1), added.ravel(), counted.ravel()


STEADY = [name for name, make in OPTIMIZERS.items() if make(np.random.default_rng(0)).constant]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", STEADY)
def test_limit_is_where_the_spectral_radius_of_all_moments_is_one(name: str, seed: int) -> None:
    if name == "weight_decayed":
        pytest.skip("theta_0 is a component that stays: the radius is never below 1")
    rng = np.random.default_rng([seed, 2, *name.encode()])
    problem = replace(random_problem(rng, 8), batch_size=float(2.0 ** rng.uniform(-3.0, 8.0)))
    limit = nqm.stability_limit(problem, made := OPTIMIZERS[name](rng))
    for share, stable in ((1.0 - 1e-6, True), (1.0 + 1e-6, False)):
        optimizer = made.with_rate(share * limit)
        radius = np.abs(np.linalg.eigvals(moment_map(problem, optimizer)[0])).max()
        assert bool(radius < 1.0) is stable
        assert is_stable(problem, optimizer) is stable
    assert resting_risk(problem, made.with_rate(1.01 * limit)) == np.inf


@pytest.mark.parametrize("name", STEADY)
def test_risk_at_rest_is_that_of_the_fixed_point(name: str) -> None:
    if name == "weight_decayed":
        pytest.skip("theta_0 is a component that stays: the map has no fixed point of its own")
    rng = np.random.default_rng([3, *name.encode()])
    problem = replace(random_problem(rng, 8), label_noise=0.7)
    optimizer = at_share(problem, OPTIMIZERS[name](rng), 0.6)
    moved, added, counted = moment_map(problem, optimizer)
    rest = np.linalg.solve(np.eye(added.size) - moved, added)
    assert resting_risk(problem, optimizer) == pytest.approx(counted @ rest, rel=1e-9)


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.3), nqm.SGD(0.05, 0.8, ema_decay=0.9)])
def test_long_runs_come_to_the_risk_at_rest(optimizer: nqm.SGD) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.5, 0.1], multiplicity=[1.0, 2.0, 3.0]), 4.0)
    last = least_squares.risks(problem, optimizer, 3000)[-1]
    assert resting_risk(problem, optimizer) == pytest.approx(last, rel=1e-11)


def test_modes_that_hardly_move_have_a_limit_and_a_rest() -> None:
    # Sum of m c lr / (B (2 - lr h (1 + 1/B))): the second mode's share is lr / (2 B).
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 1e-100], noise=1.0), 1.0)
    limit = nqm.stability_limit(problem, nqm.SGD(1.0))
    assert limit == pytest.approx(2.0 - np.sqrt(2.0), rel=1e-11)
    for optimizer in (nqm.SGD(1e-300), nqm.SGD(1e-200, momentum=0.9)):
        assert is_stable(problem, optimizer)
        assert 0.0 <= resting_risk(problem, optimizer) < 1e-100


ALL = [
    nqm.SGD(0.3),
    nqm.SGD(0.05, momentum=0.8),
    nqm.SGD(0.05, momentum=0.8, nesterov=True),
    nqm.SGD(0.3, ema_decay=0.8),
    nqm.PolyakAverage(nqm.SGD(0.3)),
    nqm.ScheduleFree(0.3),
]
DIPS = nqm.Spectrum([1.0, 0.02], initial_variance=[1.0, 0.0], noise=[0.1, 2.0])
"""One mode whose start falls fast, and one that starts at rest and gathers noise slowly."""


@pytest.mark.parametrize("optimizer", ALL[:4], ids=repr)
def test_a_dip_before_the_floor_is_reached(optimizer: nqm.SGD) -> None:
    problem = nqm.LeastSquares(DIPS, 8.0, label_noise=0.3)
    risks = least_squares.risks(problem, optimizer, 2000)
    bottom = int(np.argmin(risks))
    target = float(0.5 * (risks[bottom] + min(risks[bottom - 1], risks[bottom + 1])))
    assert target < resting_risk(problem, optimizer)
    assert require_same(problem, optimizer, risks, target).steps == bottom
    below = nqm.steps_to_target(problem, optimizer, target=0.999 * risks[bottom])
    assert below.status == "floor_above_target"
    assert below.risk >= (1.0 - 1e-9) * risks[bottom]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_without_label_noise_there_is_no_floor(optimizer: nqm.LinearOptimizer) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.5, 0.2]), 4.0, label_noise=0.0)
    found = nqm.steps_to_target(problem, optimizer, target=1e-5)
    assert found.status == "reached"
    assert found.steps == least_squares.first_crossing(problem, optimizer, 1e-5, 10_000)
    if optimizer.constant:
        assert resting_risk(problem, optimizer) == 0.0


@pytest.mark.parametrize("optimizer", ALL[:4], ids=repr)
def test_floor_above_the_target_and_too_few_steps_are_told_apart(optimizer: nqm.SGD) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.5, 0.2]), 4.0)
    floor = resting_risk(problem, optimizer)
    assert (
        nqm.steps_to_target(problem, optimizer, target=0.99 * floor).status == "floor_above_target"
    )
    assert nqm.steps_to_target(problem, optimizer, target=1.01 * floor).status == "reached"
    assert (
        nqm.steps_to_target(problem, optimizer, target=1.01 * floor, max_steps=3).status
        == "max_steps"
    )


@pytest.mark.parametrize("optimizer", ALL[:4], ids=repr)
@pytest.mark.parametrize("label_noise", [0.0, 1.0])
def test_rates_above_the_limit_diverge(optimizer: nqm.SGD, label_noise: float) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.5, 0.2]), 4.0, label_noise)
    above = optimizer.with_rate(1.05 * nqm.stability_limit(problem, optimizer))
    assert nqm.steps_to_target(problem, above, target=1e-3).status == "diverged"


@pytest.mark.parametrize("name", ["sgd", "momentum", "polyak"])
def test_growth_above_the_bound_does_not_count(name: str) -> None:
    # Noise of a mode that starts at rest lifts the risk before that of the start decays.
    spectrum = nqm.Spectrum([1.0, 0.05], noise=[9.0, 0.0], initial_variance=[0.0, 1.0])
    problem = nqm.LeastSquares(spectrum, 4.0, label_noise=0.0)
    made = {
        "sgd": nqm.SGD(0.45),
        "momentum": nqm.SGD(0.1, momentum=0.7),
        "polyak": nqm.PolyakAverage(nqm.SGD(0.45)),
    }[name]
    risks = least_squares.risks(problem, made, 4000)
    target = float(risks[1000:1002].mean())
    growth = risks[:1000].max() / risks[0]
    assert growth > 1.01
    require_same(problem, made, risks, target, max_growth=1.001 * growth)
    refused = nqm.steps_to_target(problem, made, target=target, max_growth=0.999 * growth)
    assert (refused.steps, refused.status) == (None, "diverged")
    curve = nqm.risk_curve(problem, made, steps=[0, 1000], max_growth=0.999 * growth)
    assert curve.tolist() == [risks[0], np.inf]


LONG = [
    nqm.SGD(0.005, momentum=0.9),
    nqm.SGD(0.05, ema_decay=0.99),
    nqm.SGD(0.001, momentum=0.95, nesterov=True, preconditioner_power=0.2),
    nqm.PolyakAverage(nqm.SGD(0.05), 100),
    nqm.ScheduleFree(0.05),
]


@pytest.mark.parametrize("optimizer", LONG, ids=repr)
def test_long_runs_by_stretches_are_those_step_by_step(optimizer: nqm.LinearOptimizer) -> None:
    problem = nqm.LeastSquares(nqm.power_law(300), 4.0, label_noise=0.0)
    fast = nqm.steps_to_target(problem, optimizer, target=1e-3)
    every = nqm.steps_to_target(problem, optimizer, target=1e-3, thorough=True)
    assert fast.steps == pytest.approx(every.steps, rel=1e-5)
    assert every.steps > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Cosine(), nqm.InverseSqrt(1000.0)])
@pytest.mark.parametrize("optimizer", LONG, ids=repr)
def test_long_curves_are_those_of_the_recursion(
    optimizer: nqm.LinearOptimizer, schedule: nqm.Schedule
) -> None:
    problem, steps = nqm.LeastSquares(nqm.power_law(30), 4.0, label_noise=0.1), 100_000
    factors = schedule.at_steps(np.arange(float(steps)), steps)
    risks = least_squares.risks(problem, optimizer, steps, factors)
    wanted = [0, 1, 100, 10_000, 50_000, 99_000, steps]
    curve = nqm.risk_curve(problem, optimizer, schedule, steps=wanted, horizon=steps)
    np.testing.assert_allclose(curve, risks[wanted], rtol=2e-6)


@given(st.integers(0, 10**6), logarithmic(1e-3, 1e3), logarithmic(1e-3, 1e3), logarithmic(0.1, 10))
@settings(repeatable, max_examples=6)
def test_other_units_change_no_steps(seed: int, k: float, s: float, q: float) -> None:
    # Loss in units of k, weights of s, and examples that are q times as many modes.
    rng = np.random.default_rng(seed)
    problem, made = random_problem(rng, 8), OPTIMIZERS[str(rng.choice(["sgd", "average"]))](rng)
    optimizer = at_share(problem, made, 0.5)
    old, unit = problem.spectrum, k * s**2 * q
    spectrum = nqm.Spectrum(
        k * old.curvature, k / q * old.noise, q * old.multiplicity, s * old.initial_mean,
        s**2 * old.initial_variance,
    )  # fmt: skip
    scaled = replace(problem, spectrum=spectrum, label_noise=unit * problem.label_noise)
    assert nqm.stability_limit(scaled, made) == pytest.approx(
        nqm.stability_limit(problem, made) / k, rel=1e-9
    )
    there = optimizer.with_rate(optimizer.learning_rate / k)
    steps = [0, 1, 10, 100, 1000]
    curve = nqm.risk_curve(problem, optimizer, steps=steps)
    np.testing.assert_allclose(
        nqm.risk_curve(scaled, there, steps=steps), unit * curve, rtol=1e-8, atol=1e-250
    )
    target = float(np.sqrt(curve[2] * curve[3]))
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=2000)
    other = nqm.steps_to_target(scaled, there, target=unit * target, max_steps=2000)
    assert (found.steps, found.status) == (other.steps, other.status)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_large_batches_are_the_noisy_quadratic_without_noise(
    optimizer: nqm.LinearOptimizer,
) -> None:
    spectrum = nqm.power_law(50)
    problem = nqm.LeastSquares(spectrum, 1e12)
    still = nqm.NoisyQuadratic(replace(spectrum, noise=np.zeros(50)), 1.0)
    ours, theirs = (nqm.steps_to_target(each, optimizer, target=0.1) for each in (problem, still))
    assert ours.steps == theirs.steps is not None
    steps = [1, 10, 100]
    np.testing.assert_allclose(
        *(nqm.risk_curve(each, optimizer, steps=steps) for each in (problem, still)), rtol=1e-9
    )


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
@pytest.mark.parametrize(
    "spectrum",
    [
        nqm.Spectrum([0.7]),
        nqm.Spectrum([0.7], noise=[0.0]),
        nqm.Spectrum([1.0, 0.5, 0.2], noise=[0.0, 0.5, 0.0]),
        nqm.Spectrum([1.0, 0.5, 0.2], noise=[1.0, 1e-322, 0.5]),
        nqm.Spectrum([0.7, 0.7, 0.7]),
        # A gradient step takes the first mode by 0.79 and the second by -0.79 of itself.
        nqm.Spectrum([0.7, 0.7 + 1e-15, 0.2 / 0.3, 5.9666666666]),
    ],
    ids=[
        "one",
        "one without noise",
        "some without noise",
        "noise that vanishes",
        "all alike",
        "mirrored",
    ],
)
def test_degenerate_spectra_are_as_good(
    optimizer: nqm.LinearOptimizer, spectrum: nqm.Spectrum
) -> None:
    problem = nqm.LeastSquares(spectrum, 64.0, label_noise=0.0)
    risks = least_squares.risks(problem, optimizer, 60)
    for tolerance in (0.0, 1e-9):
        curve = nqm.risk_curve(problem, optimizer, steps=range(61), tolerance=tolerance)
        np.testing.assert_allclose(curve, risks, rtol=1e-9)
    target = float(risks[8:10].mean())
    require_same(problem, optimizer, risks, target, tolerance=0.0)


@pytest.mark.parametrize("optimizer", ALL[:4], ids=repr)
@pytest.mark.parametrize("label_noise", [1e-30, 1e30])
def test_extreme_label_noise_is_as_good(optimizer: nqm.SGD, label_noise: float) -> None:
    problem = nqm.LeastSquares(nqm.power_law(20), 16.0, label_noise)
    risks = least_squares.risks(problem, optimizer, 200)
    curve = nqm.risk_curve(problem, optimizer, steps=range(201))
    np.testing.assert_allclose(curve, risks, rtol=1e-9)
    found = nqm.steps_to_target(problem, optimizer, target=0.5)
    assert found.status == ("reached" if label_noise < 1.0 else "floor_above_target")


@pytest.mark.parametrize("unit", [1e-150, 1e-100, 1e100, 1e150])
@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_extreme_curvatures_change_no_steps(optimizer: Any, unit: float) -> None:
    near, far = (
        nqm.LeastSquares(nqm.Spectrum(k * np.array([1.0, 0.4, 0.1])), 16.0, 0.1 * k)
        for k in (1.0, unit)
    )
    there = optimizer.with_rate(optimizer.learning_rate / unit)
    found = nqm.steps_to_target(near, optimizer, target=0.1, max_steps=1000)
    other = nqm.steps_to_target(far, there, target=0.1 * unit, max_steps=1000)
    assert (found.steps, found.status) == (other.steps, other.status)
    assert found.status == "reached"


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
@pytest.mark.parametrize("rate", [1e-300, 1e-12, 1e300])
def test_extreme_rates_have_a_status(optimizer: nqm.LinearOptimizer, rate: float) -> None:
    problem = nqm.LeastSquares(nqm.Spectrum([1.0, 0.4, 1e-9]), 16.0)
    found = nqm.steps_to_target(problem, optimizer.with_rate(rate), target=0.1, max_steps=10**6)
    assert found.steps is None
    assert found.status == ("diverged" if rate > 1.0 else "max_steps")


@pytest.mark.parametrize("optimizer", ALL[:2], ids=repr)
def test_laws_of_many_modes_are_their_quadrature(optimizer: nqm.LinearOptimizer) -> None:
    problem = nqm.LeastSquares(nqm.power_law(10**9), 16.0, label_noise=0.0)
    found = nqm.steps_to_target(problem, optimizer, target=5.0, max_steps=10**6)
    assert found.status == "reached"
    curve = nqm.risk_curve(problem, optimizer, steps=[found.steps - 1, found.steps])
    assert curve[0] > 5.0 >= curve[1]


@dataclass(frozen=True)
class Implicit(nqm.LinearOptimizer):
    """theta' = (theta - rate e) / (1 + rate h), which no rule without the curvature does."""

    learning_rate: float

    def transition(self, curvature: Any, step: int = 0) -> Any:  # noqa: ARG002
        kept = 1.0 / (1.0 + self.learning_rate * curvature)
        return Transition(
            kept[None, None], -self.learning_rate * kept[None], np.ones(1), np.ones(1)
        )


def test_optimizers_without_a_rule_are_refused_in_one_line() -> None:
    problem = nqm.LeastSquares(nqm.power_law(3), 16.0)
    with pytest.raises(
        ValueError, match=r"^optimizer=Implicit\(.*must have update\(\) on LeastSquares[^\n]*$"
    ):
        nqm.steps_to_target(problem, Implicit(0.1), target=0.1)
