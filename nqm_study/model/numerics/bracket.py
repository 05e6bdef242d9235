"""The smallest number of steps at a target, between one that misses it and one that meets it."""

from __future__ import annotations

import math
from collections.abc import Callable

FURTHEST = 100.0
"""Logarithm of the largest ratio of steps that a line is followed over."""

LEAST = 5e-324
"""Above 0, where rounding would leave nothing."""


def height(risk: float, target: float) -> float:
    """How far a risk is above the target, in its logarithm; at most 0 where the target is met."""
    if not risk < math.inf:
        return math.inf
    found = math.log(risk / target) if risk / target > 0.0 else -math.inf
    return min(found, 0.0) if risk <= target else max(found, LEAST)


def meeting(low: int, above: float, high: int, below: float) -> float:
    """Where the line through two heights, linear in the logarithm of steps, comes down to 0.

    Args:
        low: some steps > 0.
        above: the height there.
        high: more steps.
        below: the lower height there.

    Returns:
        Steps, not rounded; inf where the line does not come down.
    """
    if not (math.isfinite(above) and math.isfinite(below)) or above - below <= 0.0:
        return math.inf
    share = min(above / (above - below), FURTHEST / math.log(high / low))
    return float(low * (high / low) ** share)


def narrow(
    low: int,
    high: int,
    heights: dict[bool, float],
    probe: Callable[[int], float],
    share: float = 0.0,
) -> tuple[int, int]:
    """A bracket that is one step wide, or a share of its upper end, by secants and by halves.

    Args:
        low: steps whose height is above 0.
        high: steps whose height is at most 0.
        heights: of low (False) and high (True); where low is 0, of high alone.
        probe: steps -> their height.
        share: width of the bracket over its upper end.
    """
    place = {False: low, True: high}

    def done() -> bool:
        return place[True] - place[False] <= max(1.0, share * place[True])

    def look(at: int) -> bool:
        found = probe(at)
        below = found <= 0.0
        place[below], heights[below] = at, found
        return below

    while not done():
        width = place[True] - place[False]
        root = math.inf
        if len(heights) == 2:
            root = meeting(place[False], heights[False], place[True], heights[True])
        middle = (place[False] + place[True]) // 2
        at = math.ceil(root) if root < math.inf else middle
        below = look(min(max(at, place[False] + 1), place[True] - 1))
        # From the root to its other side, in ever longer steps: mostly the first one ends it.
        step = max(1, int(share * place[True]))
        while not done():
            ahead = place[below] - step if below else place[below] + step
            if not place[False] < ahead < place[True] or look(ahead) is not below:
                break
            step *= 8
        if not done() and 2 * (place[True] - place[False]) > width:
            look((place[False] + place[True]) // 2)
    return place[False], place[True]
