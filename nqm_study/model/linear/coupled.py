"""The modes of a problem whose noise falls with the loss, as its kernels take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nqm_study.model.linear import coupled_kernel
from nqm_study.model.linear.modes import Modes
from nqm_study.model.linear.schedule_kernel import BLOCK, Rule
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.problems.problem import Problem

COST = 1
"""Work of a pair of a block of modes in a step, beside that of a component: see ``Runs.work``."""


class Coupled(NamedTuple):
    """The nodes of the signal and then those of the noise, which move together.

    Attributes:
        curvature: P h of each node, P the preconditioner.
        start: z_0 of every mode at theta_0 = 1.
        readout: the component that counts.
        weight: of each node in the risk; the noise's with P^2 c / B.
        seen: what they count in what is seen: in the risk, or times a power of their curvatures.
        noisy: 1 at the nodes of the noise, 0 at those of the signal.
        own: 1 / B.
        steady: what the noise is where the loss is 0, in units of c / B.
    """

    curvature: Array
    start: Array
    readout: int
    weight: Array
    seen: Array
    noisy: Array
    own: float
    steady: float

    @classmethod
    def of(
        cls, problem: Problem, modes: Modes, start: Array, readout: int, ratio: Array
    ) -> Coupled:
        """The nodes of a compressed problem, with the start and the readout of a rule.

        The ratio multiplies what a node counts in what is seen; its order is that of the modes.
        """
        n_signal, n_noise = modes.signal_weight.size, modes.noise_weight.size
        first = modes.first_noise
        noisy = modes.curvature[first : first + n_noise]
        weight = np.concatenate((modes.signal_weight, modes.noise_weight))
        return cls(
            curvature=np.concatenate((modes.curvature[:n_signal], noisy)),
            start=start,
            readout=readout,
            weight=weight,
            seen=weight * np.concatenate((ratio[:n_signal], ratio[first : first + n_noise])),
            noisy=np.repeat((0.0, 1.0), (n_signal, n_noise)),
            own=1.0 / problem.batch_size,
            steady=problem.steady_noise,
        )

    @property
    def work(self) -> int:
        """What a step costs: see ``Runs.work``."""
        pairs = self.start.size * (self.start.size + 1) // 2
        return -(-COST * self.weight.size * pairs**2 // BLOCK)

    @property
    def at_rest(self) -> Coupled:
        """The same without the signal: a run that starts with no loss."""
        kept = self.noisy > 0.0
        return self._replace(
            curvature=self.curvature[kept],
            weight=self.weight[kept],
            seen=self.seen[kept],
            noisy=self.noisy[kept],
        )

    def parts(self, rule: Rule, lengths: Integers, marks: Integers) -> tuple[Array, Array]:
        """The parts of the risk of signal and noise after the stretches that are marked."""
        signal, noise = np.empty(marks.size), np.empty(marks.size)
        coupled_kernel.run_coupled(rule, 0, *self, lengths, marks, signal, noise)
        return signal, noise

    def sensitivities(self, rule: Rule, steps: int) -> tuple[float, Array]:
        """The last risk of a run of single steps, and how fast it grows with each one's share."""
        found = np.empty(steps)
        risk = coupled_kernel.sensitivities(
            rule, self.curvature, self.start, self.readout, self.weight, self.noisy, self.own,
            self.steady, found,
        )  # fmt: skip
        return risk, found

    def first_horizon(
        self, rule: Rule, horizons: Integers, enough: float, most_work: int
    ) -> tuple[int, int]:
        """The first of some ascending runs whose last risk is at most ``enough``: its index, or -1.

        ``rule`` has all steps of the first run, then those of the second, and so on. It ends, as if
        it had found a run, where it has done ``most_work``.

        Returns:
            The index, and the work done.
        """
        lengths, signal, noise = np.ones(horizons[-1], dtype=np.int64), np.empty(1), np.empty(1)
        offset = 0
        for index, horizon in enumerate(horizons.tolist()):
            coupled_kernel.run_coupled(
                rule, offset, *self, lengths[:horizon], horizons[index : index + 1], signal, noise
            )
            offset += horizon
            if signal[0] + noise[0] <= enough or offset * self.work > most_work:
                return index, offset * self.work
        return -1, offset * self.work
