"""A wheel installed elsewhere brings its configuration and runs from any folder."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest
from program import TINY, mirrored, run, stored

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_runs_a_sweep_from_an_empty_folder(tmp_path: Path) -> None:
    built = tmp_path / "built"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", built, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = built.glob("*.whl")
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", wheel], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    where = subprocess.run(
        [python, "-c", "from nqm_study.study.options import conf_dir; print(conf_dir())"],
        cwd=empty, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(where.stdout.strip()).is_relative_to(environment)
    arguments = (*TINY, "optimizer=sgd", "batch_size=16,64", "study.n_trials=3", "-m")
    run(empty, *arguments, python=str(python))
    assert sorted(stored(empty).values()) == [3, 3]
    assert mirrored(empty) == stored(empty)
    assert [path.name for path in empty.iterdir()] == ["mlruns"]
