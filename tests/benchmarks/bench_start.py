"""What a call costs around its mathematics, against importing the same libraries alone.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_start.py

The calls that find nothing to do are timed on 1, 20, 100 and 300 finished studies, which takes a
quarter of an hour to make.

Each command is a process of its own, timed as a whole, in turns with the one it is compared with.
The shortest of three times is told, and all three.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

ROUNDS = 3

HELP = """
import sys
import hydra
from nqm_study.study.options import conf_dir

sys.argv.append("--help")
hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(print)()
"""
"""Hydra's help of the same configuration."""

COMPOSE = """
import numpy
from hydra import compose, initialize_config_dir
from nqm_study.study.options import conf_dir

with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    compose("config", ["batch_size=0"])
"""
"""The same configuration composed."""

STEPS = """
import nqm_study as nqm

problem = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size=256)
assert nqm.steps_to_target(problem, nqm.SGD(0.775), target=0.01).steps == 25778
"""

TRIFLE = """
import numba
import numpy as np

@numba.njit
def total(values):
    found = np.zeros(1)
    for value in values:
        found[0] += value
    return found

total(np.ones(3))
"""
"""Numba, and what it takes to compile next to nothing."""

IMPORTS = "import numba, numpy"


def seconds(folder: Path, *command: str, status: int = 0, cache: Path | None = None) -> float:
    """Seconds that a call of Python takes, which has to end with the status."""
    own = {} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, **own},
    )  # fmt: skip
    taken = time.perf_counter() - started
    assert done.returncode == status, done.stdout + done.stderr
    return taken


@pytest.mark.parametrize(
    ("name", "wanted", "ours", "status", "alone", "what"),
    [
        ("--help", 1.2, ("-m", "nqm_study", "--help"), 0, HELP, "Hydra's own help"),
        ("a refusal", 1.2, ("-m", "nqm_study", "batch_size=0"), 2, COMPOSE, "composing alone"),
        ("import nqm_study", None, ("-c", "import nqm_study"), 0, "pass", "Python alone"),
        ("later steps_to_target", 1.2, ("-c", STEPS), 0, IMPORTS, "importing Numba"),
        ("the first of an installation", 4.0, ("-c", STEPS), 0, TRIFLE, "compiling a trifle"),
    ],
    ids=["help", "refusal", "import", "later", "first"],
)
def test_start(tmp_path, bar, name, wanted, ours, status, alone, what):
    first, cache = name.startswith("the first"), tmp_path / "cache"
    if not first:
        seconds(tmp_path, *ours, status=status, cache=cache)
    took, compared = [], []
    for _ in range(ROUNDS):
        if first:
            shutil.rmtree(cache, ignore_errors=True)
        took.append(seconds(tmp_path, *ours, status=status, cache=cache))
        compared.append(seconds(tmp_path, "-c", alone))
    each = ", ".join(f"{value:.2f}" for value in took)
    bar(
        name,
        f"{min(took) / min(compared):.2f} times {what} ({each} s; {min(compared):.2f} s)",
        bound="" if wanted is None else f"<= {wanted} s",
        met=None if wanted is None else min(took) <= wanted,
    )


LIBRARIES = "import hydra, numba, optuna, pandas, scipy.optimize, rich.progress"
"""What a call that finds nothing to do imports."""

DRAWING = f"{LIBRARIES}, matplotlib.figure, plotly"
"""What one that draws imports."""

TEN = ("-m", "nqm_study", "study.n_trials=10")
MAIN = ("-m", "nqm_study", "optimizer=sgd,adam", "-m")
REPORT = ("-m", "nqm_study.report")


def compared(bar, name, wanted, call, alone, *, prepare=lambda: None):
    """Tell the shortest time of a call, in turns with what it is compared with."""
    took, imports = [], []
    for _ in range(ROUNDS):
        prepare()
        took.append(call())
        imports.append(seconds(Path.cwd(), "-c", alone))
    each = ", ".join(f"{value:.1f}" for value in took)
    bar(
        name,
        f"{min(took):.1f} s, {min(took) / min(imports):.1f} times the imports ({each} s)",
        bound=f"<= {wanted} s",
        met=min(took) <= wanted,
    )


@pytest.mark.parametrize(("tracking", "first", "again"), [("mlflow", 8.0, 2.5), ("none", 3.0, 2.5)])
def test_one_study(tmp_path, bar, tracking, first, again):
    call = (*TEN, f"tracking={tracking}")
    seconds(tmp_path, *call)  # the kernels are compiled
    compared(
        bar, f"ten trials, tracking={tracking}", first, lambda: seconds(tmp_path, *call), DRAWING,
        prepare=lambda: shutil.rmtree(tmp_path / "mlruns"),
    )  # fmt: skip
    compared(bar, "the same again", again, lambda: seconds(tmp_path, *call), LIBRARIES)


def test_the_main_job_and_its_report_again(tmp_path, bar):
    seconds(tmp_path, *MAIN)
    compared(bar, "the main job again", 4.0, lambda: seconds(tmp_path, *MAIN), LIBRARIES)
    compared(bar, "the report again", 4.0, lambda: seconds(tmp_path, *REPORT), LIBRARIES)


def test_time_against_the_number_of_finished_studies(tmp_path, bar):
    times = {}
    for count in (1, 20, 100, 300):
        seeds = f"study.seed=range(0,{max(count // 10, 1)})"
        sizes = "batch_size=64" if count == 1 else "batch_sizes=paper"
        call = ("-m", "nqm_study", "study.n_trials=3", sizes, seeds, "-m")
        seconds(tmp_path, *call)
        times[count] = min(seconds(tmp_path, *call) for _ in range(ROUNDS))
    each = 1e3 * (times[300] - times[20]) / 280
    told = ", ".join(f"{count}: {taken:.1f} s" for count, taken in times.items())
    bar("nothing to do, by studies", told, bound="300 in <= 10 s", met=times[300] <= 10.0)
    bar("a finished study", f"{each:.0f} ms", bound="<= 25 ms", met=each <= 25.0)
