"""Predicted excess risks against runs on scikit-learn's data sets: digits, diabetes, breast cancer.

Features are as they are, centred, or random cosines of the scaled ones. ``off`` is the largest
distance of measured / predicted from 1 that is beyond two standard errors. The model takes inputs
as Gaussian: what it misses are their fourth moments, which ``kurtosis`` tells, and which count
where the noise of gradients does: at small batches, near the limit of stability.
"""

from collections.abc import Iterator

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.problems.data import Examples

datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install it")
RUNS, LAST, POINTS = 100, 1000, 10
MOST_STEPS = 5000  # of a tuned run, which is followed on the data for four times as many
SIZES, SHARES = (1, 4, 16, 64), (0.1, 0.3, 0.8)


def cosines(features: np.ndarray, count: int = 300) -> np.ndarray:
    """Random Fourier features of a Gaussian kernel, Rahimi and Recht 2007."""
    rng = np.random.default_rng(0)
    scale = features.std(axis=0)
    x = (features - features.mean(axis=0)) / np.where(scale > 0.0, scale, 1.0)
    w = rng.standard_normal((x.shape[1], count)) / np.sqrt(x.shape[1])
    return np.sqrt(2.0 / count) * np.cos(x @ w + rng.uniform(0.0, 2.0 * np.pi, count))


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    for name in ("digits", "diabetes", "breast_cancer"):
        features, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
        targets = np.where(targets % 2, 1.0, -1.0) if name != "diabetes" else targets
        targets = (targets - targets.mean()) / targets.std() if name == "diabetes" else targets
        yield f"{name} raw", features, targets, False
        yield f"{name} centred", features, targets, True
        yield f"{name} cosines", cosines(features), targets, False


def kurtosis(examples: Examples) -> tuple[float, float]:
    """E x^4 / (3 h^2) along the first eigenvector, and E |x|^4 over its value for Gaussian inputs.

    Both are 1 for Gaussian inputs.
    """
    x, h = examples.inputs, examples.curvature
    first = np.mean(x[:, 0] ** 4) / (3.0 * h[0] ** 2)
    whole = np.mean(np.sum(x**2, axis=1) ** 2) / (np.sum(h) ** 2 + 2.0 * np.sum(h**2))
    return float(first), float(whole)


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case[0])
def test_runs_on_data_have_the_predicted_risk(
    case: tuple[str, np.ndarray, np.ndarray, bool],
) -> None:
    name, features, targets, center = case
    examples = Examples.of(features, targets, center=center)
    steps = np.unique(np.geomspace(1, LAST, POINTS).round().astype(int))
    first, whole = kurtosis(examples)
    print(f"\n{name}, {len(examples.curvature)} modes, kurtosis {first:.2f}, {whole:.2f}")
    print("   B  rate  " + "".join(f"{step:>7}" for step in steps) + "   2 s.e. at the end    off")
    for size in SIZES:
        problem = nqm.least_squares_from_data(features, targets, size, center=center)
        limit = nqm.stability_limit(problem, nqm.SGD(1.0))
        for share in SHARES:
            optimizer = nqm.SGD(share * limit)
            predicted = nqm.risk_curve(problem, optimizer, steps=steps)
            found = nqm.run_on_data(
                features, targets, optimizer, batch_size=size, steps=steps, n_runs=RUNS,
                center=center,
            )  # fmt: skip
            ratio, error = found.mean / predicted, found.standard_error / predicted
            off = np.max(np.maximum(np.abs(ratio - 1.0) - 2.0 * error, 0.0))
            cells = "".join(f"{each:7.3f}" for each in ratio)
            print(f"{size:4} {share:5}  {cells}   {2.0 * error[-1]:17.3f} {off:7.3f}")
            assert np.all(np.isfinite(ratio))


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case[0])
@pytest.mark.parametrize("size", [4, 16])
def test_tuning_by_prediction_is_tuning_on_the_data(
    case: tuple[str, np.ndarray, np.ndarray, bool], size: int
) -> None:
    """Steps that the predicted best rate takes on the data, against those of a grid of rates."""
    _, features, targets, center = case
    problem = nqm.least_squares_from_data(features, targets, size, center=center)
    for share in (0.15, 0.3, 0.5, 0.7, 0.8, 0.9):
        target = share * problem.spectrum.initial_risk
        best = nqm.tuned(problem, "sgd", target=target)
        if best.steps <= MOST_STEPS:
            break

    def steps_on_data(rate: float) -> float:
        found = nqm.run_on_data(
            features, targets, nqm.SGD(rate), batch_size=size, center=center,
            steps=range(4 * best.steps), n_runs=RUNS,
        )  # fmt: skip
        at = np.flatnonzero(found.mean <= target)
        return float(at[0]) if at.size else np.inf

    tuned = best.optimizer.learning_rate
    grid = {scale: steps_on_data(scale * tuned) for scale in 2.0 ** np.arange(-2.0, 2.01, 0.25)}
    fewest = min(grid.values())
    print(
        f"\n{case[0]}, B = {size}, {share} of the first risk: predicted {best.steps}, measured "
        f"{grid[1.0]:.0f}, fewest of a grid {fewest:.0f}, at {min(grid, key=grid.get):.2f} of the "
        "predicted rate"
    )
    assert grid[1.0] <= 1.1 * fewest
