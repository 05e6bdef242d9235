"""Least squares on data: the spectrum, the start and the label noise of features and targets.

| symbol | name | meaning |
|---|---|---|
| F | features | n examples in rows, d features in columns, centred and scaled where asked for |
| t | targets | n numbers |
| H | | F^T F / n, the covariance of the inputs about 0; its eigenvalues are the curvatures h |
| w* | | the least-squares solution of least norm |
| a | initial_mean | -w* in H's eigenbasis: training starts at w = 0, so theta_0 = -w*, not random |
| sigma^2 | label_noise | the mean of (t - F w*)^2 |

F^T F is summed over blocks of rows, and with fewer examples than features F F^T over blocks of
columns, which has the same eigenvalues but 0.

``LeastSquares`` takes the inputs as Gaussian of covariance H. The data's own are not, which is all
that its predictions of stochastic gradient descent on the data miss; H, w* and the residual are the
data's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.problems.least_squares import LeastSquares
from nqm_study.model.problems.spectrum import Spectrum

BLOCK = 2**22
"""Numbers of a block: 32 MB as float64."""

MOST_EXACT = 5000
"""With more examples and more features than this the smallest modes are put together."""

SMALLEST = 1e-12
"""Curvatures below this, in units of the largest, may be rounding errors; no run of a billion steps
would see such a mode move."""

ROUNDING = 1e-14
"""A residual below this, in units of the targets' mean square, is a rounding error."""

HELD = 2**27
"""Up to so many numbers are held as float64 where they are read hundreds of times: 1 GB."""

LEADING = 64
"""How many of the largest modes are then found one by one."""

SIGNAL_STEPS = 64
"""Steps of Lanczos' recursion from F^T t, whose nodes carry the rest of the signal."""

BULK_STEPS = 12
"""Steps of Lanczos' recursion from a random vector, whose nodes carry the rest of the trace."""

_EPS = float(np.finfo(np.float64).eps)
_SHOWN = 3
"""Classes that a refusal shows."""


@dataclass(frozen=True, eq=False)
class Regression:
    """What least squares on data comes to, and what was done to the data. Make one with ``of``.

    Attributes:
        spectrum: the modes, of the largest curvature first; their noise is the curvature. It is
            known by a hash of the data.
        label_noise: the mean squared residual of the least-squares solution, sigma^2, to nine
            digits (six where not ``exact``), so that it is one number on every machine; 0 below
            1e-14 of the targets' mean square, which is what rounding leaves of none.
        n_examples: n.
        n_features: d.
        rank: how many curvatures are above 0 but for rounding; the rest is no part of the problem,
            since no gradient moves there. Of more than ``MOST_EXACT`` it is not known, and this is
            the sum of multiplicities.
        center: whether the columns' means were subtracted from the features and the targets.
        scale: whether the features were divided by their standard deviations.
        constant: the columns that are the same in every example, counted from 0.
        classes: what was taken for -1 and for 1, where the targets were two classes.
        exact: whether each mode is by itself.
    """

    spectrum: Spectrum
    label_noise: float
    n_examples: int
    n_features: int
    rank: int
    center: bool
    scale: bool
    constant: tuple[int, ...]
    classes: tuple[str, str] | None
    exact: bool

    @classmethod
    def of(
        cls, features: Any, targets: Any, *, center: bool = False, scale: bool = False
    ) -> Regression:
        """The regression of targets on features, without an intercept.

        Nothing is copied but blocks, so that ``numpy.memmap`` will do, of any real type. It is read
        four times. Curvatures below 1e-12 of the largest are dropped, as those of columns that
        others make up are; what the targets have there counts as residual. With no more examples
        than features there is none, as a rule: label_noise is then 0.

        With more than 5,000 examples and features, in hundreds of readings: the 64 largest modes
        are exact; the rest of F^T t, and so of the signal, is in 64 nodes of Lanczos' recursion
        from it, with which gradient descent of 64 steps is exact; the rest of the trace is in at
        most 12 nodes of a random vector's, with multiplicities. The trace is exact and the
        Frobenius norm of H is estimated: an error of about 1 in the square root of the number of
        modes that make it up. What 64 steps of conjugate gradients on the rest cannot explain
        counts as label noise, so that label_noise is at least the residual's.

        Args:
            features: shape (n, d), numbers.
            targets: shape (n,) or (n, 1), numbers; or two classes of any kind, in three examples
                or more, which become -1 and 1 in sorting order.
            center: subtract each column's mean, and the targets', as an intercept does.
            scale: divide each column by its standard deviation, where that is not 0.

        Raises:
            ValueError: in one line with row, column and value of what is not finite, or with what
                is wrong with shape, type or classes; where all features are 0.
        """
        data, t, classes = _prepared(features, targets, center=center, scale=scale)
        rows, given = data.rows, t
        if center:
            t = t - np.mean(t)
        exact = min(rows.shape) <= MOST_EXACT
        spectrum, noise = (_decomposed if exact else _approximated)(data, t)
        done = f"{data.digest} {rows.shape} {bool(center)} {bool(scale)} {exact}"
        return cls(
            spectrum=spectrum.known_by(hashlib.sha256(done.encode() + given.tobytes()).hexdigest()),
            label_noise=_rounded(noise, float(t @ t) / len(t), 9 if exact else 6),
            n_examples=rows.shape[0],
            n_features=rows.shape[1],
            rank=round(float(spectrum.multiplicity.sum())),
            center=bool(center),
            scale=bool(scale),
            constant=data.constant,
            classes=classes,
            exact=exact,
        )

    def problem(self, batch_size: float = 16, label_noise: float | None = None) -> LeastSquares:
        """Least squares in one pass over examples such as these, at a batch size.

        Args:
            batch_size: examples per step.
            label_noise: in place of the residual's.
        """
        noise = self.label_noise if label_noise is None else label_noise
        return LeastSquares(self.spectrum, batch_size, noise)

    @property
    def report(self) -> str:
        """What was found and done, in one line."""
        parts = [
            f"{self.n_examples:,} examples of {self.n_features:,} features, "
            f"{'' if self.exact else 'about '}{self.rank:,} modes",
            *["centred"] * self.center,
            *["scaled"] * self.scale,
        ]
        if self.constant:
            parts.append(f"{len(self.constant)} of the features constant")
        if self.classes is not None:
            parts.append(f"{self.classes[0]} is -1 and {self.classes[1]} is 1")
        return f"{'; '.join(parts)}; label noise {self.label_noise:.6g}"

    def __str__(self) -> str:
        return self.report


def least_squares_from_data(
    features: Any,
    targets: Any,
    batch_size: float = 16,
    *,
    center: bool = False,
    scale: bool = False,
    label_noise: float | None = None,
) -> LeastSquares:
    """The problem of training a linear model on data by least squares, each example drawn afresh.

    Curvatures are the eigenvalues of F^T F / n; the weights start at 0, so that theta_0 is -w*, w*
    the least-squares solution; the label noise is the mean squared residual. The risk is the excess
    of half the mean squared error over that of w*. ``Regression.of`` tells what was found besides,
    and makes problems at several batch sizes from one reading.

    Args:
        features: shape (n, d), numbers.
        targets: shape (n,), numbers or two classes.
        batch_size: examples per step.
        center: subtract means, as ``Regression.of`` does.
        scale: divide by standard deviations, as ``Regression.of`` does.
        label_noise: in place of the mean squared residual.

    Raises:
        ValueError: as ``Regression.of`` and ``LeastSquares`` do.
    """
    found = Regression.of(features, targets, center=center, scale=scale)
    return found.problem(batch_size, label_noise)


@dataclass(frozen=True, eq=False)
class _Standardized:
    """The matrix (features - shift) / divisor, in blocks.

    Attributes:
        rows: the features as given, (n, d).
        shift, divisor: of each column; a divisor that is infinite makes it 0.
        constant: the columns that are the same in every row.
        centered: whether the shift is each column's mean.
        digest: a hash of the features, whatever their type.
    """

    rows: Any
    shift: Array
    divisor: Array
    constant: tuple[int, ...]
    centered: bool
    digest: str

    @classmethod
    def of(cls, rows: Any, *, center: bool, scale: bool) -> _Standardized:
        """Means and deviations in one reading; it refuses what is not finite."""
        n, d = rows.shape
        mean, squares = np.zeros(d), np.zeros(d)
        hashed = hashlib.sha256()
        with np.errstate(over="ignore", invalid="ignore"):
            for first, block in _blocks(rows):
                _require_finite(block, first)
                hashed.update(np.ascontiguousarray(block).data)
                size = len(block)
                own = block.mean(axis=0)
                step = own - mean  # Chan, Golub and LeVeque: moments of two sets put together
                squares += ((block - own) ** 2).sum(axis=0)
                squares += step**2 * (first * size / (first + size))
                mean += step * (size / (first + size))
            if not np.isfinite(np.sum(squares + n * mean**2)):
                raise ValueError("features: must have a finite sum of squares")
            # What n roundings make of a column that is constant.
            flat = squares <= n * (n * _EPS * mean) ** 2
            deviation = np.sqrt(squares / n)
        divisor = np.where(flat | (not scale), 1.0, deviation)
        if center:
            divisor[flat] = np.inf
        constant = tuple(map(int, np.flatnonzero(flat)))
        shift = mean if center else np.zeros(d)
        return cls(rows, shift, divisor, constant, center, hashed.hexdigest())

    def blocks(self) -> Iterator[Array]:
        """Its rows, many at a time."""
        for _, block in _blocks(self.rows):
            yield (block - self.shift) / self.divisor

    def columns(self) -> Iterator[Array]:
        """Its columns as rows, many at a time."""
        for first, block in _blocks(self.rows.T):
            part = slice(first, first + len(block))
            yield (block - self.shift[part, None]) / self.divisor[part, None]

    def forward(self, v: Array) -> Array:
        """The product with a vector."""
        w = v / self.divisor
        return np.concatenate([block @ w for _, block in _blocks(self.rows)]) - self.shift @ w

    def backward(self, u: Array) -> Array:
        """The product of the transpose with a vector."""
        total = np.zeros(self.rows.shape[1])
        for first, block in _blocks(self.rows):
            total += block.T @ u[first : first + len(block)]
        return (total - self.shift * np.sum(u)) / self.divisor

    def covariance(self, v: Array) -> Array:
        """The product H v."""
        return self.backward(self.forward(v)) / len(self.rows)


def _prepared(
    features: Any, targets: Any, *, center: bool, scale: bool
) -> tuple[_Standardized, Array, tuple[str, str] | None]:
    """The features, the targets as numbers but not centred, and what two classes are."""
    for name, switch in (("center", center), ("scale", scale)):
        if not isinstance(switch, (bool, np.bool_)):
            raise ValueError(f"{name}={switch!r}: must be True or False")
    rows = _matrix(features)
    t, classes = _numbers(targets, len(rows))
    with np.errstate(over="ignore"):
        if not np.isfinite(t @ t):
            raise ValueError("targets: must have a finite sum of squares")
    return _Standardized.of(rows, center=bool(center), scale=bool(scale)), t, classes


def _blocks(rows: Any) -> Iterator[tuple[int, Array]]:
    """Blocks of rows as float64, with the number of the first row."""
    n, d = rows.shape
    size = max(1, BLOCK // d)
    for first in range(0, n, size):
        yield first, np.asarray(rows[first : first + size]).astype(np.float64, copy=False)


def _decomposed(data: _Standardized, t: Array) -> tuple[Spectrum, float]:
    """The modes one by one, and the mean squared residual."""
    found = _turned(data, t)
    left = found.residuals
    return found.spectrum, float(left @ left) / len(t)


@dataclass(frozen=True, eq=False)
class Examples:
    """The data in H's eigenbasis, one mode a coordinate: what runs on the data are made of.

    Attributes:
        curvature: h, the largest first, shape (r,).
        start: theta_0 = -w*, shape (r,).
        residuals: t - F w*, shape (n,).
        inputs: the examples' coordinates, F V with the eigenvectors V, shape (n, r).
    """

    curvature: Array
    start: Array
    residuals: Array
    inputs: Array

    @classmethod
    def of(
        cls, features: Any, targets: Any, *, center: bool = False, scale: bool = False
    ) -> Examples:
        """The examples of features and targets, which are taken as ``Regression.of`` takes them.

        Raises:
            ValueError: as there, and for more than ``MOST_EXACT`` examples and features.
        """
        data, t, _ = _prepared(features, targets, center=center, scale=scale)
        n, d = data.rows.shape
        if min(n, d) > MOST_EXACT:
            raise ValueError(
                f"features has shape {(n, d)}: must have at most {MOST_EXACT:,} rows or "
                "columns, so that each mode is known"
            )
        return _turned(data, t - np.mean(t) if center else t, inputs=True)

    @property
    def spectrum(self) -> Spectrum:
        """The modes one by one."""
        return _modes(self.curvature, self.start)


def _turned(data: _Standardized, t: Array, *, inputs: bool = False) -> Examples:
    """The data in H's eigenbasis; without the inputs unless they are wanted."""
    n, d = data.rows.shape
    wide = n <= d
    # The smaller of F F^T and F^T F: they have the same eigenvalues but 0.
    s, u = np.linalg.eigh(_gram(data.columns() if wide else data.blocks()))
    kept = s > SMALLEST * s[-1]
    _require_modes(bool(np.any(kept)))
    s, u = s[kept][::-1], u[:, kept][:, ::-1]
    turned = np.zeros((n, 0))
    if wide:
        along = u.T @ t
        # With as many modes as free targets, each is fitted.
        left = t - u @ along if s.size < n - data.centered else np.zeros(n)
        if inputs:
            turned = u * np.sqrt(s)
    else:
        along = u.T @ data.backward(t) / np.sqrt(s)
        left = t - data.forward(u @ (along / np.sqrt(s)))
        if inputs:
            turned = np.concatenate([block @ u for block in data.blocks()])
    return Examples(s / n, -along / np.sqrt(s), left, turned)


def _gram(blocks: Iterator[Array]) -> Array:
    """The sum of each block's transpose times the block."""
    return sum(block.T @ block for block in blocks)  # type: ignore[return-value]  # none is empty


def _approximated(data: _Standardized, t: Array) -> tuple[Spectrum, float]:
    """The largest modes, and few in place of the others; the residual that they leave."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    n, d = data.rows.shape
    if data.rows.size <= HELD:
        data = replace(data, rows=data.rows.astype(np.float64, copy=False))
    start = data.backward(np.random.default_rng(0).standard_normal(n))
    _require_modes(bool(np.any(start)))
    operator = LinearOperator((d, d), matvec=lambda v: data.covariance(np.ravel(v)), dtype=float)
    h, vectors = eigsh(operator, k=LEADING, v0=start)
    kept = h > SMALLEST * h[-1]
    h, vectors = h[kept][::-1], vectors[:, kept][:, ::-1]
    pull = data.backward(t) / n  # H w*
    along = vectors.T @ pull
    trace = sum(float(np.sum(block**2)) for block in data.blocks()) / n
    least = SMALLEST * h[0]

    nodes, shares, basis = _lanczos(data.covariance, pull, vectors, SIGNAL_STEPS, least)
    rest = trace - float(np.sum(h) + np.sum(nodes))
    bulk, parts, _ = _lanczos(
        data.covariance, start, np.column_stack((vectors, basis)), BULK_STEPS, least
    )
    weight = max(rest, 0.0) / float(np.sum(parts)) if parts.size else 0.0
    curvature = np.concatenate((h, nodes, bulk))
    # A random vector F^T z has each mode in proportion to its curvature.
    multiplicity = np.concatenate((np.ones(h.size + nodes.size), weight * parts / bulk))
    mean = np.concatenate((-along / h, -np.sqrt(shares) / nodes, np.zeros(bulk.size)))
    order = np.argsort(-curvature, kind="stable")
    explained = float(np.sum(along**2 / h) + np.sum(shares / nodes))
    return (
        _modes(curvature[order], mean[order], multiplicity[order]),
        max(float(t @ t) / n - explained, 0.0),
    )


def _lanczos(
    product: Callable[[Array], Array], start: Array, apart: Array, steps: int, least: float
) -> tuple[Array, Array, Array]:
    """Lanczos' recursion apart from some directions: nodes, the start's square in each, the basis.

    It ends where nothing is left; nodes below ``least`` are rounding errors, and left out.
    """
    basis = apart
    first = q = _apart(start, basis)
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(steps):
        size = float(np.linalg.norm(q))
        if size <= (_EPS * float(np.linalg.norm(start)) if not diagonal else least):
            break
        beside.append(size)
        q = q / size
        basis = np.column_stack((basis, q))
        moved = product(q)
        diagonal.append(float(q @ moved))
        q = _apart(moved, basis)
    beside = beside[1:]
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    kept = nodes > least
    shares = float(first @ first) * vectors[0] ** 2
    return nodes[kept], shares[kept], basis[:, apart.shape[1] :]


def _apart(v: Array, basis: Array) -> Array:
    """What of a vector is orthogonal to a basis; twice is enough (Kahan and Parlett)."""
    for _ in range(2):
        v = v - basis @ (basis.T @ v)
    return v


def _rounded(noise: float, largest: float, digits: int) -> float:
    return 0.0 if noise <= ROUNDING * largest else float(f"{noise:.{digits}g}")


def _modes(h: Array, mean: Array, multiplicity: Array | None = None) -> Spectrum:
    m = np.ones(h.size) if multiplicity is None else multiplicity
    return Spectrum(h, multiplicity=m, initial_mean=mean, initial_variance=np.zeros(h.size))


def _require_modes(found: bool) -> None:
    if not found:
        raise ValueError("features: must have a column that is not 0, and that varies if centred")


def _matrix(features: Any) -> Any:
    """The features as a matrix of numbers, which is not copied where it is one."""
    rows = np.asarray(features)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"features has shape {rows.shape}: must be a row for each example and a column for "
            "each feature, at least one of each"
        )
    if rows.dtype.kind == "O":  # as of a table with columns of several types
        try:
            rows = rows.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"features: must be numbers, {error}") from None
    if rows.dtype.kind not in "fiub":
        raise ValueError(f"features: must be numbers, they are of type {rows.dtype}")
    return rows


def _require_finite(block: Array, first: int) -> None:
    finite = np.isfinite(block)
    if not np.all(finite):
        row, column = np.unravel_index(int(np.argmin(finite)), block.shape)
        raise ValueError(
            f"features[{first + row}, {column}]={block[row, column]:g}: must be finite; leave out "
            "the row or the column, or fill in a value"
        )


def _numbers(targets: Any, n: int) -> tuple[Array, tuple[str, str] | None]:
    """The targets as numbers, and what two classes are that were made -1 and 1."""
    t = np.asarray(targets)
    if t.ndim == 2 and t.shape[1] == 1:
        t = t[:, 0]
    if t.shape != (n,):
        raise ValueError(f"targets has shape {t.shape}: must be ({n},), one for each example")
    if t.dtype.kind == "O" and all(isinstance(each, (int, float, np.number)) for each in t):
        t = t.astype(np.float64)
    if t.dtype.kind not in "fiubUSO":
        raise ValueError(f"targets: must be numbers or two classes, they are of type {t.dtype}")
    if t.dtype.kind == "f":
        finite = np.isfinite(t)
        if not np.all(finite):
            row = int(np.argmin(finite))
            raise ValueError(f"targets[{row}]={t[row]:g}: must be finite; leave out the row")
    words = t.dtype.kind in "USO"
    if words:
        missing = [row for row, each in enumerate(t) if each is None or each != each]  # noqa: PLR0124 (nan)
        if missing:
            raise ValueError(
                f"targets[{missing[0]}]={t[missing[0]]}: is missing; leave out the row"
            )
        t = t.astype(str)
    values = np.unique(t)
    # Two numbers of two examples are no classes.
    if values.size == 2 and (n > 2 or t.dtype.kind in "Ub"):
        low, high = (str(each) for each in values)
        return np.where(t == values[1], 1.0, -1.0), (low, high)
    if words:
        shown = ", ".join(repr(str(each)) for each in values[:_SHOWN])
        more = ", ..." if values.size > _SHOWN else ""
        raise ValueError(
            f"targets: must be numbers or two classes, and are {values.size} ({shown}{more}); take "
            f"one against the rest, as targets == {str(values[0])!r}"
        )
    return t.astype(np.float64), None
