"""All steps of a run by one rule of an optimizer whose noise falls with the loss.

Short runs are stepped through; long ones take blocks of steps, whose tables are made here: see
block_kernel.py, also for the symbols.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from nqm_study.model.linear.block_kernel import Tables, reduced, run_blocks
from nqm_study.model.linear.coupled import Coupled
from nqm_study.model.linear.coupled_kernel import write_step
from nqm_study.model.linear.schedule_kernel import DEAD, Rule
from nqm_study.model.numerics.arrays import Array, Integers

SINGLE, DOUBLINGS = 2**13, 6
"""The longest run whose steps are taken one by one, and those of a block in longer ones, 2^6: its
tables take as long as some thousand steps."""

CHEAPER = 8
"""How many times less a step takes in blocks."""


@dataclass(frozen=True, eq=False)
class OneRule:
    """The run of some nodes by one rule.

    Attributes:
        nodes: that move together, as all of them count in the risk.
        rule: of every step.
    """

    nodes: Coupled
    rule: Rule

    @property
    def at_rest(self) -> OneRule:
        """The same without the signal: a run that starts with no loss."""
        return OneRule(self.nodes.at_rest, self.rule)

    def risks(self, steps: Integers, low: float = -math.inf, high: float = math.inf) -> Array:
        """The risk after some ascending numbers of steps.

        Those of a long run end soon after one of at most ``low`` or above ``high``, or where the
        loss grows beyond all numbers.
        """
        found, count = self._run(steps, low, high, np.empty(0))
        return found[:count]

    def parts(self, steps: Integers) -> tuple[Array, Array]:
        """The parts of signal and noise in the risk there; NaN where it grows beyond numbers."""
        signal = np.empty(steps.size)
        whole, _ = self._run(steps, -math.inf, math.inf, signal)
        return signal, whole - signal

    def _run(self, steps: Integers, low: float, high: float, signal: Array) -> tuple[Array, int]:
        """The risks, and how many there are; and their signal's part, where it has room."""
        last, nodes = int(steps[-1]), self.nodes
        if last <= SINGLE:
            parts = nodes.parts(self.rule, np.ones(last, dtype=np.int64), steps)
            signal[:] = parts[0][: signal.size]
            return np.asarray(sum(parts)), steps.size
        found = np.empty(steps.size)
        count = run_blocks(
            self._tables, nodes.start, nodes.readout, nodes.weight, nodes.noisy, nodes.steady,
            steps, low, high, found, signal,
        )  # fmt: skip
        return found, count

    @functools.cached_property
    def _tables(self) -> Tables:
        nodes, size = self.nodes, 2**DOUBLINGS
        curvature, place = np.unique(nodes.curvature, return_inverse=True)
        noisy = nodes.noisy > 0.0
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            k = nodes.start.size
            q = k * (k + 1) // 2
            into, point, matrix = np.empty(q), np.empty(q), np.empty((q, q, curvature.size))
            write_step(self.rule, nodes.own, curvature, into, point, matrix)
            step, reading = np.ascontiguousarray(matrix.transpose(2, 0, 1)), np.zeros(q)
            reading[nodes.readout * (nodes.readout + 3) // 2] = 1.0
            first = (point,) if np.array_equal(point, reading) else (point, reading)
            responses = [_powers(step.transpose(0, 2, 1), each)[0] for each in first]
            driven, block = _powers(step, into)
            weight = np.bincount(place[noisy], nodes.weight[noisy], curvature.size)
            kernels = [np.einsum("n,nij,i->j", weight, each, into) for each in responses]
            basis, shares, left = reduced(
                np.concatenate(responses, axis=2).reshape(-1, len(first) * size)
            )
            # The f of each u, and of v = 1; and the risks.
            f = np.concatenate((2.0 * basis[:, :size], np.ones((1, size))))
            risks = np.concatenate((basis[:, -size:], np.zeros((1, size))))
            for i in range(size - 1):
                f[:, i + 1 :] += np.multiply.outer(f[:, i], 2.0 * kernels[0][: size - 1 - i])
                risks[:, i + 1 :] += np.multiply.outer(f[:, i], kernels[-1][: size - 1 - i])
            ends = np.einsum("rj,nij->rin", f, driven[:, :, ::-1])
            # An error of y grows as much as v = 1 does, at most: all k are positive.
            spoilt = f[-1, -1] * nodes.weight * left.reshape(step.shape[:2]).T[:, place]
            view = shares.reshape(len(basis), *step.shape[:2]).transpose(0, 2, 1)
        return Tables(
            *(
                np.ascontiguousarray(each)
                for each in (
                    nodes.weight * view[:, :, place], spoilt, basis[:, -size:], risks,
                    ends[:, :, place[noisy]], step[place].transpose(1, 2, 0),
                    block[place].transpose(1, 2, 0), into, point,
                )
            )
        )  # fmt: skip


def _powers(matrix: Array, first: Array) -> tuple[Array, Array]:
    """M^j first at each j < 2^DOUBLINGS, shape (n, q, j); and the next power of M."""
    found, power = np.broadcast_to(first[:, None], (*matrix.shape[:2], 1)), matrix
    for _ in range(DOUBLINGS):
        found, power = np.concatenate((found, power @ found), axis=2), power @ power
        # Numbers next to 0 take the processor ten times as long.
        for each in (found, power):
            each[np.abs(each) < DEAD] = 0.0
    return found, power
