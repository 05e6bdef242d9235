"""Steps to target as integers: thousands of searches against the recursion over all modes.

The cases are drawn from seeded generators, so that each run tries the same ones. Where the two
integers may differ is stated in one place, ``agree``: only where rounding decides.
"""

import numpy as np
import pytest
import textbook

import nqm_study as nqm
from nqm_study.model.linear import risks as linear
from nqm_study.model.problems.spectrum import Spectrum

ROUNDING = 1e-11
"""Relative error of either computation where the moments hardly cancel."""

PAPER = nqm.power_law(10_000)


def clusters(rng, n):
    """Narrow groups of eigenvalues: a few within one bin of every coarse compression."""
    centres = 10.0 ** rng.uniform(-3.0, 0.0, rng.integers(1, 6))
    return rng.choice(centres, n) * (1.0 + 10.0 ** rng.uniform(-8.0, -1.0) * rng.uniform(-1, 1, n))


CURVATURES = {
    "power law": lambda rng, n: np.arange(1, n + 1) ** -rng.choice([0.3, 0.6, 1.0, 1.5, 2.0, 3.0]),
    "log-uniform": lambda rng, n: 10.0 ** -rng.uniform(0.0, rng.uniform(0.5, 5.0), n),
    "even": lambda rng, n: np.linspace(rng.uniform(1e-3, 0.9), 1.0, n),
    # Frequencies of equal spacing come into phase again, and the risk dips long after the start.
    "revivals": lambda rng, n: (
        (rng.uniform(0.2, 1) + np.arange(n) * 10.0 ** rng.uniform(-4, -2)) ** 2
    ),
    "clusters": clusters,
    "repeated": lambda rng, n: rng.choice(10.0 ** rng.uniform(-3.0, 0.0, 8), n),
    "outliers and bulk": lambda rng, n: np.concatenate(
        (10.0 ** rng.uniform(0.0, 1.5, 3), rng.uniform(0.01, 1.0, n))
    ),
    "two scales": lambda rng, n: np.concatenate(
        (rng.uniform(0.5, 1.0, n), 1e-3 * rng.uniform(0.5, 1.0, n))
    ),
    "one or few": lambda rng, _: 10.0 ** rng.uniform(-2.0, 0.0, rng.integers(1, 4)),
}


def random_spectrum(rng, kind):
    h = CURVATURES[kind](rng, int(rng.integers(5, 290 if kind != "two scales" else 150)))
    n = h.size
    noise = rng.choice(["curvature", "other", "partly none", "none"], p=[0.6, 0.2, 0.15, 0.05])
    c = {
        "curvature": h,
        "other": h * 10.0 ** rng.normal(size=n),
        "partly none": np.where(rng.random(n) < 0.5, 0.0, h),
        "none": np.zeros(n),
    }[noise]
    start = rng.choice(["unit", "spread", "partly none", "below the floor"], p=[0.6, 0.2, 0.1, 0.1])
    s = {
        "unit": np.ones(n),
        "spread": 10.0 ** rng.uniform(-3.0, 1.0, n),
        "partly none": np.where(rng.random(n) < 0.5, 0.0, 1.0),
        "below the floor": np.where(h > np.median(h), 1e-6, 1.0),
    }[start]
    m = 10.0 ** rng.uniform(-2.0, 3.0, n) * (rng.random(n) < 0.9) if rng.random() < 0.3 else None
    a = rng.normal(size=n) if rng.random() < 0.3 else None
    spectrum = Spectrum(h, c, m, a, s)
    return spectrum if spectrum.initial_risk > 0.0 else random_spectrum(rng, kind)


def random_optimizer(rng, curvature):
    """Rates from tiny to just unstable, and at the double root; gaps down to 1e-4.

    Next to the limit of stability momentum stays below 0.9: its double root there loses half of the
    digits, in whatever recursion.
    """
    kind = rng.choice(["any", "tiny", "limit", "unstable", "double root", "half"])
    near = kind in {"limit", "unstable", "half"}
    mu = 0.0 if rng.random() < 0.25 else 1.0 - 10.0 ** rng.uniform(-1.0 if near else -4.0, -0.05)
    gamma = 0.0 if rng.random() < 0.65 else 1.0 - 10.0 ** rng.uniform(-4.0, -0.05)
    nesterov = bool(rng.random() < 0.3)
    p = float(rng.choice([0.0, 0.0, 0.0, 0.25, 0.5, 1.0]))
    limit = 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if nesterov else 1.0)
    x = {
        "any": limit * 10.0 ** rng.uniform(-3.0, -0.3),
        "tiny": limit * 10.0 ** rng.uniform(-7.0, -3.0),
        "limit": limit * (1.0 - 10.0 ** rng.uniform(-5.0, -1.0)),
        "unstable": limit * (1.0 + 10.0 ** rng.uniform(-3.0, -1.0)),
        "double root": (1.0 - np.sqrt(mu)) ** 2,
        "half": rng.uniform(0.5, 0.99) * limit,
    }[kind]
    return nqm.SGD(float(x) / curvature.max() ** (1.0 - p), float(mu), nesterov, p, float(gamma))


def targets(rng, risks):
    """Targets that separate: beside the risk's lowest points so far, at its minimum, anywhere."""
    seen = risks[np.isfinite(risks) & (risks < 1e280)]
    lowest = np.minimum.accumulate(seen)
    turns = np.flatnonzero((seen[1:-1] < seen[:-2]) & (seen[1:-1] <= seen[2:])) + 1
    turns = turns[seen[turns] <= lowest[turns]]
    chosen = []
    for dip in rng.choice(turns, min(2, turns.size), replace=False) if turns.size else ():
        chosen += [seen[dip] * (1.0 + 1e-7), seen[dip] * (1.0 - 1e-7)]
    chosen += [seen[0] * (seen.min() / seen[0]) ** rng.uniform(), seen.min() * (1.0 + 1e-7)]
    return [float(target) for target in chosen if target > 1e-200]


def agree(target, risks, found):
    """Whether the crossing is the first among the risks; another only where rounding decides.

    The textbook's moments cancel: beside a risk that has been larger, some digits are lost, which
    is why a step whose risk is that near the target may fall on either side.
    """
    exact = textbook.first_at_most(risks, target)
    if found.steps == exact:
        return True
    differing = [step for step in (exact, found.steps) if step is not None]
    slack = ROUNDING * target + 1e-15 * np.max(risks[: max(differing) + 1])
    return bool(np.all(np.abs(risks[differing] - target) <= slack))


@pytest.mark.parametrize("kind", CURVATURES)
def test_steps_are_those_of_the_recursion_over_all_modes(kind):
    # 9 kinds of spectra, each with 140 problems of some 4 targets.
    searches = 0
    for seed in range(140):
        rng = np.random.default_rng([sorted(CURVATURES).index(kind), seed])
        spectrum = random_spectrum(rng, kind)
        problem = nqm.NoisyQuadratic(spectrum, 2.0 ** rng.uniform(0.0, 24.0))
        optimizer = random_optimizer(rng, spectrum.curvature)
        most = int(10.0 ** rng.uniform(1.0, 3.6))
        risks = textbook.linear_risks(problem, optimizer, most)
        for target in targets(rng, risks):
            exact = textbook.first_at_most(risks, target)
            cut = [most] if exact is None else [most, exact, exact - 1]
            for max_steps in cut[: 3 if searches % 4 == 0 else 1]:
                if max_steps < 0:
                    continue
                found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=max_steps)
                assert agree(target, risks[: max_steps + 1], found), (
                    f"{kind} {seed}: {found}, not {exact}; {optimizer}, {target=}, {max_steps=}"
                )
                assert (found.status == "reached") == (found.steps is not None)
                searches += 1
    assert searches >= 400


def test_steps_over_ten_thousand_modes_are_those_of_the_recursion():
    # Mostly under-damped, where a compression that is too coarse shows first.
    searches = 0
    for seed in range(30):
        rng = np.random.default_rng([100, seed])
        exponent = rng.choice([0.6, 1.0, 1.0, 1.5])
        spectrum = PAPER if exponent == 1.0 else nqm.power_law(10_000, float(exponent))
        problem = nqm.NoisyQuadratic(spectrum, 2.0 ** rng.uniform(10.0, 24.0))
        mu = 1.0 - 10.0 ** rng.uniform(-3.5, -1.0)
        x = rng.uniform(0.05, 0.9) * 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if seed % 3 == 0 else 1.0)
        gamma = 0.0 if seed % 4 else 1.0 - 10.0 ** rng.uniform(-3.0, -1.0)
        optimizer = nqm.SGD(float(x), float(mu), seed % 3 == 0, 0.0, float(gamma))
        most = int(10.0 ** rng.uniform(2.3, 3.2))
        risks = textbook.linear_risks(problem, optimizer, most)
        for target in targets(rng, risks):
            found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=most)
            assert agree(target, risks, found), (
                f"{seed}: {found}, not {textbook.first_at_most(risks, target)}; {optimizer}"
            )
            searches += 1
    assert searches >= 60


def test_reported_errors_are_those_of_the_risk():
    # The difference of two compressions must bound that of the one used from all modes.
    compressed = 0
    for seed in range(60):
        rng = np.random.default_rng([200, seed])
        spectrum = random_spectrum(rng, rng.choice(sorted(CURVATURES)))
        problem = nqm.NoisyQuadratic(spectrum, 2.0 ** rng.uniform(0.0, 24.0))
        optimizer = random_optimizer(rng, spectrum.curvature)
        target = spectrum.initial_risk * 10.0 ** rng.uniform(-2.0, -0.1)
        found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=3000)
        if found.steps is None:
            continue
        exact = nqm.steps_to_target(
            problem, optimizer, target=target, max_steps=3000, tolerance=0.0
        )
        assert (exact.steps, exact.error) == (found.steps, 0.0)
        assert found.error < 1e-9
        assert abs(found.risk / exact.risk - 1.0) <= 2.0 * found.error + 1e-12
        compressed += found.error > 0.0
    assert compressed >= 15


def without_checks(monkeypatch, *kept):
    """Compare compressions only at some of the steps that a search hands out."""
    ends = {
        "end": lambda found: (found.step, found.risk_step),
        "before": lambda found: (max(0, found.step - 1),),
        "nearest": lambda found: tuple(found.nearest[found.nearest >= 0]),
    }
    monkeypatch.setattr(
        linear.Found,
        "checks",
        property(lambda found: np.unique(np.concatenate([ends[name](found) for name in kept]))),
    )


def first_steps(problem, optimizer, target, most):
    """The step that the search finds, and that of the recursion."""
    risks = textbook.linear_risks(problem, optimizer, most)
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=most)
    return found.steps, textbook.first_at_most(risks, target)


def test_near_misses_long_before_the_crossing_are_compared(monkeypatch):
    # Sixty fast modes fade while a slow one swings: the risk dips at 58 and again at 173. There the
    # fast modes are gone and every compression agrees, but at 58 the coarsest one stays too high.
    h = np.append(np.linspace(1.0, 0.6, 60), 0.0025)
    spectrum = Spectrum(h, multiplicity=np.append(np.ones(60), 300.0))
    problem, optimizer = nqm.NoisyQuadratic(spectrum, 2.0**20), nqm.SGD(0.3, 0.997, nesterov=True)
    target = 1.01 * textbook.linear_risks(problem, optimizer, 100)[58]
    assert first_steps(problem, optimizer, target, 600) == (58, 58)
    without_checks(monkeypatch, "end", "before")
    assert first_steps(problem, optimizer, target, 600) == (173, 58), "the example shows nothing"


def test_the_step_before_the_crossing_is_compared(monkeypatch):
    # Just under the target there, by less than the tolerance: the coarser risk is just above it.
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(150, 0.6), 2.0**20), nqm.SGD(0.1, 0.9)
    risks = textbook.linear_risks(problem, optimizer, 400)
    targets = [float(risk) * (1.0 + 2e-10) for risk in risks[220:260]]
    pairs = [first_steps(problem, optimizer, target, 400) for target in targets]
    assert all(found == exact for found, exact in pairs)
    without_checks(monkeypatch, "end", "nearest")
    pairs = [first_steps(problem, optimizer, target, 400) for target in targets]
    assert any(found != exact for found, exact in pairs), "the example shows nothing"


def test_close_modes_are_not_taken_for_one():
    # All within a bin of the coarsest levels: two levels with the same nodes would agree, and be
    # wrong by a part in ten.
    spectrum = Spectrum(np.linspace(1.0, 0.88, 120))
    problem, optimizer = nqm.NoisyQuadratic(spectrum, 2.0**23), nqm.SGD(3.0, 0.54)
    risks = textbook.linear_risks(problem, optimizer, 400)
    curve = nqm.risk_curve(problem, optimizer, steps=range(401))
    np.testing.assert_allclose(curve, risks, rtol=1e-8, atol=1e-13 * risks[0])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_noise_alone_gives_a_risk(momentum, decay):
    # theta_0 = 0: no signal, and the noise's nodes are all there are.
    still = Spectrum([1.0, 0.5, 0.1], multiplicity=[1.0, 2.0, 3.0], initial_variance=0.0)
    problem, optimizer = nqm.NoisyQuadratic(still, 4), nqm.SGD(0.5, momentum, ema_decay=decay)
    curve = nqm.risk_curve(problem, optimizer, steps=range(101))
    np.testing.assert_allclose(curve, textbook.linear_risks(problem, optimizer, 100), rtol=1e-10)


@pytest.mark.parametrize("kind", CURVATURES)
def test_statuses_say_what_the_recursion_does(kind):
    # Where no step reaches the target of a stable run, its noise alone has passed it or not yet.
    seen = {"floor_above_target": 0, "max_steps": 0}
    for seed in range(40):
        rng = np.random.default_rng([300, sorted(CURVATURES).index(kind), seed])
        spectrum = random_spectrum(rng, kind)
        optimizer = random_optimizer(rng, spectrum.curvature)
        still = Spectrum(spectrum.curvature, spectrum.noise, spectrum.multiplicity, 0.0, 0.0)
        problem, noise_alone = (nqm.NoisyQuadratic(s, 64.0) for s in (spectrum, still))
        risks = textbook.linear_risks(problem, optimizer, 400)
        noise = textbook.linear_risks(noise_alone, optimizer, 400)
        if not optimizer.is_stable(spectrum.curvature):
            continue
        for target in {0.99 * risks.min(), 0.5 * noise.max(), 0.7 * (risks.min() + noise.max())}:
            if not 1e-200 < target < 0.999 * risks.min():
                continue
            found = nqm.steps_to_target(problem, optimizer, target=float(target), max_steps=400)
            passed = noise.max() > target
            if abs(noise.max() - target) > 1e-9 * target:
                assert found.status == ("floor_above_target" if passed else "max_steps")
                assert risks.min() * (1.0 - 1e-8) <= found.risk
                seen[found.status] += 1
    assert min(seen.values()) > 0
