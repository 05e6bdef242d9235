"""Quasi-hyperbolic momentum is its published rule, and those that it holds."""

import numpy as np
import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(200), 32)


def test_it_is_the_published_rule_step_by_step() -> None:
    lr, b, v, steps = 0.8, 0.95, 0.6, 40
    h = PROBLEM.spectrum.curvature
    z = np.stack((np.ones_like(h), np.zeros_like(h)))  # the mean of theta, u for theta_0 = 1
    s = np.zeros((2, 2, h.size))
    risks = []
    for _ in range(steps + 1):
        risks.append(float(np.sum(0.5 * h * (z[0] ** 2 + s[0, 0]))))
        # (theta, u) -> g = h theta + e, u' = b u + (1 - b) g, theta' = theta - lr ((1-v) g + v u').
        a = np.empty((2, 2, h.size))
        a[1, 0], a[1, 1] = (1.0 - b) * h, b
        a[0, 0] = 1.0 - lr * ((1.0 - v) * h + v * a[1, 0])
        a[0, 1] = -lr * v * b
        noise = np.array([-lr * ((1.0 - v) + v * (1.0 - b)), 1.0 - b])
        z = np.einsum("ijn,jn->in", a, z)
        s = np.einsum("ijn,jkn,lkn->iln", a, s, a)
        s += np.multiply.outer(np.outer(noise, noise), PROBLEM.spectrum.noise / PROBLEM.batch_size)
    found = nqm.risk_curve(PROBLEM, nqm.QHM(lr, b, v), steps=range(steps + 1))
    np.testing.assert_allclose(found, risks, rtol=1e-10)


@pytest.mark.parametrize(
    ("share", "same"),
    [(0.0, nqm.SGD(0.4)), (1.0, nqm.HeavyBall(0.04, 0.9)), (0.9, nqm.Nesterov(0.04, 0.9))],
)
def test_with_some_shares_it_is_another_one(share: float, same: nqm.LinearOptimizer) -> None:
    own = nqm.QHM(0.4, 0.9, share)
    for schedule in (nqm.Constant(), nqm.Cosine()):
        found = [nqm.steps_to_target(PROBLEM, o, schedule, target=0.05).steps for o in (own, same)]
        assert found[0] == found[1] is not None
    assert nqm.stability_limit(PROBLEM, own) * 0.1 ** (share > 0) == pytest.approx(
        nqm.stability_limit(PROBLEM, same)
    )


def test_it_is_simulated_as_its_risk_says() -> None:
    optimizer = nqm.QHM(0.8, 0.9, 0.7)
    found = nqm.simulate(PROBLEM, optimizer, n_steps=60, n_replicas=400, seed=1)
    risks = nqm.risk_curve(PROBLEM, optimizer, steps=range(61))
    assert np.all(np.abs(found.mean - risks)[1:] < 4.5 * found.standard_error[1:])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"momentum": 1.0}, "momentum=1"), ({"v": 1.5}, r"v=1\.5"), ({"v": -0.1}, r"v=-0\.1")],
)
def test_what_is_out_of_range_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}: must be"):
        nqm.QHM(0.1, **values)
