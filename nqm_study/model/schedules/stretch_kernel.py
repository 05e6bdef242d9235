"""Compiled cut of a run into stretches that grow with the step: see stretches.py."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.compiled import compiled, inlined

OUTLINE = 256
"""Points at which the number of stretches up to a step is known; it is linear between them."""

EVEN = 1e-9
"""Above what is an integer, but for rounding."""


@inlined
def _number(count: int, octave: float, start: int, span: int, flat: bool) -> float:
    """Stretches up to 2^octave steps after a bend, of a part that starts ``start`` after it."""
    number = 0.5 * count * octave
    if not flat:
        share = (np.exp2(octave) - start) / span
        number += count * math.acos(min(max(1.0 - 2.0 * share, -1.0), 1.0)) / math.pi
    return number


@compiled
def write_ends(
    parts: Integers, bends: Integers, flat: npt.NDArray[np.bool_], count: int, graded: Array,
    ends: Integers,
) -> int:  # fmt: skip
    """Write the ascending steps at which stretches end, the first one 0; return their number.

    Args:
        parts: where each smooth part of the run begins, ascending from 0, and the horizon.
        bends: the step from which the stretches of each part grow.
        flat: whether the schedule is constant in each part.
        count: single steps after a bend; then stretches for each part that is not flat, and half
            as many for each octave.
        graded: ascending shares of a part where its outline is known, beside those even in octaves.
        ends: the results, and room for more.
    """
    ends[0] = 0
    at = 1
    for part in range(flat.size):
        last, bend = parts[part + 1], bends[part]
        start, span = parts[part] - bend, last - parts[part]
        single = min(max(start, count), last - bend)
        for step in range(start + 1, single):
            ends[at] = bend + step
            at += 1
        # A stretch ends where the number of stretches up to it is an integer.
        low = octave = math.log2(single)
        pitch = (math.log2(last - bend) - low) / (OUTLINE - 1)
        number = _number(count, low, start, span, flat[part])
        wanted = math.ceil(number)
        line, grade = 1, 0
        while line < OUTLINE and single < last - bend:
            before, passed = octave, number
            octave = low + line * pitch
            between = math.log2(start + graded[grade] * span) if grade < graded.size else math.inf
            if between < octave:
                octave = max(between, low)
                grade += 1
            else:
                line += 1
            number = _number(count, octave, start, span, flat[part])
            while wanted < number:
                share = (wanted - passed) / (number - passed)
                step = bend + int(np.rint(np.exp2(before + share * (octave - before))))
                if ends[at - 1] < step < last:
                    ends[at] = step
                    at += 1
                wanted += 1
        ends[at] = last
        at += 1
    return at


@compiled
def write_nodes(ends: Integers, steps: Integers, shares: Array) -> None:
    """Write two pairs of steps of each stretch whose mean is that of all of it for cubics.

    Args:
        ends: ascending steps at which stretches end, the first one 0.
        steps: as results, shape (4, stretches).
        shares: what each step counts in the mean, as results, of the same shape.
    """
    for at in range(ends.size - 1):
        length = ends[at + 1] - ends[at]
        square = (float(length) ** 2 - 1.0) / 12.0
        odd = (length - 1) % 2
        near = math.floor(math.sqrt(square) - 0.5 * odd + EVEN)
        far = min(near + 1, (length - 1) // 2)
        inside, outside = (near + 0.5 * odd) ** 2, (far + 0.5 * odd) ** 2
        outer = 0.5 * (square - inside) / (outside - inside) if far > near else 0.0
        left = (ends[at] + ends[at + 1] - 1) // 2
        for pair, aside in enumerate((near, far)):
            steps[pair, at], steps[2 + pair, at] = left - aside, left + odd + aside
            shares[pair, at] = shares[2 + pair, at] = outer if pair == 1 else 0.5 - outer
