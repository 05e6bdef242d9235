"""Compression of a spectrum: few nodes in place of many modes, refined until no one can tell.

Every part of the risk is a sum over modes of weight times f(curvature), where f is smooth in
log(curvature). The modes are cut into bins of equal width in log(curvature); a bin that holds few
modes keeps them, a fuller one is replaced by the Gauss rule of its own discrete measure (Stieltjes
procedure, then Golub and Welsch 1969): ``ORDER`` nodes that are exact for polynomials of degree
2 ORDER - 1 in log(curvature), with positive weights. Each level halves the bins; the last level is
the spectrum itself.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ORDER = 5
"""Nodes per bin."""

COARSEST_WIDTH = 0.5
"""Width in log(curvature) of the bins at level 0; each level halves it."""


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
        while _bins(np.log(self.curvature), level)[1].max(initial=0) > ORDER:
            level += 1
        return level

    @functools.cached_property
    def _cache(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def _rules(self, level: int) -> tuple[Array, Array]:
        if level not in self._cache:
            self._cache[level] = (
                (self.curvature, self.weight)
                if level == self.last_level
                else _compress(self.curvature, self.weight, level)
            )
        return self._cache[level]


def _bins(log_curvature: Array, level: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """First index and size of each non-empty bin of a descending list."""
    if log_curvature.size == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    width = COARSEST_WIDTH * 0.5**level
    label = np.floor((log_curvature[0] - log_curvature) / width)
    first = np.flatnonzero(np.concatenate(([True], label[1:] != label[:-1])))
    size = np.diff(np.append(first, log_curvature.size))
    return first, size


def _compress(curvature: Array, weight: Array, level: int) -> tuple[Array, Array]:
    log_curvature = np.log(curvature)
    _, size = _bins(log_curvature, level)
    full = size > ORDER
    kept = np.repeat(~full, size)
    in_bins = ~kept
    node_log, node_weight = _gauss(log_curvature[in_bins], weight[in_bins], size[full])
    nodes = np.concatenate((curvature[kept], np.exp(node_log)))
    weights = np.concatenate((weight[kept], node_weight))
    descending = np.argsort(-nodes, kind="stable")
    return nodes[descending], weights[descending]


def _gauss(position: Array, weight: Array, size: npt.NDArray[np.intp]) -> tuple[Array, Array]:
    """The ORDER-point Gauss rule of each of several adjacent discrete measures."""
    start = np.concatenate(([0], np.cumsum(size)[:-1]))

    def per_bin(values: Array) -> Array:
        return np.asarray(np.add.reduceat(values, start))

    # Work on [-1, 1] within each bin: the recurrence is then well scaled whatever the width.
    high, low = position[start], position[start + size - 1]
    centre, half = 0.5 * (high + low), 0.5 * (high - low)
    s = (position - np.repeat(centre, size)) / np.repeat(half, size)

    jacobi = np.zeros((size.size, ORDER, ORDER))
    mass = per_bin(weight)
    previous, current = np.zeros_like(s), np.ones_like(s)
    norm_previous, norm = mass, mass
    for k in range(ORDER):
        alpha = per_bin(weight * s * current**2) / norm
        jacobi[:, k, k] = alpha
        beta = norm / norm_previous if k else np.zeros_like(norm)
        if k:
            jacobi[:, k, k - 1] = jacobi[:, k - 1, k] = np.sqrt(beta)
        following = (s - np.repeat(alpha, size)) * current - np.repeat(beta, size) * previous
        previous, current = current, following
        norm_previous, norm = norm, per_bin(weight * current**2)
    nodes, vectors = np.linalg.eigh(jacobi)
    position_nodes = centre[:, None] + half[:, None] * nodes
    return position_nodes.ravel(), (mass[:, None] * vectors[:, 0, :] ** 2).ravel()
