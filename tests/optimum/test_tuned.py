"""True optima of families: figures, wide random searches, and what the optimum must satisfy."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from strategies import logarithmic, repeatable

import nqm_study as nqm

PAPER = nqm.power_law(10_000)


def optimum(batch_size, family, spectrum=PAPER, **keywords):
    """The optimum, checked to be what its own optimizer takes."""
    problem = nqm.NoisyQuadratic(spectrum, batch_size)
    best = nqm.tuned(problem, family, **keywords)
    target = keywords.get("target", 0.01)
    assert nqm.steps_to_target(problem, best.optimizer, target=target).steps == best.steps
    return best


def random_best(problem, family, target, n, seed, limit):
    """The fewest steps of random members, and the member."""
    rng = np.random.default_rng(seed)
    best, winner = limit, None
    h = problem.spectrum.curvature.max()
    for _ in range(n):
        gap = 10.0 ** rng.uniform(-np.log10(limit) - 0.5, 0.0)
        x = 4.0 * 10.0 ** rng.uniform(-np.log10(limit) - 0.5, 0.0)
        if family in {"momentum", "nesterov"}:
            optimizer = nqm.SGD(x / h, 1.0 - gap, nesterov=family == "nesterov")
        elif family == "ema":
            optimizer = nqm.SGD(x / h, ema_decay=1.0 - gap)
        else:
            power = 0.5 if family == "preconditioned" else 0.0
            optimizer = nqm.SGD(x / h ** (1.0 - power), preconditioner_power=power)
        steps = nqm.steps_to_target(problem, optimizer, target=target, max_steps=best).steps
        if steps is not None and steps < best:
            best, winner = steps, optimizer
    return best, winner


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
def test_optima_of_sgd_are_the_known_ones(power, batch_size, steps, learning_rate):
    # Exact optima over all 10^4 modes, found independently of this package.
    best = optimum(batch_size, "sgd", preconditioner_power=power)
    assert best.steps == steps
    assert best.optimizer.learning_rate == pytest.approx(learning_rate, rel=0.01)


@pytest.mark.parametrize(
    ("power", "work", "rate"),
    [
        (0.0, 6.024e6, 3.40e-3),
        (0.25, 2.380e6, 9.19e-4),
        (0.5, 1.392e6, 1.71e-4),
        (0.75, 1.049e6, 2.59e-5),
        (1.0, 1.180e6, 3.57e-6),
    ],
)
def test_small_batch_constants_are_the_known_ones(power, work, rate):
    # For lr h_1 << 1 the risk depends on lr T and lr / B alone.
    best = optimum(0.25, "sgd", preconditioner_power=power)
    assert best.steps * 0.25 == pytest.approx(work, rel=1e-3)
    assert best.optimizer.learning_rate / 0.25 == pytest.approx(rate, rel=5e-3)


@pytest.mark.parametrize(("batch_size", "most"), [(2**14, 341), (2**20, 150), (256, 20_151)])
def test_optima_of_momentum_are_at_most_the_best_known(batch_size, most):
    best = optimum(batch_size, "momentum")
    assert best.steps <= most


def test_the_ridge_of_momentum_at_small_batches_is_found():
    best = optimum(16, "momentum")
    assert 1.0 - best.optimizer.momentum == pytest.approx(3e-5, rel=0.1)
    assert best.steps <= 322_409
    assert best.steps < 0.89 * optimum(16, "sgd").steps, "momentum gains 11 to 22 % here"


@pytest.mark.parametrize(("batch_size", "ratio"), [(4, 0.14), (256, 0.327), (2**14, 0.942)])
def test_averaging_takes_the_known_share_of_the_steps_of_sgd(batch_size, ratio):
    share = optimum(batch_size, "ema").steps / optimum(batch_size, "sgd").steps
    assert share == pytest.approx(ratio, rel=0.03)  # 0.14 is known to two digits


@pytest.mark.parametrize("family", ["sgd", "momentum", "nesterov", "ema", "preconditioned"])
@pytest.mark.parametrize(("batch_size", "target"), [(64, 0.01), (2**16, 0.01), (2**12, 0.3)])
def test_no_random_member_is_better(family, batch_size, target):
    best = optimum(batch_size, family, target=target)
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    other, winner = random_best(problem, family, target, 500, 0, best.steps + 1)
    assert other >= best.steps, f"{winner} takes {other} steps, the optimum {best.steps}"


@st.composite
def small_problems(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n = draw(st.integers(1, 12))
    spectrum = nqm.Spectrum(
        10.0 ** rng.uniform(-2.0, 1.0, n),
        noise=10.0 ** rng.uniform(-3.0, 1.0, n) * (rng.random(n) < 0.8),
        multiplicity=10.0 ** rng.uniform(-1.0, 1.0, n),
        initial_mean=rng.normal(size=n) * (rng.random() < 0.5),
    )
    return nqm.NoisyQuadratic(spectrum, draw(logarithmic(1.0, 1e6)))


@settings(repeatable, max_examples=25)
@given(
    small_problems(),
    st.sampled_from(["sgd", "momentum", "nesterov", "ema", "preconditioned"]),
    logarithmic(1e-3, 0.5),
)
def test_no_random_member_is_better_on_random_problems(problem, family, share):
    target = share * problem.spectrum.initial_risk
    best = nqm.tuned(problem, family, target=target)
    found = nqm.steps_to_target(problem, best.optimizer, target=target)
    assert found.steps == best.steps
    other, winner = random_best(problem, family, target, 400, 0, best.steps + 1)
    assert other >= best.steps, f"{winner} takes {other} steps, the optimum {best.steps}"


def test_families_that_contain_sgd_are_no_worse():
    for batch_size in (64.0, 2.0**22):
        plain = optimum(batch_size, "sgd").steps
        for family in ("momentum", "nesterov", "ema"):
            assert optimum(batch_size, family).steps <= plain


def test_fixed_values_are_kept():
    best = optimum(4, "momentum", momentum=0.9)
    assert best.optimizer.momentum == 0.9
    # At small batches the effective rate is that of SGD, and so are the steps.
    assert best.optimizer.learning_rate / 0.1 == pytest.approx(4 * 3.4e-3, rel=0.01)
    assert best.steps == pytest.approx(6.024e6 / 4, rel=2e-3)
    both = optimum(256, "nesterov", preconditioner_power=0.25).optimizer
    assert (both.nesterov, both.preconditioner_power) == (True, 0.25)
    averaged = optimum(256, "momentum", ema_decay=0.99).optimizer
    assert averaged.ema_decay == 0.99


def test_one_noiseless_mode_is_done_in_one_step():
    spectrum = nqm.Spectrum([4.0], noise=0.0)
    for family in ("sgd", "momentum", "nesterov", "preconditioned"):
        best = optimum(1, family, spectrum, target=1e-6)
        assert best.steps == 1, family


def test_scaling_the_loss_leaves_the_optimum():
    spectrum = nqm.power_law(500)
    for family in ("sgd", "momentum", "ema"):
        one = optimum(2**12, family, spectrum)
        other = optimum(2**12, family, spectrum.scaled(9.0), target=0.09)
        assert other.steps == one.steps
        assert other.optimizer.learning_rate * 9.0 == pytest.approx(
            one.optimizer.learning_rate, rel=0.01
        )


def test_optima_out_of_reach_are_said():
    problem = nqm.NoisyQuadratic(PAPER, 256)
    assert nqm.tuned(problem, "sgd", max_steps=25_778).steps == 25_778
    nothing = nqm.tuned(problem, "sgd", max_steps=25_777)
    assert (nothing.steps, nothing.optimizer) == (None, None)
    # SGD takes more steps than allowed, momentum does not.
    assert nqm.tuned(nqm.NoisyQuadratic(PAPER, 2**20), "momentum", max_steps=200).steps <= 150


def test_target_met_at_the_start_takes_no_steps():
    assert optimum(256, "momentum", target=10.0).steps == 0


def test_large_dimensions_are_tuned():
    spectrum = nqm.power_law(10**9)
    best = optimum(2**12, "momentum", spectrum, target=0.5 * spectrum.initial_risk)
    assert best.steps is not None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"family": "lion"}, "family=lion: must be one of adam, adam_full, adamw, dana, ema"),
        ({"family": ["sgd"]}, r"family=\['sgd'\]: must be one of"),
        ({"problem": None}, "problem=None: must be NoisyQuadratic"),
        ({"target": 0.0}, "target=0: must be a finite number greater than 0"),
        ({"target": np.nan}, "target=nan: must be a finite number greater than 0"),
        ({"max_steps": -1}, "max_steps=-1: must be an integer of at least 0"),
        ({"momentum": 1.0}, "momentum=1: must be a finite number of at least 0 and less than 1"),
        ({"learning_rate": 0.1}, "learning_rate: cannot be fixed; momentum, nesterov"),
        ({"beta1": 0.1}, "beta1: cannot be fixed"),
        ({"nesterov": 2}, "nesterov=2: must be True or False"),
    ],
)
def test_bad_requests_are_refused(arguments, named):
    given_ = {"problem": nqm.NoisyQuadratic(nqm.power_law(10), 16), "family": "sgd"} | arguments
    with pytest.raises(ValueError, match=f"^{named}"):
        nqm.tuned(**given_)
