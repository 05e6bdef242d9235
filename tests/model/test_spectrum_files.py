"""Spectra from files: what is written comes back, bad files are refused, nothing is unpickled."""

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from strategies import repeatable, spectra

import nqm_study as nqm
from nqm_study.model.problems.files import COLUMNS, loaded


def load_csv(folder: Path, text: str | bytes) -> nqm.Spectrum:
    path = folder / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return nqm.load_spectrum(path)


def load_npz(folder: Path, **arrays: object) -> nqm.Spectrum:
    np.savez(folder / "a.npz", **arrays)
    return nqm.load_spectrum(folder / "a.npz")


def refusal(path: object) -> str:
    """The text of a refusal, which is one line and begins with the file."""
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        nqm.load_spectrum(path)
    return str(refused.value)


@repeatable
@given(spectra(), st.permutations(COLUMNS))
def test_what_is_written_is_loaded_bit_for_bit(tmp_path_factory, spectrum, order):
    folder = tmp_path_factory.mktemp("written")
    columns = {name: getattr(spectrum, name) for name in order}
    rows = zip(*(columns[name].tolist() for name in order), strict=True)
    lines = [",".join(order), *(",".join(map(repr, row)) for row in rows)]
    assert load_csv(folder, "\n".join(lines)).digest == spectrum.digest
    assert load_npz(folder, **columns).digest == spectrum.digest


def test_columns_that_are_not_there_are_as_in_a_spectrum(tmp_path):
    expected = nqm.Spectrum([1.0, 0.5], multiplicity=[3.0, 4.0])
    text = "multiplicity,curvature\n3,1\n4,0.5\n"
    assert load_csv(tmp_path, text).digest == expected.digest
    made = load_npz(tmp_path, multiplicity=[3, 4], curvature=np.array([1.0, 0.5], np.float32))
    assert made.digest == expected.digest


def test_one_number_in_an_archive_is_the_value_at_every_mode(tmp_path):
    made = load_npz(tmp_path, curvature=[1.0, 0.5], noise=0.25, initial_mean=-1)
    assert made.digest == nqm.Spectrum([1.0, 0.5], noise=0.25, initial_mean=-1.0).digest


@pytest.mark.parametrize(
    "text",
    [
        "1.0\n0.5",
        "curvature\n1\n.5\n",
        "# measured\n\n 1e0 \n  # again\n+5.0E-1\n\n",
        "\ufeffcurvature\r\n1.0\r\n0.5\r\n",
        '"curvature"\n"1.0"\n"0.5"\n',
        "curvature\r1.0\r0.5\r",
    ],
)
def test_the_list_of_curvatures_may_be_written_in_many_ways(tmp_path, text):
    assert load_csv(tmp_path, text).digest == nqm.Spectrum([1.0, 0.5]).digest


def test_the_suffix_may_be_in_capitals_and_the_path_a_text(tmp_path):
    (tmp_path / "A.CSV").write_text("1\n")
    assert len(nqm.load_spectrum(str(tmp_path / "A.CSV"))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have a row for each mode, it has none"),
        ("# nothing\n\n", "must have a row for each mode, it has none"),
        ("curvature\n", "must have a row for each mode, it has none"),
        ("1,2\n3,4\n", "row 1: must be a header with the names of the 2 columns"),
        ("# curvature,noise\n1,2\n", "row 2: must be a header"),
        ("h\n1\n", "row 1, column h: must be one of curvature, noise, multiplicity, initial_mean"),
        ("Curvature\n1\n", "row 1, column Curvature: must be one of curvature"),
        ("curvature;noise\n1;2\n", "row 1, column 1: must have one of the names curvature"),
        ("curvature,\n1,2\n", "row 1, column 2: must have one of the names curvature"),
        ("root:x:0:0:root:/root:/bin/bash\nbin:x:1\n", "row 1, column 1: must have one of the"),
        ("curvature\n1\nsk-secret-1234567\n", "row 3, column curvature=sk-secret-12...: must be"),
        ("curvature,noise,noise\n1,1,1\n", "row 1, column noise: must be there once"),
        ("noise\n1\n", "row 1, column curvature: is missing"),
        ("curvature,noise\n1,1\n1\n", "row 3: has 1 values, must have 2: curvature, noise"),
        ("1\n2,3\n", "row 2: has 2 values, must have 1: curvature"),
        ("curvature\n1\n\n# x\na\n", "row 5, column curvature=a: must be a finite number greater"),
        ("curvature,noise\n1,\n", "row 2, column noise='': must be a finite number of at least 0"),
        ("curvature\n1_000\n", "column curvature=1_000: must be"),
        ("1_000\n", "row 1, column curvature=1_000: must be"),
        ("curvature\n\u0663\n", "column curvature=\u0663: must be"),
        ("curvature\n0x10\n", "column curvature=0x10: must be"),
        ("curvature\n1.5.2\n", "column curvature=1.5.2: must be"),
        ("curvature\nnan\n", "column curvature=nan: must be a finite number"),
        ("inf\n", "row 1, column curvature=inf: must be a finite number"),
        ("curvature\n-infinity\n", "column curvature=-infinity: must be a finite number"),
        ("curvature\n1e400\n", "column curvature=1e400: must be a finite number"),
        ("curvature\n1e-400\n", "column curvature=1e-400: must be a finite number greater than 0"),
        ("curvature\n1\n0\n", "row 3, column curvature=0: must be a finite number greater than 0"),
        ("curvature\n-1\n", "row 2, column curvature=-1: must be a finite number greater than 0"),
        ("curvature,noise\n1,-1e-9\n", "column noise=-1e-9: must be a finite number of at least"),
        ("curvature,multiplicity\n1,-1\n", "column multiplicity=-1: must be a finite number of"),
        ("curvature,initial_variance\n1,-1\n", "column initial_variance=-1: must be a finite"),
        ("curvature,initial_mean\n1,1e999\n", "column initial_mean=1e999: must be a finite number"),
        ("curvature,noise\n1,-1\n-1,1\n", "row 2, column noise=-1"),
        (f"curvature\n{'9' * 99}x\n", f"column curvature={'9' * 12}...: must be"),
        ("curvature\n1\x07\n", r"column curvature='1\x07': must be"),
        ('curvature\n"1\n2\n3\n', "row 2: must be one row of a CSV file"),
        ('curvature\n1\n"2\n3"\n', "row 3: must be one row of a CSV file, a quote is left open"),
        ('curvature\n"1"2\n', "row 2: must be one row of a CSV file"),
        (b"curvature\n1\n\xff\n", "row 3: must be UTF-8 text"),
        ("curvature\n1\n".encode("utf-16"), "row 1: must be UTF-8 text"),
        ("curvature,initial_variance\n1e200,1e200\n", "must have a finite initial risk"),
    ],
)
def test_bad_text_is_refused_with_file_row_column_and_value(tmp_path, text, message):
    (tmp_path / "a.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refusal(tmp_path / "a.csv")
    assert said.startswith(f"{tmp_path}/a.csv: ")
    assert message in said


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "column curvature: is missing"),
        ({"noise": [1.0]}, "column curvature: is missing"),
        ({"curvature": [1.0], "h": [1.0]}, "column h: must be one of curvature, noise"),
        ({"curvature": 1.0}, "column curvature has shape (): must be a list of at least one"),
        ({"curvature": []}, "column curvature has shape (0,): must be a list of at least one"),
        ({"curvature": [[1.0]]}, "column curvature has shape (1, 1): must be a list"),
        (
            {"curvature": [1.0, 2.0], "noise": [1.0]},
            "column noise has shape (1,): must be one number, or 2 as curvature has",
        ),
        ({"curvature": [1.0], "noise": [[1.0]]}, "column noise has shape (1, 1): must be one"),
        ({"curvature": [1.0, 0.0]}, "index 1, column curvature=0: must be a finite number greater"),
        ({"curvature": [1.0, np.nan]}, "index 1, column curvature=nan: must be a finite number"),
        ({"curvature": [np.inf]}, "index 0, column curvature=inf: must be a finite number"),
        ({"curvature": [1.0], "noise": -1}, "index 0, column noise=-1: must be a finite number of"),
        ({"curvature": [1.0, 2.0], "multiplicity": [1, -2]}, "index 1, column multiplicity=-2"),
        ({"curvature": [1.0], "initial_mean": [np.inf]}, "index 0, column initial_mean=inf"),
        ({"curvature": [True]}, "column curvature: must be an array of numbers, it is of type b"),
        ({"curvature": ["1"]}, "column curvature: must be an array of numbers, it is of type <U1"),
        ({"curvature": [1j]}, "column curvature: must be an array of numbers, it is of type compl"),
        ({"curvature": [1.0], "noise": 1e308, "initial_variance": 1e308, "multiplicity": 9.0},
         "curvature: must have a finite initial risk"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_with_file_index_column_and_value(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert refusal(tmp_path / "a.npz").startswith(f"{tmp_path}/a.npz: {message}")


def test_paths_that_hold_no_spectrum_are_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "a.txt").write_text("1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    allowed = "must be the path of a .csv or .npz file"
    for name, said in [
        ("none.csv", "there is no such file"),
        ("folder.csv", "it is a directory"),
        ("pipe.csv", "it is no file"),
        ("a.txt", "by its name it is neither"),
    ]:
        assert refusal(tmp_path / name) == f"{tmp_path / name}: {allowed}, {said}"
    for odd in (None, 3, b"a.csv", ["a.csv"]):
        assert refusal(odd) == f"path={odd!r}: {allowed}"
    assert refusal("a\n.csv") == rf"'a\n.csv': {allowed}, there is no such file"
    assert refusal("a\0.csv") == rf"'a\x00.csv': {allowed}, there is no such file"


@pytest.mark.parametrize("name", ["a.csv", "a.npz"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("1\n")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(Path, "read_bytes", denied)
    assert refusal(tmp_path / name).endswith(f"{name}: must be readable, Permission denied")


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            made.writestr(name, content)
    return buffer.getvalue()


def test_a_pickle_is_never_executed(tmp_path):
    trap = tmp_path / "executed"
    pickled = pickle.dumps(Malicious(trap))
    objects = io.BytesIO()
    np.save(objects, np.array([Malicious(trap)], dtype=object), allow_pickle=True)
    for content, said in [
        (pickled, "must be an archive that numpy.savez wrote"),
        (objects.getvalue(), "must be an archive that numpy.savez wrote"),
        (archive(("curvature.npy", pickled)), "column curvature: must be an array of numbers"),
        (archive(("curvature", pickled)), "column curvature: must be an array of numbers"),
        (archive(("curvature.npy", objects.getvalue())), "Object arrays cannot be loaded"),
    ]:
        (tmp_path / "a.npz").write_bytes(content)
        assert said in refusal(tmp_path / "a.npz")
        assert not trap.exists(), "a pickle was executed"
    pickle.loads(pickled)  # noqa: S301 (the test's own)
    assert trap.exists(), "the trap does not work"


HUGE = io.BytesIO()
np.lib.format.write_array_header_1_0(
    HUGE, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)}
)
WHOLE = archive(("curvature.npy", npy(np.linspace(1.0, 2.0, 1000))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be an archive that numpy.savez wrote"),
        (b"PK\x03\x04 and no more", "must be a whole archive that numpy.savez wrote"),
        (npy(np.ones(3)), "must be an archive that numpy.savez wrote"),
        (WHOLE[: len(WHOLE) // 2], "must be a whole archive that numpy.savez wrote"),
        (WHOLE[:4000] + b"!" + WHOLE[4001:], "column curvature: must be an array of numbers, Bad"),
        (archive(("curvature.npy", npy(np.ones(99))[:-8])), "column curvature: must be an array"),
        (archive(("curvature.npy", HUGE.getvalue())), "column curvature: must be an array of"),
        (archive(*2 * [("curvature.npy", npy(np.ones(2)))]), "column curvature: must be there"),
        (archive(("readme.txt", b"hello")), "column 1: must have one of the names curvature"),
    ],
)  # fmt: skip
def test_broken_archives_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "a.npz").write_bytes(content)
    assert refusal(tmp_path / "a.npz").startswith(f"{tmp_path}/a.npz: {message}")


def test_a_file_is_kept_while_it_is_unchanged(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("2.0\n1.0\n")
    spectrum, scale = loaded(path)
    assert scale == 1.0
    assert loaded(path)[0] is spectrum, "compressions of an unchanged file were lost"
    rescaled, scale = loaded(path, rescale=True)
    assert scale == 0.5
    assert rescaled.digest == spectrum.scaled(0.5).digest
    path.write_text("4.0\n1.0\n")
    os.utime(path, ns=(0, 0))
    np.testing.assert_array_equal(loaded(path)[0].curvature, [4.0, 1.0], "an old file was kept")


def test_a_spectrum_that_cannot_be_rescaled_is_refused_with_its_file(tmp_path):
    (tmp_path / "a.csv").write_text("1e-200\n")
    with pytest.raises(ValueError, match=r"a\.csv: curvature=1e-200: the largest must be at least"):
        loaded(tmp_path / "a.csv", rescale=True)
