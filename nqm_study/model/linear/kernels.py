"""Compiled risks and first crossings of a linear optimizer at a constant rate.

Each kernel has a NumPy twin in tests/model/moments.py, against which it is tested.

Arrays are laid out component first, mode last, so that the inner loops run over modes. With
z' = A z + b e, level j of a table is about jumps of K = 2^j steps, and tables are filled level by
level, as far as a search needs them:

| symbol | shape | meaning |
|---|---|---|
| power | (levels, k, k, n) | A^K |
| spread | (levels, k, k, n) | sum over i < K of A^i b b^T A^iT, the noise gathered in K steps |
| low, high | (levels, k, n) | bounds of row r of A^i over 1 <= i <= K, r the readout |

Arrays that are only written to, of the sizes that ``risks.Engine`` gives them, are workspace: z
and scratch (k, n) for the signal, covariance and noise_scratch (k, k, n) for the noise.
"""

from __future__ import annotations

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import Like, compiled, compiled_within

SHORTEST_JUMP = 4
"""Fewer than two to this power of steps are not jumped but scanned, which costs less."""

LONGEST_SCAN = 6
"""Two to this power is the most steps of one scan."""

BLOCK = 32
"""Modes that a scan steps through together; they stay in the processor's first cache."""

HURRY = 10
"""A search that has spent its work jumps its steps over two to this power at a time, and only
looks at where it lands."""

PER_LOOK = 64
"""Work of a look at where to jump to, beside that of its modes: as measured, in steps of a mode."""

ENOUGH = 1.005
"""A scan leaves out the remaining modes where the others keep the risk this far above the target;
nearer, every mode is looked at, so that near misses are seen as they are."""


@compiled_within
def conjugate(like: Like, size: int, a: Array, s: Array, plus: Array, out: Array) -> None:
    """Write A S A^T + plus of some modes, for symmetric S and plus."""
    for i in range(len(like)):
        for j in range(i + 1):
            for m in range(size):
                entry = plus[i, j, m]
                for b in range(len(like)):
                    row = 0.0
                    for c in range(len(like)):
                        row += a[i, c, m] * s[c, b, m]
                    entry += row * a[j, b, m]
                out[i, j, m] = entry
            if j < i:
                for m in range(size):
                    out[j, i, m] = out[i, j, m]


@compiled
def first_level(
    like: Like, drift: Array, gain: Array, point: Array, curvature: Array, first_noise: int,
    signal_power: Array, noise_power: Array, spread: Array,
) -> None:  # fmt: skip
    """Fill level 0 for the signal's nodes, the first ones, and the noise's, from first_noise on.

    A is drift + gain (point h)^T and b is gain, of one rule or that of each node, shape (1 or n, k,
    k) and so on. Only squares of the signal count, and the noise enters as A S A^T, so -A serves as
    well as A. Where the state changes sign at every step (rates near the limit of stability) -A is
    the one that moves slowly, and slow motion is what the bounds of the search can see past.
    """
    each = 1 if len(drift) > 1 else 0
    for first, power in ((0, signal_power), (first_noise, noise_power)):
        for m in range(power.shape[-1]):
            row = each * (first + m)
            trace = 0.0
            for i in range(len(like)):
                for j in range(len(like)):
                    entry = drift[row, i, j]
                    if point[0, j] != 0.0:  # infinity times 0 is no number
                        entry += gain[row, i] * point[0, j] * curvature[first + m]
                    power[0, i, j, m] = entry
                trace += power[0, i, i, m]
            if trace < 0.0:
                for i in range(len(like)):
                    for j in range(len(like)):
                        power[0, i, j, m] = -power[0, i, j, m]
    for i in range(len(like)):
        for j in range(len(like)):
            for m in range(spread.shape[-1]):
                row = each * (first_noise + m)
                spread[0, i, j, m] = gain[row, i] * gain[row, j]


@compiled_within
def extend_powers(like: Like, power: Array, first: int, last: int) -> None:
    """Fill levels first to last - 1 of a table of powers; level 0 is A."""
    for level in range(first, last):
        for i in range(len(like)):
            for j in range(len(like)):
                for m in range(power.shape[-1]):
                    entry = 0.0
                    for c in range(len(like)):
                        entry += power[level - 1, i, c, m] * power[level - 1, c, j, m]
                    power[level, i, j, m] = entry


@compiled_within
def extend_spreads(like: Like, power: Array, spread: Array, first: int, last: int) -> None:
    """Fill levels of the noise gathered in 2^j steps: S_2K = S_K + A^K S_K A^KT."""
    for level in range(first, last):
        before = spread[level - 1]
        conjugate(like, spread.shape[-1], power[level - 1], before, before, spread[level])


@compiled_within
def extend_bounds(
    like: Like, power: Array, readout: int, low: Array, high: Array, first: int, last: int
) -> None:
    """Fill levels of the bounds of the readout's row of A^i over 1 <= i <= 2^j.

    For K < i <= 2K that row is (row of A^(i-K)) A^K: the bounds of the first half, in interval
    arithmetic, times A^K.
    """
    for level in range(first, last):
        if level == 0:
            # Loops, not slices: these are compiled in a fraction of the time.
            for c in range(len(like)):
                for m in range(power.shape[-1]):
                    low[0, c, m] = power[0, readout, c, m]
                    high[0, c, m] = power[0, readout, c, m]
            continue
        for c in range(len(like)):
            for m in range(power.shape[-1]):
                bottom = 0.0
                top = 0.0
                for b in range(len(like)):
                    one = low[level - 1, b, m] * power[level - 1, b, c, m]
                    other = high[level - 1, b, m] * power[level - 1, b, c, m]
                    bottom += min(one, other)
                    top += max(one, other)
                low[level, c, m] = min(low[level - 1, c, m], bottom)
                high[level, c, m] = max(high[level - 1, c, m], top)


@compiled_within
def bound_signals(
    like: Like, low: Array, high: Array, z: Array, weight: Array, bounds: Array
) -> float:
    """Write a lower bound of w (row of A^i . z)^2 over all the i covered; return their sum."""
    total = 0.0
    for m in range(weight.size):
        bottom = 0.0
        top = 0.0
        for c in range(len(like)):
            one = low[c, m] * z[c, m]
            other = high[c, m] * z[c, m]
            bottom += min(one, other)
            top += max(one, other)
        nearest = max(bottom, 0.0) + min(top, 0.0)
        bounds[m] = weight[m] * nearest * nearest
        total += bounds[m]
    return total


@compiled_within
def _signal_above(like: Like, low: Array, high: Array, z: Array, weight: Array) -> float:
    """An upper bound of the sum of w (row of A^i . z)^2 over all the i covered."""
    total = 0.0
    for m in range(weight.size):
        bottom = 0.0
        top = 0.0
        for c in range(len(like)):
            one = low[c, m] * z[c, m]
            other = high[c, m] * z[c, m]
            bottom += min(one, other)
            top += max(one, other)
        total += weight[m] * max(bottom * bottom, top * top)
    return total


@compiled_within
def scan(  # noqa: PLR0912 (one pass over the modes)
    like: Like, matrix: Array, readout: int, z: Array, weight: Array, bounds: Array, enough: float,
    sums: Array, now: Array, following: Array,
) -> None:  # fmt: skip
    """Write a lower bound of the signal part after each of the next ``sums.size`` steps.

    The modes are stepped through from the first on, which moves fastest; the others have their
    bound over all the steps, as soon as with these every sum is more than enough. With too little,
    all modes are stepped through, and the sums are the signal part itself.
    """
    n = weight.size
    rest = 0.0
    for m in range(n):
        rest += bounds[m]
    for step in range(sums.size):
        sums[step] = 0.0
    for start in range(0, n, BLOCK):
        size = min(BLOCK, n - start)
        for c in range(len(like)):
            for m in range(size):
                now[c, m] = z[c, start + m]
        for m in range(size):
            rest -= bounds[start + m]
        least = np.inf
        for step in range(sums.size):
            for i in range(len(like)):
                for m in range(size):
                    entry = 0.0
                    for c in range(len(like)):
                        entry += matrix[i, c, start + m] * now[c, m]
                    following[i, m] = entry
            now, following = following, now
            total = 0.0
            for m in range(size):
                total += weight[start + m] * now[readout, m] * now[readout, m]
            sums[step] += total
            least = min(least, sums[step])
        if start + size < n and least + rest > enough:
            for step in range(sums.size):
                sums[step] += rest
            return


@compiled_within
def advance_signal(
    like: Like, power: Array, readout: int, weight: Array, z: Array, scratch: Array
) -> float:
    """Z <- A^K z, in place; return the sum of w z^2, z at the readout."""
    n = weight.size
    for i in range(len(like)):
        for m in range(n):
            entry = 0.0
            for c in range(len(like)):
                entry += power[i, c, m] * z[c, m]
            scratch[i, m] = entry
    for i in range(len(like)):
        for m in range(n):
            z[i, m] = scratch[i, m]
    total = 0.0
    for m in range(n):
        total += weight[m] * scratch[readout, m] * scratch[readout, m]
    return total


@compiled_within
def advance_noise(
    like: Like, power: Array, spread: Array, readout: int, weight: Array, covariance: Array,
    scratch: Array,
) -> float:  # fmt: skip
    """S <- A^K S A^KT + S_K, in place; return the sum of w S, S at the readout."""
    conjugate(like, weight.size, power, covariance, spread, scratch)
    for i in range(len(like)):
        for j in range(len(like)):
            for m in range(weight.size):
                covariance[i, j, m] = scratch[i, j, m]
    total = 0.0
    for m in range(weight.size):
        total += weight[m] * scratch[readout, readout, m]
    return total


REACHED, NOISE_ABOVE_TARGET, OVERFLOW, MAX_STEPS = 0, 1, 2, 3


@compiled_within
def _extend(
    like: Like, signal_power: Array, noise_power: Array, spread: Array, filled: Integers,
    shared: bool, levels: int,
) -> None:  # fmt: skip
    """Fill the tables up to a number of levels; ``filled`` says how many there are."""
    first = filled[0]
    extend_powers(like, signal_power, first, levels)
    if not shared:
        extend_powers(like, noise_power, first, levels)
    extend_spreads(like, noise_power, spread, first, levels)
    filled[0] = max(first, levels)


@compiled_within
def _start(
    like: Like, start: Array, readout: int, weight: Array, z: Array, covariance: Array
) -> float:
    """Write the state of every mode before the first step; return its signal part of the risk."""
    total = 0.0
    for m in range(weight.size):
        for c in range(len(like)):
            z[c, m] = start[c]
        total += weight[m] * start[readout] * start[readout]
    for i in range(len(like)):
        for j in range(len(like)):
            for m in range(covariance.shape[2]):
                covariance[i, j, m] = 0.0
    return total


@compiled
def risks_at(
    like: Like, signal_power: Array, start: Array, signal_weight: Array, noise_power: Array,
    spread: Array, noise_weight: Array, filled: Integers, shared: bool, readout: int, z: Array,
    scratch: Array, covariance: Array, noise_scratch: Array, steps: Integers, risks: Array,
) -> None:  # fmt: skip
    """Write the risk after each of some ascending numbers of steps."""
    signal = _start(like, start, readout, signal_weight, z, covariance)
    noise = 0.0
    now = 0
    for index in range(steps.size):
        ahead = steps[index] - now
        level = 0
        while ahead >> level > 0:  # by its binary digits
            if ahead >> level & 1:
                if filled[0] <= level:
                    _extend(like, signal_power, noise_power, spread, filled, shared, level + 1)
                signal = advance_signal(
                    like, signal_power[level], readout, signal_weight, z, scratch
                )
                noise = advance_noise(
                    like, noise_power[level], spread[level], readout, noise_weight, covariance,
                    noise_scratch,
                )  # fmt: skip
            level += 1
        now = steps[index]
        risks[index] = signal + noise


@compiled_within
def keep_nearest(step: int, risk: float, nearest_step: Integers, nearest_risk: Array) -> None:
    """Keep the step of an octave that came nearest to the target."""
    octave = 0
    while step >> (octave + 1) > 0:
        octave += 1
    if nearest_step[octave] < 0 or risk <= nearest_risk[octave]:
        nearest_step[octave] = step
        nearest_risk[octave] = risk


@compiled_within
def _first_at_most(values: Array, most: float) -> tuple[int, int]:
    """The index of the first value at most a limit, or -1; and the index of the least value."""
    least = 0
    for index in range(values.size):
        if values[index] <= most:
            return index, index
        if values[index] < values[least]:
            least = index
    return -1, least


@compiled
def first_crossing(  # noqa: PLR0912, PLR0915 (one loop: every layer of calls is compiled once more)
    like: Like, signal_power: Array, start: Array, signal_weight: Array, noise_power: Array,
    spread: Array, noise_weight: Array, filled: Integers, shared: bool, readout: int, z: Array,
    scratch: Array, covariance: Array, noise_scratch: Array, target: float, max_steps: int,
    nearest_step: Integers, nearest_risk: Array, low: Array, high: Array, bounds: Array,
    sums: Array, now: Array, following: Array, most_work: int,
) -> tuple[int, int, float, int, int, float]:  # fmt: skip
    """The first step whose risk is at most the target, jumping only where none can be.

    Over the next K steps the noise part of the risk cannot fall, and the signal part cannot fall
    below the sum of ``bound_signals``: where the two together stay above the target, K steps are
    jumped, and twice as many are tried next; else half as many are. Where not even 2^SHORTEST_JUMP
    steps can be jumped, they are scanned: the modes that move too fast for a bound are stepped
    through. A step that may have crossed is looked at.

    A search that has done ``most_work`` (steps of a mode that were scanned, about) only jumps from
    then on, by a small share of its steps, and looks at where it lands.

    ``start`` is a mode's state before the first step. Of every stretch between steps 2^i and
    2^(i+1) the step that came nearest to the target is kept (-1 where none was seen). From ``low``
    on the arguments are workspace: two tables of bounds, and for ``scan`` bounds (n,), sums
    (2^LONGEST_SCAN,) and two of (k, BLOCK).

    Returns:
        reason to stop, step, risk there (with no crossing: the smallest risk seen), its step, the
        work done, and the least bound by which a step was passed, or all that come were.
    """
    levels = len(signal_power)
    bounded = 0 * levels  # of the type it keeps: a literal 0 would be compiled for as well
    for octave in range(nearest_step.size):
        nearest_step[octave] = -1
    step, level, window = 0, SHORTEST_JUMP, 0
    signal = _start(like, start, readout, signal_weight, z, covariance)
    noise = 0.0
    risk = signal
    best, best_step = risk, 0
    work = 0 * levels
    if risk <= target:
        return REACHED, 0, risk, 0, work, np.inf
    closest = risk
    while step < max_steps:
        # Try the jump, then shorter ones; where none can be taken, scan a window instead.
        room = max_steps - step
        jump = min(level, levels - 1)
        scanning = False
        total = 0.0
        hurried = work > most_work
        if hurried:
            jump = 0 * levels
            while 2 << jump <= min(step >> HURRY, room):
                jump += 1
            if filled[0] <= jump:
                _extend(like, signal_power, noise_power, spread, filled, shared, jump + 1)
        while not hurried:
            scanning = jump < SHORTEST_JUMP
            if scanning:
                while (1 << window) > room:
                    window -= 1
                jump = window
            if (1 << jump) <= room:
                if filled[0] <= jump:
                    _extend(like, signal_power, noise_power, spread, filled, shared, jump + 1)
                if bounded <= jump:
                    extend_bounds(like, signal_power, readout, low, high, bounded, jump + 1)
                    bounded = jump + 1
                total = bound_signals(like, low[jump], high[jump], z, signal_weight, bounds)
                work += signal_weight.size + PER_LOOK
                if scanning or total + noise > target:
                    break
            jump -= 1
        ahead = 1 << jump
        level = jump + 1
        if scanning:
            level = SHORTEST_JUMP
            work += ahead * signal_weight.size
            coming = sums[:ahead]
            enough = ENOUGH * target - noise
            scan(
                like,
                signal_power[0],
                readout,
                z,
                signal_weight,
                bounds,
                enough,
                coming,
                now,
                following,
            )
            first, least = _first_at_most(coming, target - noise)
            for index in range(ahead if first < 0 else first):
                closest = min(closest, coming[index] + noise)
            if first >= 0:
                ahead = first + 1
                # Where the risk stays close above the target, each step is one of these.
                window = 0
            else:
                keep_nearest(step + least + 1, coming[least] + noise, nearest_step, nearest_risk)
                window = min(window + 1, LONGEST_SCAN)
        elif not hurried:
            closest = min(closest, total + noise)
        # By the binary digits of the steps: all but a suspect's are a power of two.
        digit = 0
        while ahead >> digit > 0:
            if ahead >> digit & 1:
                signal = advance_signal(
                    like, signal_power[digit], readout, signal_weight, z, scratch
                )
                noise = advance_noise(
                    like, noise_power[digit], spread[digit], readout, noise_weight, covariance,
                    noise_scratch,
                )  # fmt: skip
            digit += 1
        step += ahead
        risk = signal + noise
        if risk <= target:
            return REACHED, step, risk, step, work, closest
        closest = min(closest, risk)
        keep_nearest(step, risk, nearest_step, nearest_risk)
        if risk < best:
            best, best_step = risk, step
        if noise > target:
            return NOISE_ABOVE_TARGET, step, best, best_step, work, min(closest, noise)
        if not risk < 1e290:
            return OVERFLOW, step, best, best_step, work, closest
    return MAX_STEPS, step, best, best_step, work, closest


@compiled
def rises_above(
    like: Like, signal_power: Array, start: Array, signal_weight: Array, noise_power: Array,
    spread: Array, noise_weight: Array, filled: Integers, shared: bool, readout: int, z: Array,
    scratch: Array, covariance: Array, noise_scratch: Array, limit: float, steps: int, last: float,
    low: Array, high: Array, most_work: int,
) -> bool:  # fmt: skip
    """Whether the risk is above a limit after any number of steps up to ``steps``.

    ``last`` is the risk after all of them: at least the noise part, which never falls. Where that
    and the upper bound of the signal part over the next K steps stay within the limit, K steps are
    jumped; where no jump can be taken, a step is. ``low`` and ``high`` are workspace.
    """
    levels = len(signal_power)
    bounded = 0 * levels
    signal = _start(like, start, readout, signal_weight, z, covariance)
    noise = 0.0
    step, level, work = 0 * levels, 0 * levels, 0 * levels
    while step < steps:
        jump = min(level, levels - 1)
        while 1 << jump > steps - step:
            jump -= 1
        while jump > 0:
            if filled[0] <= jump:
                _extend(like, signal_power, noise_power, spread, filled, shared, jump + 1)
            if bounded <= jump:
                extend_bounds(like, signal_power, readout, low, high, bounded, jump + 1)
                bounded = jump + 1
            work += signal_weight.size + PER_LOOK
            if work > most_work and 1 << jump <= step >> HURRY:
                break
            if _signal_above(like, low[jump], high[jump], z, signal_weight) + last <= limit:
                break
            jump -= 1
        signal = advance_signal(like, signal_power[jump], readout, signal_weight, z, scratch)
        noise = advance_noise(
            like, noise_power[jump], spread[jump], readout, noise_weight, covariance, noise_scratch
        )
        step += 1 << jump
        level = jump + 1
        if not signal + noise <= limit:
            return True
    return False
