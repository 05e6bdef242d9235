"""Greedy learning rates: each is the best for the next step; together they are far too small."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import example, given, settings, strategies as st
from strategies import logarithmic, problems, repeatable, spectra
from textbook import first_at_most

import nqm_study as nqm
from nqm_study.model.problems.bounds import classical_bound
from nqm_study.model.schedules.computed.greedy import _Nodes, _run, _stride_weights, greedy_schedule

PAPER = nqm.power_law(10_000)
POWERS = st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0)


class Textbook:
    """E theta^2 of every mode, moved by one step at a time; nothing here is compressed or split."""

    def __init__(self, problem, power):
        spectrum = problem.spectrum
        there = spectrum.multiplicity > 0.0  # nobody minds where the absent ones go
        h = spectrum.curvature[there]
        self.weight = 0.5 * spectrum.multiplicity[there] * h
        self.k, self.q = h ** (1.0 - power), h**-power
        self.noise = spectrum.noise[there] / problem.batch_size
        self.moment = (spectrum.initial_mean**2 + spectrum.initial_variance)[there]

    @property
    def risk(self):
        return float(np.sum(self.weight * self.moment))

    def after(self, rate):
        return (1.0 - rate * self.k) ** 2 * self.moment + rate**2 * self.q**2 * self.noise

    def next_risk(self, rate):
        return float(np.sum(self.weight * self.after(rate)))

    def rate(self):
        down = np.sum(self.weight * self.k * self.moment)
        return down / np.sum(self.weight * (self.k**2 * self.moment + self.q**2 * self.noise))

    def run(self, n_steps):
        """The risks L_0 .. L_n and the n rates between them; it rests where rounding is left."""
        risks, rates = [self.risk], []
        for _ in range(n_steps):
            rates.append(self.rate() if risks[-1] > 1e-13 * risks[0] else 0.0)
            self.moment = self.after(rates[-1])
            risks.append(self.risk)
        return np.array(risks), np.array(rates)


@settings(repeatable, max_examples=30)
@given(problems(), POWERS, st.integers(1, 120))
def test_steps_and_rates_are_the_textbooks(problem, power, step):
    risks, rates = Textbook(problem, power).run(120)
    # Without noise a mode may vanish, and what rounding leaves of it is nobody's.
    target = max(float(risks[step]) * (1.0 + 1e-9), 1e-10 * risks[0])
    found = greedy_schedule(problem, target=target, max_steps=120, preconditioner_power=power)
    assert found.steps == first_at_most(risks, target)
    assert found.status == "reached"
    assert found.risk == pytest.approx(risks[found.steps], rel=1e-8, abs=1e-14 * risks[0])
    assert np.all(found.at_steps < found.steps)
    np.testing.assert_allclose(found.learning_rates, rates[found.at_steps], rtol=1e-7)


def test_all_modes_of_the_papers_problem_agree():
    problem = nqm.NoisyQuadratic(PAPER, 2**20)
    risks, rates = Textbook(problem, 0.0).run(7_360)
    found = greedy_schedule(problem)
    assert found.steps == first_at_most(risks, 0.01) == 7_359
    assert found.risk == pytest.approx(risks[7_359], rel=1e-9)
    np.testing.assert_allclose(found.learning_rates, rates[found.at_steps], rtol=1e-9)
    assert np.all(np.diff(risks) < 0.0)


@pytest.mark.parametrize(
    ("batch_size", "steps"),
    # From single steps of all 10^4 modes: _run at the last level, without strides.
    [(4096, 256_419), (256, 4_026_712)],
)
def test_steps_on_the_papers_problem(batch_size, steps):
    found = greedy_schedule(nqm.NoisyQuadratic(PAPER, batch_size))
    assert (found.steps, found.status) == (steps, "reached")
    assert found.error < 1e-10


def test_greedy_rates_are_far_too_small():
    # The best constant rate needs 25,778 steps at batch size 256, and the best schedule of 50 equal
    # pieces 8,934. Short-horizon bias costs a factor of 156, and of 451.
    problem = nqm.NoisyQuadratic(PAPER, 256)
    found = greedy_schedule(problem)
    constant = nqm.steps_to_target(problem, nqm.SGD(0.775))
    assert constant.steps == 25_778
    assert found.steps > 150 * constant.steps
    late = found.at_steps >= constant.steps
    assert np.all(found.learning_rates[late] < 0.775 / 10.0)


def test_greedy_rates_scale_perfectly_at_small_batches():
    examples = [
        b * greedy_schedule(nqm.NoisyQuadratic(PAPER, b), max_steps=10**10).steps
        for b in (1.0, 4.0, 16.0)
    ]
    np.testing.assert_allclose(examples, 1.0296e9, rtol=1e-4)


def test_with_the_perfect_preconditioner_greedy_rates_are_nearly_the_best_possible():
    # All modes then contract alike, so that no mode's future is paid for another's present.
    problem = nqm.NoisyQuadratic(PAPER, 4)
    found = greedy_schedule(problem, preconditioner_power=1.0)
    assert nqm.bayes_bound(problem) <= found.steps < classical_bound(problem)


@settings(repeatable, max_examples=50)
@given(problems(), POWERS, st.integers(0, 30))
def test_no_other_rate_has_a_smaller_next_risk(problem, power, before):
    found = greedy_schedule(
        problem, target=1e-300, max_steps=before + 1, preconditioner_power=power
    )
    book = Textbook(problem, power)
    for rate in found.learning_rates[: found.learning_rates.size - 1]:
        book.moment = book.after(rate)
    rate, now = found.learning_rates[-1], book.risk
    slack = 1e-12 * now + 1e-25
    for factor in (0.0, 0.5, 0.99, 1.01, 1.5, 2.0):
        assert book.next_risk(rate) <= book.next_risk(factor * rate) + slack
    best = scipy.optimize.minimize_scalar(book.next_risk, bracket=(0.0, 1.0 / book.k.max()))
    assert book.next_risk(rate) <= best.fun + slack
    # A parabola's minimum is found to half of the digits.
    if now > 1e-10 * problem.spectrum.initial_risk:
        assert rate == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_one_mode_follows_its_closed_form(power):
    # In h^p lr, the rate of one mode does not depend on p: h A / (h^2 A + c / B). With it, A falls
    # by the factor (c / B) / (h^2 A + c / B), so 1 / A grows by h^2 B / c at each step.
    h, c, start, batch_size = 0.3, 0.7, 2.0, 5.0
    problem = nqm.NoisyQuadratic(nqm.Spectrum([h], c, initial_variance=start), batch_size)
    found = greedy_schedule(problem, target=1e-7, preconditioner_power=power)
    gain = h**2 * batch_size / c
    assert found.steps == int(np.ceil((h / (2.0 * 1e-7) - 1.0 / start) / gain))
    A = 1.0 / (1.0 / start + gain * found.at_steps)
    expected = h**power * h * A / (h**2 * A + c / batch_size)
    np.testing.assert_allclose(found.learning_rates, expected, rtol=1e-9)
    # With one mode greedy is optimal: this is the Bayes bound.
    assert found.steps == nqm.bayes_bound(problem, target=1e-7)


@settings(repeatable, max_examples=40)
@given(spectra(most=4), POWERS, logarithmic(1e-3, 100.0), logarithmic(1e-4, 1e-2))
@example(nqm.Spectrum([1.0, 0.9, 1e-3], noise=[1.0, 0.0, 1e-6]), 0.0, 1.0, 1e-3)
def test_strides_end_where_single_steps_do(spectrum, power, batch_size, fraction):
    problem = nqm.NoisyQuadratic(spectrum, batch_size)
    target = fraction * spectrum.initial_risk + 1e-9
    nodes = _Nodes.of(problem, power, spectrum.last_level)
    single = _run(nodes, target, 200_000, None)
    found = greedy_schedule(problem, target=target, max_steps=200_000, preconditioner_power=power)
    assert single.longest == 1
    steps = single.step if single.risk <= target else None
    assert found.steps == steps
    assert found.status == ("max_steps" if steps is None else "reached")
    assert found.risk == pytest.approx(single.risk, rel=2e-9)
    _, ours, theirs = np.intersect1d(found.at_steps, single.at_steps, return_indices=True)
    np.testing.assert_allclose(
        found.learning_rates[ours], single.rates[theirs], rtol=1e-6, atol=1e-12
    )


def test_strides_on_the_papers_problem_end_where_single_steps_do():
    problem = nqm.NoisyQuadratic(PAPER, 1024)
    nodes = _Nodes.of(problem, 0.0, 1)
    single, strides = (_run(nodes, 0.01, 10**9, halvings) for halvings in (None, 0))
    assert (single.longest, strides.longest) == (1, 16)
    assert strides.step == single.step == 1_010_411
    assert strides.risk == pytest.approx(single.risk, rel=1e-12)


@pytest.mark.parametrize("doublings", [0, 1, 2, 7])
def test_a_stride_sums_every_cubic_exactly(doublings):
    n, weights = 2**doublings, _stride_weights()[doublings]
    for power in range(4):
        last = (-np.arange(4.0) * n) ** power
        expected = np.sum(np.arange(float(n)) ** power)
        assert weights @ last == pytest.approx(expected, rel=1e-12, abs=1e-10)


@settings(repeatable, max_examples=30)
@given(problems(), POWERS, logarithmic(1e-2, 100.0))
def test_rescaling_the_loss_changes_the_rates_only(problem, power, factor):
    # Without noise the last steps are rounding, which a rescaling changes.
    noisy = nqm.Spectrum(problem.spectrum.curvature, initial_variance=2.0)
    ours = nqm.NoisyQuadratic(noisy, problem.batch_size)
    theirs = nqm.NoisyQuadratic(noisy.scaled(factor), problem.batch_size)
    target = 0.01 * noisy.initial_risk
    found = greedy_schedule(ours, target=target, preconditioner_power=power)
    scaled = greedy_schedule(
        theirs, target=target * factor * (1.0 + 1e-13), preconditioner_power=power
    )
    assert scaled.steps == found.steps
    first = slice(0, 40)
    np.testing.assert_allclose(
        scaled.learning_rates[first] * factor ** (1.0 - power),
        found.learning_rates[first],
        rtol=1e-9,
    )


def test_power_laws_beyond_listing_know_their_error():
    # One more mode than 2^17 makes the arrays a quadrature of the law.
    found = [
        greedy_schedule(nqm.NoisyQuadratic(nqm.power_law(dim), 2**14), target=0.1, max_steps=20_000)
        for dim in (2**17, 2**17 + 1, 10**12)
    ]
    assert all(each.error < 1e-9 for each in found)
    listed, law, huge = (each.risk for each in found)
    assert law == pytest.approx(listed, rel=1e-5)
    assert law > listed
    assert huge > law


def test_a_run_cut_short_says_so():
    problem = nqm.NoisyQuadratic(PAPER, 2**20)
    full = greedy_schedule(problem)
    last = greedy_schedule(problem, max_steps=full.steps)
    short = greedy_schedule(problem, max_steps=full.steps - 1)
    assert (last.steps, last.status, last.risk) == (full.steps, "reached", full.risk)
    assert (short.steps, short.status) == (None, "max_steps")
    assert 0.01 < short.risk < 0.0101
    assert short.at_steps[-1] < full.steps - 1


def test_without_any_steps_there_is_no_rate():
    problem = nqm.NoisyQuadratic(PAPER, 4)
    for arguments, steps in (({"max_steps": 0}, None), ({"target": 10.0}, 0)):
        found = greedy_schedule(problem, **arguments)
        assert found.steps == steps
        assert found.risk == pytest.approx(PAPER.initial_risk)
        assert found.learning_rates.size == found.at_steps.size == 0


@pytest.mark.parametrize(
    "spectrum",
    [
        nqm.Spectrum([1.0, 0.1], initial_variance=0.0),
        nqm.Spectrum([1.0, 0.1], multiplicity=0.0),
        nqm.Spectrum([1.0, 0.1], noise=0.0, initial_variance=0.0),
    ],
)
def test_a_start_at_the_minimum_is_reached_at_once(spectrum):
    found = greedy_schedule(nqm.NoisyQuadratic(spectrum, 1), target=1e-300)
    assert (found.steps, found.risk) == (0, 0.0)


def test_one_mode_without_noise_takes_one_step():
    problem = nqm.NoisyQuadratic(nqm.Spectrum([0.25, 0.25], noise=0.0), 1)
    found = greedy_schedule(problem, target=1e-300)
    assert (found.steps, found.risk, found.error) == (1, 0.0, 0.0)
    assert found.learning_rates.tolist() == [4.0]


def test_rates_are_recorded_ever_more_thinly():
    found = greedy_schedule(nqm.NoisyQuadratic(PAPER, 1), max_steps=10**9)
    assert (found.steps, found.status) == (None, "max_steps")
    assert found.at_steps[:50].tolist() == list(range(50))
    assert 500 < found.at_steps.size <= 1000
    assert np.all(np.diff(found.at_steps) > 0)
    assert found.at_steps[1:].max() > 0.97e9
    with pytest.raises(ValueError, match="read-only"):
        found.learning_rates[0] = 1.0


def test_targets_too_far_to_be_reached_end_soon():
    # The rate vanishes against the noise; strides grow, and nothing is divided by zero.
    spectrum = nqm.Spectrum([1.0, 1e-9], noise=[1.0, 1e-9])
    found = greedy_schedule(nqm.NoisyQuadratic(spectrum, 1e-9), target=1e-10, max_steps=10**15)
    assert found.status == "max_steps"
    assert 0.0 < found.risk < spectrum.initial_risk


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("target", 0.0, "greater than 0"),
        ("target", np.nan, "greater than 0"),
        ("max_steps", -1, "at least 0"),
        ("max_steps", 2.0, "at least 0"),
        ("max_steps", 10**16, "at most 1000000000000000"),
        ("preconditioner_power", 1.5, "at most 1"),
        ("preconditioner_power", "0.5", "at most 1"),
    ],
)
def test_bad_values_are_refused(name, value, bound):
    with pytest.raises(ValueError, match=f"^{name}=.*must be.*{bound}"):
        greedy_schedule(nqm.NoisyQuadratic(PAPER, 4), **{name: value})


def test_noise_beyond_floats_is_refused():
    spectrum = nqm.Spectrum([1.0, 1e-200], noise=1.0)
    with pytest.raises(ValueError, match=r"^batch_size=1e-200: must be larger"):
        greedy_schedule(nqm.NoisyQuadratic(spectrum, 1e-200), preconditioner_power=1.0)
