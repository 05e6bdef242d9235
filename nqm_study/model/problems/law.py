"""The power law over more modes than can be made one by one.

Sums over i = 1..dim are cut into cells of consecutive integers. A cell of few integers keeps them;
a larger one is replaced by the Gauss rule of its counting measure, whose orthogonal polynomials are
Gram's (discrete Chebyshev; Szego, Orthogonal Polynomials, section 2.8): with N integers around
their centre, in units of N / 2, the three-term recurrence has

    alpha_k = 0,    beta_k = k^2 (1 - k^2 / N^2) / (4 k^2 - 1),

which is Legendre's as N grows. The rule sums every polynomial in i of degree 2 POINTS - 1 exactly,
where Euler and Maclaurin's formula would need its derivatives, and has positive weights: its nodes
are curvatures and its weights are multiplicities.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.quadrature import rules_of_recurrences
from nqm_study.model.problems.compression import COARSEST_WIDTH, ORDER

POINTS = 10
"""Nodes of a cell: 1e-17 is left of a power of i over a cell as wide as the coarsest."""

MOST_DIM = 2**53
"""Up to here every integer is a floating-point number."""

MOST_NODES = 2**17
"""The largest number of nodes that a level may need, by the memory of the jumps' tables; a spectrum
of no more modes than this is made mode by mode."""


@dataclass(frozen=True)
class PowerLaw:
    """The modes h_i = scale i^-exponent, i = 1..dim.

    Attributes:
        dim: how many modes there are.
        exponent: decay of the curvatures, greater than 0.
        scale: the largest curvature.
        power: each mode counts (h / scale)^power times.
    """

    dim: int
    exponent: float
    scale: float = 1.0
    power: int = 0

    def __repr__(self) -> str:
        # Digests of stored studies are made from it, and earlier versions had no power.
        power = f", power={self.power!r}" if self.power else ""
        return (
            f"PowerLaw(dim={self.dim!r}, exponent={self.exponent!r}, scale={self.scale!r}{power})"
        )

    def weighted(self, power: int) -> PowerLaw:
        """The same law with each mode counted (h / scale)^power times as often."""
        return replace(self, power=self.power + power)

    def entries(self, level: int) -> tuple[Array, Array]:
        """Curvatures and multiplicities that serve compressions of a level."""
        index, multiplicity = _cells(self._ends(level))
        ratio = index**-self.exponent
        return self.scale * ratio, multiplicity * ratio**self.power

    @property
    def last_level(self) -> int:
        """The finest level, at which a compression has at most MOST_NODES nodes."""
        narrowest = np.log(self.dim) / (MOST_NODES / ORDER - 2.0)
        return max(0, int(np.log2(COARSEST_WIDTH / (self.exponent * narrowest))))

    def _step(self, level: int) -> float:
        """Width of a cell in log(i): that of the level's bins, and at most a doubling of i."""
        width = COARSEST_WIDTH * 0.5**level
        return float(min(width / self.exponent, np.log(2.0)))

    def _ends(self, level: int) -> npt.NDArray[np.int64]:
        """The first integer of each cell, and dim + 1."""
        step = self._step(level)
        number = int(np.ceil(np.log(self.dim) / step)) + 1
        ends = np.ceil(np.exp(step * np.arange(number))).clip(max=self.dim + 1)
        return np.unique(np.append(ends, self.dim + 1).astype(np.int64))


def _cells(ends: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Positions and weights, ascending, that sum over all integers from ends[0] to ends[-1] - 1."""
    first, size = ends[:-1], np.diff(ends)
    few = size <= POINTS
    start = np.repeat(first[few], size[few])
    offset = np.arange(start.size) - np.repeat(np.cumsum(size[few]) - size[few], size[few])
    kept = (start + offset).astype(np.float64)
    if np.all(few):
        return kept, np.ones(kept.size)
    position, weight = _gram_rules(size[~few].astype(np.float64))
    centre = first[~few] + 0.5 * (size[~few] - 1)
    nodes = (centre[:, None] + position).ravel()
    index = np.concatenate((kept, nodes))
    multiplicity = np.concatenate((np.ones(kept.size), weight.ravel()))
    order = np.argsort(index, kind="stable")
    return index[order], multiplicity[order]


def _gram_rules(size: Array) -> tuple[Array, Array]:
    """The Gauss rule of N consecutive integers around their centre, for each N."""
    k = np.arange(1, POINTS)
    beta = k**2 * (1.0 - (k / size[:, None]) ** 2) / (4.0 * k**2 - 1.0)
    nodes, weight = rules_of_recurrences(0.0, beta, size)
    return 0.5 * size[:, None] * nodes, weight
