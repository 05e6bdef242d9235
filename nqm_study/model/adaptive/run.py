"""Runs of Adam's closure, step by step or in stretches, and where they come to rest."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.adaptive.kernels import (
    SHORTEST,
    Noises,
    Pull,
    adam_jump,
    adam_rest,
    adam_run,
)
from nqm_study.model.adaptive.nodes import TINY, USUAL, Nodes
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.budget import Budget
from nqm_study.model.optimizers import Adam
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Constant, Schedule

CONSTANT, STEADY = np.ones(0), np.ones(1)
"""Factors of a constant rate, and of a constant batch's noise, as the kernel takes them."""

STEPPED = 2048
"""Up to here runs are stepped through."""

STEPPED_SCHEDULED = 2**14
"""The same under a schedule, which takes more stretches."""

STEPPED_FUNCTION = 2**16
"""The same under a function of which nothing is known."""

CHANGE = 0.1
"""The most that a node's rate may change in a stretch, relative."""

GROWTH = 2
"""A stretch of all nodes is at most the steps before it over this."""

PIECES = 64
"""A stretch is at most a smooth part of the schedule over this, if the schedule changes in it."""

ROUGHLY = 4
"""Times as long stretches do for a percent of the risk."""

LOSS_CHANGE, BENT = 0.03, 0.1
"""The most that noise that falls with the loss may change in a jump, relative: by its slope when
one jumps, and in the end."""

CLOSE, MOST_SECANTS = 1e-5, 8
"""Relative error of the loss at the end of a jump that decides the noise in it, and the jumps that
are tried for it."""

LEAST = 512
"""Stretches shorter than this are stepped through."""

FITTING = 0.25
"""Share of the change allowed that a stretch mostly comes to."""

PATIENCE = 2**14
"""Steps after which one jumps whether or not it is cheaper."""

JUMP_COST, STEP_COST = 300.0, 20.0
"""What a node's jump costs, and a step where its stretches become too short to jump, in steps of
the kernel that takes all nodes at once; as measured."""

STRETCH_WORK, LOOK_WORK = 16, 2**12
"""Work of a step in a jump, where that of a step of all nodes at once is 1 (10 ns); and of a look
at how far to jump. As measured."""

STEPS_AT_ONCE = 256
"""Steps that are taken where it is better to step."""

DECAYED = 30.0
"""Time constants of beta1 after which nothing is left of a swing that the start caused."""

PER_SWING = 8
"""Stretches for each swing while there are swings."""


@dataclass(eq=False)
class Moments:
    """The state of a run after some steps: A, Q, D, V, P and U of each node.

    Attributes:
        values: shape (6, n).
        steps: steps taken.
        sizes: the length of each node's next stretch; 0 where it is held at a mean.
        highest: the largest risk on the way, after every step or jump.
    """

    values: Array
    steps: int
    sizes: Integers
    highest: float

    def copy(self) -> Moments:
        """A copy, to go on from more than once."""
        return replace(self, values=self.values.copy(), sizes=self.sizes.copy())

    def rise(self, risk: float) -> None:
        """Note a risk on the way, if it is the highest so far."""
        if not risk <= self.highest:  # an overflow is
            self.highest = risk

    @property
    def finite(self) -> bool:
        """Whether no node has overflowed, after which none comes back."""
        return bool(np.all(np.isfinite(self.values[0])))

    @property
    def held(self) -> npt.NDArray[np.bool_]:
        """The nodes whose rate vibrates without end."""
        return np.asarray(self.sizes == 0)


@dataclass(frozen=True, eq=False)
class Closure:
    """A run of Adam's closure: nodes, optimizer and schedule, and ways to advance its moments.

    Attributes:
        nodes: the starts.
        optimizer: rate, decays and eps.
        schedule: multiplies the rate.
        horizon: the length of the run that the schedule is made for.
        coarseness: 1, or how many times longer stretches may be.
        budget: the work that is left for this run and others, in steps of a node.
    """

    nodes: Nodes
    optimizer: Adam
    schedule: Schedule
    horizon: int = 0
    coarseness: float = 1.0
    budget: Budget = field(default_factory=Budget)

    @classmethod
    def of(
        cls,
        problem: Problem,
        optimizer: Adam,
        schedule: Schedule,
        level: int | None,
        refinement: int = USUAL,
    ) -> Closure:
        """The closure on the nodes of a problem: see ``Nodes.of``."""
        return cls(Nodes.of(problem, level, refinement), optimizer, schedule)

    def within(self, horizon: int, *, roughly: bool = False) -> Closure:
        """The same run over another horizon; ``roughly`` takes stretches that do for a percent."""
        return replace(self, horizon=horizon, coarseness=ROUGHLY if roughly else 1.0)

    def start(self) -> Moments:
        """The moments before the first step."""
        values = self.nodes.start()
        sizes = np.full(self.nodes.curvature.size, SHORTEST)
        return Moments(values, 0, sizes, self.nodes.risk(values[0]))

    def risk(self, moments: Moments) -> float:
        """The expected loss at some moments."""
        return self.nodes.risk(moments.values[0])

    @property
    def stepped(self) -> int:
        """The most steps of a run that is stepped through."""
        if self.schedule.knots is None:
            return STEPPED_FUNCTION
        return STEPPED_SCHEDULED if self.schedule.needs_horizon else STEPPED

    def step(self, moments: Moments, count: int, target: float = -np.inf) -> tuple[bool, float]:
        """Advance the moments by single steps, at most to the first risk at the target.

        Returns:
            Whether it was reached, and the smallest risk seen.
        """
        factors, noises = CONSTANT, STEADY
        if self.schedule != Constant():
            steps = np.arange(moments.steps, moments.steps + count, dtype=np.float64)
            factors = self.schedule.at_steps(steps, self.horizon)
            noises = self.schedule.noise(steps, self.horizon)
        nodes = self.nodes
        taken, least, highest, reached = adam_run(
            count, moments.steps, self._tuple, factors, noises, self._pull, nodes.coupling,
            nodes.curvature, nodes.variance, nodes.second_moment, nodes.weight, moments.values,
            target,
        )  # fmt: skip
        self.budget.spend(taken * nodes.curvature.size)
        moments.steps += taken
        moments.rise(highest)
        return bool(reached), least

    def jump(self, moments: Moments, length: int) -> None:
        """Advance the moments by steps over which the schedule is smooth and hardly bends.

        Where noise falls with the loss, the loss falls exponentially to where that itself leads,
        which is found by secants.
        """
        # The two nodes that make the mean exact for cubics.
        aside = math.sqrt((length * length - 1) / 12.0)
        two = moments.steps + 0.5 * (length - 1) + np.array([-aside, aside])
        line, noise = (1.0, 0.0), np.ones(2)
        if self.schedule != Constant():
            line = _line(self.schedule.at_steps(two, self.horizon), aside, length)
            noise = self.schedule.noise(two, self.horizon) * noise
        if self.nodes.coupling is None:
            steady = self.schedule == Constant() or self.schedule.steady
            noises = None if steady else (*self._noises(moments, noise, aside, length), 0.0, 0.0)
            self._jump(moments, length, line, noises)
            return
        own, label_noise = self.nodes.coupling
        others = self._noises(moments, own * noise, aside, length)
        first, share = self.risk(moments), (two - moments.steps) / length
        seen: list[tuple[float, float]] = []
        end = first
        for _ in range(MOST_SECANTS):
            level = 2.0 * first * (end / max(first, TINY)) ** share + label_noise
            lines = (*self._noises(moments, level * noise, aside, length), *others)
            there = moments.copy()
            self._jump(there, length, line, lines)
            found = self.risk(there)
            if not abs(found - end) > CLOSE * abs(found + 0.5 * label_noise):
                break
            seen.append((end, found - end))
            end = found if len(seen) == 1 else _secant(*seen[-2:])
        bent = self.coarseness * BENT * (first + 0.5 * label_noise)
        if abs(found - first) > bent and length >= LEAST:
            # It began to change faster on the way.
            self.jump(moments, length // 2)
            self.jump(moments, length - length // 2)
            return
        moments.values, moments.sizes, moments.steps = there.values, there.sizes, there.steps
        moments.rise(found)

    def _noises(
        self, moments: Moments, two: Array, aside: float, length: int
    ) -> tuple[float, float]:
        """The line through two values of a jump, by its value at step 0 and its slope."""
        first, slope = _line(two, aside, length)
        return first - slope * moments.steps, slope

    def _jump(
        self, moments: Moments, length: int, line: tuple[float, float], noises: Noises
    ) -> None:
        nodes = self.nodes
        work = adam_jump(
            moments.steps, length, self._tuple, line, noises, self._pull, nodes.curvature,
            nodes.variance, nodes.second_moment, moments.values, moments.sizes, CHANGE,
        )  # fmt: skip
        self.budget.spend(STRETCH_WORK * int(work))
        moments.steps += length
        moments.rise(self.risk(moments))

    def advance(self, moments: Moments, end: int) -> None:
        """Advance the moments to a step, or to NaN where the work is spent or a node overflowed."""
        while moments.steps < end:
            if self.budget.spent or not moments.finite:
                moments.values[:], moments.highest = np.nan, np.inf
                return
            length = self.stretch(moments, end)
            if length > 0:
                self.jump(moments, length)
            else:
                self.step(moments, min(STEPS_AT_ONCE, end - moments.steps))

    def after(self, steps: int) -> Moments:
        """The moments after some steps from the start."""
        moments = self.start()
        self.advance(moments, steps)
        return moments

    def risk_after(self, steps: int) -> float:
        """The expected loss after some steps from the start."""
        return self.risk(self.after(steps))

    def stretch(self, moments: Moments, end: int) -> int:
        """The steps that can be jumped at once, a power of two; 0 where single steps are better."""
        self.budget.spend(LOOK_WORK)
        now = moments.steps
        # Runs of like horizons are alike: all of a run is stepped through, or the same part of it.
        if now < (self.stepped if self.horizon <= self.stepped else STEPPED):
            return 0
        length = min(now * min(self.coarseness, 2.0) / GROWTH, end - now)
        if self.schedule != Constant():
            knots = self.schedule.knots or ()
            part = bisect.bisect_right(knots, float(now), key=lambda knot: knot * self.horizon)
            first = math.ceil(knots[part - 1] * self.horizon) if part > 0 else 0
            last = math.ceil(knots[part] * self.horizon) if part < len(knots) else self.horizon
            # Towards its end a decay changes ever faster, compared with what is left of it.
            length = min(
                length,
                last - now,
                (last - first) * self.coarseness / PIECES,
                max((last - now) / 4, 1.0),
            )
        length = min(length, self._swing(moments) / PER_SWING)
        if self.nodes.coupling is not None:
            length = min(length, self._falls(moments))
        if length < LEAST:
            return 0
        whole = 2 ** int(math.log2(length))
        # Where rates vibrate a jump never pays, but holds their nodes, and ends the search.
        pays = self.schedule.needs_horizon or now >= PATIENCE or self._pays(moments, whole)
        return whole if pays else 0

    def _pays(self, moments: Moments, length: int) -> bool:
        """Whether it is cheaper to jump than to step, by how fast the nodes' rates change now.

        The rate goes as sqrt((1 - b2^t) / V), so that its logarithm changes by half of
        -ln(b2) b2^t / (1 - b2^t) - (1 - b2) (q / V - 1) a step. The first jump begins with
        stretches that suit this change; each jump then leaves them for the next.
        """
        b2, nodes = self.optimizer.beta2, self.nodes
        faded = b2**moments.steps
        growth = -math.log(b2) * faded / (1.0 - faded) if faded > 0.0 else 0.0
        a, v = moments.values[0], np.maximum(moments.values[3], TINY)
        share = self.schedule.noise(np.array([float(moments.steps)]), self.horizon)
        moment = nodes.curvature**2 * a + nodes.noise(a, float(share[0]))
        change = 0.5 * np.abs(growth - (1.0 - b2) * (moment / v - 1.0))
        fitting = np.minimum(FITTING * CHANGE / np.maximum(change, TINY), length)
        if np.all(moments.sizes == SHORTEST):
            # A node that overflowed tells nothing of what would fit.
            moments.sizes[:] = 2 ** np.log2(np.fmax(fitting, SHORTEST)).astype(np.int64)
        return bool(np.sum(np.minimum(JUMP_COST / fitting, STEP_COST)) <= fitting.size)

    def _falls(self, moments: Moments) -> float:
        """Steps in which noise that falls with the loss changes by as much as a jump may."""
        after = moments.copy()
        self.step(after, 1)
        least = 0.5 * self.nodes.coupling[1] if self.nodes.coupling else 0.0
        change = abs(self.risk(after) - self.risk(moments))
        return self.coarseness * LOSS_CHANGE * (self.risk(moments) + least) / max(change, TINY)

    def _swing(self, moments: Moments) -> float:
        """Steps from one swing to the next of the fastest node that may still swing.

        At a rate r Adam is heavy ball with x = r (1 - b1) h and momentum b1; see optimizers.swing.
        A pull w takes w from the trace of its matrix, and the share w of its determinant b1.
        """
        b1 = self.optimizer.beta1
        if moments.steps * (1.0 - b1) > DECAYED:
            return math.inf
        h, eps = self.nodes.curvature, self.optimizer.eps
        pull = self.optimizer.learning_rate * self.optimizer.weight_decay
        root = math.sqrt(1.0 - self.optimizer.beta2**moments.steps)
        below = np.sqrt(moments.values[3]) + eps * root
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            rate = self.optimizer.learning_rate * root / below
            trace = 1.0 + b1 - pull - rate * (1.0 - b1) * h
            cosine = trace / (2.0 * math.sqrt(max(b1 * (1.0 - pull), 0.0)))
        turning = cosine[cosine < 1.0]
        if turning.size == 0:
            return math.inf
        return float(np.pi / np.arccos(np.maximum(turning.min(), -1.0)))

    @property
    def _tuple(self) -> tuple[float, float, float, float]:
        # Floats, always: a kernel is compiled once for each combination of types it meets.
        each = self.optimizer
        return (float(each.learning_rate), float(each.beta1), float(each.beta2), float(each.eps))

    @property
    def _pull(self) -> Pull:
        each = self.optimizer
        return float(each.learning_rate * each.weight_decay) if each.weight_decay else None


def _line(two: Array, aside: float, length: int) -> tuple[float, float]:
    """The line through two values, as far on each side of a jump's middle: its start and slope.

    Where values change so much that it would leave its side of 0, it is as steep as it may be.
    """
    low, high = two.tolist()
    mean, steepest = 0.5 * (low + high), (low + high) / (length - 1)
    slope = min(max((high - low) / (2.0 * aside), -steepest), steepest)
    return mean - 0.5 * (length - 1) * slope, slope


def _secant(before: tuple[float, float], now: tuple[float, float]) -> float:
    """Where the line through two points crosses zero, or half of it where that is below zero."""
    (x, y), (x1, y1) = before, now
    root = x1 - y1 * (x1 - x) / (y1 - y) if y1 != y else x1 + y1
    return root if root > 0.0 else 0.5 * x1


MOST_RESTS, LONGEST, FARTHEST = 40, 20.0, 690.0
"""Losses tried for the one at rest; the logarithms of the most from one to the next, and of all."""

LONG = 2**20
"""A horizon whose last rate and batch are those of all long ones."""


@dataclass(frozen=True, eq=False)
class Rest:
    """The fixed point of the recursion at the rate and the batch that the schedule ends with.

    Attributes:
        weight: of each node's A in the risk.
        second_moment: A at rest.
        denominator: V at rest.
        share: of theta_0 in the mean at rest.
        start: theta_0^2.
    """

    weight: Array
    second_moment: Array
    denominator: Array
    share: Array
    start: Array

    @classmethod
    def of(cls, closure: Closure) -> Rest:
        """The rest that long runs of a closure end at."""
        last, nodes = np.array([LONG - 1.0]), closure.nodes
        factor = float(closure.schedule.at_steps(last, LONG)[0])
        noise = float((closure.schedule.noise(last, LONG) * np.ones(1))[0])
        coupling = nodes.coupling and (noise * nodes.coupling[0], nodes.coupling[1])
        nodes = replace(nodes, variance=noise * nodes.variance, coupling=coupling)
        return cls(nodes.weight, *stationary(nodes, closure.optimizer, factor), nodes.second_moment)

    @property
    def floor(self) -> float:
        """The risk at rest."""
        return float(np.sum(self.weight * self.second_moment))

    def above(self, target: float, moments: Moments) -> bool:
        """Whether the risk stays above the target from here on.

        It does where A is at rest above it, by half of what is between them, with V so near its own
        rest that it cannot lead A further away. A node that is held is at rest where it is. With a
        pull, what A owes to the mean comes to rest more slowly than the other part of it.
        """
        a, v = moments.values[0], moments.values[3]
        rest = np.where(moments.held, a, self.second_moment)
        room = float(np.sum(self.weight * rest)) - target
        if not room > 0.0:
            return False
        lag = np.abs(v - self.denominator) / np.maximum(self.denominator, TINY)
        mean = 2.0 * self.share * (moments.values[4] - self.share * self.start)
        far = np.abs(a - rest - mean) + np.abs(mean)
        distance = np.where(moments.held, 0.0, far + rest * lag)
        return bool(np.sum(self.weight * distance) < 0.5 * room)


def stationary(nodes: Nodes, optimizer: Adam, factor: float = 1.0) -> tuple[Array, Array, Array]:
    """A and V at rest, the fixed point of the recursion, and the share of theta_0 in its mean.

    At a fixed step r Adam is heavy ball with learning rate r (1 - b1) and momentum b1, whose floor
    is h A = r (c/B) (1 + b1) / (2 + 2 b1 - x) with x = r (1 - b1) h; and r = lr / (sqrt(q) + eps)
    with q = h^2 A + c/B.

    With a pull w = lr wd the mean is theta_0 k / (h + k) with k = wd (sqrt(q) + eps), whatever the
    rate, and the noise is that of the autoregression theta' = (1 - w + b1 - x) theta - b theta_-1
    with b = b1 (1 - w):

        A = theta_0^2 k^2 / (h + k)^2
            + r (c/B) (1 - b1) (1 + b) / ((1 - b) (h + k) (2 + 2 b1 - w (1 + b1) - x)).

    Under least squares c/B is h^2 A / B + (c/B) (2 L + label_noise) in all of this.
    """
    h, eps, decay = nodes.curvature, float(optimizer.eps), float(optimizer.weight_decay)
    own, label_noise = nodes.coupling or (0.0, 0.0)

    def at_rest(level: float) -> Array:
        return adam_rest(
            factor * optimizer.learning_rate, decay, float(optimizer.beta1), eps, h,
            level * nodes.variance, own, nodes.second_moment,
        )  # fmt: skip

    a = at_rest(1.0) if nodes.coupling is None else _settled(nodes, at_rest, label_noise)
    v = h**2 * a + nodes.noise(a)
    pull = decay * (np.sqrt(v) + eps)
    return a, v, pull / (h + pull)


def _settled(nodes: Nodes, at_rest: Callable[[float], Array], label_noise: float) -> Array:
    """A at rest where noise falls with the loss, whose own rest that leads to.

    The loss that a loss leads to grows with it, and ever more slowly: iterated from above it falls
    to the only rest but zero. Secants in logarithms shorten the way.
    """
    points: list[tuple[float, float]] = []
    loss = max(nodes.risk(nodes.second_moment), TINY)
    for _ in range(MOST_RESTS):
        a = at_rest(2.0 * loss + label_noise)
        found = nodes.risk(a)
        if not abs(found - loss) > CLOSE * found:
            break
        points.append((math.log(loss), math.log(max(found, TINY) / loss)))
        (x, y), (x1, y1) = points[-2:] if len(points) > 1 else ((0.0, math.nan), points[-1])
        step = -y1 * (x1 - x) / (y1 - y) if y1 != y else math.nan
        ahead = x1 + (step if abs(step) < LONGEST else y1)
        loss = math.exp(min(max(ahead, -FARTHEST), FARTHEST))
    return a


@functools.lru_cache(maxsize=32)
def largest_decay(problem: Problem, target: float, eps: float) -> float:
    """About the weight decay with which small rates come to rest at a target; with more none do."""
    nodes = Nodes.of(problem, refinement=USUAL - 1)
    unit = 1.0 / math.sqrt(float(nodes.second_moment.max()))
    low, high = 1e-9 * unit, 1e6 * unit
    for _ in range(20):
        middle = math.sqrt(low * high)
        a, _, _ = stationary(nodes, Adam(1.0, eps=eps, weight_decay=middle), 0.0)
        low, high = (middle, high) if nodes.risk(a) < target else (low, middle)
    return high
