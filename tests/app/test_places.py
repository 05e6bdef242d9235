"""Places and environments that are odd: the program works there, or says at the start why not."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from program import ALONE, TINY, run

from nqm_study.study.storage.backends import FOLDERS, require_writable, working_folder
from nqm_study.tracking.settings import require_nameable

TWO = (*TINY, "study.n_trials=2", ALONE)


def test_a_backend_that_the_environment_names_does_not_matter(tmp_path: Path) -> None:
    # As a user starts it: matplotlib looks at the environment when it is imported.
    run(
        tmp_path, *TWO, "tracking=none", python=sys.executable,
        environment={"MPLBACKEND": "nonsense"},
    )  # fmt: skip
    assert list((tmp_path / "mlruns" / "figures").rglob("*.png"))


def test_a_folder_of_any_other_name_is_one_to_work_in(tmp_path: Path) -> None:
    folder = tmp_path / "a b [c]* ~ $HOME {d} e=f,g #\n\x1b[31m\\ü'"
    folder.mkdir()
    run(folder, *TWO)
    assert list((folder / "mlruns" / "figures").rglob("*.png"))


def test_a_folder_that_hydra_takes_for_a_variable_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "${z}"
    folder.mkdir()
    done = run(folder, *TWO, status=2)
    why = "must have no ${ in it, Hydra takes it for a variable"
    assert done.stderr == f"nqm_study: {folder}: {why}\n"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["100%", "a?", "a\udcff"])
def test_a_folder_that_mlflow_cannot_name_is_refused_unless_it_is_left_alone(name: str) -> None:
    with pytest.raises(ValueError, match="MLflow cannot open it") as refusal:
        require_nameable(Path("/tmp", name))  # noqa: S108 (nothing is written)
    assert str(refusal.value).isprintable()


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("", Path.touch, "must be a directory, it is a file"),
        ("", _dangling, "must be a directory, it is a link to nothing"),
        *((name, Path.touch, "must be a directory, it is a file") for name in FOLDERS),
        *((name, _dangling, "must be a directory, it is a link to nothing") for name in FOLDERS),
        ("mlflow.db", Path.mkdir, "must be a file, it is a directory"),
        ("mlflow.db", _dangling, "must be a file, it is a link to nothing"),
    ],
)
def test_what_stands_in_the_way_is_refused_by_its_path(
    tmp_path: Path, name: str, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "mlruns" / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    with pytest.raises(ValueError, match=message) as refusal:
        require_writable(tmp_path / "mlruns", "mlflow.db")
    assert str(refusal.value).startswith(f"{path}: ")


def test_a_working_folder_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    with pytest.raises(ValueError, match=r"^the working folder: must exist"):
        working_folder()
