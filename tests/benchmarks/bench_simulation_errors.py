"""The simulation's means and standard errors in random settings, against the truth, seed by seed.

    python -m pytest -s tests/benchmarks/bench_simulation_errors.py

The truth of SGD is the recursion of its second moments. That of Adam is another simulation, of many
starts of each mode, drawn from a mixture of two normal distributions and weighted, in groups that
tell its error; it shares nothing with the package's. A run is off by z standard errors, the truth's
included, at each step.
"""

import numpy as np
import textbook
from scipy.special import ndtri

import nqm_study as nqm

SEED, SETTINGS, SEEDS = 19, 200, 16
GROUPS, STARTS = 16, 512

MOST = 7.0
"""No z of a run may be larger. Of 400,000 independent normal ones the largest is 4.7 to 5.3; told
errors are themselves estimates of some percent, the smaller the smaller the mean happens to be."""

MOST_OF_SEEDS = 6.0
"""No z of the mean over the seeds may be larger: there are 25,000."""


def random_problem(rng):
    n = int(rng.integers(1, 51)) if rng.random() < 0.7 else int(rng.integers(1, 4))
    kind = rng.integers(3)
    if kind == 0:
        h = np.arange(1.0, n + 1.0) ** -rng.uniform(0.3, 2.0)
    elif kind == 1:
        h = 10.0 ** rng.uniform(-4.0, 0.0, n)
    else:
        h = rng.uniform(0.5, 1.0, n)
    noise = (h, h * rng.exponential(1.0, n), 0.0)[rng.choice(3, p=(0.6, 0.3, 0.1))]
    usual = rng.random() < 0.6
    spectrum = nqm.Spectrum(
        h,
        noise,
        1.0 if usual else rng.integers(1, 20, n).astype(float),
        0.0 if usual else rng.normal(0.0, 1.0, n),
        1.0 if usual else rng.exponential(1.0, n),
    )
    return nqm.NoisyQuadratic(spectrum, float(10.0 ** rng.uniform(0.0, 6.0)))


def random_optimizer(rng, problem):
    if rng.random() < 0.5:
        beta1 = float(rng.choice([0.0, 0.0, 0.5, 0.9, 0.9, 0.95, 0.99]))
        beta2 = float(rng.choice([0.9, 0.95, 0.99, 0.999, 0.999]))
        return nqm.Adam(float(10.0 ** rng.uniform(-3.0, 0.0)), beta1, beta2)
    mu = float(rng.choice([0.0, 0.0, 0.5, 0.9, 0.97, 0.99]))
    nesterov = bool(mu > 0.0 and rng.random() < 0.4)
    ema = float(rng.choice([0.0, 0.0, 0.9, 0.99]))
    power = float(rng.choice([0.0, 0.0, 0.5, 1.0]))
    limit = 2.0 * (1.0 + mu) / (1.0 + 2.0 * mu if nesterov else 1.0)
    limit /= np.max(problem.spectrum.curvature) ** (1.0 - power)
    rate = float(limit * 10.0 ** rng.uniform(-3.0, -0.02))
    return nqm.SGD(rate, mu, nesterov=nesterov, preconditioner_power=power, ema_decay=ema)


def random_setting(rng):
    problem = random_problem(rng)
    optimizer = random_optimizer(rng, problem)
    schedules = nqm.Constant(), nqm.Cosine(0.1, 0.1), nqm.Linear()
    schedule = schedules[rng.choice(3, p=(0.6, 0.2, 0.2))]
    return problem, optimizer, schedule, int(10.0 ** rng.uniform(1.0, 2.6))


def sampled(problem, adam, rates, rng):
    """The risk after each step and its standard error, from independent groups of starts."""
    s = problem.spectrum
    h, noise = s.curvature[:, None, None], (s.noise / problem.batch_size)[:, None, None]
    shape = (len(s), GROUPS, STARTS // 2)
    # Half of the starts three times as far out; each counts as if drawn from the mixture.
    narrow, wide = (
        ndtri((np.arange(STARTS // 2) + rng.random(shape)) / (STARTS // 2)) for _ in range(2)
    )
    z = np.concatenate((narrow, 3.0 * wide), axis=2)
    share = 1.0 / (0.5 + 0.5 / 3.0 * np.exp(0.5 * z**2 * (1.0 - 1.0 / 9.0)))
    theta = s.initial_mean[:, None, None] + np.sqrt(s.initial_variance)[:, None, None] * z
    share[s.initial_variance == 0.0] = 1.0
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    weight = 0.5 * s.multiplicity * s.curvature
    risks = [weight @ np.mean(share * theta**2, axis=2)]
    for t, lr in enumerate(rates, start=1):
        g = h * theta + np.sqrt(noise) * rng.standard_normal(theta.shape)
        m = adam.beta1 * m + (1.0 - adam.beta1) * g
        v = adam.beta2 * v + (1.0 - adam.beta2) * g**2
        root = np.sqrt(v / (1.0 - adam.beta2**t)) + adam.eps
        theta = theta - lr * m / (1.0 - adam.beta1**t) / root
        risks.append(weight @ np.mean(share * theta**2, axis=2))
    risks = np.array(risks)
    return risks.mean(axis=1), risks.std(axis=1, ddof=1) / np.sqrt(GROUPS)


def truth(problem, optimizer, factors, rng):
    """The risk after each step, and its standard error."""
    if isinstance(optimizer, nqm.Adam):
        return sampled(problem, optimizer, optimizer.learning_rate * factors, rng)
    return textbook.linear_risks(problem, optimizer, factors.size, factors), 0.0


def z_of(off, error, risk):
    """Errors in standard errors; rounding alone is none."""
    rounding = np.abs(off) <= 1e-10 * risk
    return np.where(rounding, 0.0, off / np.where(rounding, 1.0, error))


def test_told_errors_are_the_true_ones_in_every_setting():
    single, of_seeds = [], []
    ratios = {"SGD": [], "Adam": []}
    for index in range(SETTINGS):
        rng = np.random.default_rng((SEED, index))
        problem, optimizer, schedule, n = random_setting(rng)
        risk, error = truth(problem, optimizer, schedule.at_steps(np.arange(float(n)), n), rng)
        runs = [
            nqm.simulate(problem, optimizer, schedule, n_steps=n, seed=seed)
            for seed in range(SEEDS)
        ]
        off = np.array([run.mean - risk for run in runs])
        told = np.array([run.standard_error for run in runs])
        single.append(z_of(off, np.hypot(told, error), risk))
        of_mean = np.sqrt(np.mean(told**2, axis=0) / SEEDS)
        of_seeds.append(z_of(off.mean(axis=0), np.hypot(of_mean, error), risk))
        ratios[type(optimizer).__name__].append(
            np.sqrt(np.mean(told**2 + error**2) / np.mean(off**2))
        )
    worst = np.array([np.abs(each).max() for each in single])
    worst_of_seeds = np.array([np.abs(each).max() for each in of_seeds])
    every = np.concatenate([each.ravel() for each in single])
    told_to_true = {name: float(np.median(each)) for name, each in ratios.items()}
    counts = (
        f"{SETTINGS} settings, {', '.join(f'{len(ratios[name])} of {name}' for name in ratios)},"
        f" {SEEDS} seeds each, {every.size} comparisons: mean z {every.mean():.3f},"
        f" standard deviation {every.std():.3f}, {np.sum(np.abs(every) > 4.0)} beyond 4;"
        f" told error to true one, median: {told_to_true}",
        f"settings with a z beyond {MOST}: {np.sum(worst > MOST)}"
        f" (worst {worst.max():.1f} in setting {worst.argmax()})",
        f"settings with a z of the mean over seeds beyond {MOST_OF_SEEDS}:"
        f" {np.sum(worst_of_seeds > MOST_OF_SEEDS)}"
        f" (worst {worst_of_seeds.max():.1f} in setting {worst_of_seeds.argmax()})",
    )
    print("", *counts, sep="\n")
    assert np.all(worst <= MOST)
    assert np.all(worst_of_seeds <= MOST_OF_SEEDS)
    assert abs(every.mean()) < 0.05
    assert 0.95 < every.std() < 1.05
    assert all(0.9 < each < 1.1 for each in told_to_true.values())
