"""The smallest horizon at a target, where the last risk swings with the horizon."""

import math

import numpy as np
import pytest

from nqm_study.model.numerics.horizon import Look, Search

FAST, SLOW = 64.0, 4096.0
"""Horizons from one swing to the next."""


def slow(horizon: float) -> float:
    return 400.0 * math.exp(-horizon / 900.0) * (1.0 + math.cos(math.pi * horizon / SLOW) ** 2)


def fast(horizon: float) -> float:
    return 0.4 * slow(horizon) * math.cos(math.pi * horizon / FAST) ** 2


TARGETS = np.geomspace(0.01, 200.0, 40).tolist()


def look(horizon: int, _: int) -> Look:
    return Look(slow(horizon) + fast(horizon) + 1e-3, 1e-3, 0.0, 1e-3)


def walked(target: float, slowest: float) -> tuple[int | None, int]:
    """The smallest horizon that is found, and how many the walks looked at."""
    seen: list[int] = []

    def swinging(horizon: int, alone: bool) -> float:
        seen.append(horizon)
        return slow(horizon) + (0.0 if alone else fast(horizon))

    found = Search(look, target, 10**6, swinging, (FAST, slowest)).smallest()
    return found.steps, len(seen)


@pytest.mark.parametrize("target", TARGETS)
def test_a_walk_leaps_to_the_first_dip(target: float) -> None:
    risks = np.array([look(horizon, 0).risk for horizon in range(1, 2**15)])
    first = 1 + int(np.argmax(risks <= target))
    steps, _ = walked(target, SLOW)
    assert steps is not None
    assert first <= steps <= first + FAST / 8, "only a dip that is narrower is stepped over"
    assert risks[steps - 1] <= target < risks[steps - 2]


def test_leaps_over_what_slow_swings_exclude_save_most_looks() -> None:
    leaping, stepping = ([walked(target, slow) for target in TARGETS] for slow in (SLOW, FAST))
    assert [steps for steps, _ in leaping] == [steps for steps, _ in stepping]
    assert sum(looks for _, looks in leaping) < 0.4 * sum(looks for _, looks in stepping)
