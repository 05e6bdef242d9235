"""Bounds on the steps that any algorithm needs: the strict one, and the usual one."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.products import plain, product
from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.problem import Problem

MOST_BITS = 2**13
"""No bound has more binary digits: seven floats, of 1074 each at most, are multiplied for it."""


def bayes_bound(problem: Problem, *, target: float = 0.01) -> int:
    """The smallest number of steps after which any algorithm could have reached the target.

    T gradients of batch size B measure each mode's start with precision T B h^2 / c beside the
    prior's 1 / s, so no estimate of the minimum has a smaller expected loss than

        1/2 sum m h / (1/s + T B h^2 / c).

    A mode without noise is known after one gradient. The bound is the first integer T at which this
    is at most the target. It has no upper end: a tiny target or batch may need more steps than a
    float can hold. From 2^53 on it is right to 53 binary digits, as all that goes into it is.

    On ``LeastSquares`` with c = h it is that of learning w* from T B examples and their inputs. The
    sum above, with noise c = h label_noise, is a bound there, since the mean of the covariance that
    is left, over the inputs, is at least the inverse of its mean precision. Nor do n examples tell
    more than the n modes of the largest s h: with little label noise that is the larger bound. Both
    are strict for a Gaussian start. With another c there are no examples, and no bound: 0.

    Raises:
        ValueError: if target is not a finite number greater than 0.
    """
    target = require_number("target", target, above=0.0)
    spectrum = problem.spectrum
    m, h, c, s = (
        spectrum.multiplicity, spectrum.curvature, spectrum.noise, spectrum.initial_variance
    )  # fmt: skip
    if np.sum(spectrum.weight * s) <= target:
        return 0
    least = 0.0
    if problem.follows_loss:
        if not np.allclose(c, h, rtol=1e-9, atol=0.0):
            return 0
        c = problem.steady_noise * c
        least = _examples_of_modes(m, s * h, target) / problem.batch_size
    # s / (1 + T s B h^2 / c); where c = 0 nothing is left as soon as T > 0.
    left = (m > 0.0) & (c > 0.0) & (s > 0.0)
    m, h, c, s = m[left], h[left], c[left], s[left]
    prior, size = product((0.5, m, h, s), (target,))
    gained, exponent = product((s, problem.batch_size, h, h), (c,))

    def reached(steps: int) -> bool:
        shift = max(steps.bit_length() - 53, 0)
        e = exponent + shift
        # Both parts of 1 + T s B h^2 / c over the power of 2 that may be too large for a float.
        up = np.maximum(e, 0)
        kept = plain(1.0, -up) + plain(gained * float(steps >> shift), e - up)
        return bool(np.sum(plain(prior / kept, size - up)) <= 1.0)

    bits = bisect_left(range(MOST_BITS), True, key=lambda bits: reached(1 << bits))
    steps = range(max(1, 1 << bits >> 1), (1 << bits) + 1, max(1, 1 << bits >> 53))
    return max(steps[bisect_left(steps, True, key=reached)], math.ceil(least))


def _examples_of_modes(multiplicity: Array, part: Array, target: float) -> float:
    """How many of the largest modes must be known for the others to have a risk of the target."""
    order = np.argsort(-part, kind="stable")
    m, left = multiplicity[order], 0.5 * (multiplicity * part)[order]
    behind = np.cumsum(left[::-1])[::-1]  # the risk of each entry and those after it
    first = int(np.searchsorted(-behind, -target))  # from here on it is at most the target
    known, rest = float(np.sum(m[:first])), float(np.append(behind, 0.0)[first])
    over = 0.5 * float(part[order][first - 1]) if first else 0.0
    # Of the last of these entries some modes may be left unknown.
    return known - math.floor((target - rest) / over) if over > 0.0 else known


def classical_bound(problem: Problem, *, target: float = 0.01) -> float:
    """The steps that averaging needs where nothing is known of the start: sum m c/h / (2 C B).

    T gradients of batch size B measure each mode's start with variance c / (T B h^2) at best
    (Cramer and Rao), without bias; least squares, or averaging the iterates, comes to that. The
    expected loss is then 1/2 sum m c/h / (T B), and equals the target C at the T returned; with
    c = h that is T B = d / (2 C), d the number of modes.

    It is usually called a lower bound and is not a strict one, since it drops the prior: where the
    start's distribution is known, estimates with a bias do better. It is the limit of
    ``bayes_bound`` for small targets or a wide start. The paper's problem has T B = 500,000 here,
    and 495,016 there.

    On ``LeastSquares`` it is that of least squares on T B examples, as long as they are many more
    than modes: the noise is then c label_noise.

    All modes count, those without a signal too: what knows no prior cannot know that a mode starts
    at its minimum. A mode without noise adds nothing.

    Args:
        problem: spectrum and batch size.
        target: expected loss to reach, > 0.

    Returns:
        The number of steps, not rounded; infinite where no float can hold it.

    Raises:
        ValueError: if target is not a finite number greater than 0.

    Source: the Cramer-Rao bound, on the model of Zhang et al. 2019, arXiv:1907.04164.
    """
    target = require_number("target", target, above=0.0)
    spectrum = problem.spectrum
    steps = product(
        (0.5, spectrum.multiplicity, spectrum.noise, problem.steady_noise),
        (spectrum.curvature, target, problem.batch_size),
    )
    with np.errstate(over="ignore"):
        return float(np.sum(plain(*steps)))
