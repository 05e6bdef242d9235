"""Steps to target of the linear optimizers, against figures, textbook recursions and limits."""

import numpy as np
import pytest
import textbook
from hypothesis import given, settings, strategies as st
from strategies import linear_optimizers, logarithmic, problems, repeatable

import nqm_study as nqm
from nqm_study.model.linear.risks import Engine, linear_crossing

PAPER = nqm.power_law(10_000)


def crossing(batch_size, optimizer, spectrum=PAPER, **keywords):
    return nqm.steps_to_target(nqm.NoisyQuadratic(spectrum, batch_size), optimizer, **keywords)


def fewest_steps(batch_size, learning_rate, power, target=0.01):
    """The fewest steps over learning rates near one, on a fine grid around the best of a coarse."""
    best = None
    for width, points in ((0.02, 21), (0.002, 41)):
        rates = learning_rate * np.linspace(1.0 - width, 1.0 + width, points)
        taken = [
            crossing(
                batch_size,
                nqm.SGD(float(lr), preconditioner_power=power),
                target=target,
                max_steps=10**7,
            ).steps
            or 10**7
            for lr in rates
        ]
        learning_rate = float(np.median(rates[np.array(taken) == min(taken)]))
        best = min(taken + ([best] if best else []))
    return best


@pytest.mark.parametrize(
    ("power", "batch_size", "steps", "learning_rate"),
    [
        (0.0, 16, 378_197, 0.05408),
        (0.0, 256, 25_778, 0.775),
        (0.0, 4096, 7_832, 1.8625),
        (0.25, 256, 9_377, 0.233),
        (0.5, 256, 5_442, 0.04352),
        (0.75, 256, 4_099, 0.006584),
        (1.0, 256, 4_608, 0.000913),
    ],
)
def test_fewest_steps_on_the_papers_problem(power, batch_size, steps, learning_rate):
    # Exact optima over all 10^4 modes, found independently of this package.
    assert fewest_steps(batch_size, learning_rate, power) == steps, "not the exact optimum"
    near = crossing(batch_size, nqm.SGD(learning_rate, preconditioner_power=power)).steps
    assert near == pytest.approx(steps, rel=2e-3), "the rate of the optimum is elsewhere"


@pytest.mark.parametrize(
    ("power", "steps_times_batch", "rate_per_batch"),
    [(0.0, 6.024e6, 3.40e-3), (0.25, 2.380e6, 9.19e-4), (0.5, 1.392e6, 1.71e-4),
     (0.75, 1.049e6, 2.59e-5), (1.0, 1.180e6, 3.57e-6)],
)  # fmt: skip
def test_small_batches_scale_perfectly(power, steps_times_batch, rate_per_batch):
    for batch_size in (1 / 16, 1.0):
        optimizer = nqm.SGD(rate_per_batch * batch_size, preconditioner_power=power)
        steps = crossing(batch_size, optimizer).steps
        assert steps * batch_size == pytest.approx(steps_times_batch, rel=2e-3), (
            "steps times batch size is not the constant of the small-batch limit"
        )
        for factor in (0.8, 1.25):
            other = nqm.SGD(factor * optimizer.learning_rate, preconditioner_power=power)
            worse = crossing(batch_size, other).steps
            assert worse is None or worse > steps, "the best rate per batch size is elsewhere"


def test_first_crossing_of_an_oscillating_risk_is_the_first():
    optimizer = nqm.SGD(3.0, momentum=0.997)
    found = crossing(2**20, optimizer)
    assert found.steps == 1975, (
        "1981 and 2041 are later crossings, 1951 is that of too coarse a compression"
    )
    risks = textbook.linear_risks(nqm.NoisyQuadratic(PAPER, 2**20), optimizer, 2200)
    assert textbook.first_at_most(risks, 0.01) == 1975
    assert found.risk == pytest.approx(risks[1975], rel=1e-9)
    assert np.flatnonzero(risks > 0.01).max() == 2145, "the risk stays below from 2146 on"


@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (4096, nqm.SGD(1.8625)),
        (2**14, nqm.SGD(1.99999)),
        (2**20, nqm.SGD(3.9, momentum=0.95)),
        (2**20, nqm.SGD(0.05, momentum=0.999)),
        (2**20, nqm.SGD(1e-3, momentum=1.0 - 1e-4)),
        (2**14, nqm.SGD(1.2, momentum=0.99, nesterov=True)),
        (2**14, nqm.SGD(1.0, momentum=0.98, ema_decay=0.9)),
        (2**12, nqm.SGD(1.5, ema_decay=0.999)),
        (2**16, nqm.SGD(0.03, momentum=0.9, preconditioner_power=0.5)),
        (2**16, nqm.SGD((1 - 0.99**0.5) ** 2 * 500, momentum=0.99)),
    ],
)
def test_first_crossing_over_all_modes_is_that_of_the_textbook(batch_size, optimizer):
    risks = textbook.linear_risks(nqm.NoisyQuadratic(PAPER, batch_size), optimizer, 1500)
    targets = [0.3, 0.1, 0.03, float(risks.min() * (1 + 1e-6)), float(risks.min() * 0.999)]
    for target in targets:
        found = crossing(batch_size, optimizer, target=target, max_steps=1500)
        assert found.steps == textbook.first_at_most(risks, target), f"target {target}"


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.5])
def test_compressed_search_agrees_with_the_search_over_all_modes(exponent):
    spectrum = nqm.power_law(2000, exponent)
    rng = np.random.default_rng(int(10 * exponent))
    for _ in range(12):
        momentum = 1.0 - 10.0 ** rng.uniform(-3.5, -0.5)
        optimizer = nqm.SGD(10.0 ** rng.uniform(-2, 0.5), momentum)
        problem = nqm.NoisyQuadratic(spectrum, 10.0 ** rng.uniform(3, 8))
        target = spectrum.initial_risk * 10.0 ** rng.uniform(-3, -0.3)
        whole = Engine.build(problem, optimizer, spectrum.last_level, 20_000)
        reason, step, *_ = whole.search(target, 20_000)
        found = linear_crossing(problem, optimizer, target, 20_000)
        assert found.steps == (step if reason == 0 else None), (
            f"{optimizer}, target {target}: too coarse a compression was accepted"
        )


def assert_first(found, risks, target):
    """The crossing is the first of the given risks, up to the rounding of either computation."""
    seen = risks[: (len(risks) if found.steps is None else found.steps + 1)]
    finite = seen[np.isfinite(seen)]
    slack = 1e-9 * target + 1e-12 * finite.max()
    before = seen if found.steps is None else seen[:-1]
    assert not np.any(before < target - slack), "an earlier step is at the target already"
    if found.steps is not None:
        assert risks[found.steps] <= target + slack, "the target is not reached at that step"
        assert found.risk == pytest.approx(risks[found.steps], rel=1e-8, abs=slack)


@st.composite
def searches(draw, most_steps=2000):
    problem = draw(problems())
    optimizer = draw(linear_optimizers(problem.spectrum.curvature))
    risks = textbook.linear_risks(problem, optimizer, most_steps)
    kind = draw(st.sampled_from(["a risk", "the lowest", "under the lowest", "a fraction"]))
    usable = risks[np.isfinite(risks) & (risks < 1e280)]
    if kind == "a risk":
        target = float(usable[draw(st.integers(0, usable.size - 1))])
    elif kind == "the lowest":
        target = float(usable.min()) * (1.0 + draw(logarithmic(1e-7, 1.0)))
    elif kind == "under the lowest":
        target = 0.999 * float(usable.min())
    else:
        target = float(risks[0]) * draw(logarithmic(1e-5, 2.0))
    return problem, optimizer, max(target, 1e-250), risks


@settings(repeatable, max_examples=400)
@given(searches())
def test_first_crossing_is_that_of_the_textbook_recursion(search):
    problem, optimizer, target, risks = search
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=risks.size - 1)
    assert_first(found, risks, target)
    if found.steps is None:
        assert found.status != "reached"
        assert found.risk >= target
    else:
        assert found.status == "reached"


@repeatable
@given(searches(), st.lists(st.integers(0, 2000), min_size=1, max_size=6))
def test_risk_curve_is_that_of_the_textbook_recursion(search, steps):
    problem, optimizer, _, risks = search
    known = [step for step in steps if risks[step] < 1e200]
    curve = nqm.risk_curve(problem, optimizer, steps=known)
    scale = 1e-11 * np.array([risks[: step + 1].max() for step in known])
    assert np.all(np.abs(curve - risks[known]) <= 1e-8 * risks[known] + scale)


def test_risk_curve_over_all_modes_is_accurate():
    steps = [0, 1, 2, 7, 50, 333, 1000, 1999]
    for optimizer in (
        nqm.SGD(0.7),
        nqm.SGD(3.0, momentum=0.997),
        nqm.SGD(1.0, momentum=0.99, nesterov=True, ema_decay=0.99),
        nqm.SGD(0.02, preconditioner_power=0.5),
    ):
        problem = nqm.NoisyQuadratic(PAPER, 2**12)
        risks = textbook.linear_risks(problem, optimizer, max(steps))
        curve = nqm.risk_curve(problem, optimizer, steps=steps[::-1])[::-1]
        np.testing.assert_allclose(curve, risks[steps], rtol=2e-9, err_msg=str(optimizer))


def test_averaging_at_its_defective_point_is_exact():
    # An eigendecomposition gives 4e10 here: gamma is within rounding of 1 - lr h at one mode.
    problem = nqm.NoisyQuadratic(nqm.power_law(300), 32)
    curve = nqm.risk_curve(problem, nqm.SGD(0.2, ema_decay=0.9), steps=[60])
    assert curve[0] == pytest.approx(1.096, abs=5e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("x", [0.01, 1.0, 1.9])
def test_risk_settles_at_the_closed_form_floor(momentum, x):
    c, batch_size = 3.0, 7.0
    spectrum = nqm.Spectrum([1.0], noise=c)
    optimizer = nqm.SGD(x, momentum)
    (risk,) = nqm.risk_curve(nqm.NoisyQuadratic(spectrum, batch_size), optimizer, steps=[10**6])
    floor = x * c * (1 + momentum) / (2 * batch_size * (1 - momentum) * (2 + 2 * momentum - x))
    assert risk == pytest.approx(floor, rel=1e-9)


@pytest.mark.parametrize(
    ("batch_size", "ratio"), [(4, (0.10, 0.16)), (256, (0.32, 0.335)), (2**14, (0.93, 0.955))]
)
def test_averaging_helps_small_batches_most(batch_size, ratio):
    # Exact optima have the ratios 0.14, 0.327 and 0.942 to SGD.
    plain = min(
        crossing(batch_size, nqm.SGD(float(lr))).steps or 10**9
        for lr in np.linspace(0.8, 1.2, 25) * min(3.3e-3 * batch_size, 1.66)
    )
    averaged = min(
        crossing(batch_size, nqm.SGD(float(lr), ema_decay=1.0 - float(gap))).steps or 10**9
        for lr in np.geomspace(min(0.02 * batch_size, 0.5), 1.99, 12)
        for gap in np.geomspace(1e-5, 0.3, 25)
    )
    assert ratio[0] < averaged / plain < ratio[1]


def test_fixed_momentum_changes_nothing_at_small_batches():
    plain = crossing(4, nqm.SGD(3.4e-3 * 4)).steps
    heavy = crossing(4, nqm.SGD(3.4e-4 * 4, momentum=0.9)).steps
    assert heavy == pytest.approx(plain, rel=2e-3), "lr / (1 - mu) is the rate that counts"


def test_floor_above_the_target_is_said():
    found = crossing(1, nqm.SGD(1.0))
    assert (found.steps, found.status) == (None, "floor_above_target")
    assert found.risk > 0.01


def test_divergence_is_said():
    for optimizer in (
        nqm.SGD(2.001),
        nqm.SGD(3.81, momentum=0.9),
        nqm.SGD(1.36, momentum=0.9, nesterov=True),
        nqm.SGD(2.001, ema_decay=0.9),
        nqm.SGD(1e100),
        nqm.SGD(1e100, momentum=0.9),
    ):
        found = crossing(256, optimizer)
        assert (found.steps, found.status) == (None, "diverged"), optimizer


def test_rates_just_inside_the_limit_of_stability_do_not_diverge():
    noiseless = nqm.Spectrum(PAPER.curvature, noise=0.0)
    for optimizer in (
        nqm.SGD(1.999),
        nqm.SGD(3.799, momentum=0.9),
        nqm.SGD(1.357, momentum=0.9, nesterov=True),
    ):
        assert crossing(1, optimizer, noiseless).status == "reached", optimizer


def test_modes_that_never_move_cannot_diverge():
    for still in (
        nqm.Spectrum([1.0, 100.0], multiplicity=[1.0, 0.0]),
        nqm.Spectrum([1.0, 100.0], noise=[1.0, 0.0], initial_variance=[1.0, 0.0]),
    ):
        assert crossing(1, nqm.SGD(0.5), still).status == "floor_above_target"


def test_crossing_before_the_growth_wins_counts():
    spectrum = nqm.Spectrum([1.0, 0.01], multiplicity=[1e-6, 1.0])
    optimizer = nqm.SGD(2.0001)
    found = crossing(1e9, optimizer, spectrum, target=1e-3)
    assert (found.steps, found.status) == (40, "reached")
    late = nqm.risk_curve(nqm.NoisyQuadratic(spectrum, 1e9), optimizer, steps=[10**6])
    assert late[0] > 1.0, "the example does not diverge"


def test_giving_up_is_said_only_after_the_last_step():
    steps = crossing(256, nqm.SGD(0.775)).steps
    assert crossing(256, nqm.SGD(0.775), max_steps=steps).steps == steps
    short = crossing(256, nqm.SGD(0.775), max_steps=steps - 1)
    assert (short.steps, short.status) == (None, "max_steps")
    assert short.risk > 0.01


def test_target_met_at_the_start_takes_no_steps():
    risk = PAPER.initial_risk
    for target in (float(np.nextafter(risk, 10.0)) + 1e-9, 2 * risk):
        for optimizer in (nqm.SGD(0.1), nqm.SGD(100.0), nqm.Adam(1e-3)):
            found = crossing(256, optimizer, target=target)
            assert (found.steps, found.status) == (0, "reached")
            assert found.risk == pytest.approx(risk)


def test_one_noiseless_mode_at_x_of_one_is_done_in_one_step():
    found = crossing(1, nqm.SGD(1.0), nqm.Spectrum([1.0], noise=0.0), target=1e-300)
    assert (found.steps, found.risk) == (1, 0.0)


@pytest.mark.parametrize("target", [1e-300, 5e-324])
def test_targets_near_the_smallest_number_are_reached(target):
    found = crossing(1, nqm.SGD(0.1), nqm.Spectrum([1.0], noise=0.0), target=target)
    risks = textbook.linear_risks(
        nqm.NoisyQuadratic(nqm.Spectrum([1.0], noise=0.0), 1), nqm.SGD(0.1), 4000
    )
    assert found.steps == pytest.approx(textbook.first_at_most(risks, target), abs=2)


@pytest.mark.parametrize(
    ("optimizer", "most_steps"),
    [
        (nqm.SGD(1e-300), 10**9),
        (nqm.SGD(1e-300, momentum=0.9), 10**9),
        (nqm.SGD(1e-9), 10**6),
        (nqm.SGD(1e-9, momentum=1.0 - 1e-9), 10**4),
        (nqm.SGD(1e-12, ema_decay=1.0 - 1e-9), 10**9),
    ],
)
def test_hopeless_searches_end(optimizer, most_steps):
    found = crossing(2**20, optimizer, max_steps=most_steps)
    assert (found.steps, found.status) == (None, "max_steps")


def test_largest_step_counts_are_searched():
    found = crossing(1e9, nqm.SGD(1e-3), max_steps=2**62)
    assert found.steps == crossing(1e9, nqm.SGD(1e-3)).steps


@pytest.mark.parametrize("batch_size", [1e-300, 1e300])
def test_extreme_batch_sizes_are_searched(batch_size):
    found = crossing(batch_size, nqm.SGD(1.5))
    assert found.status == ("reached" if batch_size > 1 else "floor_above_target")


@pytest.mark.parametrize("learning_rate", [2.05, 2.5, 10.0, 1e3, 1e5, 1e10])
def test_divergence_raises_no_warning(learning_rate):
    # Warnings are errors here; a risk on its way to infinity must not overflow in a comparison.
    rates = learning_rate * np.linspace(1.0, 1.1, 40)
    for target in (1e-2, 1e-200):
        statuses = {crossing(256, nqm.SGD(float(lr)), target=target).status for lr in rates}
        assert statuses == {"diverged"}


@pytest.mark.parametrize("curvature", [1e150, 1.0, 1e-300])
@pytest.mark.parametrize("learning_rate", [1e308, 1e-3, 5e-324])
@pytest.mark.parametrize("batch_size", [5e-324, 1.0, 1e308])
def test_extreme_numbers_raise_no_warning(curvature, learning_rate, batch_size):
    # Warnings are errors here. A batch so small that its noise overflows is refused.
    batch_size = max(batch_size, 1e-307 * curvature * curvature)
    problem = nqm.NoisyQuadratic(nqm.Spectrum([curvature, curvature / 2]), batch_size)
    for power in (0.0, 0.5, 1.0):
        for momentum, decay in ((0.0, 0.0), (0.9, 0.0), (0.9, 0.9)):
            optimizer = nqm.SGD(learning_rate, momentum, False, power, decay)
            for target in (5e-324, 0.01):
                found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=10**6)
                assert (found.status == "reached") == (found.steps is not None)


@repeatable
@given(searches(), logarithmic(1e-2, 1e2))
def test_rescaling_the_curvature_leaves_the_risk_curve(search, k):
    problem, optimizer, _, risks = search
    s = problem.spectrum
    scaled = nqm.NoisyQuadratic(
        nqm.Spectrum(k * s.curvature, k**2 * s.noise, s.multiplicity, s.initial_mean,
                     s.initial_variance), problem.batch_size)  # fmt: skip
    power = optimizer.preconditioner_power
    rescaled = nqm.SGD(optimizer.learning_rate / k ** (1.0 - power), optimizer.momentum,
                       optimizer.nesterov, power, optimizer.ema_decay)  # fmt: skip
    steps = [step for step in (0, 1, 10, 300) if risks[step] < 1e200]
    scale = 1e-11 * risks[: steps[-1] + 1].max()
    np.testing.assert_allclose(
        nqm.risk_curve(scaled, rescaled, steps=steps) / k,
        nqm.risk_curve(problem, optimizer, steps=steps),
        rtol=1e-7, atol=scale, err_msg="h -> k h, c -> k^2 c, lr -> lr / k^(1-p)",
    )  # fmt: skip


def test_rescaling_leaves_the_steps():
    k = 7.3
    for power in (0.0, 0.5, 1.0):
        lr = {0.0: 0.775, 0.5: 0.04352, 1.0: 0.000913}[power]
        scaled = nqm.Spectrum(k * PAPER.curvature, k**2 * PAPER.noise)
        optimizer = nqm.SGD(lr / k ** (1 - power), preconditioner_power=power)
        steps = crossing(256, optimizer, scaled, target=0.01 * k).steps
        assert steps == crossing(256, nqm.SGD(lr, preconditioner_power=power)).steps


@repeatable
@given(problems(), st.data(), logarithmic(1.5, 100.0))
def test_noise_falls_as_one_over_the_batch_size(problem, data, factor):
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    if not np.any(problem.spectrum.noise * problem.spectrum.multiplicity):
        return
    still = nqm.Spectrum(problem.spectrum.curvature, problem.spectrum.noise,
                         problem.spectrum.multiplicity, 0.0, 0.0)  # fmt: skip
    one, other = (
        nqm.risk_curve(nqm.NoisyQuadratic(still, batch_size), optimizer, steps=[0, 1, 20, 100])
        for batch_size in (problem.batch_size, factor * problem.batch_size)
    )
    np.testing.assert_allclose(other * factor, one, rtol=1e-9)


@repeatable
@given(problems(), logarithmic(1e-3, 1.0))
def test_order_of_the_modes_is_irrelevant(problem, learning_rate):
    s = problem.spectrum
    turned = nqm.Spectrum(s.curvature[::-1], s.noise[::-1], s.multiplicity[::-1],
                          s.initial_mean[::-1], s.initial_variance[::-1])  # fmt: skip
    optimizer = nqm.SGD(learning_rate / s.curvature.max(), 0.5)
    steps = [0, 3, 100]
    np.testing.assert_allclose(
        nqm.risk_curve(nqm.NoisyQuadratic(turned, problem.batch_size), optimizer, steps=steps),
        nqm.risk_curve(problem, optimizer, steps=steps),
        rtol=1e-12,
    )


def test_an_unstable_run_cut_short_before_its_crossing_is_not_called_diverged() -> None:
    """A status must not depend on where the search was stopped if a later step is a crossing."""
    spectrum = nqm.Spectrum([1.0, 0.01], multiplicity=[1e-6, 1.0])
    problem = nqm.NoisyQuadratic(spectrum, 1e9)
    optimizer = nqm.SGD(2.0001)
    assert nqm.steps_to_target(problem, optimizer, target=1e-3).steps == 40
    cut = nqm.steps_to_target(problem, optimizer, target=1e-3, max_steps=5)
    assert (cut.steps, cut.status) == (None, "max_steps")
    never = nqm.steps_to_target(problem, optimizer, target=1e-9, max_steps=5)
    assert never.status == "diverged"
