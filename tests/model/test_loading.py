"""Data from files: NPZ, CSV and Parquet hold one regression, and bad files are refused."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nqm_study as nqm

RNG = np.random.default_rng(3)
FEATURES = RNG.standard_normal((30, 3))
TARGETS = FEATURES @ [1.0, -2.0, 0.5] + RNG.standard_normal(30)
TABLE = pd.DataFrame(
    {"a": FEATURES[:, 0], "y": TARGETS, "b c": FEATURES[:, 1], "d": FEATURES[:, 2]}
)


def test_all_kinds_of_files_hold_the_same_regression(tmp_path: Path) -> None:
    expected = nqm.Regression.of(FEATURES, TARGETS, center=True)
    np.savez(tmp_path / "a.npz", features=FEATURES, targets=TARGETS, names=["a", "b c", "d"])
    TABLE.to_csv(tmp_path / "a.CSV", index=False)
    TABLE.to_parquet(tmp_path / "a.parquet")
    for name, column in (("a.npz", None), ("a.CSV", "y"), ("a.parquet", "y")):
        found = nqm.load_regression(tmp_path / name, target_column=column, center=True)
        assert found.spectrum.digest == expected.spectrum.digest
        assert found.label_noise == expected.label_noise
        again = nqm.load_regression(tmp_path / name, target_column=column, center=True)
        assert again is found, "each study of a call read the file again"


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x,y\n1,1\n2,2\n3,4\n")
    first = nqm.load_regression(file, target_column="y")
    file.write_text("x,y\n1,1\n2,2\n3,3\n")
    os.utime(file, ns=(1, 1))
    assert first.label_noise > nqm.load_regression(file, target_column="y").label_noise == 0.0


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_words_are_classes_and_switches_are_features(tmp_path: Path, name: str) -> None:
    second = TARGETS > 0.0
    table = TABLE.assign(y=np.where(second, "odd", "even"), big=second, n=np.arange(30))
    if name == "a.csv":
        table.to_csv(tmp_path / name, index=False)
    else:
        table.assign(y=table.y.astype("category")).to_parquet(tmp_path / name)
    found = nqm.load_regression(tmp_path / name, target_column="y")
    assert (found.classes, found.n_features) == (("even", "odd"), 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n,3\n4,5\n", "row 3, column x: is missing"),
        ("x,y\n1,2\n3,nan\n4,5\n", "row 3, column y: is missing"),
        ("x,y\n1,2\ninf,3\n4,5\n", "row 3, column x=inf: must be a finite number"),
        ("x,x,y\n1,2,3\n", "column x: must be there once, it is there 2"),
        ("x,y\nred,2\nblue,3\n", "column x: must be numbers, it is of type string; leave it out"),
        ("x,y\n1,red\n2,blue\n3,green\n", "targets: must be numbers or two classes, and are 3"),
        ("x,y\n1,2\n1\n", "must be a whole CSV file, CSV parse error: Expected 2 columns, got 1"),
        ("y\n1\n2\n", "must have a row for each example and a column for each feature"),
        ("x,y\n", "must have a row for each example and a column for each feature"),
        ("", "must be a whole CSV file, Empty CSV file"),
        ("x,y\n0,1\n0,2\n", "features: must have a column that is not 0"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        nqm.load_regression(tmp_path / "a.csv", target_column="y")
    assert str(refused.value).startswith(f"{tmp_path / 'a.csv'}: {message}")


def test_a_target_column_is_one_of_a_tables_and_none_of_an_archives(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "a.npz", features=FEATURES, targets=TARGETS)
    for column in (None, "z"):
        with pytest.raises(ValueError, match=r"must be a column of a.csv, which has a, y, b c, d$"):
            nqm.load_regression(tmp_path / "a.csv", target_column=column)
    with pytest.raises(ValueError, match=r"^target_column=y: must be null with an .npz, which has"):
        nqm.load_regression(tmp_path / "a.npz", target_column="y")


def test_bad_archives_and_paths_are_refused_in_one_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=FEATURES, y=TARGETS)
    np.savez(tmp_path / "short.npz", features=FEATURES, targets=TARGETS[1:])
    np.savez(tmp_path / "pickle.npz", features=FEATURES, targets=np.array([{}] * 30))
    np.savez(tmp_path / "good.npz", features=FEATURES, targets=TARGETS)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and more")
    (tmp_path / "a.txt").write_text("")
    for name, column, message in (
        ("x.npz", None, "array features: is missing; there are x, y"),
        ("short.npz", None, "targets has shape (29,): must be (30,), one for each example"),
        ("pickle.npz", None, "column targets: must be an array of numbers"),
        ("bad.parquet", "y", "must be a whole Parquet file"),
        ("a.txt", "y", "must be the path of a .npz, .csv or .parquet file, by its name it is none"),
        ("no.csv", "y", "must be the path of a .npz, .csv or .parquet file, there is no such"),
    ):
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
            nqm.load_regression(tmp_path / name, target_column=column)
        assert str(refused.value).startswith(f"{tmp_path / name}: {message}")
