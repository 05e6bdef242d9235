"""Settings of all tests, and folders in which the program has run, made once for all of them."""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from program import ONE, SWEEP, run

Make = Callable[[Path], None]

# Several test processes share the cores: threads of linear algebra, on matrices as small as those
# of L-BFGS-B, would only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow, and say so, unless it is asked for: with -m, or by its own name."""
    if "slow" in config.option.markexpr or any("::" in argument for argument in config.args):
        return
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(pytest.mark.skip(reason="slow: run by `python -m pytest -n 2 -m slow`"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Make], Path]:
    """made(name, make) is a folder that ``make`` has filled, in whichever process needed it first.

    It is to be read only, or to be copied with ``copied``.
    """
    common = tmp_path_factory.getbasetemp()
    if common.name.startswith("popen-"):  # of several processes, each has a folder in it
        common = common.parent

    def get(name: str, make: Make) -> Path:
        folder, done = common / name, common / f"{name}.done"
        with FileLock(common / f"{name}.lock"):
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return get


@pytest.fixture(scope="session")
def swept(made: Callable[[str, Make], Path]) -> Path:
    """SWEEP, with six trials a study, in MLflow too; the file ``output`` has what it printed."""

    def make(folder: Path) -> None:
        (folder / "output").write_text(run(folder, *SWEEP, "study.n_trials=6").stdout)

    return made("swept", make)


@pytest.fixture(scope="session")
def studied(made: Callable[[str, Make], Path]) -> Path:
    """ONE, with four trials, in MLflow too."""
    return made("studied", lambda folder: run(folder, *ONE, "study.n_trials=4") and None)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """copied(folder) is a copy in which the program goes on as if it had run there."""

    def copy(folder: Path) -> Path:
        there = tmp_path / "copy"
        shutil.copytree(folder, there)
        database = there / "mlruns" / "mlflow.db"
        if database.exists():
            # The only paths that are stored are those of the artifacts.
            with contextlib.closing(sqlite3.connect(database)) as connection, connection:
                for change in (
                    "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
                    "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
                ):
                    connection.execute(change, (str(folder), str(there)))
        return there

    return copy
