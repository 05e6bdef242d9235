"""What a trial costs beside its mathematics, against the loop one would write first.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_loop.py

Both run as programs of their own, in folders of their own, on all cores. These take minutes.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nqm_study.study.storage.backends import Backend
from nqm_study.study.storage.studies import read_records

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

NAIVE = Path(__file__).with_name("naive_loop.py")
BATCH_SIZES = [str(4**k) for k in range(1, 11)]


def run(folder, *command):
    """Seconds that a program takes, and what it prints."""
    folder.mkdir()
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, check=True, capture_output=True, text=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    return time.perf_counter() - started, done.stdout


def ours(folder, *overrides):
    return run(folder, "-m", "nqm_study", "optimizer=sgd", *overrides)


def test_a_trial_of_one_study(tmp_path, bar):
    ours(tmp_path / "warm", "batch_size=256", "study.n_trials=1")
    few, _ = ours(tmp_path / "few", "batch_size=256", "study.n_trials=10")
    many, _ = ours(tmp_path / "many", "batch_size=256", "study.n_trials=610")
    # What a call costs once is in both.
    cost = 1e3 * (many - few) / 600
    _, told = run(tmp_path / "naive", str(NAIVE), str(tmp_path / "naive"), "150", "256")
    naive = float(told)
    (record,) = read_records(Backend().open(tmp_path / "many" / "mlruns"))
    parts = ", ".join(f"{name} {value:.1f}" for name, value in record.cost.milliseconds.items())
    ratio = naive / cost
    bar(
        "a trial of one study: naive / ours",
        f"{ratio:.1f} ({naive:.0f} ms / {cost:.0f} ms)",
        bound=">= 2.5",
        met=ratio >= 2.5,
    )
    bar("of that, beside MLflow, ms", parts)


def test_a_sweep_of_ten_studies(tmp_path, bar):
    sizes = f"batch_size={','.join(BATCH_SIZES)}"
    cost, _ = ours(tmp_path / "ours", sizes, "study.n_trials=100", "-m")
    naive, _ = run(tmp_path / "naive", str(NAIVE), str(tmp_path / "naive"), "100", *BATCH_SIZES)
    ratio = naive / cost
    bar(
        "10 x 100 trials: naive / ours",
        f"{ratio:.2f} ({naive:.0f} s / {cost:.0f} s)",
        bound=">= 3.5",
        met=ratio >= 3.5,
    )


@pytest.mark.parametrize("tracking", ["none", "mlflow"])
def test_ten_thousand_trials(tmp_path, bar, tracking):
    command = [
        "-m", "nqm_study", "batch_size=256", "sampler=random", "study.n_trials=10000",
        f"tracking={tracking}",
    ]  # fmt: skip
    seconds, _ = run(tmp_path / "many", *command)
    (record,) = read_records(Backend().open(tmp_path / "many" / "mlruns"))
    assert len(record.trials) == 10_000
    moments = [trial.finished for trial in record.trials]
    first, last = ((moments[k + 999] - moments[k]).total_seconds() for k in (0, 9000))
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    name = f"10,000 trials, tracking={tracking}"
    bar(f"{name}: last 1000 / first 1000", f"{last / first:.2f} ({last:.2f} ms / {first:.2f} ms)")
    bar(f"{name}: seconds, most memory of a process", f"{seconds:.0f} s, {memory:.0f} MB")
