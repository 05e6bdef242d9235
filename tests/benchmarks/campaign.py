"""Random problems, optimizers and schedules, and what every one of their runs ends with.

The references are the recursions of ``tests/model/textbook.py`` over all modes; where their own
rounding matters, the same recursion in NumPy's long doubles.
"""

import numpy as np
import textbook

import nqm_study as nqm


def random_schedule(rng):
    """One of all families, over the shapes that the configurations search and beyond."""
    warm = float(rng.choice([0.0, 0.0, 0.01, 0.1, 0.3]))
    final = float(rng.choice([0.0, 0.01, 0.1, 0.5]))
    share = float(rng.uniform(0.05, 0.95))
    factors = tuple(np.exp(rng.uniform(-3.0, 0.0, rng.integers(2, 6))).tolist())
    return [
        lambda: nqm.Constant(max(warm, 0.05)),
        lambda: nqm.Linear(final, warm),
        lambda: nqm.Cosine(final, warm, exponent=float(rng.choice([0.5, 1.0, 3.0]))),
        lambda: nqm.Polynomial(final, warm, power=float(rng.uniform(0.3, 3.0))),
        lambda: nqm.Exponential(max(final, 1e-3), warm),
        lambda: nqm.InverseSqrt(float(np.exp(rng.uniform(0.0, 9.0))), warm),
        lambda: nqm.PiecewiseConstant(factors),
        lambda: nqm.StepDecay(warmup_fraction=warm),
        lambda: nqm.WarmupStableDecay(final, warm, share),
        nqm.OneCycle,
    ][rng.integers(10)]()


def random_optimizer(rng, steepest, momenta, beyond=1.0):
    """A linear optimizer whose rate is up to so many times the limit of stability."""
    momentum = float(rng.choice(momenta))
    if momentum > 0.95 and rng.random() < 0.3:
        momentum = 1.0 - 10.0 ** -float(rng.uniform(1.5, 4.0))
    nesterov = bool(momentum > 0.0 and rng.random() < 0.3)
    limit = 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum if nesterov else 1.0) / steepest
    rate = limit * beyond * float(np.exp(rng.uniform(np.log(1e-3), np.log(0.9998))))
    average = float(rng.choice([0.0, 0.0, 0.0, 0.0, 0.9, 0.99]))
    return nqm.SGD(rate, momentum, nesterov, 0.0, average)


def random_spectrum(rng, most):
    """A few modes: a power law, or curvatures anywhere over four decades."""
    count = int(rng.integers(1, most + 1))
    if rng.random() < 0.5:
        return nqm.Spectrum(curvature=np.arange(1, count + 1) ** -float(rng.uniform(0.3, 2.0)))
    return nqm.Spectrum(curvature=10.0 ** rng.uniform(-3.5, 0.0, count))


def narrow_spectrum(rng, most):
    """Modes whose curvatures are within a factor of two."""
    return nqm.Spectrum(curvature=rng.uniform(0.5, 1.0, int(rng.integers(1, most + 1))))


def ends(problem, optimizer, schedule, last, max_growth=np.inf):
    """L_T of every run of T = 0 .. last steps; of the one run, where all have the same rates.

    It is infinite where the risk on the way is above ``max_growth`` times the first one.
    """

    def kept(risks):
        return np.where(np.maximum.accumulate(risks) <= max_growth * risks[0], risks, np.inf)

    if not schedule.needs_horizon:
        factors = schedule.at_steps(np.arange(last, dtype=float), last)
        return kept(textbook.linear_risks(problem, optimizer, last, factors))
    found = [problem.spectrum.initial_risk]
    for horizon in range(1, last + 1):
        factors = schedule.at_steps(np.arange(horizon, dtype=float), horizon)
        found.append(kept(textbook.linear_risks(problem, optimizer, horizon, factors))[-1])
    return np.array(found)


def last_risk(problem, optimizer, schedule, horizon):
    """L_T over all modes."""
    factors = schedule.at_steps(np.arange(horizon, dtype=float), horizon)
    return float(textbook.linear_risks(problem, optimizer, horizon, factors)[-1])


def targets(rng, risks, count):
    """Targets within the range of some risks: anywhere, and just above dips and at edges."""
    finite = risks[1:][np.isfinite(risks[1:]) & (risks[1:] > 1e-280)]
    if finite.size < 3 or finite.min() >= risks[0]:
        return []
    low, high = np.log(finite.min()), np.log(min(finite.max(), risks[0]))
    anywhere = np.exp(rng.uniform(low, high, count))
    inner = risks[1:-1]
    dips = inner[(inner < risks[:-2]) & (inner < risks[2:])]
    dips = dips[(dips > 1e-280) & (dips < risks[0])]
    if dips.size:
        deep = rng.choice(dips, count) * (1.0 + 10.0 ** rng.uniform(-6.0, -1.0, count))
        anywhere[: count // 2] = deep[: count // 2]
    return anywhere[anywhere < risks[0]].tolist()
