"""Direct simulation against the exact risks: an oracle that shares no formula with them."""

import numpy as np
import pytest

import nqm_study as nqm

SPECTRUM = nqm.Spectrum(
    curvature=[1.0, 0.5, 0.1, 0.01],
    noise=[1.0, 2.0, 0.0, 0.3],
    multiplicity=[1.0, 3.0, 2.0, 5.0],
    initial_mean=[0.0, 1.0, -0.5, 2.0],
    initial_variance=[1.0, 0.0, 0.5, 1.0],
)
PROBLEM = nqm.NoisyQuadratic(SPECTRUM, 4)


@pytest.mark.parametrize(
    "optimizer",
    [
        nqm.SGD(0.5),
        nqm.SGD(1.9),
        nqm.SGD(0.3, momentum=0.9),
        nqm.SGD(0.2, momentum=0.9, nesterov=True),
        nqm.SGD(0.5, ema_decay=0.9),
        nqm.SGD(0.3, momentum=0.8, ema_decay=0.95),
        nqm.SGD(0.2, momentum=0.8, nesterov=True, ema_decay=0.9),
        nqm.SGD(0.2, preconditioner_power=0.5),
        nqm.SGD(0.05, momentum=0.5, nesterov=True, preconditioner_power=1.0, ema_decay=0.5),
    ],
)
def test_mean_loss_agrees_with_the_exact_risk(optimizer):
    steps = 60
    run = nqm.simulate(PROBLEM, optimizer, n_steps=steps, n_replicas=4000, seed=1)
    exact = nqm.risk_curve(PROBLEM, optimizer, steps=range(steps + 1))
    distance = np.abs(run.mean - exact) / run.standard_error
    assert distance.max() < 4.0, f"off by {distance.max():.1f} errors at {distance.argmax()}"


def test_same_seed_gives_the_same_run():
    for optimizer in (nqm.SGD(0.3, momentum=0.9), nqm.Adam(0.01)):
        np.random.seed(0)  # noqa: NPY002 (the global state is what must not matter)
        one = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=5)
        np.random.seed(1)  # noqa: NPY002
        two = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=5)
        np.testing.assert_array_equal(one.mean, two.mean)
        np.testing.assert_array_equal(one.standard_error, two.standard_error)
        other = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=6)
        assert np.all(other.mean[1:] != one.mean[1:])


def test_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 (the global state is what is looked at)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    nqm.simulate(PROBLEM, nqm.SGD(0.1), n_steps=5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_simulation_starts_at_the_initial_risk():
    run = nqm.simulate(PROBLEM, nqm.SGD(0.1), n_steps=0, n_replicas=100)
    assert run.mean.shape == run.standard_error.shape == (1,)
    # Stratified starts are far closer than the standard error of independent ones.
    assert abs(run.mean[0] - SPECTRUM.initial_risk) < 0.5 * run.standard_error[0]


def test_one_replica_has_no_standard_error():
    run = nqm.simulate(PROBLEM, nqm.Adam(0.1), n_steps=3, n_replicas=1)
    assert np.all(np.isnan(run.standard_error))
    assert np.all(np.isfinite(run.mean))


def test_adam_without_noise_is_torchs_recursion():
    h = SPECTRUM.curvature
    still = nqm.Spectrum(h, 0.0, 1.0, [1.0, -2.0, 0.5, 3.0], 0.0)
    run = nqm.simulate(nqm.NoisyQuadratic(still, 1), nqm.Adam(0.1, 0.8, 0.9, 1e-3), n_steps=30,
                       n_replicas=1)  # fmt: skip
    theta, m, v = still.initial_mean.copy(), 0.0, 0.0
    for t in range(1, 31):
        g = h * theta
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        theta = theta - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        assert run.mean[t] == pytest.approx(0.5 * np.sum(h * theta**2), rel=1e-10)


def test_mode_with_nothing_to_move_stays():
    still = nqm.Spectrum([1.0, 0.5], 0.0, 1.0, 0.0, [0.0, 1.0])
    run = nqm.simulate(nqm.NoisyQuadratic(still, 1), nqm.Adam(1e-3, eps=0.0), n_steps=10)
    assert np.all(np.isfinite(run.mean))


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_steps", -1), ("n_steps", 2.0), ("n_steps", True), ("n_replicas", 0),
     ("n_replicas", None), ("seed", -1), ("seed", 1.5)],
)  # fmt: skip
def test_bad_counts_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*must be an integer of at least"):
        nqm.simulate(PROBLEM, nqm.SGD(0.1), **{"n_steps": 1} | {name: value})
