"""The public names: what importing them costs, and how bad input is refused."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(10), 16)


def test_import_brings_no_framework():
    # The model must be usable where only NumPy, SciPy and Numba are.
    program = (
        "import sys, nqm_study\n"
        "nqm_study.steps_to_target, nqm_study.bayes_bound, nqm_study.simulate\n"
        "heavy = {'optuna', 'hydra', 'omegaconf', 'mlflow', 'matplotlib', 'rich'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (0, ""), "these came with the import"


@pytest.mark.parametrize("name", nqm.__all__)
def test_every_public_name_exists(name):
    assert getattr(nqm, name) is not None


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no_such_name"):
        nqm.no_such_name  # noqa: B018


@pytest.mark.parametrize("value", [nqm.SGD(0.1), nqm.Adam(0.1), PROBLEM, PROBLEM.spectrum])
def test_values_are_frozen(value):
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, 1.0)


@pytest.mark.parametrize("kind", [nqm.SGD, nqm.Adam])
@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf, "0.1", None, True, [0.1], 10**400])
def test_bad_learning_rates_are_refused(kind, rate):
    with pytest.raises(ValueError, match=r"^learning_rate=.*finite number greater than 0"):
        kind(rate)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(nqm.SGD, "momentum"), (nqm.SGD, "ema_decay"), (nqm.Adam, "beta1"), (nqm.Adam, "beta2")],
)
@pytest.mark.parametrize("value", [1.0, 1.5, -1e-9, np.nan, np.inf, "0.9", None, False])
def test_bad_decays_are_refused(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*at least 0 and less than 1"):
        kind(0.1, **{name: value})


@pytest.mark.parametrize("value", [1.1, -0.1, np.nan, "0.5", None])
def test_bad_preconditioner_powers_are_refused(value):
    with pytest.raises(ValueError, match=r"^preconditioner_power=.*at least 0 and at most 1"):
        nqm.SGD(0.1, preconditioner_power=value)


@pytest.mark.parametrize("value", [-1e-8, np.nan, np.inf, "1e-8"])
def test_bad_eps_is_refused(value):
    with pytest.raises(ValueError, match=r"^eps=.*at least 0"):
        nqm.Adam(0.1, eps=value)


@pytest.mark.parametrize("value", [1, "yes", None])
def test_bad_nesterov_is_refused(value):
    with pytest.raises(ValueError, match=r"^nesterov=.*True or False"):
        nqm.SGD(0.1, nesterov=value)


@pytest.mark.parametrize("target", [0.0, -0.01, np.nan, np.inf, "0.01", None, True, 10**400])
def test_bad_targets_are_refused(target):
    with pytest.raises(ValueError, match=r"^target=.*finite number greater than 0"):
        nqm.steps_to_target(PROBLEM, nqm.SGD(0.1), target=target)


@pytest.mark.parametrize("max_steps", [-1, 1.0, "10", None, True, 2**62 + 1, 10**30])
def test_bad_step_limits_are_refused(max_steps):
    with pytest.raises(ValueError, match=r"^max_steps=.*must be an integer of at least 0"):
        nqm.steps_to_target(PROBLEM, nqm.SGD(0.1), max_steps=max_steps)


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.1), nqm.Adam(0.1)])
@pytest.mark.parametrize(
    ("steps", "named"),
    [([0, -1], r"steps\[1\]=-1"), ([0.5], r"steps\[0\]=0.5"), (["1"], r"steps\[0\]"),
     (5, "steps=5"), (None, "steps=None"), ([10**30], r"steps\[0\]=1000")],
)  # fmt: skip
def test_bad_steps_are_refused(optimizer, steps, named):
    with pytest.raises(ValueError, match=f"^{named}.*must be"):
        nqm.risk_curve(PROBLEM, optimizer, steps=steps)


def test_steps_beyond_the_horizon_are_refused():
    assert nqm.risk_curve(PROBLEM, nqm.SGD(0.1), steps=[10], horizon=10).shape == (1,)
    with pytest.raises(ValueError, match=r"^steps=11: must be at most horizon=10"):
        nqm.risk_curve(PROBLEM, nqm.SGD(0.1), steps=[3, 11], horizon=10)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("problem", (nqm.power_law(3), nqm.SGD(0.1))),
        ("optimizer", (PROBLEM, "sgd")),
        ("optimizer", (PROBLEM, nqm.SGD)),
        ("schedule", (PROBLEM, nqm.SGD(0.1), "constant")),
    ],
)
def test_wrong_parts_are_refused_by_name(name, arguments):
    for call in (
        nqm.steps_to_target,
        lambda *a: nqm.risk_curve(*a, steps=[1]),
        lambda *a: nqm.simulate(*a, n_steps=1),
    ):
        with pytest.raises(ValueError, match=f"^{name}=.*must be"):
            call(*arguments)


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.5, momentum=0.5), nqm.Adam(0.01)])
def test_risk_curve_keeps_the_order_of_its_steps(optimizer):
    ordered = nqm.risk_curve(PROBLEM, optimizer, steps=np.arange(8))
    shuffled = nqm.risk_curve(PROBLEM, optimizer, steps=[5, 0, 5, 3])
    np.testing.assert_allclose(shuffled, ordered[[5, 0, 5, 3]], rtol=1e-12)
    assert ordered.dtype == np.float64
    assert nqm.risk_curve(PROBLEM, optimizer, steps=[]).shape == (0,)


def test_numpy_numbers_are_numbers():
    problem = nqm.NoisyQuadratic(nqm.power_law(np.int32(10)), np.float32(16))
    found = nqm.steps_to_target(
        problem, nqm.SGD(np.float64(0.1)), target=np.float64(0.5), max_steps=np.int64(100)
    )
    assert found == nqm.steps_to_target(PROBLEM, nqm.SGD(0.1), target=0.5, max_steps=100)
    assert type(found.steps) is int


SMALL = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
BEST = nqm.optimal_schedule(SMALL, target=0.1, pieces=8)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (nqm.power_law(1000), "1,000 modes, curvature 0.001 to 1, initial risk 3.74"),
        (nqm.power_law(10**9, 1.1), "PowerLaw(dim=1000000000, exponent=1.1"),
        (SMALL, "batch_size=64"),
        (BEST, f"{BEST.steps} steps, 8 pieces"),
        (BEST.schedule, "factors 8 from"),
        (nqm.PiecewiseConstant((1.0, 0.5)), "factors 1, 0.5"),
        (nqm.greedy_schedule(SMALL, target=0.1), "steps, learning rates"),
        (nqm.simulate(SMALL, nqm.SGD(0.1), n_steps=5), "5 steps, last loss"),
    ],
)
def test_a_value_of_many_numbers_is_shown_on_one_line(value, text):
    assert text in repr(value)
    assert len(repr(value)) < 200
    assert "\n" not in repr(value)


@pytest.mark.parametrize(
    ("arguments", "keywords", "size"),
    [
        ((SMALL, "momentum"), {"target": 0.1}, 64),
        ((), {"problem": SMALL, "family": "sgd", "target": 0.1}, 64),
        ((SMALL,), {"target": 0.1}, 64),
        (("sgd",), {"batch_size": 16, "spectrum": SMALL.spectrum}, 16),
        (("sgd", 16), {"spectrum": SMALL.spectrum}, 16),
        ((), {"spectrum": SMALL.spectrum}, 1024),
    ],
)
def test_a_benchmark_takes_a_problem_as_every_other_function_does(arguments, keywords, size):
    assert nqm.Benchmark(*arguments, **keywords).problem == nqm.NoisyQuadratic(SMALL.spectrum, size)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((SMALL, "sgd"), {"batch_size": 3}, "^batch_size, spectrum: must be left out"),
        ((SMALL, 3), {}, "^family=3: must be one of"),
        ((3,), {}, "^problem=3: must be NoisyQuadratic or LeastSquares"),
        (("sgd", "sgd"), {}, "^batch_size='sgd': must be a finite number"),
    ],
)
def test_a_benchmark_of_anything_else_is_refused(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        nqm.Benchmark(*arguments, **keywords)
