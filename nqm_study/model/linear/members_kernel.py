"""Compiled risks of the members of a linear family at one number of steps.

Row r of A^K, r the readout, is all that a risk needs. Every linear optimizer starts from z_0 = e_r,
so the signal part after T steps is the sum of w (A^T)_rr^2; and the noise gathered in the K steps
before the last m ones is the sum of w v S_K v^T, v being row r of A^m. Both are gathered by the
binary digits of T, with S_2K = S_K + A^K S_K A^KT.

Arrays are laid out as in _kernels.py: component first, mode last. Loops over components are not
unrolled here: that is a little slower, and compiled once for all families.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.compiled import compiled, compiled_within

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

NO_DECAY, MOMENTUM, EMA_DECAY = 0, 1, 2
"""Which decay is free."""

OVERFLOW = 1e3
"""Stands for the logarithm of a risk that is no number."""

SMALL, FLAT = 1e-5, 1e-11
"""A minimum is found where the simplex is as small as this, and its values as near."""

CLOSE, FAR = 1e-3, 100.0
"""It is given up where the simplex is as small, and its least value above 0 by so many times the
difference of its values: at this slope the target is CLOSE * FAR away, many points of a grid."""

MOST_CALLS = 400
"""The most risks that a minimum may take."""


class Form(NamedTuple):
    """A linear family: what is free, and the values of the rest.

    Attributes:
        free: NO_DECAY, MOMENTUM or EMA_DECAY; that one's value does not matter.
        momentum, nesterov, ema_decay: as in ``SGD``.
        moving, averaged: whether the state has a momentum, and an average.
    """

    free: int
    momentum: float
    nesterov: bool
    ema_decay: float
    moving: bool
    averaged: bool


class Modes(NamedTuple):
    """The nodes of a compressed problem, with a preconditioner.

    Attributes:
        preconditioner: h^-p.
        curvature: h^(1-p), the nodes of the signal and, from ``first_noise`` on, the noise's.
        first_noise: 0 where they share their nodes.
        signal_weight, noise_weight: weights in the risk, the noise's at the batch size.
    """

    preconditioner: Array
    curvature: Array
    first_noise: int
    signal_weight: Array
    noise_weight: Array


@compiled
def transitions(
    form: Form, log_rate: float, log_gap: float, modes: Modes, matrix: Array, noise: Array
) -> None:
    """Write A and b of the member at a point; its twin is optimizers.transition."""
    rate, gap = math.exp(log_rate), math.exp(log_gap)
    momentum, ema_decay = form.momentum, form.ema_decay
    if form.free == MOMENTUM:
        rate *= gap
        momentum = 1.0 - gap
    elif form.free == EMA_DECAY:
        ema_decay = 1.0 - gap
    now, later = (1.0 + momentum, momentum**2) if form.nesterov else (1.0, momentum)
    last = matrix.shape[0] - 1
    for m in range(modes.curvature.size):
        matrix[0, 0, m] = 1.0 - rate * now * modes.curvature[m]
        noise[0, m] = -rate * now * modes.preconditioner[m]
        if form.moving:
            matrix[0, 1, m] = -rate * later
            matrix[1, 0, m] = modes.curvature[m]
            matrix[1, 1, m] = momentum
            noise[1, m] = modes.preconditioner[m]
        if form.averaged:
            # theta is held as theta - e.
            for c in range(last):
                matrix[c, last, m] = matrix[c, 0, m]
                matrix[last, c, m] = (1.0 - ema_decay) * matrix[0, c, m]
                matrix[0, c, m] *= ema_decay
            ahead = matrix[0, last, m] - 1.0
            matrix[last, last, m] = 1.0 + (1.0 - ema_decay) * ahead
            matrix[0, last, m] = ema_decay * ahead
            noise[last, m] = (1.0 - ema_decay) * noise[0, m]
            noise[0, m] *= ema_decay


@compiled_within
def excess(  # noqa: PLR0912 (every layer of calls is compiled once more)
    form: Form, log_rate: float, log_gap: float, modes: Modes, steps: int, target: float
) -> float:
    """log(L_T / target) of the member at a point, within OVERFLOW."""
    k, n = 1 + form.moving + form.averaged, modes.curvature.size
    first = modes.first_noise  # the spread is that of the noise's nodes alone
    readout = k - 1 if form.averaged else 0
    power, scratch, spread = np.empty((k, k, n)), np.empty((k, k, n)), np.empty((k, k, n))
    row, following = np.empty((k, n)), np.empty((k, n))
    transitions(form, log_rate, log_gap, modes, power, following)
    for i in range(k):
        for m in range(n):
            row[i, m] = 1.0 if i == readout else 0.0
        for j in range(i + 1):
            for m in range(first, n):
                spread[i, j, m] = following[i, m] * following[j, m]
    risk = 0.0
    digit = 0
    while True:
        if steps >> digit & 1:
            for i in range(k):
                for j in range(k):
                    one, other = max(i, j), min(i, j)
                    for m in range(first, n):
                        weight = modes.noise_weight[m - first]
                        risk += weight * row[i, m] * spread[one, other, m] * row[j, m]
            for j in range(k):
                for m in range(n):
                    following[j, m] = 0.0
                for i in range(k):
                    for m in range(n):
                        following[j, m] += row[i, m] * power[i, j, m]
            row, following = following, row
        digit += 1
        if steps >> digit == 0:
            break
        # S + A S A^T, of which the lower half is kept, then A A.
        for i in range(k):
            for j in range(k):
                for m in range(first, n):
                    scratch[i, j, m] = 0.0
                for c in range(k):
                    one, other = max(c, j), min(c, j)
                    for m in range(first, n):
                        scratch[i, j, m] += power[i, c, m] * spread[one, other, m]
        for i in range(k):
            for j in range(i + 1):
                for c in range(k):
                    for m in range(first, n):
                        spread[i, j, m] += scratch[i, c, m] * power[j, c, m]
        for i in range(k):
            for j in range(k):
                for m in range(n):
                    scratch[i, j, m] = 0.0
                for c in range(k):
                    for m in range(n):
                        scratch[i, j, m] += power[i, c, m] * power[c, j, m]
        power, scratch = scratch, power
    for m in range(modes.signal_weight.size):
        risk += modes.signal_weight[m] * row[readout, m] * row[readout, m]
    logarithm = OVERFLOW if risk != 0.0 else -OVERFLOW
    if 0.0 < risk < np.inf:
        logarithm = max(-OVERFLOW, min(math.log(risk / target), OVERFLOW))
    return logarithm


@compiled
def excesses(form: Form, points: Array, modes: Modes, steps: Integers, target: float) -> Array:
    """The excess at each of some points, shape (points, 2), after so many steps at each."""
    found = np.empty(points.shape[0])
    for index in range(found.size):
        found[index] = excess(form, points[index, 0], points[index, 1], modes, steps[index], target)
    return found


FILL, REFLECT, EXPAND, OUTSIDE, INSIDE = 0, 1, 2, 3, 4


@compiled
def least_excess(  # noqa: PLR0912, PLR0915 (one call of the risk, which is compiled once then)
    form: Form,
    simplex: Array,
    lowest: Array,
    highest: Array,
    modes: Modes,
    steps: int,
    target: float,
) -> float:
    """Nelder and Mead's least excess from a simplex on, which shrinks to where it is.

    As ``scipy.optimize.minimize(method="Nelder-Mead")`` has it, its twin.
    """
    d = simplex.shape[0] - 1
    values = np.empty(d + 1)
    middle, trial, mirrored = np.empty(2), np.empty(2), np.empty(2)
    mirrored_value = 0.0
    calls, vertex, phase = 0, 0, FILL
    while True:
        far = 0.0
        if phase == REFLECT:
            far = 1.0
        elif phase == EXPAND:
            far = 2.0
        elif phase == OUTSIDE:
            far = 0.5
        elif phase == INSIDE:
            far = -0.5
        for c in range(2):
            if phase == FILL:
                trial[c] = simplex[vertex, c]
            else:
                trial[c] = middle[c] + far * (middle[c] - simplex[d, c])
                trial[c] = min(max(trial[c], lowest[c]), highest[c])
        value = excess(form, trial[0], trial[1], modes, steps, target)
        calls += 1
        shrinking = False
        if phase == FILL:
            values[vertex] = value
            vertex += 1
            if vertex <= d:
                continue
        elif phase == REFLECT:
            mirrored_value = value
            for c in range(2):
                mirrored[c] = trial[c]
            if value < values[0]:
                phase = EXPAND
                continue
            if value >= values[d - 1]:
                phase = OUTSIDE if value < values[d] else INSIDE
                continue
        elif phase == EXPAND:
            if value >= mirrored_value:
                value = mirrored_value
                for c in range(2):
                    trial[c] = mirrored[c]
        elif phase == OUTSIDE:
            shrinking = value > mirrored_value
        else:
            shrinking = value >= values[d]
        if shrinking:
            for i in range(1, d + 1):
                for c in range(2):
                    simplex[i, c] = simplex[0, c] + 0.5 * (simplex[i, c] - simplex[0, c])
            vertex, phase = 1, FILL
            continue
        if phase != FILL:
            values[d] = value
            for c in range(2):
                simplex[d, c] = trial[c]
        for i in range(1, d + 1):  # sort by insertion
            for j in range(i, 0, -1):
                if values[j] < values[j - 1]:
                    values[j], values[j - 1] = values[j - 1], values[j]
                    for c in range(2):
                        other = simplex[j, c]
                        simplex[j, c] = simplex[j - 1, c]
                        simplex[j - 1, c] = other
        size = 0.0
        for i in range(1, d + 1):
            for c in range(2):
                size = max(size, abs(simplex[i, c] - simplex[0, c]))
        spread = values[d] - values[0]
        least = float(values[0])
        if size <= CLOSE and least > FAR * spread:
            return least
        if calls >= MOST_CALLS or (size <= SMALL and spread <= FLAT):
            return least
        for c in range(2):
            middle[c] = 0.0
            for i in range(d):
                middle[c] += simplex[i, c] / d
        phase = REFLECT
