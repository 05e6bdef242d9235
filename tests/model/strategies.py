"""Hypothesis strategies for random problems and optimizers, shared by the tests of the model."""

import numpy as np
from hypothesis import HealthCheck, settings, strategies as st

import nqm_study as nqm

repeatable = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
"""Settings of every property test: compiled code makes a first call slow, and CI must repeat."""


def logarithmic(low: float, high: float) -> st.SearchStrategy[float]:
    """Positive numbers, evenly spread in their logarithm."""
    ends = np.log10([low, high])
    return st.floats(ends[0], ends[1]).map(lambda u: float(10.0**u))


def _lists(values: st.SearchStrategy[float], n: int) -> st.SearchStrategy[list[float]]:
    return st.lists(values, min_size=n, max_size=n)


@st.composite
def spectra(draw: st.DrawFn, most: int = 7) -> nqm.Spectrum:
    """Spectra with repeated curvatures, missing noise, absent modes, and starts off zero."""
    curvature = draw(st.lists(logarithmic(1e-3, 10.0), min_size=1, max_size=most))
    if draw(st.booleans()):
        curvature = curvature + curvature[:1]
    n = len(curvature)
    noise = draw(st.sampled_from([None, 0.0]) | _lists(st.just(0.0) | logarithmic(1e-4, 10.0), n))
    multiplicity = draw(st.none() | _lists(st.just(0.0) | logarithmic(1e-2, 1e3), n))
    mean = draw(st.sampled_from([0.0, 1.5]) | _lists(st.floats(-2.0, 2.0), n))
    variance = draw(st.sampled_from([None, 0.0]) | _lists(st.just(0.0) | logarithmic(1e-2, 4.0), n))
    return nqm.Spectrum(curvature, noise, multiplicity, mean, variance)


@st.composite
def problems(draw: st.DrawFn) -> nqm.NoisyQuadratic:
    """Small problems whose initial risk is not zero."""
    spectrum = draw(spectra().filter(lambda s: s.initial_risk > 1e-6))
    return nqm.NoisyQuadratic(spectrum, draw(logarithmic(1.0, 1e5)))


def stability_limit(momentum: float, *, nesterov: bool) -> float:
    """The largest stable x = lr h^(1-p), from Jury's conditions on the 2 x 2 matrix."""
    return 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum if nesterov else 1.0)


@st.composite
def linear_optimizers(draw: st.DrawFn, curvature: np.ndarray) -> nqm.SGD:
    """Rates from tiny to unstable, at double roots and next to the limit of stability.

    With momentum near 1, the double root at the limit of stability loses half of the digits in
    whatever recursion; next to the limit, momentum stays below 0.9.
    """
    nesterov = draw(st.booleans())
    power = draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0.0, 1.0))
    steep = curvature.max() ** (1.0 - power)
    kind = draw(st.sampled_from(["stable", "limit", "unstable", "double root", "one"]))
    gaps = logarithmic(1e-4, 0.9) if kind in {"stable", "double root"} else logarithmic(0.1, 0.9)
    momentum = draw(st.just(0.0) | gaps.map(lambda gap: 1.0 - gap))
    limit = stability_limit(momentum, nesterov=nesterov)
    if kind == "stable":
        x = limit * draw(logarithmic(1e-4, 0.9))
    elif kind == "limit":
        x = limit * (1.0 - draw(logarithmic(1e-10, 0.1)))
    elif kind == "unstable":
        x = limit * (1.0 + draw(logarithmic(1e-8, 1.0)))
    elif kind == "double root" and momentum > 0.0:
        # z^2 - (1 + mu - x) z + mu has a double root: critical damping.
        x = (1.0 - np.sqrt(momentum)) ** 2
    else:
        x = 1.0  # SGD forgets a mode of this curvature in one step
    learning_rate = float(x / steep)
    decay = draw(st.just(0.0) | logarithmic(1e-3, 0.9).map(lambda gap: 1.0 - gap))
    if momentum == 0.0 and draw(st.integers(0, 7)) == 0:
        # Averaging is defective where its own root equals that of the iterate.
        decay = float(np.clip(1.0 - learning_rate * steep, 0.0, 0.999))
    return nqm.SGD(learning_rate, momentum, nesterov, power, decay)
