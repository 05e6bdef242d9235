"""Random campaigns for the promises of ``steps_to_target``: opt-in, minutes each.

    python -m pytest -s tests/benchmarks/bench_shortest.py

Each prints its counts and fails on the first kind of answer that a promise excludes. ``CASES`` in
the environment divides or multiplies them all.
"""

import os
import time

import campaign
import numpy as np
import pytest

import nqm_study as nqm

SCALE = float(os.environ.get("CASES", "1"))

NEAR = 2e-11
"""Risks so near the target that rounding may decide are left to the campaign of ties."""


def many(count):
    return max(1, round(SCALE * count))


KINDS = {
    "configured ranges": (campaign.random_spectrum, 6, [0.0, 0.5, 0.9, 0.99], 700, 60_000, 1.0),
    "beyond the limit": (campaign.random_spectrum, 6, [0.0, 0.5, 0.9, 0.99], 700, 6_000, 2.5),
    "narrow spectra": (campaign.narrow_spectrum, 6, [0.97, 0.99, 0.999], 700, 3_000, 1.0),
    "200 modes": (lambda _, most: nqm.power_law(most), 200, [0.9, 0.97, 0.99], 320, 3_000, 1.0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_steps_said_to_be_the_smallest_are(kind):
    spectrum_of, most, momenta, last, count, beyond = KINDS[kind]
    rng = np.random.default_rng(1904)
    asked = proved = reached = told = wrong_past = 0
    failures = []
    while asked < many(count):
        spectrum = spectrum_of(rng, most)
        problem = nqm.NoisyQuadratic(spectrum, float(4.0 ** rng.integers(0, 15)))
        optimizer = campaign.random_optimizer(rng, spectrum.curvature.max(), momenta, beyond)
        schedule = campaign.random_schedule(rng)
        # Beyond a growth of 1e6 the second moments lose their digits on the way, in any form.
        limit = 1000.0 if beyond > 1.0 else None
        risks = campaign.ends(problem, optimizer, schedule, last, limit or np.inf)
        for target in campaign.targets(rng, risks, 30):
            below = np.flatnonzero(risks <= target)
            first = int(below[0]) if below.size else None
            up_to = risks[: last + 1 if first is None else first + 1]
            if np.any(np.abs(up_to / target - 1.0) < NEAR):
                continue
            for most_steps in (10**9, last):
                found = nqm.steps_to_target(
                    problem,
                    optimizer,
                    schedule,
                    target=target,
                    max_steps=most_steps,
                    max_growth=limit,
                )
                asked += 1
                proved += found.smallest
                reached += found.steps is not None
                said = found.steps if found.steps is not None and found.steps <= last else None
                if said == first:
                    continue
                if found.smallest:
                    failures.append((problem, optimizer, schedule, target, first, found))
                else:
                    told += 1
                if said is not None and risks[said] > target:
                    wrong_past += 1
    print(
        f"\n{kind}: {asked} targets, {proved} said to be the smallest, {len(failures)} of them "
        f"wrong; {told} others had a smaller one; {wrong_past} did not reach the target"
    )
    for each in failures[:5]:
        print("  ", each)
    assert not failures
    assert wrong_past == 0


def test_told_errors_of_long_runs_cover_the_truth():
    rng = np.random.default_rng(2024)
    ratios, told, failures, aims = [], [], [], 0
    while len(ratios) < many(500):
        spectrum = campaign.random_spectrum(rng, 16)
        problem = nqm.NoisyQuadratic(spectrum, float(4.0 ** rng.integers(0, 11)))
        optimizer = campaign.random_optimizer(
            rng, spectrum.curvature.max(), [0.0, 0.5, 0.9, 0.97, 0.99]
        )
        schedule = campaign.random_schedule(rng)
        horizon = int(np.exp(rng.uniform(np.log(8200), np.log(400_000))))
        end = campaign.last_risk(problem, optimizer, schedule, horizon)
        if not 1e-12 < end < 0.98 * spectrum.initial_risk:
            continue
        found = nqm.steps_to_target(problem, optimizer, schedule, target=end * 1.01)
        if found.steps is None or found.steps <= 8192:
            continue
        right = campaign.last_risk(problem, optimizer, schedule, found.steps)
        off = abs(found.risk / right - 1.0)
        covered = found.error + 1e-11 + 1e-15 * found.steps
        ratios.append(off / covered)
        told.append(found.error)
        aims += found.error <= 1e-6
        if off > covered:
            failures.append((problem, optimizer, schedule, end * 1.01, found, off))
    print(
        f"\n{len(ratios)} runs: {len(failures)} errors above what is told, largest share "
        f"{max(ratios):.2f}; told {np.median(told):.1e} (median), {aims} within 1e-6"
    )
    for each in failures[:5]:
        print("  ", each)
    assert not failures


def spectra_of_all_sizes(rng):
    """Spectra of one mode to a million, some spread over many decades."""
    spectra = [nqm.power_law(dim) for dim in (1, 30, 1000, 10_000, 10**6)]
    spectra += [campaign.random_spectrum(rng, 30), campaign.narrow_spectrum(rng, 100)]
    return [*spectra, nqm.Spectrum(curvature=10.0 ** rng.uniform(-8.0, 0.0, 500))]


def linear_of_all_rates(rng, spectrum):
    """SGD up to twice the limit of stability, and down to a millionth of it."""
    optimizer = campaign.random_optimizer(
        rng, spectrum.curvature.max(), [0.0, 0.5, 0.9, 0.99], beyond=2.0
    )
    if rng.random() < 0.3:
        rate = optimizer.learning_rate * 10.0 ** -float(rng.uniform(0.0, 6.0))
        optimizer = nqm.SGD(
            rate, optimizer.momentum, optimizer.nesterov, float(rng.choice([0.0, 0.5])),
            optimizer.ema_decay,
        )  # fmt: skip
    return optimizer


def adam_of_all_rates(rng, _):
    """Adam with decays from 0 to 1 - 1e-6, and eps that is nothing, or all that counts."""
    decays = [0.0, 0.9, 0.99, 0.999, 1.0 - 10.0 ** -float(rng.uniform(0.3, 6.0))]
    eps = float(rng.choice([0.0, 1e-12, 1e-8, 1e-3, 1.0, 10.0 ** rng.uniform(-20.0, 3.0)]))
    rate = 10.0 ** float(rng.uniform(-5.0, 0.5))
    return nqm.Adam(rate, float(rng.choice(decays)), float(rng.choice(decays)), eps)


@pytest.mark.parametrize("make", [linear_of_all_rates, adam_of_all_rates])
def test_no_call_takes_long(make):
    rng = np.random.default_rng(7)
    times, slow = [], []
    spectra = spectra_of_all_sizes(rng)
    for _ in range(many(5000)):
        spectrum = spectra[rng.integers(len(spectra))]
        silent = rng.random() < 0.15
        if silent:
            spectrum = nqm.Spectrum(curvature=spectrum.curvature, noise=0.0 * spectrum.curvature)
        problem = nqm.NoisyQuadratic(spectrum, float(4.0 ** rng.integers(0, 11)))
        optimizer = make(rng, spectrum)
        schedule = nqm.Constant() if rng.random() < 0.3 else campaign.random_schedule(rng)
        target = float(spectrum.initial_risk * 10.0 ** rng.uniform(-4.0, -0.1))
        most_steps = int(rng.choice([10**9, 10**9, 3000]))
        growth = rng.choice([None, 1000.0])
        start = time.process_time()
        found = nqm.steps_to_target(
            problem, optimizer, schedule, target=target, max_steps=most_steps, max_growth=growth
        )
        times.append(time.process_time() - start)
        if times[-1] > 2.0:
            size = problem.spectrum.law or len(spectrum)
            batch = problem.batch_size, silent, growth
            slow.append((times[-1], size, *batch, optimizer, schedule, target, most_steps, found))
    order = np.sort(times)
    print(
        f"\n{len(times)} calls: median {1e3 * np.median(times):.1f} ms, 99 % within "
        f"{order[int(0.99 * order.size)]:.2f} s, longest {order[-1]:.2f} s; {len(slow)} over 2 s"
    )
    for each in sorted(slow, key=lambda one: -one[0])[:10]:
        print("  ", each)
    assert not slow
