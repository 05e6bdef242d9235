"""Runs on data against loops over the features themselves, exact means, and the prediction."""

import re

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model import data_runs
from nqm_study.model.problems import data

RNG = np.random.default_rng(3)
FEATURES = RNG.exponential(size=(50, 4)) @ RNG.standard_normal((4, 4)) + 0.5
TARGETS = FEATURES @ RNG.standard_normal(4) + RNG.standard_normal(50)
H = FEATURES.T @ FEATURES / 50
TOP = float(np.linalg.eigvalsh(H)[-1])


def excess(weights, features=FEATURES, targets=TARGETS):
    best = np.linalg.lstsq(features, targets, rcond=None)[0]
    first, least = (0.5 * np.mean((features @ w - targets) ** 2) for w in (weights, best))
    return float(first - least)


def power(p):
    values, vectors = np.linalg.eigh(H)
    return vectors * values**-p @ vectors.T


def plain_run(features, targets, rates, size, *, momentum=0.0, matrix=1.0, average=0.0):
    """The excess after each step of the first run of seed 0, on the features as they are."""
    rng = np.random.default_rng(np.random.SeedSequence(0).spawn(1)[0])
    w, u, mean = (np.zeros(features.shape[1]) for _ in range(3))
    losses = [excess(w, features, targets)]
    for rate, chosen in zip(
        rates, rng.integers(len(features), size=(len(rates), size)), strict=True
    ):
        f = features[chosen]
        u = momentum * u + f.T @ (f @ w - targets[chosen]) / size
        w = w - rate * (matrix @ u if np.ndim(matrix) else u)
        mean = average * mean + (1.0 - average) * w
        losses.append(excess(mean, features, targets))
    return losses


@pytest.mark.parametrize(
    ("optimizer", "keywords"),
    [
        (nqm.SGD(0.2 / TOP), {}),
        (nqm.SGD(0.1 / TOP, momentum=0.8), {"momentum": 0.8}),
        (nqm.SGD(0.2 / TOP**0.5, preconditioner_power=0.5), {"matrix": power(0.5)}),
        (nqm.SGD(0.2 / TOP, ema_decay=0.7), {"average": 0.7}),
    ],
)
def test_a_run_is_one_on_the_features_themselves(optimizer, keywords):
    schedule, horizon = nqm.Cosine(), 40
    rates = optimizer.learning_rate * schedule(np.arange(30) / horizon)
    found = nqm.run_on_data(
        FEATURES, TARGETS, optimizer, schedule, batch_size=3, steps=range(31), n_runs=1, horizon=40
    )
    expected = plain_run(FEATURES, TARGETS, rates, 3, **keywords)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-9)
    assert np.all(np.isnan(found.standard_error))


def test_the_mean_after_one_step_is_that_over_the_examples():
    size, rate, runs = 4, 0.3 / TOP, 4000
    each = -FEATURES * TARGETS[:, None]  # the gradients at weights of 0
    mean = each.mean(axis=0)
    scatter = np.mean(np.sum(each @ H * each, axis=1)) - mean @ H @ mean
    exact = excess(-rate * mean) + 0.5 * rate**2 * scatter / size
    found = nqm.run_on_data(
        FEATURES, TARGETS, nqm.SGD(rate), batch_size=size, steps=[1], n_runs=runs, seed=5
    )
    assert abs(found.mean[0] - exact) < 4.0 * found.standard_error[0] < 0.1 * exact


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.1), nqm.SGD(0.03, momentum=0.8)])
def test_runs_on_gaussian_data_have_the_predicted_risk(optimizer):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20_000, 6)) * np.arange(1, 7) ** -0.5
    targets = features @ np.ones(6) + rng.standard_normal(20_000)
    steps = [3, 10, 30, 100]
    found = nqm.run_on_data(features, targets, optimizer, batch_size=2, steps=steps, n_runs=400)
    predicted = nqm.risk_curve(
        nqm.least_squares_from_data(features, targets, 2), optimizer, steps=steps
    )
    assert np.all(np.abs(found.mean - predicted) < 4.0 * found.standard_error)
    assert np.all(found.standard_error < 0.1 * predicted)


def test_adam_runs_as_torch_has_it():
    # One feature and one example: its gradient is f (f w - t).
    found = nqm.run_on_data([[2.0]], [3.0], nqm.Adam(0.1), steps=range(4), batch_size=2, n_runs=1)
    w = m = v = 0.0
    for t in range(1, 4):
        g = 2.0 * (2.0 * w - 3.0)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= 0.1 * (m / (1.0 - 0.9**t)) / (np.sqrt(v / (1.0 - 0.999**t)) + 1e-8)
        assert found.mean[t] == pytest.approx(0.5 * (2.0 * w - 3.0) ** 2)


@pytest.mark.parametrize("n", [4, 50])
@pytest.mark.parametrize("center", [False, True])
def test_examples_are_turned_whether_they_are_few_or_many(n, center):
    features = np.hstack((FEATURES[:n], FEATURES[:n] ** 2, np.ones((n, 1))))
    found = data.Examples.of(features, TARGETS[:n], center=center, scale=True)
    assert np.allclose(found.inputs.T @ found.inputs / n, np.diag(found.curvature))
    t = TARGETS[:n] - (TARGETS[:n].mean() if center else 0.0)
    assert np.allclose(found.residuals - found.inputs @ found.start, t, atol=1e-9)
    expected = nqm.Regression.of(features, TARGETS[:n], center=center, scale=True).spectrum
    assert np.array_equal(found.curvature, expected.curvature)


def test_runs_depend_on_the_seed_alone(monkeypatch):
    keywords = {"batch_size": 3, "steps": [20, 5, 20]}
    found = nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1 / TOP), **keywords, n_jobs=1)
    monkeypatch.setattr(data_runs, "CHUNK", 12)
    again = nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1 / TOP), **keywords, n_jobs=3)
    other = nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1 / TOP), **keywords, seed=1)
    assert np.array_equal(found.mean, again.mean)
    assert found.mean[0] == found.mean[2] != found.mean[1]
    assert not np.any(found.mean == other.mean)


def test_runs_are_fewer_where_they_would_take_long(monkeypatch):
    call = {"batch_size": 8, "n_runs": 5}  # (8 + 2) * 4 numbers a step
    monkeypatch.setattr(data_runs, "MOST_WORK", 40 * 300)
    few = nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1 / TOP), steps=[100], **call)
    assert few.n_runs == 3
    with pytest.raises(data_runs.TooMuchWorkError, match=r"^steps=151: must be at most 150 in"):
        nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1 / TOP), steps=[151], **call)


def test_a_run_that_diverges_says_so():
    found = nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(1e3), steps=[0, 5000], batch_size=1)
    assert found.mean[0] == pytest.approx(excess(np.zeros(4)))
    assert not np.isfinite(found.mean[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 2.5}, "batch_size=2.5: must be an integer of at least 1"),
        ({"batch_size": 0}, "batch_size=0: must be an integer of at least 1"),
        ({"n_runs": 0}, "n_runs=0: must be an integer of at least 1"),
        ({"seed": -1}, "seed=-1: must be"),
        ({"steps": [3, -1]}, "steps[1]=-1: must be"),
        ({"steps": 3}, "steps=3: must be a sequence"),
        ({"steps": [3], "horizon": 2}, "steps=3: must be at most horizon=2"),
        ({"optimizer": "sgd"}, "optimizer='sgd': must be LinearOptimizer or Adam"),
        ({"targets": TARGETS[1:]}, "targets has shape (49,): must be (50,)"),
    ],
)
def test_what_cannot_be_run_is_refused(change, message):
    given = {"features": FEATURES, "targets": TARGETS, "optimizer": nqm.SGD(0.1), "steps": [1]}
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        nqm.run_on_data(**given | change)


def test_too_many_examples_of_too_many_features_are_refused(monkeypatch):
    monkeypatch.setattr(data, "MOST_EXACT", 3)
    with pytest.raises(
        ValueError, match=r"^features has shape \(50, 4\): must have at most 3 rows"
    ):
        nqm.run_on_data(FEATURES, TARGETS, nqm.SGD(0.1), steps=[1])
