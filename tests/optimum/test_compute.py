"""The best dimension for a compute budget: against all dimensions, and against theory."""

import math

import least_squares
import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.optimum.compute import derived_exponents

GIVEN = {"exponent": 1.5, "source": 0.5}


def training(dim, exponent, source, label_noise=0.0, batch_size=1.0):
    """What training on so many modes sees, and what the others are worth, by a plain sum."""
    tail = nqm.power_law_tail(dim, exponent, source)
    spectrum = nqm.power_law(dim, exponent, source=source)
    return nqm.LeastSquares(spectrum, batch_size, label_noise + tail), 0.5 * tail


@pytest.mark.parametrize("label_noise", [0.0, 1.0])
def test_the_best_dimension_is_the_best_of_all(label_noise):
    budget = 160
    found = nqm.compute_optimal([40, 80, budget], **GIVEN, label_noise=label_noise, batch_size=1)
    point, least = found.points[-1], {}
    for dim in range(1, 61):
        problem, rest = training(dim, **GIVEN, label_noise=label_noise)
        limit = nqm.stability_limit(problem, nqm.SGD(1.0))
        least[dim] = rest + min(
            least_squares.risks(problem, nqm.SGD(limit * share), budget // dim)[-1]
            for share in np.geomspace(0.05, 0.7, 6)
        )
    best = min(least, key=least.__getitem__)
    assert point.compute == point.dim * point.steps <= budget
    # Whole steps make the loss uneven in d, by their share of the run.
    uneven = 1.0 + 1.0 / point.steps
    assert 1 < best < 60
    assert least[best] / uneven < point.loss < least[best] * uneven
    assert least[point.dim] < least[best] * uneven


def test_the_loss_is_that_of_the_run_at_the_rate_and_no_rate_leaves_less():
    found = nqm.compute_optimal([500, 1000, 2000], **GIVEN, label_noise=0.01, batch_size=4)
    point = found.points[-1]
    assert point.compute == point.dim * point.steps * 4 <= 2000
    problem, rest = training(point.dim, **GIVEN, label_noise=0.01, batch_size=4)

    def loss(share):
        rate = share * point.learning_rate
        return rest + least_squares.risks(problem, nqm.SGD(rate), point.steps)[-1]

    assert point.loss == pytest.approx(loss(1.0), rel=1e-8)
    others = [loss(share) for share in np.geomspace(0.5, 1.5, 11)]
    assert point.loss < min(others) * (1.0 + 1e-6)


@pytest.mark.parametrize(
    ("exponent", "source", "label_noise", "near"),
    [
        (1.5, 0.5, 0.0, 0.01),
        (0.8, 0.6, 0.0, 0.03),
        (1.5, 0.5, 1.0, 0.03),
        (0.8, 0.6, 1.0, 0.05),
    ],
)
def test_the_exponents_are_near_those_derived(exponent, source, label_noise, near):
    budgets = np.geomspace(1e6, 1e9, 3)
    found = nqm.compute_optimal(budgets, exponent=exponent, source=source, label_noise=label_noise)
    for each in (found.loss, found.dim):
        assert each.value == pytest.approx(each.derived, rel=near)
        assert 0.0 < each.interval < 0.1
    # The line is that of NumPy.
    x, y = np.log([(point.compute, point.dim) for point in found.points]).T
    assert found.dim.value == pytest.approx(np.polyfit(x, y, 1)[0])


def test_derived_exponents_are_those_of_the_phases_published_and_join_at_their_ends():
    for alpha, beta in ((0.75, 0.25), (1.0, 0.1)):  # phase Ia
        loss, dim = derived_exponents(2 * alpha, 2 * beta, noisy=False)
        assert dim == pytest.approx(1.0 / (2.0 * alpha + 1.0))
        published = (1.0 / (2.0 * alpha + 1.0) - 1.0) * (1.0 + beta / alpha - 0.5 / alpha)
        assert loss == pytest.approx(published)
    loss, dim = derived_exponents(0.8, 0.6, noisy=False)  # phase Ib
    assert (loss, dim) == (pytest.approx(0.5 - 0.4 - 0.3), 0.5)
    for noisy in (False, True):
        below, above = (derived_exponents(1.0 + e, 0.5, noisy=noisy) for e in (-1e-9, 1e-9))
        assert below == pytest.approx(above)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budgets": [1e3, 1e4]}, r"^budgets=.*3 or more that ascend"),
        ({"budgets": [1e4, 1e3, 1e5]}, r"^budgets=.*3 or more that ascend"),
        ({"budgets": [1.0, 1e3, 1e4]}, r"^budgets=1: must be .*at least 16"),
        ({"source": -0.5}, r"^source=-0.5: must be .*greater than -0.5"),
        ({"label_noise": -1.0}, r"^label_noise=-1"),
        ({"batch_size": math.inf}, r"^batch_size=inf"),
    ],
)
def test_values_out_of_range_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        nqm.compute_optimal(**{"budgets": [1e3, 1e4, 1e5], **GIVEN, **changes})
