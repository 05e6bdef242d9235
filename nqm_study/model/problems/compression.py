"""Compression of a spectrum: few nodes in place of many modes, refined until no one can tell.

Every part of the risk is a sum over modes of weight times f(curvature), where f is smooth in
log(curvature). The modes are cut into bins of equal width in log(curvature); a bin that holds few
modes keeps them, a fuller one is replaced by the Gauss rule of its own discrete measure: ``ORDER``
nodes that are exact for polynomials of degree
2 ORDER - 1 in log(curvature), with positive weights.

Each level cuts every full bin in two, in the middle of the modes it holds. So no rule is the same
at two levels, however closely its modes lie together, and the difference between two levels shows
the error of the coarser one. The last level is the spectrum itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.numerics.quadrature import rules_of_measures

ORDER = 5
"""Nodes per bin."""

COARSEST_WIDTH = 0.5
"""Width in log(curvature) of the bins at level 0; each level at least halves it."""


@dataclass(frozen=True, eq=False)
class Measure:
    """Positive weights at distinct curvatures in descending order. Build one with ``of``.

    Attributes:
        curvature: shape (n,), distinct, descending.
        weight: shape (n,), each > 0.
    """

    curvature: Array
    weight: Array

    @classmethod
    def of(cls, curvature: Array, weight: Array) -> Measure:
        """The measure with these weights: equal curvatures merged, zero weights dropped.

        Equal means of equal logarithm: no bin could separate two curvatures that share theirs.
        """
        kept = weight > 0.0
        _, first, index = np.unique(np.log(curvature[kept]), return_index=True, return_inverse=True)
        total = np.zeros(first.size)
        np.add.at(total, index, weight[kept])
        return cls(curvature[kept][first][::-1].copy(), total[::-1].copy())

    def nodes(self, level: int) -> tuple[Array, Array]:
        """Curvatures and weights of the rule at a level, from 0 (coarsest) to ``last_level``."""
        return self._rules(min(level, self.last_level))

    @functools.cached_property
    def last_level(self) -> int:
        """The level at which every mode stands for itself."""
        level = 0
        while np.any(self._sizes(level) > ORDER):
            level += 1
        return level

    def _rules(self, level: int) -> tuple[Array, Array]:
        if level not in self._cache:
            self._cache[level] = (
                (self.curvature, self.weight)
                if level == self.last_level
                else _compress(self.curvature, self.weight, self._sizes(level))
            )
        return self._cache[level]

    def _sizes(self, level: int) -> Integers:
        """How many modes each bin of a level holds, from the largest curvature on."""
        while len(self._cuts) <= level:
            log_curvature = np.log(self.curvature)
            self._cuts.append(
                _cut(log_curvature, self._cuts[-1]) if self._cuts else _coarsest(log_curvature)
            )
        return self._cuts[level]

    @functools.cached_property
    def _cache(self) -> dict[int, tuple[Array, Array]]:
        return {}

    @functools.cached_property
    def _cuts(self) -> list[Integers]:
        return []


def _coarsest(log_curvature: Array) -> Integers:
    """The sizes of bins of equal width, of those that hold anything."""
    if log_curvature.size == 0:
        return np.zeros(0, dtype=np.int64)
    label = np.floor((log_curvature[0] - log_curvature) / COARSEST_WIDTH)
    first = np.flatnonzero(np.concatenate(([True], label[1:] != label[:-1])))
    return np.diff(np.append(first, log_curvature.size))


def _cut(log_curvature: Array, size: Integers) -> Integers:
    """The sizes after every full bin is cut in the middle of what it holds."""
    end = np.cumsum(size)
    full = size > ORDER
    first, last = (end - size)[full], end[full] - 1
    middle = 0.5 * (log_curvature[first] + log_curvature[last])
    cut = np.searchsorted(-log_curvature, -middle, side="right")
    # Rounding may put the middle of neighbours on one of them; both halves hold something.
    ends = np.sort(np.concatenate((end, np.clip(cut, first + 1, last))))
    return np.diff(np.append(0, ends))


def _compress(curvature: Array, weight: Array, size: Integers) -> tuple[Array, Array]:
    log_curvature = np.log(curvature)
    full = size > ORDER
    kept = np.repeat(~full, size)
    in_bins = ~kept
    node_log, node_weight = rules_of_measures(
        log_curvature[in_bins], weight[in_bins], size[full], ORDER
    )
    nodes = np.concatenate((curvature[kept], np.exp(node_log.ravel())))
    weights = np.concatenate((weight[kept], node_weight.ravel()))
    descending = np.argsort(-nodes, kind="stable")
    return nodes[descending], weights[descending]
