"""Compiled kernels of the computed schedules: risks and gradients of pieces, and greedy steps.

The greedy ones have their symbols and equations in greedy.py. What follows is the last risk of a
run in pieces, and its gradient, for the optimal schedule.

The state moves as z' = A z + b e with A = drift + gain (point h)^T and b = gain, drift and gain
being their first rows plus the learning rate r times their second ones.
Within a piece of n steps r is constant, and all of the piece's effect is in

| symbol | shape | meaning |
|---|---|---|
| M | (k, k, n) | A^n |
| S | (k, k, n) | sum over i < n of A^i b b^T A^iT, the noise gathered in the piece |
| dM, dS | (k, k, n) | their derivatives by r |

The signal moves as z <- M z and the covariance of the noise as V <- M V M^T + S. With adjoints y of
z and Y of V, which move backwards as y <- M^T y and Y <- M^T Y M, the derivative of the last risk
by the rate of a piece is y . dM z + <Y, dM V M^T + M V dM^T + dS>, z and V those before the piece.

Arrays are laid out component first, mode last. Modes are taken in blocks, whose tables for all
pieces stay in the processor's second cache.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.linear.kernels import conjugate
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import Like, compiled, compiled_within

BLOCK = 128
"""Modes taken together."""

NOTHING = 1e-140
"""Smaller numbers are set to zero: their squares count for nothing, and a processor takes a hundred
times as long where products are too small for its normal numbers."""


@compiled_within
def _kept(value: float) -> float:
    return value if abs(value) > NOTHING else 0.0


@compiled_within
def _compose(like: Like, size: int, noisy: bool, after: Array, before: Array, out: Array) -> None:
    """Write the table of some steps followed by others: tables are (4, k, k, n), out is neither.

    M = M_2 M_1 and S = S_2 + M_2 S_1 M_2^T; derivatives by the rule of products.
    """
    for i in range(len(like)):
        for j in range(len(like)):
            for m in range(size):
                power = 0.0
                slope = 0.0
                for c in range(len(like)):
                    power += after[0, i, c, m] * before[0, c, j, m]
                    slope += after[1, i, c, m] * before[0, c, j, m]
                    slope += after[0, i, c, m] * before[1, c, j, m]
                out[0, i, j, m] = _kept(power)
                out[1, i, j, m] = _kept(slope)
    if not noisy:
        return
    for i in range(len(like)):
        for j in range(i + 1):
            for m in range(size):
                spread = after[2, i, j, m]
                slope = after[3, i, j, m]
                for c in range(len(like)):
                    row = 0.0
                    row_slope = 0.0
                    for d in range(len(like)):
                        row += after[0, i, d, m] * before[2, d, c, m]
                        row_slope += after[1, i, d, m] * before[2, d, c, m]
                        row_slope += after[0, i, d, m] * before[3, d, c, m]
                    spread += row * after[0, j, c, m]
                    slope += row_slope * after[0, j, c, m] + row * after[1, j, c, m]
                out[2, i, j, m] = _kept(spread)
                out[3, i, j, m] = _kept(slope)
            if j < i:
                for m in range(size):
                    out[2, j, i, m] = out[2, i, j, m]
                    out[3, j, i, m] = out[3, i, j, m]


@compiled_within
def _piece(
    like: Like, size: int, noisy: bool, step: Array, length: int, out: Array, scratch: Array
) -> None:
    """Write the table of ``length`` steps, by doubling along its binary digits, highest first."""
    digits = 0
    while length >> digits > 1:
        digits += 1
    composed = digits
    for digit in range(digits):
        composed += length >> digit & 1
    # Tables are written to and fro, so that the last is written to ``out``.
    now, following = (out, scratch) if composed % 2 == 0 else (scratch, out)
    for part in range(4 if noisy else 2):
        for i in range(len(like)):
            for j in range(len(like)):
                for m in range(size):
                    now[part, i, j, m] = step[part, i, j, m]
    for digit in range(digits - 1, -1, -1):
        _compose(like, size, noisy, now, now, following)
        now, following = following, now
        if length >> digit & 1:
            _compose(like, size, noisy, step, now, following)
            now, following = following, now


@compiled_within
def _one_step(
    like: Like, first: int, size: int, drift: Array, gain: Array, point: Array, curvature: Array,
    rate: float, share: float, out: Array,
) -> None:  # fmt: skip
    """Write the table of one step at a rate and a share of the noise, for the modes of a block."""
    for i in range(len(like)):
        b = gain[0, i] + rate * gain[1, i]
        for j in range(len(like)):
            other = gain[0, j] + rate * gain[1, j]
            change = gain[1, i] * other + b * gain[1, j]
            power, slope = b * point[j], gain[1, i] * point[j]
            base = drift[0, i, j] + rate * drift[1, i, j]
            for m in range(size):
                out[0, i, j, m] = base + power * curvature[first + m]
                out[1, i, j, m] = drift[1, i, j] + slope * curvature[first + m]
                out[2, i, j, m] = share * b * other
                out[3, i, j, m] = share * change


@compiled_within
def _signal(  # noqa: PLR0912 (loops over components and modes)
    like: Like, size: int, tables: Array, start: Array, readout: int, weight: Array, state: Array,
    gradient: Array,
) -> float:  # fmt: skip
    """Add the signal's part to the gradient; return its part of the last risk."""
    pieces = gradient.size
    for c in range(len(like)):
        for m in range(size):
            state[0, c, m] = start[c]
    for piece in range(pieces):
        for i in range(len(like)):
            for m in range(size):
                entry = 0.0
                for c in range(len(like)):
                    entry += tables[piece, 0, i, c, m] * state[piece, c, m]
                state[piece + 1, i, m] = _kept(entry)
    adjoint = np.zeros((2, len(like), size))
    total = 0.0
    for m in range(size):
        total += weight[m] * state[pieces, readout, m] ** 2
        adjoint[0, readout, m] = 2.0 * weight[m] * state[pieces, readout, m]
    side = 0
    for piece in range(pieces - 1, -1, -1):
        change = 0.0
        for i in range(len(like)):
            for c in range(len(like)):
                for m in range(size):
                    change += adjoint[side, i, m] * tables[piece, 1, i, c, m] * state[piece, c, m]
        gradient[piece] += change
        for c in range(len(like)):
            for m in range(size):
                entry = 0.0
                for i in range(len(like)):
                    entry += tables[piece, 0, i, c, m] * adjoint[side, i, m]
                adjoint[1 - side, c, m] = _kept(entry)
        side = 1 - side
    return total


@compiled_within
def _noise(  # noqa: PLR0912 (loops over components and modes)
    like: Like, size: int, tables: Array, readout: int, weight: Array, covariance: Array,
    gradient: Array,
) -> float:  # fmt: skip
    """Add the noise's part to the gradient; return its part of the last risk."""
    pieces = gradient.size
    for i in range(len(like)):
        for j in range(len(like)):
            for m in range(size):
                covariance[0, i, j, m] = 0.0
    for piece in range(pieces):
        conjugate(
            like, size, tables[piece, 0], covariance[piece], tables[piece, 2],
            covariance[piece + 1],
        )  # fmt: skip
    adjoint = np.zeros((2, len(like), len(like), size))
    total = 0.0
    for m in range(size):
        total += weight[m] * covariance[pieces, readout, readout, m]
        adjoint[0, readout, readout, m] = weight[m]
    side = 0
    for piece in range(pieces - 1, -1, -1):
        change = 0.0
        for i in range(len(like)):
            for j in range(len(like)):
                for m in range(size):
                    # By symmetry dM V M^T and its transpose count the same.
                    entry = 0.0
                    for d in range(len(like)):
                        row = 0.0
                        for c in range(len(like)):
                            row += tables[piece, 1, i, c, m] * covariance[piece, c, d, m]
                        entry += row * tables[piece, 0, j, d, m]
                    change += adjoint[side, i, j, m] * (2.0 * entry + tables[piece, 3, i, j, m])
        gradient[piece] += change
        for c in range(len(like)):
            for d in range(len(like)):
                for m in range(size):
                    entry = 0.0
                    for j in range(len(like)):
                        row = 0.0
                        for i in range(len(like)):
                            row += tables[piece, 0, i, c, m] * adjoint[side, i, j, m]
                        entry += row * tables[piece, 0, j, d, m]
                    adjoint[1 - side, c, d, m] = _kept(entry)
        side = 1 - side
    return total


@compiled
def last_risk(
    like: Like, drift: Array, gain: Array, point: Array, start: Array, readout: int,
    curvature: Array, first_noise: int, signal_weight: Array, noise_weight: Array,
    lengths: Integers, rates: Array, shares: Array, gradient: Array,
) -> float:  # fmt: skip
    """The risk after all pieces; its derivatives by their rates are written to ``gradient``.

    ``drift`` has the shape (2, k, k), ``gain`` (2, k) and ``point`` (k,). ``shares`` multiply the
    variance of the noise in each piece.
    """
    k = len(like)
    pieces = rates.size
    tables = np.empty((pieces, 4, k, k, BLOCK))
    step = np.empty((4, k, k, BLOCK))
    scratch = np.empty((4, k, k, BLOCK))
    state = np.empty((pieces + 1, k, BLOCK))
    covariance = np.empty((pieces + 1, k, k, BLOCK))
    for piece in range(pieces):
        gradient[piece] = 0.0
    total = 0.0
    for kind in range(2):
        noisy = kind == 1
        first_node = first_noise if noisy else 0
        weight = noise_weight if noisy else signal_weight
        for first in range(0, weight.size, BLOCK):
            size = min(BLOCK, weight.size - first)
            for piece in range(pieces):
                _one_step(
                    like, first_node + first, size, drift, gain, point, curvature, rates[piece],
                    shares[piece], step,
                )  # fmt: skip
                _piece(like, size, noisy, step, lengths[piece], tables[piece], scratch)
            part = weight[first : first + size]
            if noisy:
                total += _noise(like, size, tables, readout, part, covariance, gradient)
            else:
                total += _signal(like, size, tables, start, readout, part, state, gradient)
    return total


SLACK = 1.25
"""How far a rate may rise above the limit of its stride before single steps are taken again."""

RECORD_GROWTH = 1.02
"""Ratio of two steps whose rates are recorded, from step 50 on; every step before."""


@compiled_within
def greedy_sums(curvature: Array, part: Array) -> tuple[float, float, float]:
    """The sums of e, k e and k^2 e over the nodes."""
    risk, slope, bend = 0.0, 0.0, 0.0
    for i in range(curvature.size):
        ke = curvature[i] * part[i]
        risk += part[i]
        slope += ke
        bend += curvature[i] * ke
    return risk, slope, bend


@compiled_within
def greedy_changes(
    rate: float, curvature: Array, source: Array, part: Array, change: Array
) -> None:
    """What one step at a rate adds to e: ((1 - lr k)^2 - 1) e + lr^2 n."""
    square = rate * rate
    for i in range(curvature.size):
        x = rate * curvature[i]
        change[i] = x * (x - 2.0) * part[i] + square * source[i]


@compiled_within
def greedy_step(rate: float, curvature: Array, source: Array, change: Array, part: Array) -> None:
    """Add the changes of one step to e.

    Where lr k is near 1 the sum would cancel, and the factor is taken; where it is small the factor
    would lose the digits of lr k, by the same amount at each of many steps.
    """
    square = rate * rate
    for i in range(part.size):
        left = 1.0 - rate * curvature[i]
        moved = left * left * part[i] + square * source[i]
        part[i] = part[i] + change[i] if left > 0.5 else moved


@compiled_within
def greedy_stride(weight: Array, history: Array, head: int, part: Array) -> None:
    """Add the changes of a stride to e: a weighted sum of the last ones, the newest first."""
    for j in range(weight.size):
        change = history[(head + j) % len(history)]
        for i in range(part.size):
            part[i] += weight[j] * change[i]


@compiled_within
def greedy_thin(history: Array, head: int) -> None:
    """Keep every second row of the history, the newest first, from row 0 on."""
    order = len(history) // 2
    kept = np.empty((order, history.shape[1]))
    for j in range(order):
        kept[j] = history[(head + 2 * j) % len(history)]
    history[:order] = kept


@compiled
def greedy_advance(
    now: int, last: int, target: float, limit: float, patience: int, doublings: int, weights: Array,
    curvature: Array, source: Array, part: Array, before: Array, rates: Array, at_steps: Integers,
    recorded: Integers, most_strides: int,
) -> tuple[int, int, int, float, float, int]:  # fmt: skip
    """Take greedy steps until the risk is at most the target, or to the last step.

    It also ends after ``most_strides``, be they single steps.

    A stride of n = 2^j steps needs 2 lr k n <= limit at every node, now >= patience n, and
    j <= ``doublings``; ``weights[j]`` are its weights. With a limit of 0 all steps are single.

    ``part`` holds e and is advanced in place; ``before`` is left as it was before the last stride,
    if that was longer than a step. ``recorded`` holds how many rates are in ``rates`` and
    ``at_steps``, and the step of the next one to record.

    Returns:
        the step, the length of the last stride, that of the longest, the risk, by how much the
        next step would lower it, and the number of strides.
    """
    order = weights.shape[1]
    history = np.zeros((2 * order, part.size))
    head, held = 0, 0
    level, stride, longest = 0, 1, 1
    noise = source.sum()
    strides = 0 * now
    while True:
        risk, slope, bend = greedy_sums(curvature, part)
        # Nothing is left to lower, or too little for its square.
        rate = slope / (bend + noise) if bend + noise > 0.0 else 0.0
        if risk <= target or now >= last or strides >= most_strides:
            return now, stride, longest, risk, rate * slope, strides
        if now >= recorded[1]:
            rates[recorded[0]], at_steps[recorded[0]] = rate, now
            recorded[0] += 1
            recorded[1] = max(now + 1, int(RECORD_GROWTH * now) + 1)
        if stride > 1 and (2.0 * rate * stride > SLACK * limit or now + stride > last):
            level, stride, held = 0, 1, 0
        head = (head - 1) % len(history)
        change = history[head]
        greedy_changes(rate, curvature, source, part, change)
        held = min(held + 1, len(history))
        double = 2 * stride
        if (
            level < doublings
            and held > 2 * (order - 1)
            and 2.0 * rate * double <= limit
            and now // double >= patience
            and now + double <= last
        ):
            greedy_thin(history, head)
            head, held = 0, order
            level, stride = level + 1, double
            longest = max(longest, stride)
        if stride > 1:
            before[:] = part
            greedy_stride(weights[level], history, head, part)
        else:
            greedy_step(rate, curvature, source, change, part)
        now += stride
        strides += 1
