"""Hypothesis strategies for random problems and optimizers, shared by the tests of the model."""

import math
from collections.abc import Callable
from typing import Any

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


TINY, HUGE = 5e-324, float(np.finfo(float).max)

CORNERS = (0.0, TINY, 2.0**-1022, 1e-300, 1e-160, 1e-16, 1.0, 1e16, 1e160, 1e300, HUGE)
"""Where floats end or lose digits, and where their squares and roots do."""


def extremes(
    low: float = TINY, high: float = HUGE, *, below: float = math.inf
) -> st.SearchStrategy[float]:
    """Floats from low to high and below the bound: of every magnitude, the ends, their neighbours.

    Half of them are ordinary, so that not every value of a call is out of range at once.
    """
    high = min(high, math.nextafter(below, 0.0))
    near = {low, math.nextafter(low, math.inf), high, math.nextafter(high, 0.0)}
    near |= {math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0), *CORNERS}
    inside = sorted(value for value in near if low <= value <= high)
    digits = st.floats(math.log10(max(low, TINY)), min(math.log10(high), 308.25))
    magnitudes = digits.map(lambda u: min(max(10.0**u, low), high))
    common = st.floats(max(low, min(1e-3, 0.1 * high)), min(high, 1e3))
    return common | common | magnitudes | st.sampled_from(inside)


def accepted(make: Callable[..., Any], *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is made of some arguments, of those that are not refused."""

    def attempt(values: tuple[Any, ...]) -> Any:
        try:
            return make(*values)
        except ValueError:
            return None

    return st.tuples(*args).map(attempt).filter(lambda made: made is not None)


def extreme_spectra() -> st.SearchStrategy[nqm.Spectrum]:
    """Spectra of whatever floats: power laws, few modes, and ordinary ones out of scale."""
    dims = st.sampled_from([1, 2, 1000, 2**17, 2**17 + 1, 2**53]) | st.integers(1, 2**53)
    laws = accepted(nqm.power_law, dims, extremes(0.0, 1100.0))
    signed = extremes(0.0) | extremes(0.0).map(lambda a: -a)

    def modes(n: int) -> st.SearchStrategy[nqm.Spectrum]:
        many = _lists(extremes(0.0), n)
        noise, start = st.sampled_from([None, 0.0]) | many, st.just(0.0) | _lists(signed, n)
        fields = (noise, st.none() | many, start, st.none() | many)
        return accepted(nqm.Spectrum, _lists(extremes(), n), *fields)

    few = st.integers(1, 4).flatmap(modes)
    return st.one_of(few, few, laws, out_of_scale(), out_of_scale())


@st.composite
def out_of_scale(draw: st.DrawFn) -> nqm.Spectrum:
    """Ordinary spectra with curvature, noise, weight or start times any power of two."""
    spectrum = draw(spectra())
    powers = st.just(0) | st.integers(-1074, 1023)
    names = ("curvature", "noise", "multiplicity", "initial_mean", "initial_variance")

    def scaled(*powers: int) -> nqm.Spectrum:
        with np.errstate(over="ignore"):
            pairs = zip(names, powers, strict=True)
            return nqm.Spectrum(*(np.ldexp(getattr(spectrum, name), e) for name, e in pairs))

    return draw(accepted(scaled, *[powers] * len(names)))


def extreme_problems() -> st.SearchStrategy[nqm.NoisyQuadratic]:
    """Problems of whatever floats."""
    return accepted(nqm.NoisyQuadratic, extreme_spectra(), extremes())


def extreme_linear_optimizers() -> st.SearchStrategy[nqm.SGD]:
    """SGD of whatever floats."""
    decay = extremes(0.0, below=1.0) | st.just(0.0)
    power = st.just(0.0) | extremes(0.0, 1.0)
    return st.builds(nqm.SGD, extremes(), decay, st.booleans(), power, decay)


def extreme_adams() -> st.SearchStrategy[nqm.Adam]:
    """Adam of whatever floats."""
    decay = extremes(0.0, below=1.0) | st.sampled_from([0.0, 0.9, 0.999])
    return st.builds(nqm.Adam, extremes(), decay, decay, extremes(0.0))


def extreme_schedules() -> st.SearchStrategy[nqm.Constant]:
    """Schedules of whatever floats, of every kind."""
    warmup = st.just(0.0) | extremes(0.0, below=1.0)
    final, shares = extremes(0.0), extremes(TINY, 1.0)
    pieces = st.lists(extremes(0.0), min_size=1, max_size=4)
    boundary = extremes(TINY, below=1.0).map(lambda each: (each,))
    return st.one_of(
        st.builds(nqm.Constant, warmup),
        st.builds(nqm.Linear, final, warmup),
        st.builds(nqm.Polynomial, final, warmup, extremes()),
        st.builds(nqm.Cosine, final, warmup, extremes()),
        st.builds(nqm.Exponential, extremes(), warmup),
        st.builds(nqm.InverseSqrt, extremes(), warmup),
        st.builds(nqm.PiecewiseConstant, pieces, st.none(), warmup),
        st.builds(nqm.PiecewiseConstant, st.just((1.0, 0.1)), boundary, warmup),
        accepted(nqm.StepDecay, extremes(), st.sampled_from([1, 3, 100_000]), warmup),
        st.builds(
            nqm.WarmupStableDecay,
            final,
            warmup,
            shares,
            st.sampled_from(["linear", "cosine", "sqrt"]),
        ),
        st.builds(nqm.OneCycle, final, warmup, extremes(TINY, below=1.0), extremes(1.0)),
    )
