"""Every compiled kernel against its NumPy twin, and the twins against the textbook."""

import itertools

import moments
import numba
import numpy as np
import pytest
import textbook
from hypothesis import given, strategies as st
from strategies import linear_optimizers, problems, repeatable, spectra

import nqm_study as nqm
from nqm_study.model.linear import kernels


def _from_python(kernel):
    """A kernel that only others call, with a way in from Python."""
    return numba.njit(lambda *arguments: kernel(*arguments))  # noqa: PLW0108 (it is compiled)


extend_powers = _from_python(kernels.extend_powers)
extend_spreads = _from_python(kernels.extend_spreads)
extend_bounds = _from_python(kernels.extend_bounds)
bound_signals = _from_python(kernels.bound_signals)
scan = _from_python(kernels.scan)
advance_signal = _from_python(kernels.advance_signal)
advance_noise = _from_python(kernels.advance_noise)


LEVELS = 9


def powers(matrix, levels=LEVELS):
    """The kernel's table of A^(2^j)."""
    table = np.empty((levels, *matrix.shape))
    table[0] = matrix
    extend_powers((0.0,) * len(matrix), table, 1, levels)
    return table


def spreads(power, noise):
    """The kernel's table of the noise gathered in 2^j steps."""
    table = np.empty_like(power)
    table[0] = np.einsum("in,jn->ijn", noise, noise)
    extend_spreads((0.0,) * len(noise), power, table, 1, len(power))
    return table


def bounds(power, readout):
    """The kernel's table of bounds of the readout's row."""
    low, high = np.empty((2, *power.shape[:1], *power.shape[2:]))
    extend_bounds((0.0,) * power.shape[1], power, readout, low, high, 0, len(power))
    return low, high


def signal_bound(low, high, z, weight):
    """The kernel's bound, mode by mode, and its sum."""
    each = np.empty_like(weight)
    return bound_signals((0.0,) * len(z), low, high, z, weight, each), each


@st.composite
def tables(draw):
    """The transition of a random stable optimizer and its powers, from the twins."""
    curvature = np.unique(draw(spectra()).curvature)
    optimizer = draw(linear_optimizers(curvature).filter(lambda o: o.is_stable(curvature)))
    step = optimizer.transition(curvature)
    return step, moments.power_table(step.matrix, LEVELS)


@repeatable
@given(problems(), st.data())
def test_reference_recursion_is_the_textbooks(problem, data):
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    risks = textbook.linear_risks(problem, optimizer, 120)
    reference = list(itertools.islice(moments.recursion(problem, optimizer), 121))
    # The textbook's differences of large moments round beside the largest risk so far.
    slack = 1e-8 * risks + 1e-11 * np.maximum.accumulate(risks)
    assert np.all(np.abs(reference - risks) <= slack), optimizer


@repeatable
@given(spectra(), spectra(), st.data())
def test_first_level_is_the_transition_with_a_trace_that_is_not_negative(signal, noise, data):
    optimizer = data.draw(linear_optimizers(signal.curvature))
    nodes = np.concatenate((signal.curvature, noise.curvature))
    step = optimizer.transition(nodes)
    k, n = step.noise.shape
    scale = optimizer.preconditioner(nodes)
    own = optimizer.rule(np.zeros(1, np.int64), np.array([optimizer.learning_rate]))
    sign = np.where(np.trace(step.matrix) < 0.0, -1.0, 1.0)
    # The rule itself, whose noise does not have the preconditioner, or that of each mode.
    for rows, scaled in ((own, scale), (step.rows, np.ones_like(scale))):
        parts = np.empty((2, k, k, len(signal))), np.empty((2, k, k, len(noise)))
        spread = np.empty_like(parts[1])
        kernels.first_level(
            (0.0,) * k, rows.drift, rows.gain, rows.point, scale * nodes, len(signal), *parts,
            spread,
        )  # fmt: skip
        both = np.concatenate((parts[0][0], parts[1][0]), axis=-1)
        trace = np.trace(step.matrix)
        sure = np.abs(trace) > 1e-12  # else rounding decides on the sign
        np.testing.assert_allclose(
            both[..., sure], (sign * step.matrix)[..., sure], rtol=1e-14, atol=1e-15
        )
        noisy = step.noise / scaled
        entering = np.einsum("in,jn->ijn", noisy, noisy)[..., len(signal) : n]
        np.testing.assert_allclose(spread[0], entering, rtol=1e-14)


@repeatable
@given(tables())
def test_power_table_equals_its_twin(table):
    step, power = table
    compiled = powers(step.matrix)
    np.testing.assert_allclose(compiled, power, rtol=1e-9, atol=1e-9 * np.abs(power).max())


@repeatable
@given(tables())
def test_spread_table_equals_its_twin(table):
    step, power = table
    twin = moments.spread_table(power, step.noise)
    compiled = spreads(power, step.noise)
    np.testing.assert_allclose(compiled, twin, rtol=1e-9, atol=1e-12 * np.abs(twin).max())
    np.testing.assert_array_equal(compiled, np.swapaxes(compiled, 1, 2), "covariances")


@repeatable
@given(tables())
def test_spread_never_falls(table):
    step, power = table
    spread = spreads(power, step.noise)[:, step.component, step.component]
    assert np.all(np.diff(spread, axis=0) >= 0.0), "the search takes the noise part as growing"


@repeatable
@given(tables())
def test_bound_table_equals_its_twin(table):
    step, power = table
    twin = moments.bound_table(power, step.component)
    compiled = bounds(power, step.component)
    for one, other in zip(compiled, twin, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12 * np.abs(other).max())


@repeatable
@given(tables(), st.integers(0, 2**32 - 1))
def test_signal_bound_equals_its_twin(table, seed):
    step, power = table
    rng = np.random.default_rng(seed)
    z, weight = rng.normal(size=step.noise.shape), rng.exponential(size=power.shape[-1])
    for low, high in zip(*moments.bound_table(power, step.component), strict=True):
        total, each = signal_bound(low, high, z, weight)
        twin = moments.signal_bounds(low, high, z, weight)
        slack = 1e-12 * np.abs(high).max() ** 2
        np.testing.assert_allclose(each, twin, rtol=1e-9, atol=slack)
        assert total == pytest.approx(np.sum(twin), rel=1e-9, abs=slack)


@repeatable
@given(tables(), st.integers(0, 2**32 - 1))
def test_signal_bound_is_a_lower_bound_for_every_step_it_covers(table, seed):
    step, power = table
    rng = np.random.default_rng(seed)
    start, weight = rng.normal(size=step.noise.shape), rng.exponential(size=power.shape[-1])
    # Flipping the sign of A flips nothing that is squared, and the search makes use of it.
    for sign in (1.0, -1.0):
        low, high = bounds(powers(sign * step.matrix), step.component)
        z, risks = start, []
        for _ in range(2 ** (LEVELS - 1)):
            z = np.einsum("ijn,jn->in", sign * step.matrix, z)
            risks.append(np.sum(weight * z[step.component] ** 2))
        lowest = np.minimum.accumulate(risks)
        for level in range(LEVELS):
            bound, _ = signal_bound(low[level], high[level], start, weight)
            known = lowest[2**level - 1]
            assert bound <= known * (1.0 + 1e-9) + 1e-13, (
                f"a crossing within {2**level} steps could be jumped over"
            )


@pytest.mark.parametrize(
    "optimizer",
    [
        nqm.SGD(1e-6),
        nqm.SGD(1e-6, ema_decay=0.6),
        nqm.SGD(1e-6, momentum=0.9, ema_decay=0.9),
        nqm.SGD(1e-6, momentum=0.9, nesterov=True),
        nqm.SGD(2.0 - 1e-6),
    ],
)
def test_signal_bound_is_tight_where_the_risk_moves_slowly(optimizer):
    # A loose bound is not wrong, but the search then takes tens of millions of single steps.
    step = optimizer.transition(np.array([1.0]))
    sign = np.sign(np.trace(step.matrix)).item()
    power = powers(sign * step.matrix, 13)
    low, high = bounds(power, step.component)
    z = step.start[:, None].copy()
    like = (0.0,) * len(z)
    advance_signal(like, power[12], step.component, np.ones(1), z, np.empty_like(z))
    risk = z[step.component, 0] ** 2
    bound, _ = signal_bound(low[12], high[12], z, np.ones(1))
    assert bound > 0.9 * risk, "4096 steps that change the risk by 1 % cannot be jumped"


@repeatable
@given(tables(), st.integers(0, 2**32 - 1), st.integers(0, 6), st.floats(0.0, 1.2))
def test_scan_equals_its_twin(table, seed, level, share):
    step, power = table
    rng = np.random.default_rng(seed)
    # More modes than a block holds, so that there are some to leave out.
    repeat = 1 + 70 // step.noise.shape[-1]
    matrix, power = np.tile(step.matrix, repeat), np.tile(power, repeat)
    z, weight = rng.normal(size=matrix.shape[1:]), rng.exponential(size=matrix.shape[-1])
    low, high = moments.bound_table(power, step.component)
    each = moments.signal_bounds(low[level], high[level], z, weight)
    sums = np.empty(2**level)
    exact, _ = moments.scan(matrix, step.component, z, weight, each, np.inf, 2**level, 32)
    enough = share * exact.min()
    twin, stepped = moments.scan(matrix, step.component, z, weight, each, enough, 2**level, 32)
    block = np.empty((2, len(z), kernels.BLOCK))
    scan((0.0,) * len(z), matrix, step.component, z, weight, each, enough, sums, *block)
    slack = 1e-10 * np.abs(exact).max()
    ends = {
        moments.scan(matrix, step.component, z, weight, each, end, 2**level, 32)[1]
        for end in (enough - slack, enough + slack)
    }
    if len(ends) == 1:  # else rounding decides how many modes are stepped
        np.testing.assert_allclose(sums, twin, rtol=1e-9, atol=slack)
    assert np.all(sums <= exact * (1.0 + 1e-9) + slack), "a crossing could be passed by"
    if stepped == weight.size:
        np.testing.assert_allclose(sums, exact, rtol=1e-9, atol=slack)
    else:
        assert np.all(sums > enough - slack)


@repeatable
@given(tables(), st.integers(0, 2**32 - 1))
def test_jumps_equal_single_steps(table, seed):
    step, _ = table
    like = (0.0,) * len(step.matrix)
    power = powers(step.matrix)
    spread = spreads(power, step.noise)
    z = np.random.default_rng(seed).normal(size=step.noise.shape)
    root = np.random.default_rng(seed + 1).normal(size=step.matrix.shape)
    covariance = np.einsum("ijn,kjn->ikn", root, root)
    jumped_z, jumped = z.copy(), covariance.copy()
    r, weight = step.component, np.linspace(1.0, 2.0, z.shape[-1])
    signal = advance_signal(like, power[-1], r, weight, jumped_z, np.empty_like(z))
    noise = advance_noise(like, power[-1], spread[-1], r, weight, jumped, np.empty_like(covariance))
    assert signal == pytest.approx(np.sum(weight * jumped_z[r] ** 2))
    assert noise == pytest.approx(np.sum(weight * jumped[r, r]))
    entering = np.einsum("in,jn->ijn", step.noise, step.noise)
    a, largest, largest_z = step.matrix, 0.0, 0.0
    for _ in range(2 ** (LEVELS - 1)):
        z = np.einsum("ijn,jn->in", a, z)
        covariance = np.einsum("ijn,jkn,lkn->iln", a, covariance, a) + entering
        largest = max(largest, np.abs(covariance).max())
        largest_z = max(largest_z, np.abs(z).max())
    np.testing.assert_allclose(jumped_z, z, rtol=1e-7, atol=1e-10 * largest_z)
    np.testing.assert_allclose(jumped, covariance, rtol=1e-7, atol=1e-9 * largest)


@repeatable
@given(tables())
def test_stability_is_that_of_the_spectral_radius(table):
    step, _ = table
    radius = np.abs(np.linalg.eigvals(np.moveaxis(step.matrix, -1, 0))).max()
    assert radius < 1.0 + 1e-7, "is_stable accepts a transition that grows"


@repeatable
@given(spectra(), st.data())
def test_growth_is_that_of_the_spectral_radius(spectrum, data):
    optimizer = data.draw(linear_optimizers(spectrum.curvature))
    matrix = optimizer.transition(spectrum.curvature).matrix
    radius = np.abs(np.linalg.eigvals(np.moveaxis(matrix, -1, 0))).max()
    if abs(radius - 1.0) > 1e-6:
        assert optimizer.is_stable(spectrum.curvature) == (radius < 1.0), optimizer
