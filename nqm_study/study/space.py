"""The search space: hyperparameters in the user's units, and the coordinates Optuna searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from optuna.distributions import FloatDistribution

from nqm_study.study.definition import Hyperparameter, Range


@dataclass(frozen=True)
class SearchSpace:
    """Hyperparameters, each a number (fixed) or a ``Range`` (searched).

    Optuna sees one coordinate per range: the hyperparameter itself, or for the scale
    ``log_one_minus`` one minus it, on a log scale, under the name ``one_minus_<name>``.
    """

    hyperparameters: Mapping[str, Hyperparameter]

    @property
    def searched(self) -> dict[str, Range]:
        """The ranges by hyperparameter."""
        return {name: v for name, v in self.hyperparameters.items() if isinstance(v, Range)}

    @property
    def distributions(self) -> dict[str, FloatDistribution]:
        """Optuna's distribution of each coordinate."""
        return {_coordinate(name, r): _distribution(r) for name, r in self.searched.items()}

    def values(self, coordinates: Mapping[str, float]) -> dict[str, float]:
        """Every hyperparameter's value in the user's units, the fixed ones included."""
        values: dict[str, float] = {}
        for name, given in self.hyperparameters.items():
            if isinstance(given, Range):
                coordinate = coordinates[_coordinate(name, given)]
                values[name] = 1.0 - coordinate if given.scale == "log_one_minus" else coordinate
            else:
                values[name] = given
        return values

    def grid(self, points: int) -> dict[str, list[float]]:
        """So many points along each coordinate, evenly spaced on its scale, the ends included."""
        grid = {}
        for name, each in self.searched.items():
            distribution = _distribution(each)
            space = np.geomspace if distribution.log else np.linspace
            line = space(distribution.low, distribution.high, points)
            grid[_coordinate(name, each)] = [
                float(v) for v in np.clip(line, distribution.low, distribution.high)
            ]
        return grid


def _coordinate(name: str, each: Range) -> str:
    return f"one_minus_{name}" if each.scale == "log_one_minus" else name


def _distribution(each: Range) -> FloatDistribution:
    if each.scale == "log_one_minus":
        return FloatDistribution(1.0 - each.high, 1.0 - each.low, log=True)
    return FloatDistribution(each.low, each.high, log=each.scale == "log")
