"""Adam under least squares: its closure's arithmetic, its jumps, its rest, and simulated runs."""

import dataclasses

import numpy as np
import pytest
import textbook

import nqm_study as nqm
from nqm_study.model.adaptive import closure
from nqm_study.model.adaptive.nodes import Nodes
from nqm_study.model.adaptive.run import Closure, Rest
from nqm_study.model.schedules import as_schedule, batched

SPECTRUM = nqm.Spectrum(
    curvature=[1.0, 0.3, 0.05],
    noise=[1.0, 0.6, 0.01],
    multiplicity=[1.0, 2.5, 20.0],
    initial_mean=[0.0, 1.0, -0.5],
    initial_variance=[1.0, 0.0, 0.5],
)


def expected(problem, optimizer, n_steps, factors=None, sizes=None, level=0):
    """The textbook's risks, on the package's nodes."""
    nodes = Nodes.of(problem, level)
    one = dataclasses.replace(nodes, variance=nodes.variance * problem.batch_size)
    sizes = np.full(n_steps, problem.batch_size) if sizes is None else sizes
    return textbook.adam_risks(one, optimizer, n_steps, factors, sizes, problem.label_noise)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("size", "label_noise"), [(1, 0.0), (1, 0.5), (16, 0.0), (16, 2.0)])
def test_steps_are_the_textbooks(size, label_noise, decay):
    problem = nqm.LeastSquares(SPECTRUM, size, label_noise)
    optimizer = nqm.Adam(0.01, 0.9, 0.99, weight_decay=decay)
    steps = [0, 1, 2, 50, 256, 257, 600]
    run = Closure.of(problem, optimizer, nqm.Constant(), None)
    risks = expected(problem, optimizer, 600, level=None)
    found = [run.risk_after(step) for step in steps]
    np.testing.assert_allclose(found, risks[steps], rtol=1e-8)
    target = float(0.5 * (risks[200] + risks[201]))
    found = nqm.steps_to_target(problem, optimizer, target=target, tolerance=0.0)
    assert found.steps == pytest.approx(textbook.first_at_most(risks, target), abs=1)
    assert not found.sampled


def test_steps_are_the_textbooks_under_schedules():
    problem = nqm.LeastSquares(SPECTRUM, 6, 0.5)
    optimizer, steps = nqm.Adam(0.01, 0.9, 0.99), np.arange(300.0)
    shape = batched(as_schedule(nqm.Cosine(0.1)), nqm.BatchRamp(), 6)
    run = Closure.of(problem, optimizer, shape, None).within(300)
    sizes = 6 / shape.noise(steps, 300)
    assert sizes.max() > 1.5 * sizes.min()
    risks = expected(problem, optimizer, 300, shape.at_steps(steps, 300), sizes, level=None)
    assert run.risk_after(300) == pytest.approx(risks[300], rel=1e-8)


LONG = [
    (nqm.power_law(1000), 1, 1.0, 2e-4, 0.999, 0.0, 2e-4),
    (nqm.power_law(1000), 16, 1.0, 3e-4, 0.999, 0.0, 2e-4),
    (nqm.power_law(100), 16, 0.0, 3e-4, 0.99, 0.0, 1e-3),
    (nqm.power_law(100), 256, 1.0, 3e-4, 0.999, 0.2, 1e-3),
    (nqm.power_law(1), 1, 1.0, 2e-4, 0.999, 0.0, 2e-3),
]


@pytest.mark.parametrize(("spectrum", "size", "label_noise", "rate", "b2", "decay", "rel"), LONG)
def test_jumps_agree_with_steps(spectrum, size, label_noise, rate, b2, decay, rel):
    problem = nqm.LeastSquares(spectrum, size, label_noise)
    optimizer = nqm.Adam(rate, 0.9, b2, weight_decay=decay)
    n_steps = 25_000
    risks = expected(problem, optimizer, n_steps)
    run = Closure.of(problem, optimizer, nqm.Constant(), 0).within(n_steps)
    moments, lengths = run.start(), []
    for end in (5_000, 12_000, n_steps):
        while moments.steps < end:
            lengths.append(run.stretch(moments, end))
            run.advance(moments, min(moments.steps + max(lengths[-1], 256), end))
        assert run.risk(moments) == pytest.approx(risks[end], rel=rel)
    assert max(lengths) >= 512
    target = float(risks[20_000])
    found = nqm.steps_to_target(problem, optimizer, target=target)
    assert found.steps == pytest.approx(textbook.first_at_most(risks, target), rel=rel)


def test_jumps_agree_with_steps_under_schedules():
    problem = nqm.LeastSquares(nqm.power_law(200), 8, 1.0)
    optimizer, horizon = nqm.Adam(1e-3), 40_000
    shape = batched(as_schedule(nqm.Cosine()), nqm.BatchRamp(), 8)
    run = Closure.of(problem, optimizer, shape, 0).within(horizon)
    jumped, stepped = run.start(), run.start()
    run.advance(jumped, horizon)
    run.step(stepped, horizon)
    assert run.risk(jumped) == pytest.approx(run.risk(stepped), rel=2e-3)


@pytest.mark.parametrize(
    ("size", "label_noise", "rate", "b2", "decay"),
    [
        (1, 1.0, 0.01, 0.999, 0.0),
        (1, 0.0, 0.01, 0.99, 0.0),
        (16, 1.0, 0.02, 0.99, 0.0),
        (4, 1.0, 0.01, 0.99, 0.5),
    ],
)
def test_rest_is_where_steps_end(size, label_noise, rate, b2, decay):
    problem = nqm.LeastSquares(nqm.power_law(30), size, label_noise)
    optimizer = nqm.Adam(rate, 0.9, b2, weight_decay=decay)
    run = Closure.of(problem, optimizer, nqm.Constant(), None)
    moments = run.start()
    run.step(moments, 50_000)
    assert Rest.of(run).floor == pytest.approx(run.risk(moments), rel=1e-4)
    low = nqm.steps_to_target(problem, optimizer, target=0.3 * run.risk(moments))
    # Without label noise a loss may fall below its rest before it comes back.
    assert low.status == "floor_above_target" or label_noise == 0.0


AGREE = [  # modes, B, label noise, rate, b2, target over the first loss, slack of the steps
    (1000, 1, 1.0, 2e-3, 0.999, 0.5, 0.035),
    (1000, 1, 0.0, 2e-3, 0.99, 0.5, 0.04),
    (1000, 16, 0.0, 4e-3, 0.999, 0.1, 0.02),
    (1000, 16, 1.0, 4e-3, 0.99, 0.1, 0.02),
    (1000, 256, 1.0, 1e-2, 0.999, 0.05, 0.02),
    (200, 4096, 0.0, 2e-2, 0.999, 0.2, 0.03),
    (200, 4096, 1.0, 2e-2, 0.99, 0.2, 0.03),
    (1, 1, 1.0, 2e-3, 0.999, 0.2, 0.15),
    (2, 4, 0.0, 4e-3, 0.99, 0.1, 0.09),
]


@pytest.mark.parametrize(("dim", "size", "label_noise", "rate", "b2", "part", "slack"), AGREE)
def test_steps_to_target_agree_with_simulation(dim, size, label_noise, rate, b2, part, slack):
    problem = nqm.LeastSquares(nqm.power_law(dim), size, label_noise)
    optimizer = nqm.Adam(rate, 0.9, b2)
    target = part * problem.spectrum.initial_risk
    found = nqm.steps_to_target(problem, optimizer, target=target)
    assert not found.sampled
    steps, replicas = 2 * found.steps, {1: 1500, 2: 1500, 200: 600, 1000: 96}[dim]
    run = nqm.simulate(problem, optimizer, n_steps=steps, n_replicas=replicas, seed=11)
    first = textbook.first_at_most(run.mean, target)
    there = run.mean[found.steps], 3.0 * run.standard_error[found.steps]
    assert found.steps == pytest.approx(first, rel=slack, abs=1)
    assert abs(there[0] - target) <= found.error * there[0] + there[1]


def test_told_error_is_that_of_few_modes_and_small_batches():
    optimizer, errors = nqm.Adam(2e-3), []
    for dim, size in ((1, 1), (1, 16), (1000, 1), (1000, 1024)):
        problem = nqm.LeastSquares(nqm.power_law(dim), size)
        target = 0.2 * problem.spectrum.initial_risk
        errors.append(nqm.steps_to_target(problem, optimizer, target=target).error)
    assert errors[0] > errors[1] > errors[3]
    assert errors[0] > 0.13
    assert 0.06 > errors[2] > errors[3]


def test_error_is_told_where_the_work_is_spent(monkeypatch):
    problem, optimizer = nqm.LeastSquares(nqm.power_law(1000), 16), nqm.Adam(1e-3)
    whole = nqm.steps_to_target(problem, optimizer, nqm.Cosine(), target=0.1)
    assert whole.risk == pytest.approx(0.1, rel=1e-3)
    monkeypatch.setattr(closure, "SEARCH_WORK", 2**25)
    part = nqm.steps_to_target(problem, optimizer, nqm.Cosine(), target=0.1)
    assert part.steps >= whole.steps
    assert whole.error < part.error < 0.3


def test_last_risk_of_a_cosine_agrees_with_simulation():
    problem = nqm.LeastSquares(nqm.power_law(300), 8, 1.0)
    optimizer, horizon = nqm.Adam(5e-3), 800
    found = nqm.risk_curve(problem, optimizer, nqm.Cosine(), steps=[horizon], horizon=horizon)
    run = nqm.simulate(problem, optimizer, nqm.Cosine(), n_steps=horizon, n_replicas=96)
    assert abs(found[0] - run.mean[-1]) < 0.02 * found[0] + 3.0 * run.standard_error[-1]
    target = 1.1 * float(found[0])
    shorter = nqm.steps_to_target(problem, optimizer, nqm.Cosine(), target=target)
    assert 0.5 * horizon < shorter.steps < horizon
