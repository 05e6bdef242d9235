"""Optimizers whose coefficients change with the step, and their runs in NumPy, step by step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import nqm_study as nqm

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mean(nqm.LinearOptimizer):
    """The mean of the iterates from a step on: x' = (1 - k) x + k theta'; the risk is that of x.

    k = 1 / (max(t - start, 0) + 1); theta' = theta - lr u', u' = mu u + g; state (theta, u, x).
    """

    learning_rate: float
    momentum: float = 0.0
    start: int = 0
    constant = False

    @property
    def knots(self) -> tuple[int, ...]:
        return (self.start,)

    def update(self, step: Any, rate: Any) -> nqm.Update:
        k = 1.0 / (np.maximum(step - self.start, 0) + 1.0)
        drift, gain = np.zeros((len(step), 3, 3)), np.ones((len(step), 3))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * self.momentum, self.momentum
        gain[:, 0] = -rate
        drift[:, 2] = k[:, None] * drift[:, 0]
        drift[:, 2, 2], gain[:, 2] = 1.0 - k, k * gain[:, 0]
        point, start, readout = np.eye(3)[0][None], np.array([1.0, 0.0, 1.0]), np.eye(3)[2]
        return nqm.Update(drift, gain, point, start, readout)


@dataclass(frozen=True)
class Free(nqm.LinearOptimizer):
    """y = (1 - b) z + b x, z' = z - lr g(y), x' = (1 - k) x + k z', k = 1 / (t + 1)."""

    learning_rate: float
    beta: float = 0.9
    constant = False

    def update(self, step: Any, rate: Any) -> nqm.Update:
        k = 1.0 / (step + 1.0)
        drift = np.zeros((len(step), 2, 2))
        drift[:, 0, 0], drift[:, 1, 0], drift[:, 1, 1] = 1.0, k, 1.0 - k
        gain, point = np.stack((-rate, -k * rate), axis=1), np.array([[1.0 - self.beta, self.beta]])
        return nqm.Update(drift, gain, point, np.ones(2), np.array([0.0, 1.0]))


@dataclass(frozen=True)
class TwoScales(nqm.LinearOptimizer):
    """y' = (1 - d / (d + t)) y + g, theta' = theta - lr (g + g3 (1 + t)^-power y')."""

    learning_rate: float
    g3: float = 0.01
    power: float = 0.0
    delta: float = 8.0
    constant = False

    def update(self, step: Any, rate: Any) -> nqm.Update:
        keep, share = step / (self.delta + step), self.g3 * (1.0 + step) ** -self.power
        drift = np.zeros((len(step), 2, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * share * keep, keep
        gain = np.stack((-rate * (1.0 + share), np.ones(len(step))), axis=1)
        theta = np.array([1.0, 0.0])
        return nqm.Update(drift, gain, theta[None], theta, theta)


def risks_of(problem: nqm.NoisyQuadratic, optimizer: nqm.LinearOptimizer, rates: Array) -> Array:
    """L_0, L_1, ... by means and covariances of all modes, one step at a time."""
    spectrum = problem.spectrum
    h, made = spectrum.curvature, optimizer.update(np.arange(rates.size), rates)
    weight = 0.5 * spectrum.multiplicity * h
    z = np.multiply.outer(np.sqrt(spectrum.second_moment), made.start)
    covariance = np.zeros((h.size, made.start.size, made.start.size))
    variance = (spectrum.noise / problem.batch_size)[:, None, None]
    drift, gain, point = (
        np.broadcast_to(each, (rates.size, *each.shape[1:]))
        for each in (made.drift, made.gain, made.point)
    )
    risks = np.empty(rates.size + 1)
    read = made.readout
    for step in range(rates.size + 1):
        risks[step] = weight @ ((z @ read) ** 2 + covariance @ read @ read)
        if step < rates.size:
            matrix = drift[step] + np.multiply.outer(h, np.outer(gain[step], point[step]))
            z = np.einsum("nij,nj->ni", matrix, z)
            covariance = matrix @ covariance @ matrix.transpose(0, 2, 1)
            covariance += variance * np.outer(gain[step], gain[step])
    return risks


def mean_risk(problem: nqm.NoisyQuadratic, rate: float, steps: int) -> float:
    """The risk of the mean of theta_1, ..., theta_T of plain SGD, in closed form.

    With q = 1 - lr h, its signal is q (1 - q^T) / (T (1 - q)), and noise of step j counts
    lr (1 - q^m) / (T (1 - q)), m = T - j + 1.
    """
    spectrum, x = problem.spectrum, rate * problem.spectrum.curvature
    q = 1.0 - x
    power = np.exp(steps * np.log1p(-x))
    signal = q * (1.0 - power) / (steps * x)
    series = steps - 2.0 * q * (1.0 - power) / x + q**2 * (1.0 - power**2) / (1.0 - q**2)
    noise = (rate / (steps * x)) ** 2 * series * spectrum.noise / problem.batch_size
    weight = 0.5 * spectrum.multiplicity * spectrum.curvature
    return float(weight @ (signal**2 * spectrum.second_moment + noise))
