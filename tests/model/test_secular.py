"""Eigenvalues of a diagonal plus a square: against LAPACK's, and by the sums they must have."""

import numpy as np
import pytest

from nqm_study.model.numerics.secular import eigenvalues

RNG = np.random.default_rng(0)


def close_pairs(n: int) -> np.ndarray:
    d = np.sort(RNG.random(n))
    return np.unique(np.concatenate((d, np.nextafter(d, 2.0))))


CASES = {
    "even": (np.linspace(0.1, 0.9, 40), np.full(40, 0.02)),
    "random": (np.sort(RNG.random(200)), RNG.random(200)),
    "near 1": (np.unique(1.0 - 10.0 ** RNG.uniform(-15.0, 0.0, 60)), None),
    "neighbouring floats": (close_pairs(30), None),
    "next to each other": (0.5 + np.arange(50) * 2.0**-53, None),
    "below 0": (np.sort(-RNG.random(30)), RNG.random(30)),
    "tiny squares": (np.sort(RNG.random(30)), np.full(30, 1e-30)),
    "tiniest squares": (np.sort(RNG.random(30)), np.full(30, 1e-300)),
    "huge squares": (np.sort(RNG.random(30)), np.full(30, 1e30)),
    "hugest squares": (np.sort(RNG.random(3)), np.full(3, 1e300)),
    "all magnitudes": (np.sort(RNG.random(50)), 10.0 ** RNG.uniform(-200.0, 3.0, 50)),
    "all small": (np.sort(10.0 ** RNG.uniform(-300.0, 0.0, 50)), None),
}


@pytest.mark.parametrize("case", CASES)
def test_roots_and_shares_have_the_sums_of_the_matrix(case: str) -> None:
    diagonal, squares = CASES[case]
    squares = 10.0 ** RNG.uniform(-12.0, 0.0, diagonal.size) if squares is None else squares
    found, shares = eigenvalues(diagonal, squares)
    total = squares.sum()
    assert np.all(found >= diagonal)
    assert np.all(found[:-1] <= diagonal[1:])
    assert np.all(shares >= 0.0)
    assert shares.sum() == pytest.approx(total, rel=1e-12)  # z.z
    if total < 1e150:  # z.M z; digits that d and its own sum leave
        expected = squares @ diagonal + total**2
        assert abs(shares @ found - expected) <= 1e-12 * (squares @ np.abs(diagonal) + total**2)
    assert found.sum() == pytest.approx(diagonal.sum() + total, rel=1e-12)  # the trace


@pytest.mark.parametrize("case", [case for case in CASES if "est squares" not in case])
def test_roots_and_shares_are_those_of_a_dense_matrix(case: str) -> None:
    diagonal, squares = CASES[case]
    squares = 10.0 ** RNG.uniform(-12.0, 0.0, diagonal.size) if squares is None else squares
    found, shares = eigenvalues(diagonal, squares)
    z = np.sqrt(squares)
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.outer(z, z))
    np.testing.assert_allclose(found, values, rtol=1e-13, atol=1e-14 * np.abs(values).max())
    # Vectors of neighbours turn into each other where these are close: their sums do not.
    theirs = (z @ vectors) ** 2
    np.testing.assert_allclose(np.cumsum(shares)[-1], np.cumsum(theirs)[-1], rtol=1e-12)
    if case in {"even", "random", "below 0"}:
        np.testing.assert_allclose(shares, theirs, rtol=1e-7, atol=1e-12 * squares.sum())


def test_one_and_no_numbers() -> None:
    assert [part.size for part in eigenvalues(np.zeros(0), np.zeros(0))] == [0, 0]
    found, shares = eigenvalues(np.array([0.5]), np.array([0.25]))
    assert (found.tolist(), shares.tolist()) == ([0.75], [0.25])


def test_gaps_below_a_root_have_all_digits() -> None:
    # To first order e - d is z^2: far below the last digit of d.
    diagonal, squares = np.array([0.25, 0.5, 1.0]), np.array([1e-40, 1e-60, 1e-200])
    found, shares = eigenvalues(diagonal, squares)
    assert np.array_equal(found, diagonal)
    np.testing.assert_allclose(shares, squares, rtol=1e-14)
