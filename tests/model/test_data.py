"""Least squares on data against NumPy's solver, training on the data, and cases made by hand."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.problems import data

RNG = np.random.default_rng(7)
FEATURES = RNG.standard_normal((60, 6)) @ RNG.standard_normal((6, 6)) + 2.0
TARGETS = FEATURES @ RNG.standard_normal(6) + RNG.standard_normal(60) + 5.0


def excess_of_descent(features: Any, targets: Any, rate: float, steps: int) -> float:
    """Half the mean squared error after steps of gradient descent from 0, above its least value."""
    w = np.zeros(features.shape[1])
    for _ in range(steps):
        w -= rate * features.T @ (features @ w - targets) / len(features)
    best = np.linalg.lstsq(features, targets, rcond=None)[0]
    losses = [0.5 * np.mean((features @ each - targets) ** 2) for each in (w, best)]
    return float(losses[0] - losses[1])


def risk(spectrum: nqm.Spectrum, rate: float, steps: int) -> float:
    left = (1.0 - rate * spectrum.curvature) ** (2 * steps)
    return float(np.sum(spectrum.weight * spectrum.second_moment * left))


def standardized(features: Any, targets: Any, center: bool, scale: bool) -> tuple[Any, Any]:
    deviation = features.std(axis=0) if scale else 1.0
    if center:
        features, targets = features - features.mean(axis=0), targets - targets.mean()
    return features / deviation, targets


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("n", [4, 60])
def test_gradient_descent_on_the_data_has_the_risk_of_the_spectrum(
    n: int, center: bool, scale: bool
) -> None:
    problem = nqm.least_squares_from_data(FEATURES[:n], TARGETS[:n], 8, center=center, scale=scale)
    f, t = standardized(FEATURES[:n], TARGETS[:n], center, scale)
    rate = 0.9 / problem.spectrum.curvature[0]
    for steps in (0, 1, 7):
        expected = excess_of_descent(f, t, rate, steps)
        assert risk(problem.spectrum, rate, steps) == pytest.approx(expected, rel=1e-9)
    residual = t - f @ np.linalg.lstsq(f, t, rcond=None)[0]
    assert problem.label_noise == pytest.approx(np.mean(residual**2), rel=1e-8, abs=1e-20)
    assert np.sum(problem.spectrum.curvature) == pytest.approx(np.trace(f.T @ f) / n)
    assert problem.batch_size == 8
    assert np.array_equal(problem.spectrum.noise, problem.spectrum.curvature)
    assert not problem.spectrum.initial_variance.any()


def test_with_no_more_examples_than_features_there_is_no_residual() -> None:
    for center, rank in ((False, 4), (True, 3)):
        found = nqm.Regression.of(FEATURES[:4], TARGETS[:4], center=center)
        assert (found.rank, found.label_noise) == (rank, 0.0)
    alike = np.concatenate((FEATURES[:2], FEATURES[:2]))
    found = nqm.Regression.of(alike, [0.0, 1.0, 4.0, 1.0])
    assert found.rank == 2
    assert found.label_noise == pytest.approx(2.0), "two examples contradict: 0 and 4"


@pytest.mark.parametrize("n", [5, 60])
def test_blocks_change_nothing(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nqm.Regression.of(FEATURES[:n], TARGETS[:n], center=True, scale=True)
    for block in (1, 20, 50):
        monkeypatch.setattr(data, "BLOCK", block)
        found = nqm.Regression.of(FEATURES[:n], TARGETS[:n], center=True, scale=True)
        np.testing.assert_allclose(found.spectrum.curvature, whole.spectrum.curvature)
        np.testing.assert_allclose(
            found.spectrum.second_moment, whole.spectrum.second_moment, rtol=1e-9
        )
        assert found.label_noise == pytest.approx(whole.label_noise)


def test_a_rotation_of_the_features_changes_nothing() -> None:
    rotation = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
    plain, turned = (nqm.Regression.of(f, TARGETS) for f in (FEATURES, FEATURES @ rotation))
    np.testing.assert_allclose(turned.spectrum.curvature, plain.spectrum.curvature)
    np.testing.assert_allclose(turned.spectrum.second_moment, plain.spectrum.second_moment)
    assert turned.label_noise == pytest.approx(plain.label_noise)


def test_a_column_that_others_make_up_adds_no_mode() -> None:
    plain = nqm.Regression.of(FEATURES, TARGETS)
    for more in (FEATURES[:, :1], FEATURES @ np.ones((6, 1)), np.zeros((60, 1))):
        found = nqm.Regression.of(np.hstack((FEATURES, more)), TARGETS)
        assert (found.n_features, found.rank) == (7, 6)
        assert found.label_noise == pytest.approx(plain.label_noise)
        assert found.spectrum.initial_risk == pytest.approx(plain.spectrum.initial_risk)
    doubled = nqm.Regression.of(FEATURES[:, [0, 0]], TARGETS)
    assert doubled.spectrum.curvature == pytest.approx([2.0 * np.mean(FEATURES[:, 0] ** 2)])


def test_a_constant_column_is_an_intercept_until_it_is_centred_away() -> None:
    f = np.hstack((FEATURES, np.full((60, 1), 0.1)))
    kept, centred = (nqm.Regression.of(f, TARGETS, center=c, scale=True) for c in (False, True))
    assert (kept.rank, centred.rank) == (7, 6)
    assert kept.constant == centred.constant == (6,)
    assert centred.label_noise == pytest.approx(kept.label_noise), "both fit the mean"
    assert "1 of the features constant" in centred.report


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8, np.bool_, object])
def test_features_of_any_real_type_are_numbers(kind: Any) -> None:
    whole = RNG.integers(0, 2 if kind is np.bool_ else 9, (30, 4))
    found = nqm.Regression.of(whole.astype(kind), TARGETS[:30].astype(np.float32))
    expected = nqm.Regression.of(whole.astype(float), TARGETS[:30].astype(np.float32))
    assert found.spectrum.digest == expected.spectrum.digest
    assert np.array_equal(found.spectrum.initial_mean, expected.spectrum.initial_mean)
    assert found.label_noise == expected.label_noise


def test_a_spectrum_is_known_by_the_data_and_what_was_done_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last bits depend on the machine, and a study goes on from one to the next."""
    base = nqm.Regression.of(FEATURES, TARGETS).spectrum.digest
    monkeypatch.setattr(data, "BLOCK", 20)
    assert nqm.Regression.of(FEATURES, TARGETS).spectrum.digest == base
    others = [
        nqm.Regression.of(with_value(3, 3, 0.5), TARGETS),
        nqm.Regression.of(FEATURES, TARGETS + 1.0),
        nqm.Regression.of(FEATURES, TARGETS, center=True),
        nqm.Regression.of(FEATURES, TARGETS, scale=True),
        nqm.Regression.of(FEATURES.reshape(120, 3), np.r_[TARGETS, TARGETS]),
    ]
    assert len({base, *(each.spectrum.digest for each in others)}) == 6
    assert others[0].spectrum.scaled(2.0).digest != others[0].spectrum.digest


def test_what_rounding_leaves_of_no_residual_is_none() -> None:
    assert nqm.Regression.of(FEATURES, FEATURES @ np.arange(6)).label_noise == 0.0


def test_a_file_is_read_in_place(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", FEATURES)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    found = nqm.Regression.of(mapped, TARGETS[:, None])
    expected = nqm.Regression.of(FEATURES, TARGETS)
    assert found.spectrum.digest == expected.spectrum.digest
    assert np.array_equal(found.spectrum.curvature, expected.spectrum.curvature)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["no", "yes"], ("no", "yes")),
        ([False, True], ("False", "True")),
        ([3, 8], ("3", "8")),
        ([0.0, 1.0], ("0.0", "1.0")),
        (np.array(["b", "a"], dtype=object)[::-1], ("a", "b")),
    ],
)
def test_two_classes_are_one_below_and_one_above_zero(classes: Any, names: Any) -> None:
    second = np.median(TARGETS) < TARGETS
    found = nqm.Regression.of(FEATURES, np.asarray(classes)[second.astype(int)])
    expected = nqm.Regression.of(FEATURES, np.where(second, 1.0, -1.0))
    assert found.classes == names
    assert found.spectrum.digest == expected.spectrum.digest
    assert f"{names[0]} is -1 and {names[1]} is 1" in str(found)


def test_two_numbers_of_two_examples_are_numbers() -> None:
    problem = nqm.least_squares_from_data([[1.0], [2.0]], [1.0, 2.0])
    assert problem.spectrum.curvature == pytest.approx([2.5])
    assert problem.spectrum.second_moment == pytest.approx([1.0])
    assert problem.label_noise == pytest.approx(0.0, abs=1e-30)


def test_a_given_label_noise_wins() -> None:
    assert nqm.least_squares_from_data(FEATURES, TARGETS, label_noise=0.25).label_noise == 0.25
    found = nqm.Regression.of(FEATURES, TARGETS)
    assert found.problem(4, 0.0).label_noise == 0.0
    assert found.problem(4).label_noise == found.label_noise


def with_value(row: int, column: int, value: float) -> Any:
    changed = FEATURES.copy()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (with_value(41, 3, np.nan), TARGETS, "features[41, 3]=nan: must be finite"),
        (with_value(0, 5, -np.inf), TARGETS, "features[0, 5]=-inf: must be finite"),
        (FEATURES, np.r_[TARGETS[:9], np.inf, TARGETS[10:]], "targets[9]=inf: must be finite"),
        (TARGETS, TARGETS, "features has shape (60,): must be a row for each example"),
        (FEATURES[:0], TARGETS[:0], "features has shape (0, 6): must be"),
        (FEATURES, TARGETS[1:], "targets has shape (59,): must be (60,), one for each example"),
        (FEATURES + 1j, TARGETS, "features: must be numbers, they are of type complex128"),
        (FEATURES.astype(str), TARGETS, "features: must be numbers, they are of type <U"),
        ([["a", 1]], [1.0], "features: must be numbers"),
        (np.array([["a", 1]], object), [1.0], "features: must be numbers, could not convert"),
        (FEATURES, 1j * TARGETS, "targets: must be numbers or two classes, they are of type comp"),
        (
            FEATURES[:4],
            ["a", "b", "c", "d"],
            "targets: must be numbers or two classes, and are 4 ('a', 'b', 'c', ...); take one "
            "against the rest, as targets == 'a'",
        ),
        (FEATURES[:2], ["a", "a"], "targets: must be numbers or two classes, and are 1 ('a')"),
        (FEATURES[:3], np.array(["a", None, "b"]), "targets[1]=None: is missing"),
        (0.0 * FEATURES, TARGETS, "features: must have a column that is not 0"),
        (1e200 * FEATURES, TARGETS, "features: must have a finite sum of squares"),
        (FEATURES, 1e200 * TARGETS, "targets: must have a finite sum of squares"),
    ],
)
def test_what_is_no_regression_is_refused_in_one_line(
    features: Any, targets: Any, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as refusal:
        nqm.Regression.of(features, targets)
    assert "\n" not in str(refusal.value)


def test_switches_are_true_or_false() -> None:
    with pytest.raises(ValueError, match=r"^center='yes': must be True or False"):
        nqm.least_squares_from_data(FEATURES, TARGETS, center="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "d"), [(500, 120), (120, 500)])
def test_many_modes_are_put_together_with_their_signal_and_trace(
    n: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotation = np.linalg.qr(RNG.standard_normal((d, d)))[0]
    f = RNG.standard_normal((n, d)) * np.arange(1, d + 1) ** -0.6 @ rotation + 0.3
    t = f @ RNG.standard_normal(d) + RNG.standard_normal(n)
    exact = nqm.Regression.of(f, t, center=True)
    monkeypatch.setattr(data, "MOST_EXACT", 50)
    monkeypatch.setattr(data, "LEADING", 10)
    found = nqm.Regression.of(f, t, center=True)
    assert (exact.exact, found.exact) == (True, False)
    assert len(found.spectrum) <= 10 + data.SIGNAL_STEPS + data.BULK_STEPS
    np.testing.assert_allclose(found.spectrum.curvature[:10], exact.spectrum.curvature[:10])
    m, h = found.spectrum.multiplicity, found.spectrum.curvature
    assert m @ h == pytest.approx(np.sum(exact.spectrum.curvature), rel=1e-12)
    assert m @ h**2 == pytest.approx(np.sum(exact.spectrum.curvature**2), rel=0.01)
    assert found.label_noise == pytest.approx(exact.label_noise, abs=1e-6)
    for steps in (0, 1, 10, 60, 300):
        rate = 1.0 / h[0]
        assert risk(found.spectrum, rate, steps) == pytest.approx(
            risk(exact.spectrum, rate, steps), rel=1e-5
        )
