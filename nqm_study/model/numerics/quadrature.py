"""Gauss rules, several at a time, from their recurrences or from discrete measures."""

from __future__ import annotations

import numpy as np

from nqm_study.model.numerics.arrays import Array, Integers


def rules_of_recurrences(alpha: Array | float, beta: Array, mass: Array) -> tuple[Array, Array]:
    """Nodes and weights of Gauss rules, by the eigenvalues of their Jacobi matrices.

    Args:
        alpha: the diagonals, shape (rules, n), or one number.
        beta: the squares of what stands beside them, shape (rules, n - 1).
        mass: the sum of each rule's weights.

    Returns:
        Two arrays of shape (rules, n), the nodes ascending.

    Source: Golub and Welsch 1969.
    """
    index = np.arange(beta.shape[1] + 1)
    jacobi = np.zeros((len(beta), index.size, index.size))
    jacobi[:, index, index] = alpha
    jacobi[:, index[1:], index[:-1]] = np.sqrt(beta)  # eigh reads the lower half
    nodes, vectors = np.linalg.eigh(jacobi)
    return nodes, mass[:, None] * vectors[:, 0, :] ** 2


def rules_of_measures(
    position: Array, weight: Array, size: Integers, order: int
) -> tuple[Array, Array]:
    """The Gauss rules of adjacent discrete measures, which are exact to degree 2 order - 1.

    Args:
        position: of all points, those of each measure in order, ascending or descending.
        weight: of each point, > 0.
        size: how many points each measure has, at least ``order``.
        order: nodes of each rule.

    Returns:
        Nodes and weights of shape (measures, order), the nodes ascending.

    Source: the discretised Stieltjes procedure (Gautschi 2004, Orthogonal Polynomials, 2.2.4).
    """
    start = np.concatenate(([0], np.cumsum(size)[:-1]))

    def summed(values: Array) -> Array:
        return np.asarray(np.add.reduceat(values, start))

    # Work on [-1, 1] within each measure: the recurrence is then well scaled whatever the width.
    first, last = position[start], position[start + size - 1]
    centre, half = 0.5 * (first + last), 0.5 * np.abs(first - last)
    s = (position - np.repeat(centre, size)) / np.repeat(half, size)
    mass = summed(weight)
    # Powers of two keep the bits, and the smallest weights from losing theirs.
    _, exponent = np.frexp(np.maximum.reduceat(weight, start))
    weight = np.ldexp(weight, -np.repeat(exponent, size))
    alpha, beta = np.empty((size.size, order)), np.zeros((size.size, order))
    before, now = np.zeros_like(s), np.ones_like(s)
    norm = summed(weight)
    for k in range(order):
        alpha[:, k] = summed(weight * s * now**2) / norm
        after = (s - np.repeat(alpha[:, k], size)) * now - np.repeat(beta[:, k], size) * before
        before, now = now, after
        norm_before, norm = norm, summed(weight * now**2)
        if k + 1 < order:
            beta[:, k + 1] = norm / norm_before
    nodes, weights = rules_of_recurrences(alpha, beta[:, 1:], mass)
    return centre[:, None] + half[:, None] * nodes, weights
