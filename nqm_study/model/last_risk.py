"""The last risk of a run, quickly and smoothly: what a search descends along.

It is off by up to about a percent (compression of the spectrum, stretches of a schedule, Adam's
rules), by nearly the same share at neighbouring hyperparameters and lengths, and takes a fraction
of the time of a search for the steps to a target.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL, USUAL
from nqm_study.model.adaptive.run import Closure
from nqm_study.model.linear.risks import Engine, converged
from nqm_study.model.linear.runs import Runs
from nqm_study.model.numerics.horizon import FAIR, GOOD
from nqm_study.model.optimizers import Adam, Optimizer
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Constant, Schedule

LEVEL = 2
"""The compression of the spectrum under a schedule, if there are finer ones."""

STEPPED = 2048
"""Up to so many steps a run under a schedule is stepped through: a warm-up of a step or two shows,
which stretches blur."""


def last_risk(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    schedule: Schedule,
    steps: int,
    level: int | None = None,
) -> float:
    """About the expected loss after all steps of a run; inf or NaN where it overflows.

    Args:
        problem: spectrum and batch size.
        optimizer: ``SGD`` or ``Adam``.
        schedule: multiplies the learning rate.
        steps: the length of the run, >= 1.
        level: compression of the spectrum for ``SGD``; a fine enough one where not given.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if isinstance(optimizer, Adam):
            closure = Closure.of(problem, optimizer, schedule, COMPRESSION_LEVEL, USUAL)
            return closure.within(steps, roughly=True).risk_after(steps)
        ends = np.array((steps,))
        if schedule == Constant():
            if level is None:
                return float(converged(problem, optimizer, ends)[0].risks(ends)[0])
            return float(Engine.build(problem, optimizer, level, steps).risks(ends)[0])
        spectrum = problem.spectrum
        level = max(spectrum.first_level, min(LEVEL, spectrum.last_level))
        quality = GOOD if steps <= STEPPED else FAIR
        return Runs(problem, optimizer, schedule, level).look(steps, quality).risk
