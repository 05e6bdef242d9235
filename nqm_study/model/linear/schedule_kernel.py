"""Compiled runs of a linear optimizer whose learning rate changes: see runs.py.

The transition is affine in the rate: A(r) = A_0 + r A_1 and b(r) = b_0 + r b_1. A run is a list of
stretches, each of some steps at one rate; a stretch of one step is a step of the recursion. Arrays
are laid out component first, mode last. The twin is ``recursion`` in
tests/model/moments.py, with rates.

The loops that both kernels have stand in each: calls to shared ones cost a seventh more time.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled

Like = tuple[float, ...]
"""As many numbers as a state has components; a kernel is compiled for each length."""

BLOCK = 32
"""Modes that run through together; they stay in the processor's first cache."""


@compiled
def run_signal(  # noqa: PLR0912 (one pass: every layer of calls is compiled once more)
    like: Like, base: Array, slope: Array, first: int, start: Array, readout: int, weight: Array,
    rates: Array, lengths: Integers, marks: Integers, sums: Array,
) -> None:  # fmt: skip
    """Write the sum of w z^2 after the stretches that are marked.

    Args:
        like: gives the number of components k.
        base: A_0, shape (k, k, n).
        slope: A_1, the same.
        first: the first mode; as many as there are weights take part.
        start: z_0 of every mode, shape (k,).
        readout: the component that counts.
        weight: w of each mode that takes part.
        rates: the rate of each stretch.
        lengths: its steps, each >= 1.
        marks: ascending numbers of stretches after which the sum is wanted.
        sums: as many results.
    """
    k = len(like)
    z = np.empty((k, BLOCK))
    after = np.empty((k, BLOCK))
    a = np.empty((k, k, BLOCK))
    square = np.empty((k, k, BLOCK))
    for index in range(sums.size):
        sums[index] = 0.0
    for begin in range(0, weight.size, BLOCK):
        size = min(BLOCK, weight.size - begin)
        here = first + begin
        for c in range(k):
            for m in range(size):
                z[c, m] = start[c]
        wanted = 0
        for stretch in range(rates.size + 1):
            while wanted < marks.size and marks[wanted] == stretch:
                total = 0.0
                for m in range(size):
                    total += weight[begin + m] * z[readout, m] * z[readout, m]
                sums[wanted] += total
                wanted += 1
            if stretch == rates.size or wanted == marks.size:
                break
            rate = rates[stretch]
            left = lengths[stretch]
            if left == 1:
                for i in range(len(like)):
                    for m in range(size):
                        entry = 0.0
                        for c in range(len(like)):
                            entry += (base[i, c, here + m] + rate * slope[i, c, here + m]) * z[c, m]
                        after[i, m] = entry
                z, after = after, z
                continue
            for i in range(len(like)):
                for j in range(len(like)):
                    for m in range(size):
                        a[i, j, m] = base[i, j, here + m] + rate * slope[i, j, here + m]
            while left > 0:  # by its binary digits; powers of one matrix commute
                if left & 1:
                    for i in range(len(like)):
                        for m in range(size):
                            entry = 0.0
                            for c in range(len(like)):
                                entry += a[i, c, m] * z[c, m]
                            after[i, m] = entry
                    z, after = after, z
                left >>= 1
                if left > 0:
                    for i in range(len(like)):
                        for j in range(len(like)):
                            for m in range(size):
                                entry = 0.0
                                for c in range(len(like)):
                                    entry += a[i, c, m] * a[c, j, m]
                                square[i, j, m] = entry
                    a, square = square, a


@compiled
def run_noise(  # noqa: PLR0912 (one pass: every layer of calls is compiled once more)
    like: Like, base: Array, slope: Array, noise_base: Array, noise_slope: Array, first: int,
    readout: int, weight: Array, rates: Array, lengths: Integers, marks: Integers, sums: Array,
) -> None:  # fmt: skip
    """Write the sum of w S after the stretches that are marked; S' = A S A^T + b b^T.

    The arguments are those of ``run_signal``, with b_0 and b_1 of shape (k, n).
    """
    k = len(like)
    s = np.empty((k, k, BLOCK))
    after = np.empty((k, k, BLOCK))
    g = np.empty((k, k, BLOCK))
    a = np.empty((k, k, BLOCK))
    square = np.empty((k, k, BLOCK))
    b = np.empty((k, BLOCK))
    for index in range(sums.size):
        sums[index] = 0.0
    for begin in range(0, weight.size, BLOCK):
        size = min(BLOCK, weight.size - begin)
        here = first + begin
        s[:] = 0.0
        wanted = 0
        for stretch in range(rates.size + 1):
            while wanted < marks.size and marks[wanted] == stretch:
                total = 0.0
                for m in range(size):
                    total += weight[begin + m] * s[readout, readout, m]
                sums[wanted] += total
                wanted += 1
            if stretch == rates.size or wanted == marks.size:
                break
            rate = rates[stretch]
            left = lengths[stretch]
            for i in range(len(like)):
                for m in range(size):
                    b[i, m] = noise_base[i, here + m] + rate * noise_slope[i, here + m]
                for j in range(len(like)):
                    for m in range(size):
                        a[i, j, m] = base[i, j, here + m] + rate * slope[i, j, here + m]
            for i in range(len(like)):
                for j in range(len(like)):
                    for m in range(size):
                        g[i, j, m] = b[i, m] * b[j, m]
            while left > 0:
                # S takes the digit that is set, and G, the noise of 2^i steps, doubles.
                for which in range(2):
                    if which == 0 and not left & 1:
                        continue
                    if which == 1 and left == 1:
                        continue
                    source = s if which == 0 else g
                    for i in range(len(like)):
                        for j in range(i + 1):
                            for m in range(size):
                                entry = g[i, j, m]
                                for p in range(len(like)):
                                    row = 0.0
                                    for q in range(len(like)):
                                        row += a[i, q, m] * source[q, p, m]
                                    entry += row * a[j, p, m]
                                after[i, j, m] = entry
                    for i in range(len(like)):
                        for j in range(i):
                            for m in range(size):
                                after[j, i, m] = after[i, j, m]
                    if which == 0:
                        s, after = after, s
                    else:
                        g, after = after, g
                left >>= 1
                if left > 0:
                    for i in range(len(like)):
                        for j in range(len(like)):
                            for m in range(size):
                                entry = 0.0
                                for c in range(len(like)):
                                    entry += a[i, c, m] * a[c, j, m]
                                square[i, j, m] = entry
                    a, square = square, a


@compiled
def first_horizon(
    like: Like, base: Array, slope: Array, noise_base: Array, noise_slope: Array, start: Array,
    readout: int, first_noise: int, signal_weight: Array, noise_weight: Array, rates: Array,
    horizons: Integers, enough: float, most_work: int,
) -> tuple[int, int]:  # fmt: skip
    """The first of some ascending runs whose last risk is at most ``enough``: its index, or -1.

    ``rates`` has the rates of all steps of the first run, then those of the second, and so on. The
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
        run, length = rates[offset : offset + horizon], lengths[:horizon]
        offset += horizon
        mark[0] = horizon
        risk = 0.0
        end = signal_weight.size
        while end > 0 and risk <= enough:
            begin = max(0, end - BLOCK)
            run_signal(
                like, base, slope, begin, start, readout, signal_weight[begin:end], run, length,
                mark, part,
            )  # fmt: skip
            risk += part[0]
            end = begin
            work += horizon
        end = noise_weight.size
        while end > 0 and risk <= enough:
            begin = max(0, end - BLOCK)
            run_noise(
                like, base, slope, noise_base, noise_slope, first_noise + begin, readout,
                noise_weight[begin:end], run, length, mark, part,
            )  # fmt: skip
            risk += part[0]
            end = begin
            work += 2 * horizon
        if risk <= enough or work > most_work:
            return index, work
    return -1, work
