"""Presets with reports of their own, the one that calls the others, and comparisons."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from program import ALONE, TINY, run, runs, stored

from nqm_study.app.presets import Presets, call_in_turn
from nqm_study.study.options import conf_dir

SMALL = (*TINY, "study.n_trials=3", "study.truth=false", ALONE)


def figures(folder: Path) -> dict[str, set[str]]:
    """Names of the files in each folder of figures."""
    root = folder / "mlruns" / "figures"
    return {each.name: {file.name for file in each.iterdir()} for each in root.iterdir()}


@pytest.mark.slow
def test_the_paper_is_every_preset_in_turn_with_a_report_each(tmp_path: Path) -> None:
    done = run(
        tmp_path, "-m", "experiment=paper", "presets.names=[momentum,ema]", *SMALL,
        "+optimizer.preconditioner_power=0,0.5", "optimizer=sgd,momentum", "tracking.trials=none",
        "tracking.diagnostics=false",
        "batch_size=64",
    )  # fmt: skip
    told = [line for line in done.stdout.splitlines() if line.startswith("experiment=")]
    assert told == ["experiment=momentum (1 of 2)", "experiment=ema (2 of 2)"]
    # The second call has the same studies, and runs none of them again.
    assert sorted(stored(tmp_path).values()) == [3] * 4
    assert done.stderr.count("(0 new)") == 4
    for name in ("momentum", "ema"):
        assert {"steps_to_target.svg", "learning_rate.png"} <= figures(tmp_path)[name]
    reports = {run.info.run_name for run in runs(tmp_path, "report")}
    assert reports == {"report momentum", "report ema"}
    # What a report is of is stored with the studies: it can be drawn again.
    before = figures(tmp_path)
    run(tmp_path, "--rebuild", module="nqm_study.report")
    assert figures(tmp_path) == before
    assert {run.info.run_name for run in runs(tmp_path, "report")} == reports


def test_power_zero_is_no_preconditioner_at_all(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "batch_size=64", "tracking=none", "optimizer=sgd")
    run(tmp_path, *sweep)
    done = run(tmp_path, *sweep, "+optimizer.preconditioner_power=0,0.5")
    assert len(stored(tmp_path)) == 2
    assert done.stderr.count("(0 new)") == 1


def test_what_the_paper_names_are_presets_that_sweep() -> None:
    folder = conf_dir() / "experiment"
    names = OmegaConf.load(folder / "paper.yaml").presets["names"]
    for name in names:
        preset = OmegaConf.load(folder / f"{name}.yaml")
        assert preset.report.name == name
        assert preset.hydra.sweeper.params or "batch_sizes" in str(preset.defaults)
    assert len(set(names)) == len(names) >= 7


def test_a_preset_that_is_refused_ends_the_call(tmp_path: Path) -> None:
    done = run(tmp_path, "experiment=paper", "presets.names=[ema,targets]", "target=9", status=2)
    assert "experiment=targets" not in done.stdout
    assert "target=9: must be below the initial risk" in done.stderr
    assert not (tmp_path / "mlruns").exists()
    told = run(tmp_path, "experiment=paper", "presets.names=ema", status=2).stderr
    assert "presets.names=ema: must be a list" in told


def test_a_report_with_a_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, *TINY, "report.name=a/b", status=2)
    assert "report.name=a/b: must be at most 80 letters, digits and _, or null" in done.stderr
    assert not (tmp_path / "mlruns").exists()


def test_a_signal_ends_the_preset_that_runs_and_no_other_begins(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nqm_study", "-m", "experiment=paper", *TINY, "tracking=none"]
    process = subprocess.Popen(
        [*command, "presets.names=[ema,targets]", "study.n_trials=100000", "batch_size=64"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )
    with process:
        until = time.monotonic() + 120
        while not (tmp_path / "mlruns" / "optuna.journal").exists():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "experiment=ema (1 of 2)" in out
    assert "experiment=targets" not in out
    assert "stopped, with 0 of 2 studies complete" in err


def test_a_failed_preset_takes_no_other_down(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {"a": 1, "b": 0, "c": 2, "d": 0}
    called: list[str] = []

    def call(arguments: list[str]) -> int:
        called.append(arguments[1].removeprefix("experiment="))
        return statuses[called[-1]]

    monkeypatch.setattr("nqm_study.app.presets._call", call)
    assert call_in_turn(Presets(("a", "b", "c", "d"), ())) == 1
    assert called == ["a", "b", "c"]


def test_a_comparison_shows_the_chosen_studies_and_nothing_else(tmp_path: Path) -> None:
    sweep = ("-m", *SMALL, "batch_size=64,256", "optimizer=sgd,ema", "target=0.05,0.1")
    run(tmp_path, *sweep, "tracking.trials=none", "tracking.diagnostics=false")
    summaries = len(runs(tmp_path, "summary"))
    chosen = ("--filter", "optimizer=sgd target<=0.1", "--by", "target")
    done = run(tmp_path, *chosen, module="nqm_study.report")
    assert "ema" not in done.stdout
    (folder,) = (name for name in figures(tmp_path) if name.startswith("compared"))
    assert folder == "compared-optimizer-sgd-target-0.1-by-target"
    (report,) = runs(tmp_path, "report")
    assert report.data.params == {
        "filter": "optimizer=sgd target<=0.1", "by": "target", "curves": "2",
    }  # fmt: skip
    assert "target 0.05: " in report.data.tags["mlflow.note.content"]
    assert len(runs(tmp_path, "summary")) == summaries
    again = run(tmp_path, *chosen, "--name", "mine", module="nqm_study.report")
    assert f"figures: {tmp_path / 'mlruns' / 'figures' / 'mine'}" in again.stdout
    for arguments, message in (
        (("--filter", "optimizer=adam"), "no study of 8 is so"),
        (("--filter", "x=1"), "no study has x"),
        (("--by", "target", "--name", "a-b"), "--name=a-b: must be at most 80 letters"),
        (("--name", "mine"), "--name=mine: is of a comparison; add --filter or --by"),
        (("--by", "target", "--rebuild"), "--rebuild: must be without --filter and --by"),
    ):
        refused = run(tmp_path, *arguments, module="nqm_study.report", status=2)
        assert message in refused.stderr
