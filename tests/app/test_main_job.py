"""The main job, as a user runs it: swept, repeated, continued, killed, rebuilt."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from program import ALONE, ONE, SWEEP, TINY, mirrored, run, runs, stored

from nqm_study.study.storage.backends import Backend
from nqm_study.study.text import markdown
from nqm_study.tracking.mirror import VIEW

NOTE = "mlflow.note.content"

Copied = Callable[[Path], Path]


def test_every_trial_of_a_sweep_is_stored_and_mirrored_once(swept: Path) -> None:
    counts = stored(swept)
    assert sorted(counts.values()) == [6] * 4
    assert mirrored(swept) == counts


def test_everything_is_written_below_mlruns(swept: Path) -> None:
    assert sorted(path.name for path in swept.iterdir()) == ["mlruns", "output"]


def test_runs_say_what_the_contract_says(swept: Path) -> None:
    studies = {run.info.run_id: run for run in runs(swept, "study")}
    assert len(studies) == 4
    for run_id, study in studies.items():
        assert {k: study.data.params[k] for k in ("spectrum", "schedule", "target", "seed")} == {
            "spectrum": "paper_small",
            "schedule": "constant",
            "target": "0.05",
            "seed": "0",
        }
        assert study.data.params["optimizer"] in {"sgd", "adam"}
        assert study.data.params["batch_size"] in {"16", "64"}
        assert study.data.metrics["n_trials"] == 6
        assert study.info.status == "FINISHED"
        own = [t for t in runs(swept, "trial") if t.data.tags["mlflow.parentRunId"] == run_id]
        reached = [t for t in own if t.data.metrics["reached"] == 1]
        assert len(own) == 6
        for trial in own:
            assert float(trial.data.params["learning_rate"]) > 0
            assert ("steps_to_target" in trial.data.metrics) == (trial in reached)
        best = min((t.data.metrics["steps_to_target"] for t in reached), default=None)
        assert study.data.metrics.get("best_steps_to_target") == best
        assert best is not None


def test_a_sweep_ends_with_table_figures_and_the_line_that_shows_them(swept: Path) -> None:
    lines = (swept / "output").read_text().splitlines()
    assert lines[-1] == f"mlflow ui --backend-store-uri sqlite:///{swept}/mlruns/mlflow.db"
    assert "workflowType=machine_learning" in lines[-2]
    folder = Path(lines[-3].removeprefix("figures: "))
    assert sorted(path.name for path in folder.iterdir()) == [
        "analysis.csv",
        "analysis.json",
        "analysis.md",
        "analysis.tex",
        "analysis_products.csv",
        "learning_rate.pdf",
        "learning_rate.png",
        "learning_rate.svg",
        "noise_scale.csv",
        "noise_scale.pdf",
        "noise_scale.png",
        "noise_scale.svg",
        "report.html",
        "steps_to_target.pdf",
        "steps_to_target.png",
        "steps_to_target.svg",
        "training.csv",
        "training.pdf",
        "training.png",
        "training.svg",
    ]
    table = "\n".join(lines[:-3])
    assert all(word in table for word in ("sgd", "adam", "16", "64", "Bayes", "B_20"))


def test_a_summary_holds_the_curve_and_the_figures(swept: Path) -> None:
    client = MlflowClient(f"sqlite:///{swept}/mlruns/mlflow.db")
    summaries = runs(swept, "summary")
    assert {summary.data.params["optimizer"] for summary in summaries} == {"sgd", "adam"}
    for summary in summaries:
        expected = {"steps_to_target", "learning_rate", "examples_to_target", "bayes_bound"}
        if summary.data.params["optimizer"] == "sgd":
            expected |= {"effective_learning_rate", "optimum_steps"}
        assert set(summary.data.metrics) == expected
        told = {}
        for metric in expected:
            history = client.get_metric_history(summary.info.run_id, metric)
            assert [point.step for point in history] == [16, 64]
            told[metric] = [point.value for point in history]
        assert told["examples_to_target"] == [16 * a for a in told["steps_to_target"][:1]] + [
            64 * a for a in told["steps_to_target"][1:]
        ]
        files = {Path(f.path).name for f in client.list_artifacts(summary.info.run_id, "figures")}
        assert {"steps_to_target.png", "steps_to_target.svg", "report.html"} <= files


def test_a_summary_and_its_studies_link_to_each_other(swept: Path) -> None:
    studies = {run.info.run_id: run for run in runs(swept, "study")}
    for summary in runs(swept, "summary"):
        note = summary.data.tags[NOTE]
        optimizer = summary.data.params["optimizer"]
        assert f"{optimizer}: " in note
        link = rf"\[seed 0\]\(#/experiments/1/runs/(\w+){re.escape(VIEW)}\)"
        linked = re.findall(rf"^- B = (\d+): {link}$", note, re.M)
        assert [size for size, _ in linked] == ["16", "64"]
        for size, run_id in linked:
            study = studies.pop(run_id)
            assert study.data.params["batch_size"] == size
            assert study.data.params["optimizer"] == optimizer
            name = markdown(summary.info.run_name)
            back = f"[{name}](#/experiments/1/runs/{summary.info.run_id}{VIEW})"
            assert study.data.tags[NOTE].endswith(f"\n\nIts summary: {back}")
    assert studies == {}


def test_each_study_has_the_figures_of_optuna_with_a_note(swept: Path) -> None:
    client = MlflowClient(f"sqlite:///{swept}/mlruns/mlflow.db")
    for study in runs(swept, "study"):
        (file,) = client.list_artifacts(study.info.run_id, "diagnostics")
        assert Path(file.path).name == "diagnostics.html"
        (stored,) = (swept / "mlruns" / "artifacts" / study.info.run_id).rglob("diagnostics.html")
        text = stored.read_text()
        assert re.findall(r'id="(\w+)" class="plotly-graph-div"', text) == ["history", "slice"]
        assert " of each trial, and the lowest so far.</p>" in text


@pytest.mark.slow
def test_diagnostics_can_be_left_out_and_be_drawn_later_and_once(tmp_path: Path) -> None:
    run(tmp_path, *ONE, "study.n_trials=4", "tracking.diagnostics=false")
    folder = tmp_path / "mlruns" / "artifacts"
    run(tmp_path, "--no-diagnostics", module="nqm_study.report")
    assert not list(folder.rglob("diagnostics.html"))
    run(tmp_path, module="nqm_study.report")
    (figure,) = folder.rglob("diagnostics.html")
    before = figure.stat().st_mtime_ns
    done = run(tmp_path, module="nqm_study.report")
    assert figure.stat().st_mtime_ns == before
    assert done.stderr == ""
    run(tmp_path, "--rebuild", module="nqm_study.report")
    assert len(list(folder.rglob("diagnostics.html"))) == 2, (
        "the new run has none, or the old one lost it"
    )
    run(tmp_path, *ONE, "study.n_trials=5")
    (study,) = runs(tmp_path, "study")
    (figure,) = (folder / study.info.run_id).rglob("diagnostics.html")
    assert "of 5 trials" in figure.read_text()


def test_the_same_call_repeats_nothing_and_a_larger_budget_adds_the_difference(
    swept: Path, copied: Copied
) -> None:
    folder = copied(swept)
    before, summaries = stored(folder), len(runs(folder, "summary"))
    again = run(folder, *SWEEP, "study.n_trials=6")
    assert again.stderr.count("6 trials (0 new)") == 4
    assert stored(folder) == mirrored(folder) == before
    assert len(runs(folder, "summary")) == summaries
    more = run(folder, *SWEEP, ALONE, "study.n_trials=9")
    assert more.stderr.count("9 trials (3 new)") == 4
    assert sorted(stored(folder).values()) == [9] * 4
    assert mirrored(folder) == stored(folder)


def test_the_report_rebuilds_mlflow_from_storage_and_changes_nothing_when_run_again(
    swept: Path, copied: Copied
) -> None:
    folder = copied(swept)
    for name in ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm"):
        (folder / "mlruns" / name).unlink(missing_ok=True)
    for _ in range(2):
        run(folder, module="nqm_study.report")
        assert mirrored(folder) == stored(folder)
        assert len(runs(folder, "study")) == 4
        assert len(runs(folder, "summary")) == 2


def test_a_call_for_a_part_takes_nothing_away_from_the_whole(swept: Path, copied: Copied) -> None:
    folder = copied(swept)
    run(folder, module="nqm_study.report")
    before = {r.info.run_id for r in runs(folder, "summary")}
    figure = next((folder / "mlruns" / "figures").rglob("steps_to_target.svg")).read_bytes()
    run(folder, *ONE, "study.n_trials=6")
    assert {r.info.run_id for r in runs(folder, "summary")} == before
    after = next((folder / "mlruns" / "figures").rglob("steps_to_target.svg")).read_bytes()
    assert after == figure, "the figure lost a curve or a point"


def test_a_report_leaves_a_running_study_to_its_own_process(swept: Path, copied: Copied) -> None:
    folder = copied(swept)
    name = min(stored(folder))
    for trial in runs(folder, "trial"):
        if trial.data.tags["optuna.study_name"] == name:
            MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db").delete_run(trial.info.run_id)
    root = folder / "mlruns"
    with Backend().lock(root, "mirror", f"{root} {name}"):
        done = run(folder, module="nqm_study.report")
    assert f"{name}: is mirrored by another call, and left to it" in done.stdout
    assert mirrored(folder)[name] == 0
    run(folder, module="nqm_study.report")
    assert mirrored(folder) == stored(folder)


def test_the_settings_of_a_spectrum_are_on_the_study_and_in_the_table(tmp_path: Path) -> None:
    done = run(
        tmp_path, "spectrum=power_law", "spectrum.dim=50", "spectrum.exponent=1.5",
        "target=0.05", "study.n_trials=4",
    )  # fmt: skip
    assert "power_law (dim 50, exponent 1.5)" in " ".join(done.stdout.split())
    (study,) = runs(tmp_path, "study")
    assert study.data.params["spectrum.dim"] == "50"
    assert study.data.params["spectrum.exponent"] == "1.5"


def test_workers_end_when_the_process_that_started_them_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nqm_study", *SWEEP, "study.n_trials=3000"]
    with subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as sweep:  # fmt: skip
        journal = tmp_path / "mlruns" / "optuna.journal"
        while not journal.exists() or journal.stat().st_size < 10_000:
            assert sweep.poll() is None
            time.sleep(0.02)
        sweep.kill()
    deadline = time.monotonic() + 60
    while _writes(journal):
        assert time.monotonic() < deadline, "a worker outlived its parent"


def _writes(path: Path) -> bool:
    before = path.stat().st_size
    time.sleep(3)
    return path.stat().st_size != before


@pytest.mark.slow
def test_a_killed_sweep_ends_with_exactly_its_budget_at_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nqm_study", *SWEEP, "study.n_trials=40"]
    journal = tmp_path / "mlruns" / "optuna.journal"
    for size in (2_000, 20_000):
        with subprocess.Popen(
            command, cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as sweep:  # fmt: skip
            deadline = time.monotonic() + 120
            while not journal.exists() or journal.stat().st_size < size:
                assert time.monotonic() < deadline, "the sweep wrote nothing"
                assert sweep.poll() is None, "the sweep ended before it was killed"
                time.sleep(0.02)
            os.killpg(sweep.pid, signal.SIGKILL)
    run(tmp_path, *SWEEP, "study.n_trials=40")
    assert sorted(stored(tmp_path).values()) == [40] * 4
    assert mirrored(tmp_path) == stored(tmp_path)
    assert {study.info.status for study in runs(tmp_path, "study")} == {"FINISHED"}


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (signal.SIGINT, ()),
        pytest.param(signal.SIGTERM, ("batch_size=4,16,64", "-m"), marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, ("batch_size=4,16,64", "-m"), marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_within_seconds_and_loses_nothing(
    tmp_path: Path, number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "nqm_study", *TINY, "optimizer=momentum", "study.n_trials=900"]
    with subprocess.Popen(
        [*command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as study:  # fmt: skip
        journal = tmp_path / "mlruns" / "optuna.journal"
        while not journal.exists() or journal.stat().st_size < 20_000:
            assert study.poll() is None
            time.sleep(0.02)
        os.killpg(study.pid, number)
        # On a machine with nothing else to do it is one second; a container is given ten.
        output, errors = study.communicate(timeout=10)
    assert study.returncode == 130, errors
    assert output == ""
    assert errors.startswith("nqm_study: stopped, with 0 of ")
    assert "the same command continues" in errors
    assert errors.count("\n") == 1
    assert 0 < sum(stored(tmp_path).values()) < 2700
    run(tmp_path, module="nqm_study.report")
    assert mirrored(tmp_path) == stored(tmp_path)


def test_one_study_runs_without_a_sweep_and_without_tracking(tmp_path: Path) -> None:
    done = run(
        tmp_path, *TINY, "optimizer=momentum", "batch_size=64", "study.n_trials=5",
        "tracking=none", "storage=sqlite",
    )  # fmt: skip
    assert "mlflow ui" not in done.stdout
    assert "momentum" in done.stdout
    names = {path.name for path in (tmp_path / "mlruns").iterdir() if path.name[0] != "."}
    assert names == {"optuna.db", "figures", "hydra"}
