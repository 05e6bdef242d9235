"""What batch sizes that change are worth to SGD: the fewest examples of runs of some lengths.

The lengths T are shares of S, the fewest steps there are: those of the best rates without noise.
At each length there are two optima over the rates of equal pieces: with one batch size for the
whole run, and with a batch size for each piece (``nqm.optimal_schedule`` with ``steps`` and
``batch_sizes``). Both are of the problem and the target alone, whatever a study searches.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Literal

from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules.computed.joint import JointOptimum
from nqm_study.model.schedules.computed.optimal import optimal_schedule
from nqm_study.optimum.study import Truth
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.recipes import Recipes
from nqm_study.study.records import Ramp

PIECES = 50
"""The most pieces of a run."""

SHARES = (1.03, 1.05, 1.08, 1.125, 1.2, 1.35, 1.6, 1.95, 2.6, 3.75, 5.2, 7.5, 10.0, 15.0)
"""Lengths of runs over S."""

KEPT = (1.05, 1.125, 1.35, 1.95, 3.75, 7.5)
"""Those of which the rates and batch sizes are stored, beside the examples."""

LEAST = 1.02
"""The least length over S, once it is rounded: nearer to it examples go to infinity."""

NOISELESS = 1e15
"""A batch size without noise to speak of."""

DIGITS = 2
"""Of a length."""


def ramps_wanted(truth: Truth, definition: StudyDefinition) -> bool:
    """Whether the fewest examples of runs are to be computed beside a study."""
    if definition.problem:  # no schedule of its rates is known to be optimal
        return False
    return bool(truth) and bool(definition.batch_schedule) and not definition.two_objectives


def true_ramps(
    problem: Problem,
    recipes: Recipes,  # noqa: ARG001 (SGD's, whatever the study's optimizer is)
    definition: StudyDefinition,
) -> tuple[Ramp, ...]:
    """The fewest examples of runs of some lengths, the shortest first.

    Empty where no rates are known to reach the target, or the problem has no noise.
    """
    return _ramps(replace(problem, batch_size=1.0), definition.target, definition.max_steps)


@functools.cache
def _ramps(problem: Problem, target: float, max_steps: int) -> tuple[Ramp, ...]:
    """The same; studies of one problem share it."""
    try:
        quiet = replace(problem, batch_size=NOISELESS)
        fewest = optimal_schedule(quiet, target=target, pieces=None, max_steps=max_steps).steps
    except ValueError:
        return ()
    return tuple(
        _ramp(problem, target, steps, kept=share in KEPT)
        for share in SHARES
        if (steps := int(float(f"{share * fewest:.{DIGITS}g}"))) >= LEAST * fewest
    )


def _ramp(problem: Problem, target: float, steps: int, *, kept: bool) -> Ramp:
    def find(batch_sizes: Literal["constant", "optimal"]) -> JointOptimum:
        return optimal_schedule(
            problem,
            target=target,
            pieces=min(PIECES, steps),
            steps=steps,
            batch_sizes=batch_sizes,
        )

    one, best = find("constant"), find("optimal")
    shape = (best.batch_sizes, best.learning_rates) if kept else ((), ())
    sizes, rates = (tuple(float(f"{value:.6g}") for value in each) for each in shape)
    return Ramp(steps, one.examples, best.examples, sizes, rates)
