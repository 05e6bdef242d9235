"""Risks and first crossings of an optimizer with one component whose noise falls with the loss.

At a constant rate, z' = D z + G g with the gradient at p z, the second moments a of the signal's
nodes and y of the noise's move as

    a' = d a,    y' = d y + G^2 f,    f = v + 2 p^2 (w . a + w . y),
    d = (D + G h p)^2 + (G h p)^2 / B,    risk = w . a + w . y,

where w weighs nodes in the risk, the noise's with P^2 c / B. In sqrt(w) y the noise's map is
diagonal plus 2 p^2 G^2 sqrt(w) sqrt(w)^T: symmetric, so that it has an orthonormal basis in which
it is diagonal. With e_j the eigenvalues, and q_j the components of sqrt(w) there, the noise's part
of the risk is a sum of terms

    n_j' = e_j n_j + q_j^2 G^2 (v + 2 p^2 w . a),

all at least 0. So K steps are known in closed form: with E_K = sum over i < K of e^i, and the
positive sums F_K(j, i) of e_j^s d_i^(K-1-s) over s < K, both by doubling,

    n_j <- e_j^K n_j + q_j^2 G^2 (v E_K + 2 p^2 sum_i F_K(j, i) w_i a_i),    a <- d^K a.

Within K steps f lies between its values with the least and the largest w . a there; at such an f a
term moves from what it is to what it is after K steps, always in one direction. That bounds the
risk of every step between, and a first crossing is found by jumping where the bound excludes one.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from nqm_study.model.linear import kernels
from nqm_study.model.linear.kernels import HURRY, keep_nearest
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.risks import MOST_WORK, Found
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled, compiled_within
from nqm_study.model.numerics.secular import eigenvalues
from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.problem import Problem

LARGEST = 1e290
"""A risk that has no use any more."""


class Tables(NamedTuple):
    """What jumps of 2^level steps do, filled level by level.

    Attributes:
        decay: d^K of the signal's nodes, shape (levels, signal).
        power: e^K, shape (levels, noise).
        steady: q^2 G^2 v E_K, shape (levels, noise).
        driven: q^2 G^2 2 p^2 F_K, shape (levels, noise, signal).
        filled: how many levels there are, one number.
    """

    decay: Array
    power: Array
    steady: Array
    driven: Array
    filled: Integers


class Spectral(NamedTuple):
    """One compression of a problem, in the basis in which its noise is diagonal.

    Attributes:
        weight: w of the signal's nodes, times z_0^2.
        loss: 2 p^2, what the risk counts in f.
        steady: v.
        into: q^2 G^2, what f adds to each term.
        tables: of jumps.
    """

    weight: Array
    loss: float
    steady: float
    into: Array
    tables: Tables

    @classmethod
    def build(
        cls, problem: Problem, optimizer: LinearOptimizer, level: int, most_steps: int
    ) -> Self:
        """The compression at a level, with room for jumps of up to ``most_steps``."""
        modes, rule = Modes.of(problem, optimizer, level), optimizer.rows(np.ones(1))
        drift, gain, point = (
            float(each.ravel()[0]) for each in (rule.drift, rule.gain, rule.point)
        )
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite step diverges
            moved = gain * point * modes.curvature
            decay = (drift + moved) ** 2 + moved**2 / problem.batch_size
            noise_weight: Array = modes.noise_weight * np.square(gain)
        n_signal, n_noise = modes.signal_weight.size, modes.noise_weight.size
        loss = 2.0 * point**2
        noisy = decay[modes.first_noise : modes.first_noise + n_noise]
        # Nodes that move alike are one.
        power, same = np.unique(noisy, return_inverse=True)
        into = np.bincount(same, noise_weight, power.size).astype(np.float64)
        power, into = power[into != 0.0], into[into != 0.0]
        if loss > 0.0 and np.all(into > 0.0) and np.all(np.isfinite(power)):
            power, shares = eigenvalues(power, loss * into)
            into = shares / loss
        n_noise, levels = power.size, max(1, most_steps.bit_length())
        tables = Tables(
            np.empty((levels, n_signal)), np.empty((levels, n_noise)),
            np.empty((levels, n_noise)), np.empty((levels, n_noise, n_signal)), np.array((1,)),
        )  # fmt: skip
        tables.decay[0], tables.power[0] = decay[:n_signal], power
        tables.steady[0] = problem.steady_noise * into
        tables.driven[0] = (loss * into)[:, None]
        weight = modes.signal_weight * rule.start[0] ** 2
        return cls(weight, loss, problem.steady_noise, into, tables)

    def risks(self, steps: Integers) -> Array:
        """The risk after each of some ascending numbers of steps."""
        risks = np.empty(steps.size)
        risks_at(self.weight, self.tables, steps, risks)
        return risks

    def search(self, target: float, max_steps: int, most_work: int = MOST_WORK) -> Found:
        """The first crossing on this compression, proved as far as the work allows."""
        nearest_step = np.empty(max_steps.bit_length() + 1, dtype=np.int64)
        reason, step, risk, risk_step, work, closest = first_crossing(
            self.weight, self.loss, self.steady, self.into, self.tables, target, max_steps,
            nearest_step, np.empty(nearest_step.size), most_work,
        )  # fmt: skip
        return Found(reason, step, risk, risk_step, nearest_step, work, closest)

    def rises_above(self, limit: float, steps: int) -> bool:
        """Whether the risk is above a limit after any number of steps up to ``steps``."""
        return bool(
            rises_above(
                self.weight, self.loss, self.steady, self.into, self.tables, limit, steps, MOST_WORK
            )
        )


@compiled_within
def _fill(tables: Tables, levels: int) -> None:
    """Fill the tables up to a number of levels."""
    decay, power, steady, driven, filled = tables
    for level in range(filled[0], levels):
        for i in range(decay.shape[1]):
            decay[level, i] = decay[level - 1, i] ** 2
        for j in range(power.shape[1]):
            e = power[level - 1, j]
            power[level, j] = e * e
            steady[level, j] = (1.0 + e) * steady[level - 1, j]
            for i in range(decay.shape[1]):
                driven[level, j, i] = driven[level - 1, j, i] * (e + decay[level - 1, i])
    filled[0] = max(filled[0], levels)


@compiled_within
def _jump(tables: Tables, level: int, a: Array, n: Array) -> float:
    """Move the signal's terms w a and the noise's by 2^level steps; return the risk there."""
    if tables.filled[0] <= level:
        _fill(tables, level + 1)
    decay, power, steady, driven, _ = tables
    risk = 0.0
    for j in range(n.size):
        entry = power[level, j] * n[j] + steady[level, j]
        for i in range(a.size):
            entry += driven[level, j, i] * a[i]
        n[j] = entry
        risk += entry
    for i in range(a.size):
        a[i] *= decay[level, i]
        risk += a[i]
    return risk


@compiled_within
def _bound(
    loss: float, steady: float, into: Array, tables: Tables, level: int, a: Array, n: Array,
    upper: bool,
) -> float:  # fmt: skip
    """A lower or upper bound of the risk after 1 to 2^level steps."""
    if tables.filled[0] <= level:
        _fill(tables, level + 1)
    signal = 0.0
    for i in range(a.size):
        after = tables.decay[level, i] * a[i]
        signal += max(a[i], after) if upper else min(a[i], after)
    f = steady + loss * signal
    bound = signal
    for j in range(n.size):
        # E_K of each term, also where v is 0, is (e^K - 1) / (e - 1).
        e, after = tables.power[0, j], tables.power[level, j]
        gathered = float(1 << level) if e == 1.0 else (after - 1.0) / (e - 1.0)
        there = after * n[j] + into[j] * f * gathered
        bound += max(n[j], there) if upper else min(n[j], there)
    return bound


@compiled_within
def _rest(steady: float, into: Array, tables: Tables, n: Array) -> float:
    """A lower bound of the risk after any number of steps."""
    bound = 0.0
    for j in range(n.size):
        e = tables.power[0, j]
        bound += n[j] if e >= 1.0 else min(n[j], into[j] * steady / (1.0 - e))
    return bound


@compiled
def risks_at(weight: Array, tables: Tables, steps: Integers, risks: Array) -> None:
    """Write the risk after each of some ascending numbers of steps."""
    a, n = weight.copy(), np.zeros(tables.power.shape[1])
    risk = a.sum()
    now = 0
    for index in range(steps.size):
        ahead, level = steps[index] - now, 0
        while ahead >> level > 0:  # by its binary digits
            if ahead >> level & 1:
                risk = _jump(tables, level, a, n)
            level += 1
        now = steps[index]
        risks[index] = risk


@compiled
def first_crossing(
    weight: Array, loss: float, steady: float, into: Array, tables: Tables, target: float,
    max_steps: int, nearest_step: Integers, nearest_risk: Array, most_work: int,
) -> tuple[int, int, float, int, int, float]:  # fmt: skip
    """The first step whose risk is at most the target, jumping only where none can be.

    Arguments and results are those of ``kernels.first_crossing``; its work is that of terms.
    """
    for octave in range(nearest_step.size):
        nearest_step[octave] = -1
    a, n = weight.copy(), np.zeros(tables.power.shape[1])
    risk = a.sum()
    best, best_step, closest = risk, 0 * max_steps, risk
    step, level, work = 0 * max_steps, 0 * max_steps, 0 * max_steps
    if risk <= target:
        return kernels.REACHED, step, risk, step, work, np.inf
    levels, terms = len(tables.power), a.size + n.size
    while step < max_steps:
        jump = min(level, levels - 1)
        while 1 << jump > max_steps - step:
            jump -= 1
        while jump > 0:
            work += terms
            if work > most_work and 1 << jump <= step >> HURRY:
                break
            bound = _bound(loss, steady, into, tables, jump, a, n, False)
            if bound > target:
                closest = min(closest, bound)
                break
            jump -= 1
        risk = _jump(tables, jump, a, n)
        work += terms * (1 + n.size // 8)
        step += 1 << jump
        level = jump + 1
        if risk <= target:
            return kernels.REACHED, step, risk, step, work, closest
        closest = min(closest, risk)
        keep_nearest(step, risk, nearest_step, nearest_risk)
        if risk < best:
            best, best_step = risk, step
        if not risk < LARGEST:
            return kernels.OVERFLOW, step, best, best_step, work, closest
        rest = _rest(steady, into, tables, n)
        if rest > target:
            return kernels.NOISE_ABOVE_TARGET, step, best, best_step, work, min(closest, rest)
    return kernels.MAX_STEPS, step, best, best_step, work, closest


@compiled
def rises_above(
    weight: Array, loss: float, steady: float, into: Array, tables: Tables, limit: float,
    steps: int, most_work: int,
) -> bool:  # fmt: skip
    """Whether the risk is above a limit after any number of steps up to ``steps``."""
    a, n = weight.copy(), np.zeros(tables.power.shape[1])
    levels, terms = len(tables.power), a.size + n.size
    step, level, work = 0 * steps, 0 * steps, 0 * steps
    while step < steps:
        jump = min(level, levels - 1)
        while 1 << jump > steps - step:
            jump -= 1
        while jump > 0:
            work += terms
            if work > most_work and 1 << jump <= step >> HURRY:
                break
            if _bound(loss, steady, into, tables, jump, a, n, True) <= limit:
                break
            jump -= 1
        if not _jump(tables, jump, a, n) <= limit:
            return True
        step += 1 << jump
        level = jump + 1
    return False
