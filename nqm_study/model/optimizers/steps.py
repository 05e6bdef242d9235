"""The steps of an optimizer as arrays, which kernels of a simulation take."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.optimizers.adam import Adam
from nqm_study.model.optimizers.linear import LinearOptimizer


class Steps(NamedTuple):
    """A kernel's first arguments, and where a run of it begins.

    Attributes:
        constants: of a linear optimizer as many numbers as its state has components k, and the
            component whose square counts; of Adam beta1, beta2 and eps, and its weight decay, None
            for none. Kernels call them ``like`` and ``readout``, ``optimizer`` and ``decay``.
        of_steps: of a linear optimizer ``drift``, ``gain`` and ``point`` of each step, shapes
            (steps, k, k), (steps, k) and (steps, k); of Adam ``plain``, ``rates`` and ``scales``:
            lr, lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t).
        start: the state at theta_0 = 1; theta, m and v of Adam and, if weights decay, theta_0.
    """

    constants: tuple[object, object]
    of_steps: list[Array]
    start: Array

    @classmethod
    def of(cls, optimizer: LinearOptimizer | Adam, rates: Array) -> Steps:
        """The steps at some rates."""
        if isinstance(optimizer, LinearOptimizer):
            made = optimizer.rule(np.arange(rates.size), rates)
            of_steps = [
                np.ascontiguousarray(np.broadcast_to(each, (rates.size, *each.shape[1:])))
                for each in (made.drift, made.gain, made.point)
            ]
            return cls(((0.0,) * made.start.size, made.component), of_steps, made.start)
        # Floats, always: a kernel is compiled once for each combination of types it is called with.
        decays = float(optimizer.beta1), float(optimizer.beta2), float(optimizer.eps)
        t = np.arange(1.0, rates.size + 1.0)
        of_steps = [rates, rates / (1.0 - decays[0] ** t), 1.0 / np.sqrt(1.0 - decays[1] ** t)]
        decay = float(optimizer.weight_decay) or None
        start = np.array([1.0, 0.0, 0.0, *([] if decay is None else [1.0])])
        return cls((decays, decay), of_steps, start)
