"""The state of a dense search, and its descents; dense_search.py says how it goes and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from nqm_study.model.outcome import Crossing
from nqm_study.optimum.coordinates import Coordinate

Array = npt.NDArray[np.float64]

Evaluate = Callable[[Mapping[str, float], int], Crossing]
"""Values and the most steps that count -> the crossing."""

Risk = Callable[[Mapping[str, float], int], float]
"""Values and a number of steps -> about the risk after them."""

HOPELESS = 1e3
"""Stands for the logarithm of a risk that is no number."""

PER_DIMENSION = 40
"""The most probes of a rough descent, for each coordinate."""

PRECISE = 4
"""Times as many for a precise one."""

STEP = 0.2
"""Size of the first simplex of a descent, on a log scale; 1/16 of the range on a linear one."""

GAIN = 1e-4
"""A precise descent begins anew while this is gained, in the logarithm of the risk."""


class SpentError(Exception):
    """No evaluations are left."""


class Descent:
    """What is known of the values, as fractions of their ranges, and how to go down from there."""

    def __init__(
        self,
        evaluate: Evaluate,
        coordinates: tuple[Coordinate, ...],
        target: float,
        risk: Risk | None,
        max_steps: int,
        most_evaluations: int,
    ) -> None:
        self._evaluate, self._risk = evaluate, risk
        self.coordinates, self.target, self.max_steps = coordinates, target, max_steps
        self._most = most_evaluations
        self.evaluations = self.looks = 0
        self.place: Array | None = None
        self.crossing: Crossing | None = None
        self._share = 0.0  # log of what the quick risk is off by, at the best place
        self._hopeless: set[bytes] = set()
        steps = [STEP / each.span if each.scale != "linear" else 1.0 / 16.0 for each in coordinates]
        self.steps = np.minimum(steps, 0.25)

    @property
    def limit(self) -> int:
        """The most steps that are better than the best."""
        best = None if self.crossing is None else self.crossing.steps
        return self.max_steps if best is None else min(best - 1, self.max_steps)

    def values(self, place: Array) -> dict[str, float]:
        """The values at a place."""
        pairs = zip(self.coordinates, place.tolist(), strict=True)
        return {each.name: each.at(fraction) for each, fraction in pairs}

    def hopeless(self, place: Array) -> bool:
        """Whether no number of steps will do there, as an evaluation or an overflow told."""
        return place.tobytes() in self._hopeless

    def evaluate(self, place: Array, most_steps: int) -> Crossing:
        """The crossing within so many steps, which is kept if it is the best."""
        self._spend()
        self.evaluations += 1
        found = self._evaluate(self.values(place), most_steps)
        if found.status in ("diverged", "floor_above_target"):
            self._hopeless.add(place.tobytes())
        if found.steps is not None and found.steps <= min(self.limit, most_steps):
            self.place, self.crossing = place.copy(), found
            if self._risk is not None and found.steps > 0:
                self._share = 0.0
                off = self._log_risk(place, found.steps) - _log(found.risk)
                self._share = off if abs(off) < 1.0 else 0.0
        return found

    def excess(self, place: Array, steps: int) -> float:
        """log(L_T / target) after so many steps, at most 0 where the target is reached in time.

        By evaluation, where there is no quick risk. What is evaluated and reaches the target early
        is the lower the earlier, and of two alike, the lower the last risk.
        """
        if self._risk is not None:
            found = self._log_risk(place, steps) - math.log(self.target)
            if found >= HOPELESS:
                self._hopeless.add(place.tobytes())
            return min(found, HOPELESS)
        crossing = self.evaluate(place, steps)
        over = _log(crossing.risk) - math.log(self.target)
        if crossing.steps is None:
            return max(over, 1e-12)
        part = min(1.0, -over * crossing.steps) if over < 0.0 else 0.0
        return math.log(max(crossing.steps - part, 0.5) / (steps + 1))

    def look(self, place: Array) -> float:
        """The excess one step before the best; what seems to be better is evaluated."""
        limit = self.limit
        excess = self.excess(place, limit) if limit > 0 else HOPELESS
        if excess <= 0.0 and self._risk is not None and self.evaluate(place, limit).steps is None:
            return 1e-9
        return excess

    def descend(self, place: Array, size: float = 1.0) -> None:
        """From a place at the target, go to the least steps around.

        The place of least risk after T steps reaches the target in fewer; from there again.
        """
        while self.limit > 0:
            before = self.limit
            place = self.least(place, before, size, precise=True)[0]
            self.evaluate(place, before)
            if self.limit >= before:
                return
            size = min(size, 0.3)

    def least(
        self, start: Array, steps: int, size: float, *, precise: bool = False
    ) -> tuple[Array, float]:
        """A local minimum of the excess after so many steps, and its value."""
        import scipy.optimize

        place, value = start, math.inf
        dimension = start.size
        minimize: Any = scipy.optimize.minimize
        while True:
            offsets = size * self.steps
            # Away from the nearer end of each range, so that the simplex is not flat.
            offsets = np.where(place + offsets > 1.0, -offsets, offsets)
            simplex = np.vstack((place, place + np.diag(offsets)))
            found = minimize(
                lambda x: self.excess(np.clip(x, 0.0, 1.0), steps),
                place,
                method="Nelder-Mead",
                bounds=[(0.0, 1.0)] * dimension,
                options={
                    "initial_simplex": simplex,
                    "adaptive": dimension > 2,
                    "xatol": 1e-6 if precise else 1e-3,
                    "fatol": 1e-10 if precise else 1e-4,
                    "maxfev": PER_DIMENSION * dimension * (PRECISE if precise else 1),
                },
            )
            gained = value - float(found.fun)
            if gained > 0.0:
                place, value = np.clip(found.x, 0.0, 1.0), float(found.fun)
            if not precise or gained <= GAIN or dimension == 1:
                return place, value
            size *= 0.5

    def _log_risk(self, place: Array, steps: int) -> float:
        self._spend()
        self.looks += 1
        risk = self._risk(self.values(place), steps)  # type: ignore[misc]  # asked where there is one
        return _log(risk) - self._share

    def _spend(self) -> None:
        if self.evaluations + self.looks >= self._most:
            raise SpentError


def _log(risk: float) -> float:
    """log(risk), kept within what can be compared; no number is worst."""
    if not risk < math.inf:
        return 2.0 * HOPELESS
    return max(math.log(risk), -HOPELESS) if risk > 0.0 else -HOPELESS
