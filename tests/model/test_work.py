"""What searches may cost, in counted work: no input makes one endless."""

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.adaptive import closure as adam
from nqm_study.model.linear import risks as linear, runs, scheduled
from nqm_study.model.linear.members import Members
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.schedules.computed import greedy

LAW = nqm.power_law(10**6)
SILENT = nqm.Spectrum([1.0], noise=[0.0])
MIXED = nqm.Spectrum(curvature=10.0 ** np.random.default_rng(3).uniform(-8.0, 0.0, 500))

REST = 2**24
"""What a search that has spent its work still takes, at most, to come to its end: 0.3 s."""


@pytest.fixture
def spent(monkeypatch):
    """What searches take off their budgets."""
    done = []
    spend = Budget.spend
    monkeypatch.setattr(
        Budget, "spend", lambda self, work: (done.append(work), spend(self, work))[1]
    )
    return done


@pytest.mark.parametrize(
    ("spectrum", "batch", "optimizer", "schedule", "target"),
    [
        (LAW, 32768, nqm.SGD(2.8771, 0.99985938), nqm.WarmupStableDecay(0.0, 0.05), 0.1),
        (LAW, 4096, nqm.SGD(1.0, 0.99, True, 0.5, 0.9966), nqm.OneCycle(), 0.1),
        (LAW, 4096, nqm.SGD(0.009528623, 0.5, ema_decay=0.9), nqm.Cosine(0, 0.3, 3), 0.0032754),
        (LAW, 1, nqm.SGD(1.0703, 0.5), nqm.Polynomial(0, 0.3, 1.5989), 0.0122013),
        (MIXED, 64, nqm.SGD(1.1e-5, 0.9), nqm.Cosine(), 3.08),
        (MIXED, 64, nqm.SGD(1.0, 0.9998), nqm.Cosine(0.01, 0.1), 1.0),
    ],
)
def test_the_work_under_a_schedule_is_bounded(spent, spectrum, batch, optimizer, schedule, target):
    problem = nqm.NoisyQuadratic(spectrum, batch)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target)
    assert sum(spent) < runs.MOST_WORK + scheduled.LAST_WORK + REST
    if found.status == "reached":
        assert found.error < 0.1


@pytest.mark.parametrize("rate", [3.8, 3.8000001, 3.81])
def test_the_work_at_the_limit_of_stability_is_bounded(monkeypatch, rate):
    done = []
    search = linear.Engine.search

    def counted(*args):
        found = search(*args)
        done.append(found.work)
        return found

    monkeypatch.setattr(linear.Engine, "search", counted)
    problem, optimizer = nqm.NoisyQuadratic(SILENT, 1.0), nqm.SGD(rate, 0.9)
    found = nqm.steps_to_target(problem, optimizer, target=0.4, max_steps=3000)
    assert found.status in {"diverged", "max_steps"}
    # Each search, up to max_steps and up to where an unstable run shows what it does.
    assert sum(done) < 2.1 * linear.MOST_WORK


def test_a_trial_on_the_spectrum_of_the_paper_costs_little(spent):
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 4096)
    found = nqm.steps_to_target(problem, nqm.SGD(1.2), nqm.Linear(0.158), max_growth=1000.0)
    assert found.steps == 19285
    assert sum(spent) < 2**19


@pytest.mark.parametrize(
    ("spectrum", "optimizer", "schedule", "target"),
    [
        (
            nqm.Spectrum(
                [0.9999999999999999, 1.75e-199, 1.7976931348623157e308, 4.46e122],
                [5e-324, 1 / 3, 1.0, 166.36],
            ),
            nqm.Adam(324.06, 1e-300, 0.999, 9.4e-250), nqm.Constant(), 1e-323,
        ),
        # beta1 remembers for ever, so that there are swings for ever.
        (nqm.power_law(30), nqm.Adam(0.2, 0.99999123501783, 0.9), nqm.Constant(0.05), 0.01),
        (nqm.power_law(30), nqm.Adam(0.2, 1.0 - 1e-15, 0.9), nqm.Constant(), 1e-6),
        (nqm.power_law(10_000), nqm.Adam(0.5, 0.53, 0.0, 0.0), nqm.WarmupStableDecay(), 0.0034),
        (nqm.power_law(30), nqm.Adam(1e-3), nqm.StepDecay(1.0, 100_000), 1e-3),
    ],
)  # fmt: skip
def test_the_work_of_adam_is_bounded(spent, spectrum, optimizer, schedule, target):
    problem = nqm.NoisyQuadratic(spectrum, 1.0)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=2**62)
    assert sum(spent) < 1.2 * adam.SEARCH_WORK
    # The best that is known, and that it may be far off.
    if sum(spent) > adam.SEARCH_WORK:
        assert found.error > 0.02
        assert not found.smallest


def test_greedy_steps_without_end_are_ended(spent):
    # The rates of modes without noise swing between what suits one and the other.
    spectrum = nqm.Spectrum([1e-308, 1e-200, 1e-3, 1.0, 999.0], noise=[0.0] * 5)
    problem = nqm.NoisyQuadratic(spectrum, 1.0)
    found = nqm.greedy_schedule(problem, target=1e-200, max_steps=10**15)
    assert (found.steps, found.status, found.error) == (None, "max_steps", np.inf)
    assert sum(spent) < 1.1 * greedy.MOST_WORK


def test_a_tuned_family_is_searched_no_further_than_the_steps_that_count(monkeypatch):
    looks = []
    least = Members.least
    monkeypatch.setattr(
        Members, "least", lambda self, *at: (looks.append(at[1]), least(self, *at))[1]
    )
    problem = nqm.NoisyQuadratic(nqm.power_law(2482324916, 0.4641588833612779), 6.0)
    assert nqm.tuned(problem, "preconditioned", target=0.05, max_steps=1).steps is None
    assert max(looks) <= 1
    best = nqm.tuned(nqm.NoisyQuadratic(nqm.power_law(30), 64.0), "momentum", target=0.1).steps
    for most, steps in ((best - 1, None), (best, best), (3 * best, best)):
        found = nqm.tuned(
            nqm.NoisyQuadratic(nqm.power_law(30), 64.0), "momentum", target=0.1, max_steps=most
        )
        assert found.steps == steps


@pytest.mark.parametrize(
    ("spectrum", "batch", "optimizer", "schedule", "steps"),
    [
        (
            nqm.power_law(1028399, 1.0000000000000002), 3.7e25,
            nqm.SGD(1.0, 0.0194, True, ema_decay=0.3295), nqm.Exponential(5e-324, 0.27245),
            [2**62, 1000],
        ),
        (
            nqm.power_law(17058, 0.46), 889.76, nqm.SGD(1.99526), nqm.StepDecay(1.0, 100_000),
            [30, 2, 10**6],
        ),
    ],
)  # fmt: skip
def test_the_work_of_a_risk_curve_is_bounded(spent, spectrum, batch, optimizer, schedule, steps):
    problem = nqm.NoisyQuadratic(spectrum, batch)
    risks = nqm.risk_curve(problem, optimizer, schedule, steps=steps, horizon=max(steps))
    assert sum(spent) < runs.MOST_WORK
    assert np.all((risks >= 0.0) & np.isfinite(risks))
    if isinstance(schedule, nqm.StepDecay):  # all its factors are 1
        constant = nqm.risk_curve(problem, optimizer, steps=steps)
        np.testing.assert_allclose(risks, constant, rtol=1e-6)


def test_rates_beyond_the_largest_number_raise_no_warning():
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0], noise=[0.0]), 9e-190)
    optimizer = nqm.SGD(1.7976931348623155e308, 1e-16)
    schedule = nqm.Exponential(1.7976931348623157e308, 0.37518865520035316)
    for most_steps in (1, 100):
        found = nqm.steps_to_target(
            problem, optimizer, schedule, target=3.75e-228, max_steps=most_steps
        )
        assert found.steps is None
