"""Greedy learning rates: at each step the one that makes the next expected loss smallest.

Each node of the spectrum has a part e of the risk: w z^2 of the signal's, v S of the noise's.
Per node, with preconditioner P = h^-p:

| symbol | meaning |
|---|---|
| k = h^(1-p) | what a rate of 1 takes from theta |
| n | what a rate of 1 adds to e by noise: v h^-2p with v = 1/2 m h c / B; 0 for the signal's |
| e | part of the risk; e' = (1 - lr k)^2 e + lr^2 n |

The next risk, sum e', is a parabola in lr. It is least at

    lr = sum k e / (sum k^2 e + sum n),

where it is lr sum k e below the present one: the risk falls at every step, and tends to 0. Greedy
rates are too small: they spend on the noise what the flat modes would need (short-horizon bias).

Source: Wu, Ren, Liao, Grosse 2018, arXiv:1803.02021, with momentum 0.

Strides. Once lr k << 1 the changes e_t+1 - e_t are smooth in t, and n steps add the sum over
0 <= j < n of the polynomial in j through the last ORDER changes, which lie n steps apart: a linear
multistep method of Adams and Bashforth, with sums for its integrals. For n = 1 it is the recursion
itself. Where a stride reaches the target, it is taken back and walked in shorter ones, the last of
them single steps. Every run is repeated with strides half as long, on a finer compression.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from nqm_study.model.noise_scale import noise_over
from nqm_study.model.numerics.arrays import Array, Integers, shown
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.numerics.refine import ROUNDING, TOLERANCE
from nqm_study.model.numerics.require import require_integer, require_number
from nqm_study.model.problems.problem import Problem, require_additive
from nqm_study.model.schedules.computed.kernels import RECORD_GROWTH, greedy_advance

ORDER = 4
"""Changes that a stride extrapolates: its error falls as the fourth power of its length."""

LIMIT = 0.2
"""The largest 2 lr k n of a stride of n steps, at first; the method is stable to 0.3."""

PATIENCE = 512
"""A stride takes at most this share of the steps before it, at first."""

DOUBLINGS = 50
"""Strides are at most 2 to this power long."""

SHORTER = 6
"""A stride that crosses the target is walked again in strides 2 to this power shorter."""

MOST_HALVINGS = 4
"""How often the strides are halved at most; each time divides their error by 16."""

MOST_WORK, PER_STRIDE = 2**31, 100
"""Strides times nodes of all runs, and what a stride costs beside its nodes: a second or so. Where
modes without noise differ by many decades, rates swing without end, and all steps are single."""

LONGEST = 10**15
"""The largest number of steps; up to here steps are exact as floating-point numbers."""


@dataclass(frozen=True, eq=False)
class GreedySchedule:
    """A run with greedy learning rates.

    Attributes:
        steps: the first step whose risk is at most the target; None where max_steps came first.
        status: ``reached`` or ``max_steps``.
        risk: the risk at that step, or at max_steps, or where the work ended the run.
        learning_rates: rates of some of the steps, shape (n,), for plotting: every one of the first
            50, then about one in each 2 percent of steps, some 900 of 10^9.
        at_steps: the numbers of these steps, shape (n,), ascending: the rate leads from step t to
            step t + 1.
        error: relative error of the risk by compressing the spectrum and by strides, as found by
            comparing two runs; 0 where every mode stood for itself and all steps were single;
            infinite where the work ended the run before max_steps.
    """

    steps: int | None
    status: Literal["reached", "max_steps"]
    risk: float
    learning_rates: Array
    at_steps: Integers
    error: float

    def __repr__(self) -> str:
        steps = "target not reached" if self.steps is None else f"{self.steps:,} steps"
        return (
            f"<GreedySchedule: {steps}, learning rates {shown(self.learning_rates)}, "
            f"risk {self.risk:.6g}>"
        )


def greedy_schedule(
    problem: Problem,
    *,
    target: float = 0.01,
    max_steps: int = 10**9,
    preconditioner_power: float = 0.0,
) -> GreedySchedule:
    """The first step at which SGD with greedy learning rates has an expected loss of the target.

    With z, S the signal and noise parts of E theta^2 and w, v their weights in the risk, each step
    takes the rate that minimises the next risk,

        lr = (sum w k z^2 + sum v k S) / (sum w k^2 z^2 + sum v (k^2 S + q^2)),

    k = h^(1-p), q = h^-p. The risk falls at every step and tends to 0, so the only crossing is the
    first, and every target is reached some time. That may be long: on the paper's problem with
    target 0.01 the steps times the batch size come to 1.03e9 for small batches.

    Args:
        problem: spectrum and batch size.
        target: expected loss to reach, > 0.
        max_steps: the most steps, from 0 to 10^15.
        preconditioner_power: p in [0, 1]; gradients are multiplied by h^-p.

    Returns:
        Steps, status, risk, and rates to plot. Steps are those of the step-by-step recursion over
        all modes, as far as ``error`` and rounding leave that decided: one step lowers the risk by
        about 1 / steps of itself.

    Raises:
        ValueError: if a value is outside its range, or the noise of a step too large for a float.

    Source: Wu et al. 2018, arXiv:1803.02021.
    """
    require_additive(problem, "greedy rates")
    target = require_number("target", target, above=0.0)
    max_steps = require_integer("max_steps", max_steps, least=0, most=LONGEST)
    power = require_number("preconditioner_power", preconditioner_power, least=0.0, most=1.0)
    spectrum = problem.spectrum
    level, last = spectrum.first_level, spectrum.last_level
    most = max(last - level, MOST_HALVINGS)
    budget = Budget(MOST_WORK)
    run = _run(_Nodes.of(problem, power, level), target, max_steps, 0, budget)
    error = math.inf
    for halvings in range(1, most + 1):
        if not run.ended:
            break
        if level == last and spectrum.law is None and run.longest == 1:
            error = 0.0
            break
        level = min(level + 1, last)
        nodes = _Nodes.of(problem, power, level)
        fine = _run(nodes, target, max_steps, min(halvings, MOST_HALVINGS), budget)
        if not fine.ended:
            break
        coarse, run = run, fine
        error = _difference(coarse, run)
        agree = coarse.step == run.step and (coarse.risk <= target) == (run.risk <= target)
        if error <= (TOLERANCE if agree else ROUNDING):
            break
    reached = run.risk <= target
    for array in (run.rates, run.at_steps):
        array.setflags(write=False)
    return GreedySchedule(
        steps=run.step if reached else None,
        status="reached" if reached else "max_steps",
        risk=run.risk,
        learning_rates=run.rates,
        at_steps=run.at_steps,
        error=error,
    )


def greedy_curve(
    problem: Problem, steps: Sequence[int], *, preconditioner_power: float = 0.0
) -> tuple[Array, Array]:
    """The expected loss and the gradient noise scale along a run with greedy learning rates.

    They are those of one run, on the second level of compression and in strides halved once.

    Args:
        problem: spectrum and batch size.
        steps: numbers of steps, ascending, each from 0 to 10^15.
        preconditioner_power: p in [0, 1]; gradients are multiplied by h^-p.

    Returns:
        Two arrays of the length of ``steps``: risks, and tr(Sigma) / E |G|^2 in examples.
    """
    require_additive(problem, "greedy rates")
    spectrum = problem.spectrum
    level = min(spectrum.first_level + 1, spectrum.last_level)
    nodes = _Nodes.of(problem, preconditioner_power, level)
    part, before = nodes.part.copy(), nodes.part.copy()
    rates, at_steps = _records(max(steps, default=0))
    recorded = np.zeros(2, dtype=np.int64)
    risks, gradient = np.empty(len(steps)), np.empty(len(steps))
    now, largest = 0, np.max(spectrum.curvature)
    for index, step in enumerate(steps):
        now, _, _, risks[index], *_ = greedy_advance(
            now, step, -math.inf, 0.5 * LIMIT, 2 * PATIENCE, DOUBLINGS, _stride_weights(),
            nodes.curvature, nodes.source, part, before, rates, at_steps, recorded, LONGEST,
        )  # fmt: skip
        # e is 1/2 m h E theta^2.
        gradient[index] = np.sum(nodes.eigenvalue / largest * part)
    return risks, noise_over(gradient, spectrum)


class _Nodes(NamedTuple):
    """The nodes of the signal, then of the noise, in units that make the largest k one.

    Attributes:
        curvature: k over its largest.
        source: n over the square of the largest k.
        part: e before the first step.
        unit: the learning rate that these units call 1.
        eigenvalue: h.
    """

    curvature: Array
    source: Array
    part: Array
    unit: float
    eigenvalue: Array

    @classmethod
    def of(cls, problem: Problem, power: float, level: int) -> _Nodes:
        """The nodes at a level of compression."""
        nodes = problem.spectrum.nodes(level)
        n_signal = nodes.signal_weight.size
        noisy = nodes.curvature[nodes.first_noise :][: nodes.noise_weight.size]
        h = np.concatenate((nodes.curvature[:n_signal], noisy))
        k = h ** (1.0 - power)
        largest = float(np.max(k, initial=0.0)) or 1.0
        source = np.zeros_like(h)
        with np.errstate(over="ignore", invalid="ignore"):
            q = noisy**-power / largest
            source[n_signal:] = nodes.noise_weight * q / problem.batch_size * q
            if not np.isfinite(source.sum()):
                raise ValueError(
                    f"batch_size={problem.batch_size:g}: must be larger with "
                    f"preconditioner_power={power:g}, since the noise of a step is infinite to the "
                    "computer"
                )
        part = np.concatenate((nodes.signal_weight, np.zeros(noisy.size)))
        return cls(k / largest, source, part, 1.0 / largest, h)


class _Run(NamedTuple):
    """A run on one compression, to the target or to the last step.

    Attributes:
        step, risk: where it ended.
        fall: by how much one more step would lower the risk.
        longest: the longest stride.
        ended: whether that was the target or the last step, and not the work.
        rates, at_steps: the recorded learning rates, and their steps.
    """

    step: int
    risk: float
    fall: float
    longest: int
    ended: bool
    rates: Array
    at_steps: Integers


def _run(
    nodes: _Nodes, target: float, max_steps: int, halvings: int | None, budget: Budget | None = None
) -> _Run:
    """Walk to the target in strides halved some times; None is single steps."""
    budget = budget or Budget()
    part = nodes.part.copy()
    before = part.copy()
    rates, at_steps = _records(max_steps)
    recorded = np.zeros(2, dtype=np.int64)
    limit, shares = (0.0, 1) if halvings is None else (LIMIT * 0.5**halvings, 2**halvings)
    now, longest, doublings = 0, 1, DOUBLINGS
    while True:
        now, stride, used, risk, fall, strides = greedy_advance(
            now, max_steps, target, limit, PATIENCE * shares, doublings, _stride_weights(),
            nodes.curvature, nodes.source, part, before, rates, at_steps, recorded,
            int(budget.left) // (PER_STRIDE + part.size),
        )  # fmt: skip
        budget.spend(strides * (PER_STRIDE + part.size))
        longest = max(longest, used)
        if stride == 1 or risk > target:
            break
        now -= stride
        part[:] = before
        doublings = max(0, stride.bit_length() - 1 - SHORTER)
    kept = int(recorded[0])
    ended = risk <= target or now >= max_steps
    return _Run(now, risk, fall, longest, ended, nodes.unit * rates[:kept], at_steps[:kept].copy())


def _records(max_steps: int) -> tuple[Array, Integers]:
    """Room for the rates that a run records, and for their steps."""
    room = 3 + int(math.log(max(1, max_steps)) / math.log(RECORD_GROWTH))
    return np.empty(room), np.empty(room, dtype=np.int64)


def _difference(coarse: _Run, fine: _Run) -> float:
    """The relative difference of two runs' risks at the same step.

    The risk of the one that ended earlier is continued by its last slope.
    """
    later = abs(coarse.step - fine.step) * max(coarse.fall, fine.fall)
    largest = max(coarse.risk, fine.risk)
    return (abs(coarse.risk - fine.risk) + later) / largest if largest > 0.0 else 0.0


@functools.cache
def _stride_weights() -> Array:
    """The weights of the last ORDER changes in strides of 2^j steps, shape (DOUBLINGS + 1, ORDER).

    Row j sums the polynomial g that is 1 at one change and 0 at the others over the n = 2^j steps,

        sum over 0 <= i < n of g(i / n) = n (I - [g] / 2n + [g'] / 12n^2 - ...),

    with I the integral of g and [g] = g(1) - g(0): Euler and Maclaurin's formula, whose next term
    has [g'''], which is 0 for a cubic.
    """
    stride = 2.0 ** np.arange(DOUBLINGS + 1)
    weights = np.empty((stride.size, ORDER))
    for newest in range(ORDER):
        others = [-float(j) for j in range(ORDER) if j != newest]
        g = np.polynomial.Polynomial.fromroots(others)
        g = g / g(-float(newest))
        integral, slope = g.integ(), g.deriv()
        weights[:, newest] = (
            stride * (integral(1.0) - integral(0.0))
            - (g(1.0) - g(0.0)) / 2.0
            + (slope(1.0) - slope(0.0)) / (12.0 * stride)
        )
    return weights
