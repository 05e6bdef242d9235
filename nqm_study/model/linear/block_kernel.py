"""Compiled runs by one rule of a linear optimizer whose noise falls with the loss: see runs.py.

In the terms of coupled_kernel.py, the second moments s of a node move as s' = M s + f g, with M and
g the same at all steps, and

    f_t = v + 2 L_t,    L_t = sum w p.s_t,

w a node's weight and p what its moments count in the loss. Over a block of K steps, the state s at
its start leaves y_j = sum w p M^j s of the loss after j steps, and f of a step adds k_j = sum w
p M^j g of it to the loss j + 1 steps later. So f is the solution of a triangular system,

    f_j = v + 2 y_j + 2 sum over i < j of k_(j-1-i) f_i,

linear in y and v, as are then the risks and the state at the end. As functions of j, the responses
p M^j of all nodes are nearly combinations of a few functions u: y = sum z u, z = V s. So a block is

    z = V s,    risks = R z + v a,    s' = M^K s + H z + v b,

with tables whose number of columns is that of the u. It takes a fraction of K steps, and gives the
risk after each. What the u leave out is known: a block in which that may be more of the least risk
than the rounding of as many steps is stepped through. The twin is ``run_coupled``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nqm_study.model.linear.coupled_kernel import apply, begin, clear, loss
from nqm_study.model.linear.spectral import LARGEST
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled, compiled_within
from nqm_study.model.numerics.refine import ROUNDING_PER_STEP

LEFT_OUT = 1e-15
"""The share of a response's norm that the functions u may leave out."""

DIGITS = 4e-16
"""Rounding of a response that is put together from them, over its norm."""


class Tables(NamedTuple):
    """What a block of steps does to the state of n nodes, of q pairs each, by r functions u.

    Attributes:
        seen: V, with the weights, shape (r, q, n).
        spoilt: the most that a pair's part of a risk may be off by, over the pair, shape (q, n).
        basis: u at the readout: what z is of the risk without f, shape (r, K).
        risks: the rows of R, and a, shape (r + 1, K).
        ends: those of H, and b, of the nodes of the noise, shape (r + 1, q, noise).
        step: M, shape (q, q, n).
        block: M^K, shape (q, q, n).
        into: g, shape (q,).
        point: p, shape (q,).
    """

    seen: Array
    spoilt: Array
    basis: Array
    risks: Array
    ends: Array
    step: Array
    block: Array
    into: Array
    point: Array


@compiled_within
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@compiled_within
def _add(total: Array, factor: float, part: Array) -> None:
    for j in range(total.size):
        total[j] += factor * part[j]


def reduced(rows: Array) -> tuple[Array, Array, Array]:
    """An orthonormal basis of some rows, their components in it, and the norms of what it leaves.

    By Gram and Schmidt, the row next of which most is left. The rows are used up.
    """
    n, size = rows.shape
    basis, shares, left = np.empty((size, size)), np.zeros((size, n)), np.empty(n)
    rank = _reduce(rows, basis, shares, left)
    return basis[:rank], shares[:rank], left


@compiled
def _reduce(rows: Array, basis: Array, shares: Array, left: Array) -> int:
    """Write a basis, the components and what is left; return the size of the basis."""
    n, size = rows.shape
    whole = np.empty(n)
    for row in range(n):
        whole[row] = np.sqrt(_dot(rows[row], rows[row]))
        left[row] = whole[row]
    rank = 0 * size
    while rank < size:
        pivot, most = 0 * size, LEFT_OUT
        for row in range(n):
            if left[row] > most * whole[row]:
                pivot, most = row, left[row] / whole[row]
        if not most > LEFT_OUT:
            break
        u = basis[rank]
        u[:] = rows[pivot]
        for _ in range(2):  # a small rest has some of the others again, by rounding
            for other in range(rank):
                _add(u, -_dot(u, basis[other]), basis[other])
            norm = np.sqrt(_dot(u, u))
            for j in range(size):
                u[j] /= norm
        for row in range(n):
            if left[row] > LEFT_OUT * whole[row]:
                share = _dot(rows[row], u)
                _add(rows[row], -share, u)
                shares[rank, row] = share
                left[row] = np.sqrt(_dot(rows[row], rows[row]))
        rank += 1
    for row in range(n):
        left[row] += DIGITS * whole[row]
    return int(rank)


@compiled
def run_blocks(  # noqa: PLR0912, PLR0915 (one pass: every layer of calls is compiled once more)
    tables: Tables, start: Array, readout: int, weight: Array, noisy: Array, steady: float,
    steps: Integers, low: float, high: float, whole: Array, signal: Array,
) -> int:  # fmt: skip
    """Write the risk after some ascending numbers of steps; return how many there are.

    The run ends with the first block in which one that is wanted is at most ``low`` or above
    ``high``, or where the loss grows beyond all numbers; further ones are NaN.

    Args:
        tables: of blocks.
        start: z_0 of every mode at theta_0 = 1, shape (k,).
        readout: the component that counts.
        weight: of each node in the risk; the noise's with P^2 c / B.
        noisy: 1 at the nodes of the noise, which follow those of the signal, where it is 0.
        steady: v.
        steps: after which the risk is wanted.
        low: for the end of the run.
        high: for the end of the run.
        whole: as many results as steps.
        signal: as many, the signal's part of it; or none.
    """
    seen, spoilt, basis, of_basis, ends, step, block, into, point = tables
    (rank, size), (q, n) = basis.shape, spoilt.shape
    first, read = n - ends.shape[2], readout * (readout + 3) // 2
    state, after = np.empty((q, n)), np.empty((q, n))
    begin(start, noisy, state)
    wanted, done, judged = 0 * size, 0 * size, 0 * size
    of_signal, z, risks = np.empty(rank), np.empty(rank), np.empty(size)
    whole[:] = np.nan
    signal[:] = np.nan
    while wanted < steps.size:
        for j in range(size):
            risks[j] = steady * of_basis[rank, j]
        for r in range(rank):
            part, rest = 0.0, 0.0
            for c in range(q):
                part += _dot(seen[r, c, :first], state[c, :first])
                rest += _dot(seen[r, c, first:], state[c, first:])
            of_signal[r], z[r] = part, part + rest
            _add(risks, z[r], of_basis[r])
        error, least, most = 0.0, risks[0], risks[0]
        for c in range(q):
            for m in range(n):
                error += spoilt[c, m] * abs(state[c, m])
        for j in range(size):
            least, most = min(least, risks[j]), max(most, risks[j])
        if error <= size * ROUNDING_PER_STEP * least and most < LARGEST:
            while wanted < steps.size and steps[wanted] < done + size:
                at = steps[wanted] - done
                whole[wanted] = risks[at]
                if signal.size > 0:
                    part = 0.0
                    for r in range(rank):
                        part += of_signal[r] * basis[r, at]
                    signal[wanted] = part
                wanted += 1
            apply(block, state, after)
            for c in range(q):
                state[c] = after[c]
                _add(state[c, first:], steady, ends[rank, c])
                for r in range(rank):
                    _add(state[c, first:], z[r], ends[r, c])
            done += size
        else:
            for _ in range(size):
                # Beyond all numbers the moments are infinite, of either sign, or none.
                f = steady + 2.0 * loss(weight, point, state)
                part = _dot(weight[:first], state[read, :first])
                risk = part + _dot(weight[first:], state[read, first:])
                if not (abs(f) < np.inf and abs(risk) < np.inf):
                    return int(wanted)
                if wanted < steps.size and steps[wanted] == done:
                    whole[wanted] = risk
                    if signal.size > 0:
                        signal[wanted] = part
                    wanted += 1
                apply(step, state, after)
                for c in range(q):
                    state[c] = after[c]
                    for m in range(first, n):
                        state[c, m] += f * into[c]
                done += 1
        clear(state)
        while judged < wanted:
            if whole[judged] <= low or whole[judged] > high:
                return int(wanted)
            judged += 1
    return int(wanted)
