"""The starts that Adam's closure is averaged over: curvatures, and nodes of |theta_0| at each.

The moments given |theta_0| have a kink in theta_0 at zero, since Adam's step hardly depends on how
large the gradient is: a start at z moves by about lr a step until it arrives. So there is a Gauss
rule on each side of the kink, for the normal density cut off there. With theta_0 of mean zero both
sides are alike, and one is enough. A rule across the kink converges slowly: with 8 nodes of a
Gauss-Hermite rule for |theta_0| the steps are up to 17 % off where there are fewer than 50.

How many nodes a mode needs depends on its signal to noise ratio, rho = h^2 E theta_0^2 / (c / B).
Where it is small, the gradient's noise alone decides v, the moments are linear in theta_0^2, and
two nodes are exact. Where it is large, a run's end swings with its start the more often, the larger
the rate and beta1 are, so that a run is computed on rules of two refinements and compared. Noise
that falls with the loss is taken for it as it is after most of the fall.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.quadrature import rules_of_measures
from nqm_study.model.problems.problem import Problem

COMPRESSION_LEVEL = 0
"""Level of the spectrum's compression; its error is far below the closure's own."""

NODES = ((1.0, 24), (0.1, 16), (1e-2, 8), (1e-4, 4), (0.0, 2))
"""Nodes on each side of the kink, for a signal to noise ratio of at least so much."""

FALLEN = 0.01
"""What is left of a loss that has mostly fallen."""

TINY = 1e-300
"""Keeps what may be 0, a risk or an average of squares, from dividing."""

FEWEST = 2
"""Nodes that are exact where the moments are linear in theta_0^2."""

REFINEMENTS = (2.0 / 3.0, 1.0, 2.0, 4.0, 8.0)
"""Times as many nodes, from the coarsest rules to the finest."""

USUAL = 1
"""The refinement that does for most runs."""

FAR = 6.0
"""Standard deviations beyond which a kink does not matter: a billionth of the weight is there."""

END = 10.0
"""Standard deviations at which a normal density ends."""

PANEL = 128
"""Points beyond two for each node by which the density's integrals are computed, to rounding."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """The starts of the recursion: one entry for each mode (or node of its compression) and start.

    Attributes:
        curvature: h.
        variance: c / B, in units of what multiplies it.
        weight: 1/2 m h times the weight of the start.
        second_moment: A_0 = theta_0^2.
        coupling: 1 / B and the label noise, where noise falls with the loss: c / B is multiplied by
            2 L + label noise, L over all nodes, and h^2 A counts 1 + 1 / B times.
    """

    curvature: Array
    variance: Array
    weight: Array
    second_moment: Array
    coupling: tuple[float, float] | None = None

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(
        cls, problem: Problem, level: int | None = COMPRESSION_LEVEL, refinement: int = USUAL
    ) -> Nodes:
        """The nodes of a problem; kept, since a study asks for the same ones at each trial.

        Args:
            problem: spectrum and batch size.
            level: of the spectrum's compression; None is every mode.
            refinement: of the rules for the starts, an index of ``REFINEMENTS``.
        """
        h, weight, noise, mean, variance = modes(problem, level)
        noise, strength = noise / problem.batch_size, 1.0
        if problem.follows_loss:
            strength = problem.steady_noise + 2.0 * FALLEN * problem.spectrum.initial_risk
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = h * h * (mean**2 + variance) / (noise * strength)
        # Without noise the ratio is infinite, or 0 / 0 where there is no signal either.
        ratio = np.where(np.isnan(ratio), 0.0, ratio)
        grade = np.searchsorted([-least for least, _ in NODES], -ratio)
        parts = [np.empty((4, 0))]
        for each in np.unique(grade).tolist():
            chosen = np.flatnonzero(grade == each)
            start, share = starts(
                mean[chosen], variance[chosen], _count(NODES[each][1], refinement)
            )
            columns = (h[chosen], noise[chosen], share * weight[chosen], start**2)
            parts.append(np.array([np.broadcast_to(c, start.shape).ravel() for c in columns]))
        every = np.concatenate(parts, axis=1)
        h, noise, weight, square = (np.ascontiguousarray(row) for row in every[:, every[2] > 0.0])
        coupling = (1.0 / problem.batch_size, problem.steady_noise)
        return cls(h, noise, weight, square, coupling if problem.follows_loss else None)

    def start(self) -> Array:
        """A, Q, D, V, P and U before the first step, shape (6, n)."""
        state = np.zeros((6, self.curvature.size))
        state[::4] = self.second_moment
        return state

    def noise(self, second_moment: Array, share: float = 1.0) -> Array:
        """The variance of each node's gradient at some second moments, in batches of B / share."""
        if self.coupling is None:
            return share * self.variance
        own, label_noise = self.coupling
        level = 2.0 * self.risk(second_moment) + label_noise
        return share * (level * self.variance + own * self.curvature**2 * second_moment)

    def risk(self, second_moment: Array) -> float:
        """The expected loss at the second moments A of all nodes."""
        return float(np.sum(self.weight * second_moment))


def _count(usual: int, refinement: int) -> int:
    return usual if usual == FEWEST else round(REFINEMENTS[refinement] * usual)


def modes(problem: Problem, level: int | None) -> tuple[Array, Array, Array, Array, Array]:
    """Curvature, 1/2 m h, c, mean and variance of the start, of modes or compressed ones."""
    spectrum = problem.spectrum
    noise_ratio = spectrum.noise / spectrum.curvature
    same = (noise_ratio, spectrum.initial_mean, spectrum.initial_variance)
    if level is None or not all(np.allclose(v, v[0], rtol=1e-12, atol=0.0) for v in same):
        # A compression needs modes of equal curvature to behave alike.
        weight = 0.5 * spectrum.multiplicity * spectrum.curvature
        return (
            spectrum.curvature,
            weight,
            spectrum.noise,
            spectrum.initial_mean,
            spectrum.initial_variance,
        )
    curvature, weight = spectrum.loss.nodes(level)
    ones = np.ones_like(curvature)
    return (
        curvature,
        weight,
        noise_ratio[0] * curvature,
        spectrum.initial_mean[0] * ones,
        spectrum.initial_variance[0] * ones,
    )


def starts(mean: Array, variance: Array, count: int) -> tuple[Array, Array]:
    """Nodes of theta_0 and their weights, of sum 1 for each mode.

    Args:
        mean: shape (n,), a.
        variance: shape (n,), s.
        count: nodes on each side of theta_0 = 0.

    Returns:
        Two arrays of shape (count, n) or, where a mean is not zero, (2 count, n).
    """
    deviation = np.sqrt(variance)
    if not np.any(mean):
        z, weight = half_normal(count)
        shape = (count, mean.size)
        return z[:, None] * deviation, np.broadcast_to(weight[:, None], shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        kink = np.clip(np.where(mean == 0.0, 0.0, -mean / deviation), -FAR, FAR)
    distinct, place = np.unique(kink, return_inverse=True)
    right, right_weight = _beyond(distinct, count)
    left, left_weight = _beyond(-distinct, count)
    z = np.concatenate((right, -left))[:, place]
    weight = np.concatenate((right_weight, left_weight))[:, place]
    return mean + deviation * z, weight / weight.sum(axis=0)


@functools.cache
def half_normal(count: int) -> tuple[Array, Array]:
    """The Gauss rule of |z| for normal z; its weights add up to 1."""
    z, weight = _beyond(np.zeros(1), count)
    return z[:, 0], weight[:, 0] / weight.sum()


def _beyond(kink: Array, count: int) -> tuple[Array, Array]:
    """Gauss rules for the normal density beyond some points, each of shape (count, n).

    The weights add up to the mass of what is beyond, times sqrt(2 pi).
    """
    x, w = _legendre(PANEL + 2 * count)
    half = 0.5 * (END - kink)
    z = kink[:, None] + half[:, None] * (x + 1.0)
    nearest = np.maximum(kink, 0.0)[:, None]
    density = half[:, None] * w * np.exp(-0.5 * (z * z - nearest * nearest))
    size = np.full(kink.size, x.size)
    nodes, weight = rules_of_measures(z.ravel(), density.ravel(), size, count)
    return nodes.T, (weight * np.exp(-0.5 * nearest**2)).T


_legendre = functools.cache(np.polynomial.legendre.leggauss)
"""The Gauss rule of the interval from -1 to 1, by its number of nodes."""
