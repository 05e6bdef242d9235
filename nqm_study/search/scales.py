"""The scales of a problem, known before any trial: rates, steps, and where noise sets in."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nqm_study.model.adaptive.run import largest_decay
from nqm_study.model.linear.fewest_steps import largest_rate
from nqm_study.model.linear.members import Family
from nqm_study.model.linear.stability import stability_limit
from nqm_study.model.optimizers import SGD, Preconditioned
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.small_batch import SmallBatch, joined, noise_at_target, small_batch
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.search.pace import Pace
from nqm_study.study.definition import Range, Searched, StudyDefinition
from nqm_study.study.recipes import Recipes


@dataclass(frozen=True)
class Scales:
    """The scales of a problem for SGD or for Adam, known before any trial.

    Attributes:
        rate: learning rate of the first trial, without momentum.
        steps: steps of plain SGD, or Adam, at it, about.
        batch_share: B / examples, the inverse of the steps at small batches; infinite without
            noise, as is small_rate.
        small_rate: the rate of small batches.
        root: the square root of the largest curvature by the smallest that matters, or less.
        noiseless: the rate that SGD without noise would start with.
        limit: no larger rate of plain SGD can reach the target; infinite for Adam.
        speed: plain SGD is stable below 2 / speed: the largest x, where the noise is additive.
        decay: the weight decay of Adam that keeps small rates at the target; infinite where it is
            not fitted.
    """

    rate: float
    steps: float
    batch_share: float
    small_rate: float
    root: float
    noiseless: float
    limit: float
    speed: float
    decay: float = math.inf


def scales_of(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Scales:
    """The scales of a study's problem, for linear optimizers or for Adam."""
    if recipes.optimizer.adaptive:
        return _adam(problem, definition)
    return _sgd(problem, recipes, definition)


def _sgd(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Scales:
    # A power that is searched: that of its low end has the lowest rates, and all have one limit.
    power = Pace(recipes.optimizer, definition.hyperparameters).power
    noise = noise_at_target(problem, definition.target)
    known = _small_batch(problem.spectrum, power, definition.target, noise)
    family = Family({"preconditioner_power": power})
    limit = largest_rate(problem, family, definition.target)
    known = known or _without_noise(1.0 / limit)
    stable, fastest = 2.0 / known.speed, 1.0
    if problem.follows_loss:
        # Small batches make it lower, as if the steepest mode were steeper.
        lower = stability_limit(problem, Preconditioned(SGD(1.0), power))
        fastest = min(lower / stable, 1.0)
        limit, stable = min(limit, lower), fastest * stable
    small = known.rate * problem.batch_size
    share = problem.batch_size / known.examples if known.examples > 0.0 else math.inf
    noiseless, noisy = _largest(problem, definition.target, known)
    return Scales(
        rate=joined(small, fastest * noisy),
        steps=1.0 / share + known.least_time / stable,
        batch_share=share,
        small_rate=small,
        root=math.sqrt(max(known.least_time * known.speed, 1.0)),
        noiseless=fastest * noiseless,
        limit=limit,
        speed=known.speed / fastest,
    )


def _largest(problem: Problem, target: float, known: SmallBatch) -> tuple[float, float]:
    """Rates of SGD that are nearly as large as can be, without noise and with it.

    After T steps the fastest mode's share of the initial risk L_0 is (x - 1)^(2 T), which has to be
    below the target C; and its noise adds m c / (h B (2 - x)) to the risk. Both keep x from 2: the
    one by ln(4 L_0 / C) / (2 T) if T is large, the other by 0.8 of the root of what it adds at
    2 - x = 1, over C.
    """
    spectrum = problem.spectrum
    noise = noise_at_target(problem, target)
    fastest = int(np.argmax(spectrum.curvature))
    steps = max(0.5 * known.least_time * known.speed, 1.0)
    x = 1.0 + (0.25 * target / spectrum.initial_risk) ** (0.5 / steps)
    curvature = float(spectrum.curvature[fastest])
    added = float(noise * spectrum.multiplicity[fastest] * spectrum.noise[fastest]) / curvature
    kept = 0.8 * math.sqrt(added / problem.batch_size / target)
    return x / known.speed, max(x - kept, 1.0) / known.speed


def _adam(problem: Problem, definition: StudyDefinition) -> Scales:
    spread = math.sqrt(float(np.max(problem.spectrum.second_moment)))
    noise = noise_at_target(problem, definition.target)
    known = _small_batch(problem.spectrum, "adam", definition.target, noise)
    known = known or _without_noise(1.0 / spread)
    small = known.rate * math.sqrt(problem.batch_size)
    share = problem.batch_size / known.examples if known.examples > 0.0 else math.inf
    given, decay = definition.hyperparameters, math.inf
    if isinstance(each := given.get("weight_decay"), Range) and each.fitted:
        eps = given.get("eps")
        decay = largest_decay(
            problem, definition.target, 0.0 if isinstance(eps, Searched) else float(eps or 0.0)
        )
    return Scales(
        rate=joined(small, spread),
        steps=1.0 / share + 50.0,
        batch_share=share,
        small_rate=small,
        root=1.0,
        noiseless=spread,
        limit=math.inf,
        speed=1.0 / spread,
        decay=decay,
    )


@functools.lru_cache(maxsize=32)
def _small_batch(
    spectrum: Spectrum, preconditioner: float | Literal["adam"], target: float, noise: float
) -> SmallBatch | None:
    # All batch sizes of a call share it.
    return small_batch(spectrum, preconditioner, target=target, noise_factor=noise)


def _without_noise(speed: float) -> SmallBatch:
    """Constants of small batches where there is no noise to set them."""
    return SmallBatch(0.0, math.inf, 1.0 / speed, 1.0 / speed, speed)
