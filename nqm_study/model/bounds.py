"""Bounds on the steps that any algorithm needs: the strict one, and the usual one."""

from __future__ import annotations

import numpy as np

from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_number


def bayes_bound(problem: NoisyQuadratic, *, target: float = 0.01) -> int:
    """The smallest number of steps after which any algorithm could have reached the target.

    T gradients of batch size B measure each mode's start with precision T B h^2 / c beside the
    prior's 1 / s, so no estimate of the minimum has a smaller expected loss than

        1/2 sum m h / (1/s + T B h^2 / c).

    A mode without noise is known after one gradient. The bound is the first integer T at which this
    is at most the target.

    Raises:
        ValueError: if target is not a finite number greater than 0.
    """
    target = require_number("target", target, above=0.0)
    spectrum = problem.spectrum
    weight = 0.5 * spectrum.multiplicity * spectrum.curvature
    prior = spectrum.initial_variance
    # s / (1 + T s B h^2 / c), with c = 0 giving 0 as soon as T > 0
    information = prior * problem.batch_size * spectrum.curvature**2

    def risk(steps: int) -> float:
        if steps == 0:
            return float(np.sum(weight * prior))
        gathered = steps * information
        return float(
            np.sum(
                weight
                * prior
                * np.divide(
                    spectrum.noise,
                    spectrum.noise + gathered,
                    out=np.zeros_like(prior),
                    where=(prior > 0.0) & (spectrum.noise > 0.0),
                )
            )
        )

    if risk(0) <= target:
        return 0
    high = 1
    while risk(high) > target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if risk(middle) > target else (low, middle)
    return high


def classical_bound(problem: NoisyQuadratic, *, target: float = 0.01) -> float:
    """The steps that averaging needs where nothing is known of the start: sum m c/h / (2 C B).

    T gradients of batch size B measure each mode's start with variance c / (T B h^2) at best
    (Cramer and Rao), without bias; least squares, or averaging the iterates, comes to that. The
    expected loss is then 1/2 sum m c/h / (T B), and equals the target C at the T returned; with
    c = h that is T B = d / (2 C), d the number of modes.

    It is usually called a lower bound and is not a strict one, since it drops the prior: where the
    start's distribution is known, estimates with a bias do better. It is the limit of
    ``bayes_bound`` for small targets or a wide start. The paper's problem has T B = 500,000 here,
    and 495,016 there.

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
    with np.errstate(over="ignore"):
        # m first: a mode that is absent adds 0 however flat it is, never 0 times infinity.
        examples = np.sum(spectrum.multiplicity * spectrum.noise / spectrum.curvature)
        return float(examples / target / 2.0 / problem.batch_size)
