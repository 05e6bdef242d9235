"""Random settings in which optimal schedules are to be beaten by nothing that stands for less.

    python -m pytest -s tests/benchmarks/bench_best_schedules.py

With momentum: the best constant rate, half as many pieces, and the time of a call. Without it, and
refined: schedules of all families under the same cap, against the gap that is told.
"""

import time

import numpy as np

import nqm_study as nqm
from nqm_study.model.schedules.computed.optimal import (
    NotReachedError,
    TooManyPiecesError,
    optimal_schedule,
)

SPECTRA = (
    nqm.Spectrum(1.0 / np.arange(1, 31)),
    nqm.Spectrum(1.0 / np.arange(1, 101)),
    nqm.power_law(200),
    nqm.power_law(10_000),
    nqm.Spectrum(np.geomspace(1.0, 0.02, 6)),
    nqm.Spectrum([2.0, 0.3, 0.1, 0.05], noise=[0.1, 1.0, 0.3, 2.0]),
)
LONGEST_CALL = 5.0  # seconds of a processor


def tell(count, cases=()):
    """A count, and the cases that are counted: what the campaign is run for."""
    print("", count, *cases, sep="\n", end="")


def growth(problem, found, momentum, nesterov):
    """The largest expected loss on the way, over the first."""
    optimizer = nqm.SGD(found.peak_learning_rate, momentum, nesterov)
    steps = np.unique(np.linspace(0, found.steps, min(found.steps, 2000) + 1).astype(int))
    risks = nqm.risk_curve(problem, optimizer, found.schedule, steps=steps, horizon=found.steps)
    return float(risks.max() / risks[0])


def timed_steps(problem, pieces, **keywords):
    """The steps, the seconds, and the result itself unless there are fewer steps than pieces."""
    start = time.process_time()
    try:
        found = optimal_schedule(problem, pieces=pieces, **keywords)
        steps = found.steps
    except TooManyPiecesError as error:
        found, steps = None, error.steps
    return steps, time.process_time() - start, found


def test_fifty_settings_with_momentum():
    rng = np.random.default_rng(19)
    optimal_schedule(nqm.NoisyQuadratic(SPECTRA[0], 64), target=0.5, pieces=2, momentum=0.5)
    lost, wider, slow, longest, most = [], [], [], 0.0, 0.0
    compared = 0
    for case in range(50):
        momentum = (0.0, 0.5, 0.9, 0.97, 0.99, 0.997)[case % 6]
        nesterov = bool(rng.integers(2)) and momentum > 0.0
        spectrum = SPECTRA[rng.integers(len(SPECTRA))]
        problem = nqm.NoisyQuadratic(spectrum, 2.0 ** rng.integers(6, 21))
        target = spectrum.initial_risk * 10.0 ** rng.uniform(-2.5, -0.5)
        pieces = int(rng.choice([1, 2, 3, 5, 8, 16, 24, 25, 32, 48]))
        setting = (case, momentum, nesterov, len(spectrum), problem.batch_size, target, pieces)
        keywords = {"target": target, "momentum": momentum, "nesterov": nesterov}
        constant = nqm.tuned(
            problem, "nesterov" if nesterov else "momentum", target=target, momentum=momentum
        )
        coarse, first, _ = timed_steps(problem, pieces, **keywords)
        fine, second, found = timed_steps(problem, 2 * pieces, **keywords)
        longest = max(longest, first, second)
        if max(first, second) > LONGEST_CALL:
            slow.append((setting, first, second))
        if fine > coarse:
            wider.append((setting, coarse, fine))
        cap = optimal_cap(problem, momentum, nesterov)
        if constant.steps is not None and constant.optimizer.learning_rate <= cap:
            compared += 1
            if coarse > constant.steps:
                lost.append((setting, coarse, constant.steps))
        if found is not None and found.steps <= 20_000:
            most = max(most, growth(problem, found, momentum, nesterov))
    tell(f"worse than tuned: {len(lost)} of {compared}", lost)
    tell(f"worse than half the pieces: {len(wider)} of 50", wider)
    tell(f"longer than {LONGEST_CALL:g} s: {len(slow)} of 100", slow)
    tell(f"longest call: {longest:.2f} s; largest growth on the way: {most:.0f}")
    assert not lost
    assert not wider
    assert not slow


def optimal_cap(problem, momentum=0.0, nesterov=False):
    """The largest rate of optimal schedules where none is given."""
    steepest = float(problem.spectrum.curvature.max())
    scale = 1.0 + 2.0 * momentum if nesterov else 1.0
    return 0.9998 * 2.0 * (1.0 + momentum) / scale / steepest


def random_shape(rng):
    final, warmup = rng.choice([0.0, 0.01, 0.1, 0.5]), rng.choice([0.0, 0.0, 0.02, 0.2])
    return (
        lambda: nqm.Linear(final, warmup),
        lambda: nqm.Cosine(final, warmup, exponent=rng.uniform(0.5, 3.0)),
        lambda: nqm.Polynomial(final, warmup, power=10.0 ** rng.uniform(-1.5, 0.7)),
        lambda: nqm.Exponential(10.0 ** rng.uniform(-4.0, -0.1), warmup),
        lambda: nqm.InverseSqrt(10.0 ** rng.uniform(0.0, 5.0)),
        lambda: nqm.PiecewiseConstant(tuple(np.sort(rng.uniform(size=4))[::-1] + 1e-9)),
        lambda: nqm.StepDecay(rng.uniform(0.05, 0.9), int(rng.integers(1, 9))),
        lambda: nqm.WarmupStableDecay(final, warmup, 10.0 ** rng.uniform(-3.0, -0.1)),
        lambda: nqm.OneCycle(final, pct_start=rng.uniform(0.01, 0.5)),
    )[rng.integers(9)]()


def test_no_schedule_beats_the_refined_optimum():
    rng = np.random.default_rng(4)
    beaten, runs, longest, widest = [], 0, 0.0, 0.0
    for _ in range(60):
        spectrum = SPECTRA[rng.integers(len(SPECTRA))]
        problem = nqm.NoisyQuadratic(spectrum, 2.0 ** rng.integers(2, 21))
        target = spectrum.initial_risk * 10.0 ** rng.uniform(-2.5, -0.2)
        start = time.process_time()
        try:
            found = optimal_schedule(problem, target=target, pieces=None, max_steps=10**7)
        except NotReachedError:
            continue
        longest, widest = max(longest, time.process_time() - start), max(widest, found.gap)
        least = round(found.steps * (1.0 - found.gap))
        if least < 2:
            continue
        cap = optimal_cap(problem)
        for index in range(40):
            rate = (
                cap * (1.0, 0.99, rng.uniform(0.3, 1.0), 10.0 ** rng.uniform(-1.5, 0.0))[index % 4]
            )
            shape = random_shape(rng)
            crossing = nqm.steps_to_target(
                problem, nqm.SGD(rate), shape, target=target, max_steps=least - 1
            )
            runs += 1
            if crossing.steps is not None:
                setting = (problem.batch_size, target, rate, shape)
                beaten.append((setting, crossing.steps, found.steps))
    tell(f"beaten by more than the gap: {len(beaten)} of {runs}", beaten)
    tell(f"longest call: {longest:.2f} s; largest gap: {100.0 * widest:.2g} %")
    assert not beaten
