"""Compiled runs of a linear optimizer whose learning rate changes: see runs.py.

A run is a list of stretches, each of some steps at one rule; a stretch of one step is a step of the
recursion. Of the rule, curvature apart, some few numbers of each stretch are read; the transition
A = drift + gain (point h)^T of each mode is formed here. Arrays are laid out component first, mode
last. The twin is ``recursion`` in tests/model/moments.py, with rates.

The loops over modes that the kernels share stand in each: calls to shared ones cost a seventh more
time. They take whole blocks, of which those after the last mode repeat it and do not count: with a
known number of modes, all of one array, and what a mode needs in registers (``numerics.cells``),
they run in vector registers. A step of a block takes 10, 50 and 100 ns for k = 1, 2 and 3 with
noise, on 3 GHz; a doubling half as much more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.np.numpy_support import carray

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.cells import cells
from nqm_study.model.numerics.compiled import Like, compiled, inlined

BLOCK = 32
"""Modes that run through together; they stay in the processor's first cache."""

DEAD = 1e-290
"""A state below this is 0: its square is, and numbers that are too small for all their digits take
the processor ten times as long."""


class Rule(NamedTuple):
    """The rule of each stretch, or one row where it is the same in all.

    Attributes:
        drift: shape (stretches or 1, k, k).
        gain, point: shape (stretches or 1, k).
        share: the variance of its noise, in units of what the weights of modes have.
    """

    drift: Array
    gain: Array
    point: Array
    share: Array


@inlined
def _multiply(like: Like, a: Array, b: Array, product: Array) -> None:
    """Write a b."""
    for i in range(len(like)):
        for j in range(len(like)):
            entry = 0.0
            for c in range(len(like)):
                entry += a[i, c] * b[c, j]
            product[i, j] = entry


@inlined
def _load(like: Like, rows: Array, m: int, matrix: Array) -> None:
    """Copy a mode's matrix out of a block."""
    for i in range(len(like)):
        for j in range(len(like)):
            matrix[i, j] = rows[i, j, m]


@inlined
def _load_rule(like: Like, rule: Rule, row: int, drift: Array, gain: Array, point: Array) -> None:
    """Copy a stretch's rule; gain and point into the first row of a matrix each."""
    d = min(row, len(rule.drift) - 1)
    g = min(row, len(rule.gain) - 1)
    p = min(row, len(rule.point) - 1)
    for i in range(len(like)):
        gain[0, i] = rule.gain[g, i]
        point[0, i] = rule.point[p, i]
        for j in range(len(like)):
            drift[i, j] = rule.drift[d, i, j]


@inlined
def _transition(like: Like, drift: Array, gain: Array, point: Array, h: float, a: Array) -> None:
    """Write A = drift + gain (point h)^T of a mode."""
    for i in range(len(like)):
        for j in range(len(like)):
            a[i, j] = drift[i, j] + gain[0, i] * point[0, j] * h


@inlined
def _load_symmetric(like: Like, rows: Array, m: int, matrix: Array) -> None:
    """Copy a mode's symmetric matrix, of which a block has the lower half."""
    for i in range(len(like)):
        for j in range(i + 1):
            matrix[i, j] = rows[i, j, m]
            matrix[j, i] = rows[i, j, m]


@inlined
def _spread(
    like: Like, a: Array, s: Array, added: Array, product: Array, rows: Array, m: int
) -> None:
    """Write the lower half of a s a^T + added, all symmetric, as a mode's matrix of a block."""
    _multiply(like, a, s, product)
    for i in range(len(like)):
        for j in range(i + 1):
            entry = added[i, j]
            for c in range(len(like)):
                entry += product[i, c] * a[j, c]
            rows[i, j, m] = entry


@compiled
def run_signal(  # noqa: PLR0912 (one pass: every layer of calls is compiled once more)
    like: Like, rule: Rule, offset: int, curvature: Array, first: int, start: Array, readout: int,
    weight: Array, lengths: Integers, marks: Integers, sums: Array,
) -> None:  # fmt: skip
    """Write the sum of w z^2 after the stretches that are marked.

    Args:
        like: gives the number of components k.
        rule: of each stretch.
        offset: the first stretch's row.
        curvature: P h of the nodes.
        first: the first node; as many as there are weights take part.
        start: z_0 of every mode, shape (k,).
        readout: the component that counts.
        weight: w of each mode that takes part.
        lengths: the steps of each stretch, each >= 1.
        marks: ascending numbers of stretches after which the sum is wanted.
        sums: as many results.
    """
    k = len(like)
    rows = np.empty((k + 2, k, BLOCK))  # of one array, the compiler knows them apart
    h, z, power = rows[0, 0], rows[1], rows[2:]
    drift, gain = carray(cells(like), (k, k)), carray(cells(like), (k, k))
    point, a = carray(cells(like), (k, k)), carray(cells(like), (k, k))
    after = carray(cells(like), (k, k))
    for index in range(sums.size):
        sums[index] = 0.0
    for begin in range(0, weight.size, BLOCK):
        size = min(BLOCK, weight.size - begin)
        for m in range(BLOCK):
            h[m] = curvature[first + begin + min(m, size - 1)]
            for c in range(k):
                z[c, m] = start[c]
        wanted = 0
        for stretch in range(lengths.size + 1):
            while wanted < marks.size and marks[wanted] == stretch:
                total = 0.0
                for m in range(size):
                    total += weight[begin + m] * z[readout, m] * z[readout, m]
                sums[wanted] += total
                wanted += 1
            if stretch == lengths.size or wanted == marks.size:
                break
            _load_rule(like, rule, offset + stretch, drift, gain, point)
            left = lengths[stretch]
            if left == 1:
                for m in range(BLOCK):
                    slope = 0.0
                    for c in range(len(like)):
                        slope += point[0, c] * z[c, m]
                    slope *= h[m]
                    for i in range(len(like)):
                        entry = gain[0, i] * slope
                        for c in range(len(like)):
                            entry += drift[i, c] * z[c, m]
                        after[0, i] = entry
                    for i in range(len(like)):
                        z[i, m] = 0.0 if abs(after[0, i]) < DEAD else after[0, i]
                continue
            for m in range(BLOCK):
                _transition(like, drift, gain, point, h[m], a)
                for i in range(len(like)):
                    for j in range(len(like)):
                        power[i, j, m] = a[i, j]
            while left > 0:  # by its binary digits; powers of one matrix commute
                if left & 1:
                    for m in range(BLOCK):
                        for i in range(len(like)):
                            entry = 0.0
                            for c in range(len(like)):
                                entry += power[i, c, m] * z[c, m]
                            after[0, i] = entry
                        for i in range(len(like)):
                            z[i, m] = after[0, i]
                left >>= 1
                if left > 0:
                    for m in range(BLOCK):
                        _load(like, power, m, a)
                        _multiply(like, a, a, after)
                        for i in range(len(like)):
                            for j in range(len(like)):
                                power[i, j, m] = after[i, j]


@compiled
def run_noise(  # noqa: PLR0912 (one pass: every layer of calls is compiled once more)
    like: Like, rule: Rule, offset: int, curvature: Array, first: int, readout: int, weight: Array,
    lengths: Integers, marks: Integers, sums: Array,
) -> None:  # fmt: skip
    """Write the sum of w S after the stretches that are marked; S' = A S A^T + share gain gain^T.

    The arguments are those of ``run_signal``.
    """
    k = len(like)
    rows = np.empty((4, k, k, BLOCK))
    h, covariance = rows[0, 0, 0], rows[1]
    gathered, power = rows[2], rows[3]  # the noise of 2^i steps, and A^(2^i)
    drift, gain = carray(cells(like), (k, k)), carray(cells(like), (k, k))
    point, a = carray(cells(like), (k, k)), carray(cells(like), (k, k))
    s, added = carray(cells(like), (k, k)), carray(cells(like), (k, k))
    product = carray(cells(like), (k, k))
    for index in range(sums.size):
        sums[index] = 0.0
    for begin in range(0, weight.size, BLOCK):
        size = min(BLOCK, weight.size - begin)
        for m in range(BLOCK):
            h[m] = curvature[first + begin + min(m, size - 1)]
        covariance[:] = 0.0
        wanted = 0
        for stretch in range(lengths.size + 1):
            while wanted < marks.size and marks[wanted] == stretch:
                total = 0.0
                for m in range(size):
                    total += weight[begin + m] * covariance[readout, readout, m]
                # Below 0 it is all rounding, of what has been 10^16 times as large.
                sums[wanted] += total if total >= 0.0 else np.nan
                wanted += 1
            if stretch == lengths.size or wanted == marks.size:
                break
            _load_rule(like, rule, offset + stretch, drift, gain, point)
            noise = rule.share[min(offset + stretch, len(rule.share) - 1)]
            for i in range(len(like)):
                for j in range(len(like)):
                    added[i, j] = noise * gain[0, i] * gain[0, j]
            left = lengths[stretch]
            if left == 1:
                for m in range(BLOCK):
                    _transition(like, drift, gain, point, h[m], a)
                    _load_symmetric(like, covariance, m, s)
                    _spread(like, a, s, added, product, covariance, m)
                continue
            for m in range(BLOCK):
                _transition(like, drift, gain, point, h[m], a)
                for i in range(len(like)):
                    for j in range(len(like)):
                        power[i, j, m] = a[i, j]
                        gathered[i, j, m] = added[i, j]
            while left > 0:  # S takes the digit that is set, and the noise of 2^i steps doubles
                if left & 1:
                    for m in range(BLOCK):
                        _load(like, power, m, a)
                        _load_symmetric(like, covariance, m, s)
                        _load_symmetric(like, gathered, m, added)
                        _spread(like, a, s, added, product, covariance, m)
                left >>= 1
                if left > 0:
                    for m in range(BLOCK):
                        _load(like, power, m, a)
                        _load_symmetric(like, gathered, m, s)
                        _spread(like, a, s, s, product, gathered, m)
                        _multiply(like, a, a, product)
                        for i in range(len(like)):
                            for j in range(len(like)):
                                power[i, j, m] = product[i, j]


@compiled
def noise_contributions(  # noqa: PLR0912 (one pass: every layer of calls is compiled once more)
    like: Like, rule: Rule, curvature: Array, first: int, readout: int, weight: Array,
    lengths: Integers, sums: Array,
) -> None:  # fmt: skip
    """Write what each stretch's noise, at a share of 1, adds to the sum of w S after all of them.

    It is the adjoint of ``run_noise``, with its arguments: Y, at first w at the readout, moves
    backwards as Y <- A^T Y A, and the noise of the step before adds <Y, gain gain^T>. ``sums`` are
    as many results as stretches.
    """
    drift, gain, point = rule.drift, rule.gain, rule.point
    k = len(like)
    h = np.empty(BLOCK)
    both = np.empty((2, k, k, BLOCK))  # Y, and the noise of 2^i steps
    after = np.empty((k, k, BLOCK))
    a = np.empty((k, k, BLOCK))
    for stretch in range(sums.size):
        sums[stretch] = 0.0
    for begin in range(0, weight.size, BLOCK):
        size = min(BLOCK, weight.size - begin)
        both[0] = 0.0
        for m in range(size):
            h[m] = curvature[first + begin + m]
            both[0, readout, readout, m] = weight[begin + m]
        for stretch in range(lengths.size - 1, -1, -1):
            d = min(stretch, len(drift) - 1)
            g = min(stretch, len(gain) - 1)
            p = min(stretch, len(point) - 1)
            left = lengths[stretch]
            for i in range(len(like)):
                for j in range(len(like)):
                    slope = gain[g, i] * point[p, j]
                    pair = gain[g, i] * gain[g, j]
                    for m in range(size):
                        a[i, j, m] = drift[d, i, j] + slope * h[m]
                        both[1, i, j, m] = pair
            while left > 0:  # by its binary digits, in any order: powers of one matrix commute
                if left & 1:
                    total = 0.0
                    for i in range(len(like)):
                        for j in range(len(like)):
                            for m in range(size):
                                total += both[0, i, j, m] * both[1, i, j, m]
                    sums[stretch] += total
                    for i in range(len(like)):
                        for j in range(i + 1):
                            for m in range(size):
                                entry = 0.0
                                for b in range(len(like)):
                                    row = 0.0
                                    for c in range(len(like)):
                                        row += a[c, i, m] * both[0, c, b, m]
                                    entry += row * a[b, j, m]
                                after[i, j, m] = entry
                    for i in range(len(like)):
                        for j in range(i + 1):
                            for m in range(size):
                                dead = abs(after[i, j, m]) < DEAD
                                both[0, i, j, m] = 0.0 if dead else after[i, j, m]
                                both[0, j, i, m] = both[0, i, j, m]
                left >>= 1
                if left > 0:
                    for i in range(len(like)):
                        for j in range(i + 1):
                            for m in range(size):
                                entry = both[1, i, j, m]
                                for b in range(len(like)):
                                    row = 0.0
                                    for c in range(len(like)):
                                        row += a[i, c, m] * both[1, c, b, m]
                                    entry += row * a[j, b, m]
                                after[i, j, m] = entry
                    for i in range(len(like)):
                        for j in range(i + 1):
                            for m in range(size):
                                both[1, i, j, m] = after[i, j, m]
                                both[1, j, i, m] = after[i, j, m]
                    for i in range(len(like)):
                        for j in range(len(like)):
                            for m in range(size):
                                entry = 0.0
                                for c in range(len(like)):
                                    entry += a[i, c, m] * a[c, j, m]
                                after[i, j, m] = entry
                    for i in range(len(like)):
                        for j in range(len(like)):
                            for m in range(size):
                                dead = abs(after[i, j, m]) < DEAD
                                a[i, j, m] = 0.0 if dead else after[i, j, m]


@compiled
def first_horizon(
    like: Like, rule: Rule, curvature: Array, first_noise: int, signal_weight: Array,
    noise_weight: Array, start: Array, readout: int, horizons: Integers, enough: float,
    most_work: int,
) -> tuple[int, int]:  # fmt: skip
    """The first of some ascending runs whose last risk is at most ``enough``: its index, or -1.

    ``rule`` has all steps of the first run, then those of the second, and so on. The
    parts of a risk are at least 0, so a run is passed as soon as some of its modes have enough:
    those of small curvature come first, since they fall last. It ends, as if it had found a run,
    where it has done ``most_work`` (steps of a block of modes).

    Returns:
        The index, and the work done.
    """
    lengths = np.ones(horizons[-1], dtype=np.int64)
    mark = np.empty(1, dtype=np.int64)
    part = np.empty(1)
    offset = 0
    work = 0 * horizons.size
    for index in range(horizons.size):
        horizon = horizons[index]
        length = lengths[:horizon]
        mark[0] = horizon
        risk = 0.0
        end = signal_weight.size
        while end > 0 and risk <= enough:
            begin = max(0, end - BLOCK)
            run_signal(
                like, rule, offset, curvature, begin, start, readout, signal_weight[begin:end],
                length, mark, part,
            )  # fmt: skip
            risk += part[0]
            end = begin
            work += horizon
        end = noise_weight.size
        while end > 0 and risk <= enough:
            begin = max(0, end - BLOCK)
            run_noise(
                like, rule, offset, curvature, first_noise + begin, readout,
                noise_weight[begin:end], length, mark, part,
            )  # fmt: skip
            risk += part[0]
            end = begin
            work += 2 * horizon
        offset += horizon
        if risk <= enough or work > most_work:
            return index, work
    return -1, work
