"""Linear optimizers: a state z for each mode, and one rule for it.

With the gradient g = h (point . z) + e of a mode of curvature h, e a noise of variance c / B, a
step is

    z' = drift z + gain g,      z_0 = start theta_0,      risk = 1/2 sum m h E (readout . z)^2.

No curvature stands in drift, gain and point, so that one rule serves every problem and schedule. A
mode's state is then moved by the matrix A = drift + gain (point h)^T and the noise gain e.

| symbol | name in code | meaning |
|---|---|---|
| h | curvature | of n modes |
| k | | components of a state |
| A | matrix | shape (k, k, n) |
| r | rate | the learning rate times the schedule's factor |
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array, Integers

if TYPE_CHECKING:
    from nqm_study.model.problems.problem import Problem

LATE = 10**9
"""A step at which coefficients that change with it have nearly come to rest."""

_FLOAT = np.dtype(np.float64)

_STEEP = 2.0**60
"""Times 1 / h up to which the limit of stability is looked for."""


@dataclass(frozen=True, eq=False)
class Update:
    """The coefficients of z' = drift z + gain (h (point . z) + e) at T steps.

    Args:
        drift: shape (T, k, k), or (1, k, k) where it is the same at all steps.
        gain, point: shape (T, k) or (1, k).
        start: z_0 for theta_0 = 1, shape (k,).
        readout: the risk is that of readout . z, shape (k,).

    Raises:
        ValueError: naming an array whose shape is another one.
    """

    drift: Array
    gain: Array
    point: Array
    start: Array
    readout: Array

    def __post_init__(self) -> None:
        for name, part in vars(self).items():
            if type(part) is not np.ndarray or part.dtype is not _FLOAT:
                object.__setattr__(self, name, np.asarray(part, dtype=np.float64))
        k, lengths = self.start.shape, {1}
        if len(k) != 1 or self.readout.shape != k:
            raise ValueError(
                f"start has shape {k} and readout {self.readout.shape}: must be (k,), k components"
            )
        for name, part, shape in (
            ("drift", self.drift, k + k), ("gain", self.gain, k), ("point", self.point, k),
        ):  # fmt: skip
            found = part.shape
            lengths.update(found[:1])
            if found[1:] != shape or not found or len(lengths) > 2:
                raise ValueError(f"{name} has shape {found}: must be (steps or 1, {str(shape)[1:]}")

    @property
    def component(self) -> int:
        """The component that the readout is, after ``settled``."""
        return int(self.readout.tolist().index(1.0))

    def matrices(self, curvature: Array) -> Array:
        """A = drift + gain (point h)^T of each mode, shape (n, k, k).

        Args:
            curvature: h times the preconditioner there, shape (n,); of each step, if there are n.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # an infinite step diverges
            slope = self.gain[:, :, None] * self.point[:, None, :]
            slope = np.where(self.point[:, None, :] == 0.0, 0.0, slope)  # also of infinity
            return np.asarray(self.drift + slope * curvature[:, None, None])


@dataclass(frozen=True, eq=False)
class Transition:
    """The affine map z' = A z + b e of every mode's state; e is a noise of variance c / B.

    Attributes:
        matrix: A, shape (k, k, n): k state components, n modes.
        noise: b, shape (k, n).
        start: z_0 for theta_0 = 1, shape (k,).
        readout: the risk is that of readout . z, shape (k,).
    """

    matrix: Array
    noise: Array
    start: Array
    readout: Array

    @property
    def component(self) -> int:
        """The component that the readout is, where it is one."""
        return int(self.readout.tolist().index(1.0))

    @property
    def rows(self) -> Update:
        """The same as a rule of as many rows as modes, which moves them without their gradients."""
        drift, gain = np.moveaxis(self.matrix, 2, 0), self.noise.T
        return Update(drift, gain, np.zeros((1, self.start.size)), self.start, self.readout)

    @classmethod
    def of(cls, rows: Update) -> Transition:
        """The transition of such a rule."""
        matrix = np.ascontiguousarray(np.moveaxis(rows.drift, 0, 2))
        return cls(matrix, np.ascontiguousarray(rows.gain.T), rows.start, rows.readout)


class LinearOptimizer(ABC):
    """An optimizer whose state is moved linearly: a frozen dataclass with ``learning_rate``.

    A subclass has ``update``. The other methods follow from it, and are overridden only where they
    have a closed form. Where the matrix itself needs the curvature, as in an implicit step, it has
    ``transition`` instead, and is run at a constant rate only.
    """

    learning_rate: float
    constant: ClassVar[bool] = True
    """Whether drift, gain and point are the same at each step, but for the rate."""

    @property
    def knots(self) -> tuple[int, ...]:
        """Ascending steps s at which coefficients that change begin anew or jump.

        After 0, and after each of these, they are taken to be smooth in log(t - s), as powers of
        1 / (t - s) are. Runs of up to some 10^4 steps are stepped through, whatever they are. In a
        longer one that jumps elsewhere, the error that ``Crossing.error`` tells is as large as what
        the jump does; what repeats itself within some steps may be missed, error and all.
        """
        return ()

    def update(self, step: Integers, rate: Array) -> Update:  # noqa: ARG002 (it is overridden)
        """The rule at some steps.

        Args:
            step: numbers of steps, from 0 on, shape (T,).
            rate: ``learning_rate`` times the schedule's factor there, shape (T,).
        """
        raise ValueError(
            f"{self!r}: must have update() to be run under a schedule or simulated; "
            "transition() serves constant rates"
        )

    @classmethod
    def coordinates(
        cls,
        problem: Problem,  # noqa: ARG003 (it is overridden)
        target: float,  # noqa: ARG003
        given: Mapping[str, Any],  # noqa: ARG003
    ) -> Mapping[str, tuple[float, float, str]]:
        """Ranges that fit a problem, of hyperparameters whose bounds a study leaves open.

        Args:
            problem: spectrum and batch size.
            target: expected loss to reach.
            given: the hyperparameters that are held at a value.

        Returns:
            (low, high, scale) by name, scale as in the options. What is missing is fitted by the
            rule: the limit of stability, and the pace of slow modes.
        """
        return {}

    @classmethod
    def first_guess(
        cls,
        problem: Problem,  # noqa: ARG003 (it is overridden)
        target: float,  # noqa: ARG003
        given: Mapping[str, Any],  # noqa: ARG003
    ) -> Mapping[str, float]:
        """Values that a study begins with, by name; what is missing is guessed from the rule.

        The arguments are those of ``coordinates``.
        """
        return {}

    @property
    def by_rule(self) -> bool:
        """Whether ``update`` is what it does; else ``transition`` is."""
        return type(self).transition is LinearOptimizer.transition

    def rule(self, step: Integers, rate: Array) -> Update:
        """``update`` in components of which one is the readout.

        Raises:
            ValueError: where ``transition`` is what the optimizer does.
        """
        update = type(self).update if self.by_rule else LinearOptimizer.update
        made = update(self, step, rate)
        lengths = {len(made.drift), len(made.gain), len(made.point)} - {1, step.size}
        if lengths:
            raise ValueError(
                f"{type(self).__name__}: update() gave {lengths.pop()} rows for {step.size} steps"
            )
        return settled(made)

    def rows(self, curvature: Array) -> Update:
        """What it does at its own rate: its rule, or that of each mode, where there is none."""
        return self._own if self.by_rule else settled(self.transition(curvature).rows)

    @functools.cached_property
    def _own(self) -> Update:
        return self.rule(np.zeros(1, dtype=np.int64), np.array([float(self.learning_rate)]))

    def preconditioner(self, curvature: Array) -> Array:
        """What gradients are multiplied by at each curvature."""
        return np.ones(curvature.shape)

    def with_rate(self, learning_rate: float) -> Self:
        """The same optimizer with another learning rate."""
        changed: Any = self
        return dataclasses.replace(changed, learning_rate=learning_rate)  # type: ignore[no-any-return]

    def transition(self, curvature: Array, step: int = 0) -> Transition:
        """The transition at each curvature, at the optimizer's own rate."""
        made = self.update(np.array([step]), np.array([float(self.learning_rate)]))
        scale = self.preconditioner(curvature)
        with np.errstate(over="ignore"):
            noise = made.gain * scale[:, None]
        matrices = made.matrices(scale * curvature)
        return Transition.of(Update(matrices, noise, 0.0 * made.point, made.start, made.readout))

    def is_stable(self, curvature: Array) -> bool:
        """Whether the transition's spectral radius is below one late, at every curvature.

        Components that never move, such as a theta_0 that others are pulled to, do not count.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            made = self.transition(curvature, LATE)
        matrix = np.moveaxis(made.matrix, 2, 0)
        if not np.all(np.isfinite(matrix)):
            return False
        still = np.all(matrix == np.eye(matrix.shape[1]), axis=(0, 2)) & ~made.noise.any(axis=1)
        return bool(np.all(np.abs(np.linalg.eigvals(matrix[:, ~still][:, :, ~still])) < 1.0))

    def stability_limit(self, curvature: float) -> float:
        """The learning rate up to which, not included, a mode is stable; whatever its own rate."""

        def stable(rate: float) -> bool:
            return self.with_rate(rate).is_stable(np.array([curvature]))

        low, high = 0.0, 1.0 / curvature
        while stable(high):
            low, high = high, 2.0 * high
            if high * curvature > _STEEP:
                return float("inf")
        while low == 0.0 and high * curvature > 1.0 / _STEEP:
            if stable(0.5 * high):
                low = 0.5 * high
            else:
                high *= 0.5
        while (middle := 0.5 * (low + high)) not in (low, high):
            low, high = (middle, high) if stable(middle) else (low, middle)
        return high

    def swing(self, curvature: Array, learning_rate: float | Array) -> Array:
        """Steps from one swing of a mode's square to the next, at each curvature; inf: it does not.

        Eigenvalues at an angle phi swing with the period pi / phi.
        """
        rates = np.atleast_1d(np.asarray(learning_rate, dtype=np.float64))
        made = self.rule(np.full(rates.size, LATE), rates)
        matrix = made.matrices(self.preconditioner(curvature) * curvature)
        finite: npt.NDArray[np.bool_] = np.all(np.isfinite(matrix), axis=(1, 2))
        values = np.linalg.eigvals(np.where(finite[:, None, None], matrix, 0.0))
        angles = np.where(np.abs(values) > 0.0, np.abs(np.angle(values)), 0.0)
        angle = np.max(angles, axis=1)
        with np.errstate(divide="ignore"):
            found: Array = np.where(finite, np.maximum(np.pi / angle, 2.0), 2.0)
        return found


def settled(update: Update) -> Update:
    """The same in components of which one is the readout."""
    readout = update.readout
    numbers = readout.tolist()
    if numbers.count(0.0) == len(numbers) - 1 and 1.0 in numbers:
        return update
    place = int(np.argmax(np.abs(readout)))
    if readout[place] == 0.0:
        raise ValueError("readout: must have a number other than 0")
    change = np.eye(readout.size)
    change[place] = readout
    back = np.linalg.inv(change)
    return Update(
        change @ update.drift @ back, update.gain @ change.T, update.point @ back,
        change @ update.start, np.eye(readout.size)[place],
    )  # fmt: skip
