"""Adam's expected risk, by second moments conditional on the start.

Adam divides by the root of a running mean of squared gradients, so it is not linear and its moments
do not close. Two observations give a closure that agrees with direct simulation to half a percent:
v varies slowly, so its mean serves as its value; but it follows the realised |theta_0|, so the mean
is taken given |theta_0|, at Gauss-Hermite nodes, and the risk is averaged over them.

Per mode and node, with q = h^2 A + c/B (the second moment of the gradient):

| symbol | meaning | update |
|---|---|---|
| V | E v | V' = b2 V + (1 - b2) q |
| r | step per unit of m | r = lr / (1 - b1^t) / (sqrt(V' / (1 - b2^t)) + eps) |
| Q | E m^2 | Q' = b1^2 Q + 2 b1 (1 - b1) h D + (1 - b1)^2 q |
| F | E theta m' | F = b1 D + (1 - b1) h A |
| A | E theta^2 | A' = A - 2 r F + r^2 Q' |
| D | E theta m | D' = F - r Q' |

The start is A = (a +- z sqrt(s))^2 at node z, and Q = D = V = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model._adam_kernel import adam_run
from nqm_study.model.horizon import Look, Search
from nqm_study.model.optimizers import Adam
from nqm_study.model.outcome import Crossing
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.schedules import Schedule

Array = npt.NDArray[np.float64]

START_NODES = 8
"""Gauss-Hermite nodes of |theta_0|."""

COMPRESSION_LEVEL = 1
"""Level of the spectrum's compression; its error is far below the closure's own."""

CONSTANT = np.ones(0)
"""Factors of a constant rate, as the kernel takes them."""

LONG = 2**20
"""A horizon whose last rate is that of all long ones."""

STEPS_PER_CHECK = 256
"""Steps between two looks at whether the risk has settled."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The start of the recursion: one entry per mode (or node of its compression) and |theta_0|.

    Attributes:
        curvature: h.
        variance: c / B.
        weight: 1/2 m h times the weight of the start node.
        second_moment: A_0.
    """

    curvature: Array
    variance: Array
    weight: Array
    second_moment: Array

    @classmethod
    def of(cls, problem: NoisyQuadratic, level: int | None = COMPRESSION_LEVEL) -> Nodes:
        """The nodes of a problem; level None is every mode."""
        curvature, weight, noise, mean, variance = _modes(problem, level)
        z, z_weight = _start_nodes(signed=bool(np.any(mean != 0.0)))
        start = (mean[None, :] + z[:, None] * np.sqrt(variance)[None, :]) ** 2
        shape = start.shape
        return cls(
            curvature=np.broadcast_to(curvature, shape).ravel(),
            variance=np.broadcast_to(noise / problem.batch_size, shape).ravel(),
            weight=(z_weight[:, None] * weight[None, :]).ravel(),
            second_moment=start.ravel(),
        )

    def start(self) -> Array:
        """A, Q, D and V before the first step, shape (4, n)."""
        state = np.zeros((4, self.curvature.size))
        state[0] = self.second_moment
        return state


def _modes(problem: NoisyQuadratic, level: int | None) -> tuple[Array, Array, Array, Array, Array]:
    spectrum = problem.spectrum
    noise_ratio = spectrum.noise / spectrum.curvature
    same = (noise_ratio, spectrum.initial_mean, spectrum.initial_variance)
    if level is None or not all(np.allclose(v, v[0], rtol=1e-12, atol=0.0) for v in same):
        # A compression needs modes of equal curvature to behave alike.
        weight = 0.5 * spectrum.multiplicity * spectrum.curvature
        return (
            spectrum.curvature,
            weight,
            spectrum.noise,
            spectrum.initial_mean,
            spectrum.initial_variance,
        )
    curvature, weight = spectrum.loss.nodes(level)
    ones = np.ones_like(curvature)
    return (
        curvature,
        weight,
        noise_ratio[0] * curvature,
        spectrum.initial_mean[0] * ones,
        spectrum.initial_variance[0] * ones,
    )


def _start_nodes(*, signed: bool) -> tuple[Array, Array]:
    z, weight = np.polynomial.hermite_e.hermegauss(2 * START_NODES)
    weight = weight / weight.sum()
    if signed:
        return z, weight
    return z[START_NODES:], 2.0 * weight[START_NODES:]


def adam_crossing(
    problem: NoisyQuadratic,
    optimizer: Adam,
    target: float,
    max_steps: int,
    schedule: Schedule | None = None,
    level: int | None = COMPRESSION_LEVEL,
) -> Crossing:
    """The fewest steps to the target, one step at a time; without a schedule the rate is constant.

    Under a schedule it is the smallest horizon whose last risk is at most the target, and every
    horizon that is looked at is a run of its own.
    """
    if schedule is not None:
        return _scheduled(problem, optimizer, target, max_steps, schedule, level)
    nodes = Nodes.of(problem, level)
    state = nodes.start()
    best = float(np.sum(nodes.weight * state[0]))
    if best <= target:
        return Crossing(0, "reached", best)
    resting_a, resting_v = stationary(nodes, optimizer)
    floor = float(np.sum(nodes.weight * resting_a))
    taken = 0
    while taken < max_steps:
        steps, risk, seen, reached = adam_run(
            min(STEPS_PER_CHECK, max_steps - taken), taken, _tuple(optimizer), CONSTANT,
            nodes.curvature, nodes.variance, nodes.weight, state, target,
        )  # fmt: skip
        taken += steps
        best = min(best, seen)
        if reached:
            return Crossing(taken, "reached", risk)
        if floor > target and _settled(nodes, state, resting_a, resting_v, 0.5 * (floor - target)):
            return Crossing(None, "floor_above_target", best)
    return Crossing(None, "max_steps", best)


def _scheduled(
    problem: NoisyQuadratic,
    optimizer: Adam,
    target: float,
    max_steps: int,
    schedule: Schedule,
    level: int | None,
) -> Crossing:
    """The smallest horizon whose last risk is at most the target."""
    initial = problem.spectrum.initial_risk
    if initial <= target:
        return Crossing(0, "reached", initial)
    if max_steps == 0:
        return Crossing(None, "max_steps", initial)
    nodes = Nodes.of(problem, level)
    last = float(schedule.at_steps(np.array([LONG - 1.0]), LONG)[0]) * optimizer.learning_rate
    floor = 0.0
    if last > 0.0:
        resting, _ = stationary(nodes, replace(optimizer, learning_rate=last))
        floor = float(np.sum(nodes.weight * resting))
    looks: dict[int, Look] = {}

    def look(horizon: int, _: int) -> Look:
        if horizon not in looks:
            state = nodes.start()
            factors = schedule.at_steps(np.arange(horizon, dtype=np.float64), horizon)
            adam_run(
                horizon, 0, _tuple(optimizer), factors, nodes.curvature, nodes.variance,
                nodes.weight, state, -np.inf,
            )  # fmt: skip
            risk = float(np.sum(nodes.weight * state[0]))
            looks[horizon] = Look(risk, risk, 0.0, floor)
        return looks[horizon]

    found = Search(look, target, max_steps).smallest()
    if found.steps is not None:
        return Crossing(found.steps, "reached", found.risk)
    risk = min(initial, found.risk)
    return Crossing(None, "floor_above_target" if found.settled else "max_steps", risk)


def adam_risks(
    problem: NoisyQuadratic,
    optimizer: Adam,
    steps: Sequence[int],
    schedule: Schedule | None = None,
    horizon: int = 0,
    level: int | None = COMPRESSION_LEVEL,
) -> Array:
    """Adam's risks after the given numbers of steps of one run, in the order given."""
    ordered, position = np.unique(np.asarray(steps, dtype=np.int64), return_inverse=True)
    nodes = Nodes.of(problem, level)
    state = nodes.start()
    risks = np.empty(ordered.size)
    now = 0
    for index, step in enumerate(ordered.tolist()):
        factors = CONSTANT
        if schedule is not None:
            factors = schedule.at_steps(np.arange(now, step, dtype=np.float64), horizon)
        adam_run(
            step - now, now, _tuple(optimizer), factors, nodes.curvature, nodes.variance,
            nodes.weight, state, -np.inf,
        )  # fmt: skip
        now = step
        risks[index] = np.sum(nodes.weight * state[0])
    return np.asarray(risks[position])


def stationary(nodes: Nodes, optimizer: Adam) -> tuple[Array, Array]:
    """A and V at rest: the fixed point of the recursion, where the risk has its floor.

    At a fixed step r Adam is heavy ball with learning rate r (1 - b1) and momentum b1, whose floor
    is h A = r (c/B) (1 + b1) / (2 + 2 b1 - x) with x = r (1 - b1) h; and r = lr / (sqrt(q) + eps)
    with q = h^2 A + c/B. The left side minus the right grows with A, so bisection finds the root.
    """
    b1, h, noise = optimizer.beta1, nodes.curvature, nodes.variance

    def too_small(a: Array) -> npt.NDArray[np.bool_]:
        r = optimizer.learning_rate / (np.sqrt(h * h * a + noise) + optimizer.eps)
        room = 2.0 + 2.0 * b1 - r * (1.0 - b1) * h
        return np.asarray((room <= 0.0) | (h * a * room < r * noise * (1.0 + b1)))

    # The floor cannot be so high that one step, at most about lr, overshoots by itself.
    high = np.full_like(h, 1.0)
    for _ in range(1100):
        short = too_small(high)
        if not np.any(short):
            break
        high[short] *= 2.0
    low = np.zeros_like(h)
    for _ in range(120):
        middle = 0.5 * (low + high)
        short = too_small(middle)
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return high, h * h * high + noise


def _settled(nodes: Nodes, state: Array, resting_a: Array, resting_v: Array, room: float) -> bool:
    """Whether A is within ``room`` of rest, with V so near that it cannot lead A further away."""
    lag = np.abs(state[3] - resting_v) / np.maximum(resting_v, 1e-300)
    distance = np.abs(state[0] - resting_a) + resting_a * lag
    return bool(np.sum(nodes.weight * distance) < room)


def _tuple(optimizer: Adam) -> tuple[float, float, float, float]:
    # Floats, always: a kernel is compiled once for each combination of types it is called with.
    return (
        float(optimizer.learning_rate),
        float(optimizer.beta1),
        float(optimizer.beta2),
        float(optimizer.eps),
    )
