"""Adam's closure: its arithmetic, its agreement with simulation, its statuses and its laws."""

import numpy as np
import pytest
import textbook
from hypothesis import assume, given, settings, strategies as st
from strategies import logarithmic, repeatable, spectra

import nqm_study as nqm
from nqm_study.model.adaptive.closure import first_step
from nqm_study.model.adaptive.nodes import Nodes
from nqm_study.model.adaptive.run import Closure

PAPER = nqm.power_law(10_000)


def by_closure(problem, optimizer, target, max_steps, level=0):
    """The first crossing of the closure, whether or not it is in doubt."""
    closure = Closure.of(problem, optimizer, nqm.Constant(), level)
    initial = problem.spectrum.initial_risk
    if initial <= target:
        return nqm.Crossing(0, "reached", initial)
    return first_step(closure, target, max_steps, initial).crossing


@st.composite
def adams(draw):
    """Optimizers whose v varies slowly; with beta2 near 0 the closure is chaotic."""
    return nqm.Adam(
        draw(logarithmic(1e-4, 0.05)),
        draw(st.just(0.0) | st.floats(0.1, 0.99)),
        1.0 - draw(logarithmic(1e-4, 0.05)),
        draw(st.sampled_from([1e-8, 1e-3])),
    )


@repeatable
@given(spectra(most=4), adams(), logarithmic(1.0, 1e5))
def test_closure_is_the_textbooks(spectrum, optimizer, batch_size):
    # Without noise the closure divides one rounding error by another; see the tests below.
    noisy = nqm.Spectrum(spectrum.curvature, spectrum.noise + 1e-4, spectrum.multiplicity,
                         spectrum.initial_mean, spectrum.initial_variance)  # fmt: skip
    problem = nqm.NoisyQuadratic(noisy, batch_size)
    steps = [0, 1, 2, 5, 40, 150]
    risks = textbook.adam_risks(Nodes.of(problem, None), optimizer, max(steps))
    slack = 1e-12 * risks.max()
    closure = Closure.of(problem, optimizer, nqm.Constant(), None)
    curve = [closure.risk_after(step) for step in steps]
    np.testing.assert_allclose(curve, risks[steps], rtol=1e-7, atol=slack)
    target = float(risks[90]) * (1.0 + 1e-6) + slack + 1e-12
    if target < risks[0]:
        found = by_closure(problem, optimizer, target, 150, level=None)
        assert found.steps == textbook.first_at_most(risks, target)


BETAS = [(0.9, 0.999), (0.95, 0.999), (0.5, 0.99)]


@pytest.mark.parametrize(
    ("batch_size", "learning_rate", "betas", "target"),
    [
        (2**4, 0.01, BETAS[0], 0.2),
        (2**4, 0.02, BETAS[2], 0.2),
        (2**6, 0.01, BETAS[1], 0.1),
        (2**6, 0.02, BETAS[2], 0.2),
        (2**8, 0.02, BETAS[0], 0.1),
        (2**8, 0.01, BETAS[2], 0.05),
        (2**10, 0.01, BETAS[1], 0.03),
        (2**12, 0.02, BETAS[0], 0.02),
        (2**12, 0.01, BETAS[2], 0.02),
        (2**14, 0.02, BETAS[1], 0.01),
        (2**14, 0.03, BETAS[2], 0.02),
        (2**16, 0.04, BETAS[0], 0.01),
        (2**16, 0.04, BETAS[1], 0.01),
        (2**18, 0.05, BETAS[0], 0.01),
        (2**18, 0.06, BETAS[2], 0.01),
    ],
)
def test_first_crossing_of_the_mean_simulated_risk_agrees(batch_size, learning_rate, betas, target):
    problem = nqm.NoisyQuadratic(nqm.power_law(300), batch_size)
    optimizer = nqm.Adam(learning_rate, *betas)
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=5000)
    assert found.steps is not None
    assert found.steps >= 60
    # The steepest modes' own starts decide the end: many replicas tell more than many modes.
    run = nqm.simulate(problem, optimizer, n_steps=int(1.1 * found.steps), n_replicas=400, seed=0)
    simulated = textbook.first_at_most(run.mean, target)
    assert simulated is not None, "the simulation does not reach the target"
    assert found.steps == pytest.approx(simulated, rel=0.03)


def stepped(problem, optimizer, target, most, schedule=None):
    """The first crossing of the same closure, one step at a time; None where there is none."""
    closure = Closure.of(problem, optimizer, schedule or nqm.Constant(), 0).within(most)
    moments = closure.start()
    reached, _ = closure.step(moments, most, target)
    return moments.steps if reached else None


@pytest.mark.parametrize(
    ("batch_size", "optimizer", "target"),
    [
        (4, nqm.Adam(3.4e-4), 0.01),
        (4, nqm.Adam(1e-3, 0.95, 0.9999), 0.05),
        (4, nqm.Adam(2e-3, 0.0, 0.9), 0.1),
        (16, nqm.Adam(6.8e-4, 0.5, 0.99), 0.01),
        (64, nqm.Adam(1e-3, 0.99, 0.99999), 0.01),
        (64, nqm.Adam(1e-4, 0.999, 0.9999), 0.1),
        (256, nqm.Adam(1e-3, 0.9, 0.5), 0.01),
        (2**10, nqm.Adam(2e-4), 0.01),
        (2**14, nqm.Adam(3e-4, 0.95, 0.999), 0.005),
        (2**18, nqm.Adam(1e-4), 0.01),
        (2**20, nqm.Adam(1e-3, 0.99, 0.95), 0.002),
    ],
)
def test_jumping_agrees_with_stepping(batch_size, optimizer, target):
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=400_000).steps
    reference = stepped(problem, optimizer, target, 400_000)
    assert reference > 2048, "all of it is stepped"
    assert found == pytest.approx(reference, rel=0.002)


@settings(repeatable, max_examples=40)
@given(
    logarithmic(1.0, 1e6),
    logarithmic(1e-4, 0.3),
    st.sampled_from([0.0, 0.5, 0.9, 0.95, 0.99, 0.999]),
    logarithmic(1e-5, 0.1),
    logarithmic(3e-3, 1.0),
)
def test_jumping_agrees_with_stepping_anywhere(batch_size, learning_rate, beta1, gap, target):
    # Beyond beta1^2 = beta2 the closure vibrates (see the test of that), and steps decide nothing.
    assume(beta1**2 < 1.0 - gap)
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size)
    optimizer = nqm.Adam(learning_rate, beta1, 1.0 - gap)
    found = by_closure(problem, optimizer, target, 40_000).steps
    reference = stepped(problem, optimizer, target, 40_000)
    assert (found is None) == (reference is None)
    if reference is not None:
        assert found == pytest.approx(reference, rel=0.002)


@pytest.mark.parametrize(
    "schedule",
    [
        nqm.Cosine(warmup_fraction=0.05),
        nqm.Linear(0.1),
        nqm.WarmupStableDecay(0.0, 0.1, 0.2),
        nqm.StepDecay(),
        nqm.OneCycle(),
        nqm.Constant(0.2),
        nqm.InverseSqrt(1000.0),
    ],
)
@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [(4, nqm.Adam(1e-3)), (64, nqm.Adam(0.01, 0.5, 0.99)), (2**10, nqm.Adam(0.03, 0.95, 0.9999))],
)
def test_jumping_under_a_schedule_agrees_with_stepping(batch_size, optimizer, schedule):
    problem, horizon = nqm.NoisyQuadratic(PAPER, batch_size), 50_000
    closure = Closure.of(problem, optimizer, schedule, 0).within(horizon)
    moments = closure.start()
    closure.step(moments, horizon)
    curve = nqm.risk_curve(problem, optimizer, schedule, steps=[horizon], horizon=horizon)
    assert curve[0] == pytest.approx(closure.risk(moments), rel=1e-3)


def test_risks_of_one_run_are_those_of_each_step_alone():
    problem, optimizer = nqm.NoisyQuadratic(PAPER, 16), nqm.Adam(1e-3)
    steps = [30_000, 100, 3_000, 2_100, 30_000, 0]
    together = nqm.risk_curve(problem, optimizer, steps=steps)
    alone = [nqm.risk_curve(problem, optimizer, steps=[step])[0] for step in steps]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (64, nqm.Adam(1e-3, 0.9, 0.9999)),
        (2**14, nqm.Adam(1e-3)),
        (2**10, nqm.Adam(0.01, 0.999, 0.9999)),
    ],
)
def test_a_dip_between_jumps_is_found(batch_size, optimizer):
    # The steps grow as v forgets the first gradients: the risk falls below its floor and rises.
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size)
    closure = Closure.of(problem, optimizer, nqm.Constant(), 0).within(60_000)
    moments = closure.start()
    _, least = closure.step(moments, 60_000)
    assert closure.risk(moments) > 1.005 * least
    # At the bottom of a dip the steps say little: what is nothing in the risk is much in them.
    for above, slack in ((3e-3, 0.002), (6e-4, 0.02)):
        target = least * (1.0 + above)
        found = nqm.steps_to_target(problem, optimizer, target=target)
        reference = stepped(problem, optimizer, target, 60_000)
        assert found.steps == pytest.approx(reference, rel=slack)
    missed = nqm.steps_to_target(problem, optimizer, target=least * (1.0 - 6e-4))
    assert (missed.steps, missed.status) == (None, "floor_above_target")


@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (2**18, nqm.Adam(1.0, 0.99, 0.9)),
        (2**10, nqm.Adam(10.0, 0.9, 0.0)),
        (2**24, nqm.Adam(1.0, 0.0, 0.0)),
        (2**18, nqm.Adam(0.1, 0.0, 0.99)),
        (2**20, nqm.Adam(0.674, 0.9972, 0.9223)),
        (2**16, nqm.Adam(0.02214, 0.99766, 0.9456)),
        (2**18, nqm.Adam(0.4, 0.9, 0.36)),
    ],
)
def test_a_closure_that_vibrates_ends(batch_size, optimizer):
    problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size)
    found = nqm.steps_to_target(problem, optimizer, target=1e-3)
    # Without a memory in v, m / |g| has no bound, and sampling shows that the risk has none.
    status = "diverged" if optimizer.beta2 == 0.0 < optimizer.beta1 else "floor_above_target"
    assert (found.steps, found.status) == (None, status)


@pytest.mark.parametrize("mean", [0.0, 1.5, -1.5])
def test_starts_off_zero_agree_with_simulation(mean):
    spectrum = nqm.Spectrum(nqm.power_law(200).curvature, initial_mean=mean)
    problem, optimizer = nqm.NoisyQuadratic(spectrum, 8192), nqm.Adam(0.01)
    steps = np.arange(0, 241, 20)
    run = nqm.simulate(problem, optimizer, n_steps=240, n_replicas=256, seed=3)
    np.testing.assert_allclose(
        nqm.risk_curve(problem, optimizer, steps=steps), run.mean[steps], rtol=0.05
    )


def test_sign_of_the_start_is_irrelevant():
    half = nqm.power_law(50).curvature
    steps = [0, 1, 30, 200]
    one, other = (
        nqm.risk_curve(
            nqm.NoisyQuadratic(nqm.Spectrum(half, initial_mean=mean), 512),
            nqm.Adam(0.02),
            steps=steps,
        )
        for mean in (0.7, -0.7)
    )
    np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("batch_size", [4, 64, 256])
@pytest.mark.parametrize(
    ("target", "rate", "steps_times_batch", "tolerance"),
    [(0.01, 1.71e-4, 1.39e6, 0.02), (0.1, 1.6e-3, 8.0e4, 0.04)],
)
def test_rate_follows_the_square_root_of_small_batches(
    batch_size, target, rate, steps_times_batch, tolerance
):
    # There v tracks the noise, and Adam is SGD preconditioned by H^-1/2.
    problem = nqm.NoisyQuadratic(PAPER, batch_size)

    def steps(factor):
        optimizer = nqm.Adam(factor * rate * batch_size**0.5)
        found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=10**6)
        return found.steps or 10**9

    best = min(steps(factor) for factor in (0.97, 1.0, 1.03))
    assert best * batch_size == pytest.approx(steps_times_batch, rel=tolerance)
    assert steps(0.75) > best, "the best rate is lower"
    assert steps(1.3) > best, "the best rate is higher"


def best_rate(batch_size):
    """The rate with the fewest steps and these: the least of a cubic through 13 rates near it."""
    x = np.linspace(-0.12, 0.12, 13)
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    steps = [
        nqm.steps_to_target(problem, nqm.Adam(1.71e-4 * batch_size**0.5 * np.exp(each))).steps
        for each in x
    ]
    a, b, c, _ = np.polyfit(x, np.log(steps), 3)
    least = (-b + np.sqrt(b * b - 3.0 * a * c)) / (3.0 * a)
    return 1.71e-4 * batch_size**0.5 * float(np.exp(least)), min(steps)


def test_constants_and_slope_of_small_batches():
    batch_sizes = [4, 16, 64, 256]
    found = [best_rate(batch_size) for batch_size in batch_sizes]
    for batch_size, (rate, steps) in zip(batch_sizes, found, strict=True):
        assert rate / batch_size**0.5 == pytest.approx(1.71e-4, rel=0.02)
        assert steps * batch_size == pytest.approx(1.39e6, rel=0.02)
    slope, _ = np.polyfit(np.log(batch_sizes), np.log([rate for rate, _ in found]), 1)
    assert slope == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("beta2", [0.9, 0.999])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("rate", [0.003, 0.1, 10.0])
def test_floor_above_the_target_is_said_only_where_no_step_reaches_it(rate, beta1, beta2):
    problem = nqm.NoisyQuadratic(nqm.power_law(30), 64)
    optimizer = nqm.Adam(rate, beta1, beta2)
    risks = textbook.adam_risks(Nodes.of(problem, 0), optimizer, 10_000)
    for target in (0.5 * risks.min(), 0.99 * risks.min(), 1.0001 * risks.min()):
        found = by_closure(problem, optimizer, float(target), 10_000)
        first = textbook.first_at_most(risks, target)
        assert (found.steps is None) == (first is None)
        assert found.steps is None or found.steps == pytest.approx(first, rel=0.002)
        if found.steps is None:
            assert found.risk >= target
            if target < 0.6 * risks.min():
                assert found.status == "floor_above_target"
        else:
            assert found.status == "reached"


def test_steps_stop_at_the_limit():
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(30), 64), nqm.Adam(1e-3)
    steps = nqm.steps_to_target(problem, optimizer, target=0.5).steps
    assert nqm.steps_to_target(problem, optimizer, target=0.5, max_steps=steps).steps == steps
    short = nqm.steps_to_target(problem, optimizer, target=0.5, max_steps=steps - 1)
    assert (short.steps, short.status) == (None, "max_steps")


def test_mode_with_neither_signal_nor_noise_stays():
    # 0 / 0 is 0 there, not the infinity that 0 over a smallest number squared would be.
    still = nqm.Spectrum([1.0, 0.5], 0.0, 1.0, 0.0, [0.0, 1.0])
    problem, optimizer = nqm.NoisyQuadratic(still, 64), nqm.Adam(1e-3, eps=0.0)
    curve = nqm.risk_curve(problem, optimizer, steps=[0, 1, 5, 100])
    alone = nqm.risk_curve(
        nqm.NoisyQuadratic(nqm.Spectrum([0.5], 0.0), 64), optimizer, steps=[0, 1, 5, 100]
    )
    np.testing.assert_allclose(curve, alone, rtol=1e-12)


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("beta2", [0.0, 0.5, 0.99, 0.999])
def test_risks_without_noise_stay_numbers(beta1, beta2):
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 0.1, 0.01], noise=0.0), 1)
    curve = nqm.risk_curve(problem, nqm.Adam(0.01, beta1, beta2), steps=[10, 1000, 100_000])
    assert np.all(np.isfinite(curve))
    assert np.all(curve >= 0.0)


@repeatable
@given(spectra(most=4), adams(), logarithmic(1.0, 1e4), logarithmic(1e-2, 1e2))
def test_rescaling_the_curvature_leaves_the_risk_curve(spectrum, optimizer, batch_size, k):
    noise = spectrum.noise + 1e-3
    rest = (spectrum.multiplicity, spectrum.initial_mean, spectrum.initial_variance)
    steps = [0, 1, 10, 100]
    scaled = nqm.Adam(optimizer.learning_rate, optimizer.beta1, optimizer.beta2, k * optimizer.eps)
    one, other = (
        nqm.risk_curve(nqm.NoisyQuadratic(each, batch_size), by, steps=steps)
        for each, by in (
            (nqm.Spectrum(spectrum.curvature, noise, *rest), optimizer),
            (nqm.Spectrum(k * spectrum.curvature, k**2 * noise, *rest), scaled),
        )
    )
    np.testing.assert_allclose(other / k, one, rtol=1e-7, atol=1e-11 * one.max())


def test_rescaling_leaves_the_steps():
    k = 5.0
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 1024)
    scaled = nqm.NoisyQuadratic(
        nqm.Spectrum(k * problem.spectrum.curvature, k**2 * problem.spectrum.noise), 1024
    )
    found = nqm.steps_to_target(problem, nqm.Adam(0.01), target=0.05)
    rescaled = nqm.steps_to_target(scaled, nqm.Adam(0.01, eps=k * 1e-8), target=0.05 * k)
    assert found.steps is not None
    assert rescaled.steps == found.steps


@settings(repeatable, max_examples=60)
@given(
    st.sampled_from([4.0, 2.0**12, 2.0**16, 2.0**20]),
    logarithmic(1e-4, 1.0),
    logarithmic(1e-3, 1.0),
    logarithmic(1e-5, 0.1),
)
def test_searches_of_adam_full_end_long_before_the_limit(batch_size, rate, gap1, gap2):
    # Betas and rates as conf/optimizer/adam_full.yaml has them; the limit is a billion steps.
    counted = 0

    def step(self, moments, count, target=-np.inf):
        nonlocal counted
        counted += count
        assert counted < 200_000, "stepped without end"
        return stepping(self, moments, count, target)

    stepping, Closure.step = Closure.step, step
    try:
        problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size)
        found = nqm.steps_to_target(problem, nqm.Adam(rate, 1.0 - gap1, 1.0 - gap2))
    finally:
        Closure.step = stepping
    assert found.status != "max_steps"


@pytest.mark.parametrize("rate", [1e-300, 5e-324, 1e10, 1e100, 1e160])
def test_extreme_rates_end(rate):
    found = nqm.steps_to_target(nqm.NoisyQuadratic(PAPER, 256), nqm.Adam(rate), max_steps=500)
    assert found.status in {"max_steps", "floor_above_target", "diverged"}
