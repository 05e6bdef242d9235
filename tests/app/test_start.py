"""What a call imports: nothing heavy before it is known to be needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "joblib", "matplotlib", "mlflow", "numba", "numpy", "optuna", "pandas", "plotly", "rich",
    "scipy", "scipy.interpolate", "scipy.optimize", "scipy.special", "sklearn", "sqlalchemy",
    "torch",
)  # fmt: skip
"""Modules that take a tenth of a second and more to import."""

WATCHED = """
import atexit, json, runpy, sys

def tell():
    with open("imported", "w") as file:
        json.dump([name for name in {heavy} if name in sys.modules], file)

atexit.register(tell)
sys.argv = ["nqm_study", *{arguments}]
"""
PROGRAM = 'runpy.run_module("{module}", run_name="__main__", alter_sys=True)'
PROBLEM = "import nqm_study as nqm; problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size=4)"
STUDY = f"{PROBLEM}; nqm.run_study(problem, 'sgd', target=0.5, n_trials=2)"
STEPS = f"{PROBLEM}; nqm.steps_to_target(problem, nqm.SGD(0.1), target=0.5)"


def imported(folder: Path, code: str, arguments: list[str], status: int = 0) -> set[str]:
    """The heavy modules that a process has imported at its end."""
    watched = WATCHED.format(heavy=HEAVY, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", watched + code], cwd=folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return set(json.loads((folder / "imported").read_text()))


@pytest.mark.parametrize(
    ("arguments", "status", "allowed"),
    [
        (["--help"], 0, set()),
        (["batch_size=0"], 2, {"numpy"}),
        (["-m", "optimizer=adam", "target=9"], 2, {"numpy"}),
        (["optimizer=adamx"], 1, {"numpy"}),
        (["batch_size=4,8"], 1, {"numpy"}),
        (["experiment=paper", "presets.names=ema"], 2, set()),
    ],
    ids=["help", "value", "value in a sweep", "option", "no sweep", "presets"],
)
def test_help_and_refusals_import_hardly_anything(
    tmp_path: Path, arguments: list[str], status: int, allowed: set[str]
) -> None:
    code = PROGRAM.format(module="nqm_study")
    assert imported(tmp_path, code, arguments, status) <= allowed


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import nqm_study", set()),
        (PROBLEM, {"numpy"}),
        # The compiler looks into scipy for its linear algebra.
        (STEPS, {"numpy", "numba", "scipy"}),
        (STUDY, {"numpy", "numba", "scipy", "scipy.optimize", "scipy.special", "optuna", "rich"}),
        ("from nqm_study import Linear, SGD, load_spectrum", {"numpy"}),
    ],
)
def test_a_name_imports_what_it_needs(tmp_path: Path, code: str, allowed: set[str]) -> None:
    assert imported(tmp_path, code, []) <= allowed


def test_help_of_the_report_imports_no_figures(tmp_path: Path) -> None:
    found = imported(tmp_path, PROGRAM.format(module="nqm_study.report"), ["--help"])
    assert not found & {"matplotlib", "mlflow", "numba", "plotly"}
