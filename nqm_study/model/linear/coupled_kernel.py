"""Compiled runs of a linear optimizer whose noise falls with the loss: see runs.py.

The state of a mode is its second moments S = E z z^T, packed: the pairs (i, j), j <= i, of
components one after the other. A step from S is

    S' = A S A^T + (E (f + own h^2 p.S p)) G G^T,    A = D + G (h p)^T,

with D, G, p the rule's drift, gain and point, h the curvature times its preconditioner, E the
stretch's share of the noise, own = 1/B, and f = 2 L + steady, L the risk at the point of the
gradient, which couples all modes. The nodes of the signal start with S = z_0 z_0^T and take no f;
those of the noise start with 0 and take it, each with weights of its own. Without f the packed
moments of a node move by a matrix whose entries are polynomials of h.

Over a stretch of n steps at one rule, f is taken to be linear from step to step, f_0 + j d. With
the map's power, the response to f_0 and to d by doubling, the state at the end is X + d Y, and d
follows from one equation for f there. That is the trapezoidal rule of a Volterra equation: stable
whatever n is, off by a series in 1/K^2 on K stretches, and exact for stretches of one step. The
twin is ``risks`` in tests/model/least_squares.py.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.linear.schedule_kernel import DEAD, Rule
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled, compiled_within

CLEARED = 64
"""Steps between two at which numbers next to 0 become 0: too small for all their digits, they take
the processor ten times as long."""


@compiled_within
def _coefficients(rule: Rule, row: int, own: float, into: Array, point: Array, form: Array) -> None:
    """Write what a stretch's matrices are made of.

    Args:
        rule: of each stretch.
        row: the stretch's.
        own: 1 / B.
        into: what f adds to each pair, shape (q,).
        point: what each pair counts in the square at the gradient's point, shape (q,).
        form: coefficients of 1, h and h^2 of each entry, shape (3, q, q).
    """
    drift, gain, p, shares = rule
    d = min(row, len(drift) - 1)
    g = min(row, len(gain) - 1)
    a = min(row, len(p) - 1)
    share = shares[min(row, len(shares) - 1)]
    out = 0
    for i in range(gain.shape[1]):
        for j in range(i + 1):
            into[out] = share * gain[g, i] * gain[g, j]
            point[out] = p[a, i] * p[a, j] * (1.0 if i == j else 2.0)
            column = 0
            for c in range(gain.shape[1]):
                for e in range(c + 1):
                    plain = drift[d, i, c] * drift[d, j, e]
                    first, second = drift[d, i, c] * p[a, e], drift[d, j, c] * p[a, e]
                    if c != e:
                        plain += drift[d, i, e] * drift[d, j, c]
                        first += drift[d, i, e] * p[a, c]
                        second += drift[d, j, e] * p[a, c]
                    square = p[a, c] * p[a, e] * (1.0 if c == e else 2.0)
                    form[0, out, column] = plain
                    form[1, out, column] = gain[g, j] * first + gain[g, i] * second
                    form[2, out, column] = gain[g, i] * gain[g, j] * square * (1.0 + own * share)
                    column += 1
            out += 1


@compiled_within
def begin(start: Array, noisy: Array, state: Array) -> None:
    """Write the states before the first step: 0 at the nodes of the noise."""
    pair = 0
    for i in range(start.size):
        for j in range(i + 1):
            for m in range(noisy.size):
                state[pair, m] = start[i] * start[j] * (1.0 - noisy[m])
            pair += 1


@compiled_within
def loss(weight: Array, point: Array, state: Array) -> float:
    """The risk at the gradient's point."""
    total = 0.0
    for pair in range(point.size):
        if point[pair] != 0.0:
            part = 0.0
            for m in range(weight.size):
                part += weight[m] * state[pair, m]
            total += point[pair] * part
    return total


@compiled_within
def apply(matrix: Array, state: Array, after: Array) -> None:
    """Write matrix . state of each node, three columns at a time: pairs come in threes, mostly."""
    q, n = state.shape
    for i in range(q):
        row = after[i]
        for m in range(n):
            row[m] = 0.0
        for c in range(0, q - 2, 3):
            one, two, three = matrix[i, c], matrix[i, c + 1], matrix[i, c + 2]
            first, second, third = state[c], state[c + 1], state[c + 2]
            for m in range(n):
                row[m] += one[m] * first[m] + two[m] * second[m] + three[m] * third[m]
        for c in range(q - q % 3, q):
            one, first = matrix[i, c], state[c]
            for m in range(n):
                row[m] += one[m] * first[m]


@compiled_within
def clear(numbers: Array) -> None:
    """Make numbers next to 0 that."""
    for i in range(len(numbers)):
        row = numbers[i]
        for m in range(row.size):
            row[m] = 0.0 if abs(row[m]) < DEAD else row[m]


@compiled_within
def _fill(form: Array, h: Array, matrix: Array) -> None:
    """Write every node's matrix."""
    q = len(matrix)
    for i in range(q):
        for c in range(q):
            plain, slope, square = form[0, i, c], form[1, i, c], form[2, i, c]
            for m in range(h.size):
                matrix[i, c, m] = plain + h[m] * (slope + h[m] * square)


@compiled
def write_step(
    rule: Rule, own: float, curvature: Array, into: Array, point: Array, matrix: Array
) -> None:
    """Write the matrix of each node for one step, and what else ``_coefficients`` writes."""
    q = into.size
    form = np.empty((3, q, q))
    _coefficients(rule, 0, own, into, point, form)
    _fill(form, curvature, matrix)


@compiled_within
def _stretch(  # noqa: PLR0912 (one pass over the digits)
    matrix: Array, square: Array, steps: int, f: float, into: Array, noisy: Array, state: Array,
    slope: Array, level: Array, ramp: Array, after: Array,
) -> None:  # fmt: skip
    """Move all states by ``steps`` with f as it is, and write what a slope of f adds to them.

    Loops run over all nodes: those from an index on would not use vector registers.

    Args:
        matrix: of one step; it is used up.
        square: workspace of its shape.
        steps: > 1.
        f: at the first step.
        into: what it adds to each pair.
        noisy: 1 at the nodes of the noise, which it is added to, else 0.
        state: moved.
        slope: what d, the growth of f from step to step, adds to the state.
        level: workspace, for the response to f = 1.
        ramp: workspace, for the response to the step's number.
        after: workspace.
    """
    q, n = state.shape
    for i in range(q):
        for m in range(n):
            slope[i, m] = 0.0
            ramp[i, m] = 0.0
            level[i, m] = into[i] * noisy[m]
    left, done, length = steps, 0, 1
    while left > 0:  # by its binary digits; powers of one matrix commute
        if left & 1:
            apply(matrix, state, after)
            for i in range(q):
                for m in range(n):
                    state[i, m] = after[i, m]
            apply(matrix, slope, after)
            for i in range(q):
                for m in range(n):
                    state[i, m] += f * level[i, m]
                    slope[i, m] = after[i, m] + ramp[i, m] + done * level[i, m]
            done += length
        left >>= 1
        if left > 0:
            apply(matrix, ramp, after)
            for i in range(q):
                for m in range(n):
                    ramp[i, m] += after[i, m] + length * level[i, m]
            apply(matrix, level, after)
            for i in range(q):
                for m in range(n):
                    level[i, m] += after[i, m]
            for i in range(q):
                for j in range(q):
                    for m in range(n):
                        square[i, j, m] = 0.0
                    for c in range(q):
                        for m in range(n):
                            square[i, j, m] += matrix[i, c, m] * matrix[c, j, m]
            for i in range(q):
                for j in range(q):
                    for m in range(n):
                        dead = abs(square[i, j, m]) < DEAD
                        matrix[i, j, m] = 0.0 if dead else square[i, j, m]
            length *= 2


@compiled
def run_coupled(  # noqa: PLR0912, PLR0915 (one pass: every layer of calls is compiled once more)
    rule: Rule, offset: int, curvature: Array, start: Array, readout: int, weight: Array,
    seen: Array, noisy: Array, own: float, steady: float, lengths: Integers, marks: Integers,
    signal: Array, noise: Array,
) -> None:  # fmt: skip
    """Write the two parts of the risk after the stretches that are marked.

    Args:
        rule: of each stretch.
        offset: the first stretch's row.
        curvature: P h of the nodes: those of the signal, then those of the noise.
        start: z_0 of every mode at theta_0 = 1, shape (k,).
        readout: the component that counts.
        weight: of each node in the risk; the noise's with P^2 c / B.
        seen: of each node in what is written: the same, for the risk.
        noisy: 1 at the nodes of the noise, 0 at those of the signal.
        own: 1 / B.
        steady: the variance of the noise that does not depend on the state, in units of c / B.
        lengths: the steps of each stretch, each >= 1.
        marks: ascending numbers of stretches after which the risk is wanted.
        signal: as many results, NaN from where the loss grows beyond all numbers.
        noise: as many.
    """
    n, k = curvature.size, start.size
    q = k * (k + 1) // 2
    state, after = np.empty((q, n)), np.empty((q, n))
    into, point, form = np.empty(q), np.empty(q), np.empty((3, q, q))
    # What only stretches of several steps, and rules that stay, need.
    matrix = np.empty((q, q, n))
    longest = 1
    for length in lengths:
        longest = max(longest, length)
    room = n if longest > 1 else 0
    square = np.empty((q, q, room))
    slope, level, ramp = np.empty((q, room)), np.empty((q, room)), np.empty((q, room))
    begin(start, noisy, state)
    read = readout * (readout + 3) // 2
    rows = max(len(rule.drift), len(rule.gain), len(rule.point), len(rule.share))
    filled = False
    for index in range(marks.size):
        signal[index] = np.nan
        noise[index] = np.nan
    wanted = 0
    for stretch in range(lengths.size + 1):
        while wanted < marks.size and marks[wanted] == stretch:
            whole, part = 0.0, 0.0
            for m in range(n):
                whole += seen[m] * state[read, m]
                part += seen[m] * noisy[m] * state[read, m]
            signal[wanted] = whole - part
            noise[wanted] = part
            wanted += 1
        if stretch == lengths.size or wanted == marks.size:
            break
        if stretch == 0 or rows > 1:
            _coefficients(rule, offset + stretch, own, into, point, form)
            filled = False
        f = steady + 2.0 * loss(weight, point, state)
        if not f < np.inf:
            break
        steps = lengths[stretch]
        if not filled:
            _fill(form, curvature, matrix)
            filled = True
        if steps == 1:
            apply(matrix, state, after)
            for i in range(q):
                added = f * into[i]
                row, moved = state[i], after[i]
                for m in range(n):
                    row[m] = moved[m] + added * noisy[m]
            if stretch % CLEARED == 0:
                clear(state)
            continue
        _stretch(matrix, square, steps, f, into, noisy, state, slope, level, ramp, after)
        filled = False
        there = steady + 2.0 * loss(weight, point, state)
        answer = 2.0 * loss(weight, point, slope)
        if not answer < steps:
            break  # the loss doubles and more within the stretch, for ever
        growth = (there - f) / (steps - answer)
        for i in range(q):
            for m in range(n):
                state[i, m] += growth * slope[i, m]
        clear(state)


@compiled
def sensitivities(  # noqa: PLR0912 (two passes over the steps)
    rule: Rule, curvature: Array, start: Array, readout: int, weight: Array, noisy: Array,
    own: float, steady: float, found: Array,
) -> float:  # fmt: skip
    """Write how fast the last risk grows with the share of each step's noise; return that risk.

    Of all states a forward pass keeps f and the squares at the gradient's point. Backwards, Y is
    how fast the last risk grows with the state after a step: Y <- M^T Y + 2 w point g, M a node's
    matrix, w its weight, and g what Y grows by with f, which is in all modes. A step's share then
    counts sum Y . G G^T (h^2 p.S p + f), the last term at the nodes of the noise alone.

    Args:
        rule: of each step.
        curvature: as in ``run_coupled``.
        start: there as well.
        readout: there as well.
        weight: there as well.
        noisy: there as well.
        own: there as well.
        steady: there as well.
        found: as many results as steps.
    """
    n, k, steps = curvature.size, start.size, found.size
    q = k * (k + 1) // 2
    state, after = np.empty((q, n)), np.empty((q, n))
    into, point, form = np.empty(q), np.empty(q), np.empty((3, q, q))
    matrix = np.empty((q, q, n))
    squares, level = np.empty((steps, n)), np.empty(steps)
    begin(start, noisy, state)
    for t in range(steps):
        _coefficients(rule, t, own, into, point, form)
        _fill(form, curvature, matrix)
        level[t] = steady + 2.0 * loss(weight, point, state)
        for m in range(n):
            there = 0.0
            for i in range(q):
                there += point[i] * state[i, m]
            squares[t, m] = there
        apply(matrix, state, after)
        for i in range(q):
            added = level[t] * into[i]
            for m in range(n):
                state[i, m] = after[i, m] + added * noisy[m]
    read = readout * (readout + 3) // 2
    risk = 0.0
    for m in range(n):
        risk += weight[m] * state[read, m]
        for i in range(q):
            state[i, m] = weight[m] if i == read else 0.0
    for t in range(steps - 1, -1, -1):
        _coefficients(rule, t, own, into, point, form)
        _fill(form, curvature, matrix)
        gain = rule.gain[min(t, len(rule.gain) - 1)]
        total, with_loss = 0.0, 0.0
        pair = 0
        for i in range(k):
            for j in range(i + 1):
                pairs = gain[i] * gain[j]
                part, both = 0.0, 0.0
                for m in range(n):
                    square = curvature[m] ** 2 * squares[t, m]
                    part += state[pair, m] * (square + level[t] * noisy[m])
                    both += state[pair, m] * noisy[m]
                total += pairs * part
                with_loss += into[pair] * both
                pair += 1
        found[t] = total
        for i in range(q):
            for m in range(n):
                entry = 2.0 * with_loss * point[i] * weight[m]
                for c in range(q):
                    entry += matrix[c, i, m] * state[c, m]
                after[i, m] = entry
        for i in range(q):
            for m in range(n):
                state[i, m] = after[i, m]
    return risk
