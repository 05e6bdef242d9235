"""Runs of stochastic gradient descent on data, whose excess risk is what the model predicts.

Each step draws B of the n examples with replacement. All is in H's eigenbasis, where an example is
its coordinates x = V^T f, and an optimizer that is diagonal there, as every linear one is, does
what it does to the features themselves. The gradient at theta = w - w* is the mean of
x (x . theta - e) over the batch, e the residual of the example, and the excess risk is

    L = 1/2 mean (f . w - t)^2 - 1/2 mean e^2 = 1/2 sum h theta^2,

since the residuals of a least-squares solution are orthogonal to the features.

| symbol | name in code | meaning |
|---|---|---|
| n, r | | examples, and modes with a curvature above 0 |
| B | batch_size | examples of a step |
| h | curvature | eigenvalues of H = F^T F / n |
| theta_0 | start | -w*: weights start at 0 |

Adam divides by a root for each coordinate: in H's eigenbasis, as the model has it, which is not
what it does to the features themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nqm_study.model.crossing import CONSTANT, require_run, require_steps
from nqm_study.model.fresh_examples import adam_step, linear_step, put_point
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import Like, compiled, compiled_within
from nqm_study.model.numerics.replicas import CHUNK, in_threads, require_threads
from nqm_study.model.numerics.require import require_integer
from nqm_study.model.optimizers import LinearOptimizer, Optimizer
from nqm_study.model.optimizers.steps import Steps
from nqm_study.model.problems.data import Examples
from nqm_study.model.problems.least_squares import LeastSquares
from nqm_study.model.schedules import ScheduleLike

MOST_WORK = 2**33
"""Numbers that runs read, (B + 2) r of each step: half a minute's work, shared by threads."""

LONGEST = 2**23
"""Steps of a run, whose rates are held: 0.5 GB with momentum."""

FEWEST_RUNS = 2
"""So many have a standard error."""


class TooMuchWorkError(ValueError):
    """Runs on data that would take too long."""


@dataclass(frozen=True, eq=False)
class DataRuns:
    """The excess risk of runs on data after some steps; infinite, or NaN, where one diverged.

    Attributes:
        mean: over the runs, in the order of the steps that were asked for.
        standard_error: of that mean, from the scatter of the runs; NaN for one.
        n_runs: how many runs were made.
    """

    mean: Array
    standard_error: Array
    n_runs: int


@compiled_within
def _gradient(inputs: Array, residuals: Array, chosen: Integers, at: Array, g: Array) -> None:
    """Put the mean gradient of the chosen examples at some weights into g."""
    for k in range(at.size):
        g[k] = 0.0
    for i in chosen:
        miss = -residuals[i]
        for k in range(at.size):
            miss += inputs[i, k] * at[k]
        miss /= chosen.size
        for k in range(at.size):
            g[k] += miss * inputs[i, k]


@compiled
def linear_on_data(
    like: Like, readout: int, drift: Array, gain: Array, point: Array, root: Array, scale: Array,
    inputs: Array, residuals: Array, chosen: Integers, state: Array, losses: Array,
) -> None:  # fmt: skip
    """Take one step of a linear optimizer for each row of chosen examples.

    The first five arguments are the optimizer's ``Steps``. The others:

    - root: sqrt(h) of each mode.
    - scale: what its gradients are multiplied by.
    - inputs: the examples' coordinates, shape (n, modes).
    - residuals: of each example.
    - chosen: the examples of each step, shape (steps, B).
    - state: z of each mode, shape (k, modes).
    - losses: receives the loss after each step.
    """
    at, g, moved = np.empty(root.size), np.empty(root.size), np.empty(len(like))
    for i in range(losses.size):
        put_point(like, point[i], state, at)
        _gradient(inputs, residuals, chosen[i], at, g)
        losses[i] = linear_step(like, readout, drift[i], gain[i], root, scale, g, moved, state)


@compiled
def adam_on_data(
    optimizer: tuple[float, float, float], decay: float | None, plain: Array, rates: Array,
    scales: Array, root: Array, inputs: Array, residuals: Array, chosen: Integers, state: Array,
    losses: Array,
) -> None:  # fmt: skip
    """Take one step of Adam for each row of chosen examples.

    The arguments are those of ``linear_on_data``, with the ``Steps`` of Adam.
    """
    g = np.empty(root.size)
    for i in range(losses.size):
        _gradient(inputs, residuals, chosen[i], state[0], g)
        losses[i] = adam_step(optimizer, decay, plain[i], rates[i], scales[i], root, g, state)


def run_on_data(
    features: Any,
    targets: Any,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    batch_size: int = 16,
    steps: Sequence[int] | npt.NDArray[np.integer],
    n_runs: int = 8,
    seed: int = 0,
    horizon: int | None = None,
    center: bool = False,
    scale: bool = False,
    n_jobs: int | None = None,
) -> DataRuns:
    """Train a linear model on data by least squares, and measure its excess risk.

    It is half the mean squared error over the data above that of the least-squares solution: what
    ``risk_curve`` predicts on ``least_squares_from_data``. Weights start at 0, and each step draws
    its examples with replacement.

    A run reads (B + 2) r numbers a step, r the rank of the features. Runs that would read more than
    2^33 in all are fewer, but at least two; ``DataRuns.n_runs`` says how many. None has more than
    2^23 steps.

    Args:
        features: shape (n, d), numbers; at most 5,000 examples, or 5,000 features.
        targets: shape (n,), numbers or two classes.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``, which runs in H's
            eigenbasis.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        batch_size: examples per step, an integer >= 1.
        steps: numbers of steps >= 0 after which to measure, in any order.
        n_runs: runs with examples of their own, >= 1.
        seed: of a ``numpy.random.SeedSequence``, >= 0.
        horizon: the length of the run that the schedule is made for; the last of the steps where
            not given.
        center: subtract means, as ``Regression.of`` does.
        scale: divide by standard deviations, as ``Regression.of`` does.
        n_jobs: threads that the runs are shared by; as many as there are processors where not
            given. The result does not depend on it.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind; ``TooMuchWorkError`` where
            even two runs, or the one that is asked for, are beyond these limits.
    """
    examples = Examples.of(features, targets, center=center, scale=scale)
    return runs_on(
        examples, optimizer, schedule, batch_size=batch_size, steps=steps, n_runs=n_runs,
        seed=seed, horizon=horizon, n_jobs=n_jobs,
    )  # fmt: skip


def runs_on(
    examples: Examples,
    optimizer: Optimizer,
    schedule: ScheduleLike,
    *,
    batch_size: float,
    steps: Sequence[int] | npt.NDArray[np.integer],
    n_runs: int,
    seed: int = 0,
    horizon: int | None = None,
    n_jobs: int | None = None,
) -> DataRuns:
    """``run_on_data`` on examples that are in H's eigenbasis already."""
    whole = int(batch_size) if isinstance(batch_size, float) and batch_size % 1 == 0 else batch_size
    size = require_integer("batch_size", whole, least=1)
    shape = require_run(LeastSquares(examples.spectrum, size), optimizer, schedule)
    require_integer("n_runs", n_runs, least=1)
    require_integer("seed", seed, least=0)
    threads = require_threads(n_jobs)
    wanted, end = require_steps(steps, horizon, CONSTANT)  # without a horizon they end with it
    ordered, position = np.unique(np.array(wanted, dtype=np.int64), return_inverse=True)
    last = int(ordered[-1]) if ordered.size else 0
    n_runs = _affordable(last, (size + 2) * len(examples.curvature), n_runs)
    rates = optimizer.learning_rate * shape.at_steps(np.arange(last, dtype=np.float64), end)
    # A run may diverge, which its losses tell.
    with np.errstate(over="ignore", invalid="ignore"):
        found = _losses(examples, optimizer, rates, size, ordered, n_runs, seed, threads)
        losses = found[:, position]
        error = np.full(position.size, np.nan)
        if n_runs > 1:
            error = losses.std(axis=0, ddof=1) / np.sqrt(n_runs)
        return DataRuns(losses.mean(axis=0), error, n_runs)


def _affordable(steps: int, numbers: int, n_runs: int) -> int:
    """How many runs are made of those that are asked for.

    Args:
        steps: of each.
        numbers: that each step reads.
        n_runs: how many are asked for.

    Raises:
        TooMuchWorkError: where too few can be made.
    """
    fewest = min(n_runs, FEWEST_RUNS)
    most = min(LONGEST, MOST_WORK // (fewest * numbers))
    if steps > most:
        raise TooMuchWorkError(
            f"steps={steps:,}: must be at most {most:,} in runs on this data at this batch size"
        )
    return min(n_runs, MOST_WORK // max(steps * numbers, 1))


def _losses(
    examples: Examples,
    optimizer: Optimizer,
    rates: Array,
    size: int,
    steps: Integers,
    n_runs: int,
    seed: int,
    threads: int,
) -> Array:
    """The loss of each run after ascending numbers of steps, shape (n_runs, steps)."""
    root = np.sqrt(examples.curvature)
    of_run, of_modes = Steps.of(optimizer, rates), [root]
    kernel: Callable[..., None] = adam_on_data
    if isinstance(optimizer, LinearOptimizer):
        kernel = linear_on_data
        of_modes.append(np.asarray(optimizer.preconditioner(examples.curvature)))
    inputs = np.ascontiguousarray(examples.inputs)
    seeds = np.random.SeedSequence(seed).spawn(n_runs)
    rows = max(CHUNK // size, 1)
    losses = np.full((n_runs, steps.size), 0.5 * np.sum((root * examples.start) ** 2))

    def run(index: int, stop: threading.Event) -> None:
        rng = np.random.default_rng(seeds[index])
        state = np.multiply.outer(of_run.start, examples.start)
        for first in range(0, rates.size, rows):
            if stop.is_set():
                return
            now = slice(first, min(first + rows, rates.size))
            chosen = rng.integers(len(inputs), size=(now.stop - first, size))
            after = np.empty(len(chosen))
            kernel(
                *of_run.constants, *(each[now] for each in of_run.of_steps), *of_modes, inputs,
                examples.residuals, chosen, state, after,
            )  # fmt: skip
            here = (steps > first) & (steps <= now.stop)
            losses[index, here] = after[steps[here] - first - 1]

    in_threads(run, n_runs, threads)
    return losses
