"""When batches that grow do what falling rates do: the published equivalences, with their ratios.

Stages of fewer steps with larger batches see the same examples as stages of lower rates. For SGD
the noise goes as rate / batch size, so that growing batches at a constant rate end where the
falling rate does (Smith et al., arXiv:1711.00489). Adam divides by the size of the noise, so that
it goes as rate / sqrt(batch size), and the rate still has to fall by sqrt(2) where the batch
doubles (Seesaw, arXiv:2510.14717). Both are limits of small rates, and Seesaw's of gradients that
are mostly noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import nqm_study as nqm

SPECTRUM = nqm.power_law(1000)

FALLS = (1.0, 0.5, 0.25, 0.125)
"""The rate of each of four stages beside the first one's, or one over its batch size."""


def end(optimizer: nqm.SGD | nqm.Adam, stages: Sequence[tuple[int, float, float]]) -> float:
    """The last risk of stages, each of so many steps at a factor of the rate and a batch size."""
    lengths, factors, sizes = (np.array(each) for each in zip(*stages, strict=True))
    steps = int(lengths.sum())
    bounds = tuple((np.cumsum(lengths)[:-1] / steps).tolist())
    risks = nqm.risk_curve(
        nqm.NoisyQuadratic(SPECTRUM, float(lengths @ sizes) / steps),
        optimizer,
        nqm.PiecewiseConstant(tuple(factors.tolist()), bounds),
        steps=[steps],
        horizon=steps,
        batch_schedule=nqm.BatchPieces(tuple(sizes.tolist()), bounds),
    )
    return float(risks[0])


def ratio(optimizer: nqm.SGD | nqm.Adam, size: float, steps: int, power: float) -> float:
    """The last risk with batches that double over that with rates that halve: equal examples.

    Where the batch doubles the rate falls by 2^power.
    """
    falling = end(optimizer, [(steps, fall, size) for fall in FALLS])
    return end(optimizer, [(int(steps * f), f**power, size / f) for f in FALLS]) / falling


@pytest.mark.parametrize(
    ("rate", "found", "within"),
    [(1.9, 3.5, 0.1), (1.0, 1.167, 0.01), (0.3, 1.033, 0.002), (0.01, 1.001, 1e-4)],
)
def test_growing_batches_are_falling_rates_of_sgd_at_small_rates(
    rate: float, found: float, within: float
) -> None:
    steps = 8 * round(1000 / rate)
    assert ratio(nqm.SGD(rate), 16.0, steps, 0.0) == pytest.approx(found, abs=within)


@pytest.mark.parametrize(("rate", "most"), [(1.9, 0.011), (0.3, 0.002)])
def test_with_momentum_they_are_at_every_rate(rate: float, most: float) -> None:
    steps = 8 * round(1000 / rate)
    assert abs(ratio(nqm.SGD(0.1 * rate, 0.9), 16.0, steps, 0.0) - 1.0) < most


@pytest.mark.parametrize(
    ("rate", "size", "seesaw", "linear"),
    [(1e-2, 16.0, 1.12, 0.996), (1e-4, 16.0, 1.0076, 0.219), (1e-4, 256.0, 1.0002, 2.424)],
)
def test_adams_rate_still_falls_by_the_root_of_what_the_batch_grows_by(
    rate: float, size: float, seesaw: float, linear: float
) -> None:
    adam, steps = nqm.Adam(rate, beta2=0.99), 8 * round(1 / rate)
    assert ratio(adam, size, steps, 0.5) == pytest.approx(seesaw, abs=0.005)
    assert ratio(adam, size, steps, 0.0) == pytest.approx(linear, abs=0.01)
