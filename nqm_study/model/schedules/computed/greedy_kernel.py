"""The greedy learning rates, compiled: see greedy.py for the symbols and the equations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.compiled import compiled, compiled_within

Array = npt.NDArray[np.float64]
Steps = npt.NDArray[np.int64]

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
    now: int,
    last: int,
    target: float,
    limit: float,
    patience: int,
    doublings: int,
    weights: Array,
    curvature: Array,
    source: Array,
    part: Array,
    before: Array,
    rates: Array,
    at_steps: Steps,
    recorded: Steps,
    most_strides: int,
) -> tuple[int, int, int, float, float, int]:
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
