"""The least last risk of a given number of steps; optimal.py says how it is found and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nqm_study.model import _optimal_kernels
from nqm_study.model.affine import Affine

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ZERO = 1e-15
"""The smallest rate, as a share of the largest: as good as zero, and with a logarithm."""

COLLAPSED = 1e-3
"""A rate below this share of its neighbours' may be stuck near zero."""

SHARE = 1e-3
"""The logarithm of L_T + SHARE * target is minimised: a risk of zero is no pole then."""

DIPS = 3
"""Of the local minima over these scales, so many are started from."""

SHORT = 64
"""Up to so many steps, all smaller numbers of steps are looked at."""

CLOSELY = 32
"""A single rate is looked at in so many places for each of so few steps."""

SCALES = np.unique(np.concatenate((np.geomspace(1e-4, 1.0, 25), np.linspace(0.0, 1.0, 33)[1:])))
"""Scales of the rates to start from, as shares of the largest stable one."""


class Minimum(NamedTuple):
    """A least last risk, and the rates that have it."""

    steps: int
    rates: Array
    risk: float
    residual: float


class Effort(NamedTuple):
    """How far to minimise: the largest projected derivative left, and the most iterations."""

    gradient: float
    iterations: int


ROUGH, FULL = Effort(1e-3, 60), Effort(1e-8, 1000)


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs on one compression of a problem.

    Attributes:
        tables: the compressed problem and the optimizer.
        target: expected loss to reach.
        pieces: the number of rates; runs of fewer steps have a rate for each.
        largest: the largest rate allowed.
        stable: the largest rate to start from.
        most: the most steps that count.
    """

    tables: Affine
    target: float
    pieces: int
    largest: float
    stable: float
    most: int

    def last_risk(self, steps: int, rates: Array) -> tuple[float, Array]:
        """L_T and its derivatives by the rates."""
        gradient = np.empty(rates.size)
        lengths = np.diff(edges(steps, rates.size))
        return _optimal_kernels.last_risk(*self.tables, lengths, rates, gradient), gradient

    def fitting(self, steps: int, rates: Array) -> Array:
        """Rates for so many steps, from those of other steps."""
        count = min(steps, self.pieces)
        return np.ascontiguousarray(rates[np.arange(count) * rates.size // count])

    def minimise(self, steps: int, rates: Array, effort: Effort = FULL) -> Minimum:
        """The least L_T that is found from some rates on."""
        return self._descend(steps, self.fitting(steps, rates), effort)

    def _descend(self, steps: int, rates: Array, effort: Effort) -> Minimum:
        from scipy import optimize

        top = math.log(self.largest)
        added = SHARE * self.target

        def objective(logarithms: Array) -> tuple[float, Array]:
            now = self._rates(logarithms)
            risk, gradient = self.last_risk(steps, now)
            if not (np.isfinite(risk) and np.all(np.isfinite(gradient))):
                return 1e3, np.zeros(now.size)  # diverged: far above any risk's logarithm
            return math.log(risk + added), gradient * now / (risk + added)

        found = optimize.minimize(
            objective,
            np.log(np.clip(rates, ZERO * self.largest, self.largest)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(top + math.log(ZERO), top)] * rates.size,
            options={
                "maxcor": 20,
                "gtol": effort.gradient,
                "ftol": 1e-16,
                "maxiter": effort.iterations,
                "maxfun": 2 * effort.iterations,
                "maxls": 40,
            },
        )
        rates = self._rates(found.x)
        risk, gradient = self.last_risk(steps, rates)
        slope = gradient * rates / (risk + added)
        missed = np.where(rates < self.largest, np.abs(slope), np.maximum(slope, 0.0))
        return Minimum(steps, rates, risk, float(np.max(missed)))

    def _rates(self, logarithms: Array) -> Array:
        at_bound = logarithms >= math.log(self.largest)
        return np.where(at_bound, self.largest, np.exp(logarithms))

    def starts(self, steps: int) -> list[Array]:
        """Rates to start from: all at the largest, and the best constant and decaying ones.

        With momentum the risk goes up and down with the scale of the rates, so of each shape the
        lowest dips are taken. A single rate of few steps is all there is, and looked at closely.
        """
        count = min(steps, self.pieces)
        alone = count == 1 and steps <= SHORT
        scales = np.arange(1, CLOSELY * steps + 1) / (CLOSELY * steps) if alone else SCALES
        most = scales.size if alone else DIPS
        shapes = (np.ones(count), np.minimum(1.0, np.geomspace(10.0, 0.05, count)))
        found = [self.stable * shapes[0]]
        for shape in shapes[: 1 if alone else 2]:
            scan = [self.stable * scale * shape for scale in scales]
            risks = np.array([self.last_risk(steps, rates)[0] for rates in scan])
            risks[np.isnan(risks)] = np.inf
            around = np.concatenate(([np.inf], risks, [np.inf]))
            dips = np.flatnonzero((risks <= around[:-2]) & (risks < around[2:]))
            found += [scan[dip] for dip in dips[np.argsort(risks[dips], kind="stable")][:most]]
        return found


def edges(steps: int, pieces: int) -> Integers:
    """The first step of each piece, and the end: ceil(k * steps / pieces) for k = 0..pieces."""
    return np.array([-(-k * steps // pieces) for k in range(pieces + 1)], dtype=np.int64)


def by_risk(found: Minimum) -> float:
    return found.risk


def lifted(rates: Array) -> Array:
    """The rates, with those far below both neighbours raised to the lower of them."""
    padded = np.concatenate((rates[1:2], rates, rates[-2:-1]))
    if padded.size < rates.size + 2:  # a single rate has no neighbours
        return rates
    around = np.minimum(padded[:-2], padded[2:])
    return np.where(rates < COLLAPSED * around, around, rates)
