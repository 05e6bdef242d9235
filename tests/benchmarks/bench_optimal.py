"""Optimal schedules against the same search as one would write it with autograd and SciPy.

    pip install -e '.[bench]'
    OPENBLAS_NUM_THREADS=1 python -m pytest tests/benchmarks/bench_optimal.py

One thread, because the small matrices of SciPy's L-BFGS-B otherwise wait for threads that are busy
elsewhere, which costs ten times their own work on a loaded machine.

The rival is straightforward: a closed form per piece, gradients by the package autograd, L-BFGS-B
in the logarithms of the rates, which is the better of its coordinates, started from all rates at
the largest, and bisection over T in multiples of the pieces, each minimum started from the last.
It is run on all 10^4 modes, and on 100 bins as the published notebook rounds them; ours then has
the same modes. Ours finds T to the step, and tries other starts besides.
"""

import autograd
import autograd.numpy as anp
import eigen_bisection
import numpy as np
import pytest
from scipy import optimize

import nqm_study as nqm
from nqm_study.model.schedules.computed.optimal import optimal_schedule

pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

DIM, BINS, PIECES, TARGET = 10_000, 100, 50, 0.01
CAP = 2.0 / (1.0 + 1.0 / DIM + 1e-4)
ALL_MODES = eigen_bisection.Modes.all(DIM)
ROUNDED = ALL_MODES.rounded(BINS)
SPECTRA = {
    "100 bins": (
        nqm.Spectrum(curvature=ROUNDED.curvature, multiplicity=ROUNDED.count),
        ROUNDED,
    ),
    "10^4 modes": (nqm.power_law(DIM), ALL_MODES),
}


def logarithm_of_last_risk(logarithms, modes, batch_size, length):
    """log L_T of SGD: E theta^2 falls by (1 - r h)^2n towards its floor in every piece."""
    moment = anp.ones(modes.curvature.size)
    rates = anp.exp(logarithms)
    for piece in range(PIECES):
        kept = (1.0 - rates[piece] * modes.curvature) ** (2 * length)
        floor = rates[piece] / (batch_size * (2.0 - rates[piece] * modes.curvature))
        moment = kept * moment + (1.0 - kept) * floor
    return anp.log(anp.sum(0.5 * modes.count * modes.curvature * moment))


def by_autograd(modes, batch_size):
    """The fewest steps that are a multiple of the pieces."""
    value_and_gradient = autograd.value_and_grad(logarithm_of_last_risk)
    bounds = [(None, np.log(CAP))] * PIECES

    def minimum(length, start):
        found = optimize.minimize(
            value_and_gradient,
            start,
            args=(modes, batch_size, length),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
        )
        return found.fun, found.x

    start = np.full(PIECES, np.log(CAP))
    low, high = 0, 1
    while True:
        risk, start = minimum(high, start)
        if risk <= np.log(TARGET):
            break
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        risk, start = minimum(middle, start)
        low, high = (low, middle) if risk <= np.log(TARGET) else (middle, high)
    return PIECES * high


def ours(spectrum, batch_size):
    problem = nqm.NoisyQuadratic(spectrum, batch_size)
    return optimal_schedule(problem, target=TARGET, pieces=PIECES, max_learning_rate=CAP).steps


@pytest.mark.parametrize("batch_size", [16, 256, 4096])
@pytest.mark.parametrize(("size", "bound"), [("100 bins", None), ("10^4 modes", 40)])
def test_optimal_schedule(size, bound, batch_size, race, bar):
    spectrum, modes = SPECTRA[size]
    steps, rival = ours(spectrum, batch_size), by_autograd(modes, batch_size)
    # Theirs is the next multiple, or one more where their minimum was not quite one.
    assert steps <= rival <= steps + 2 * PIECES
    mine, theirs = race(
        lambda: ours(spectrum, batch_size), lambda: by_autograd(modes, batch_size), rounds=1
    )
    bar(
        f"optimal schedule, B = {batch_size}, {size}, autograd and SciPy",
        f"{theirs / mine:.1f}x ({theirs:.2f} s against {mine:.3f} s; T = {rival} and {steps})",
        bound="" if bound is None else f">= {bound}x",
        met=None if bound is None else theirs >= bound * mine,
    )
    bar(
        f"optimal schedule, B = {batch_size}, {size}",
        f"{mine:.3f} s",
        bound="< 0.5 s",
        met=mine < 0.5,
    )
