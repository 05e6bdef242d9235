"""The preset ``pareto`` searches the batch size too, and tells the frontier it found."""

from pathlib import Path

import pytest
from program import ALONE, TINY, mirrored, run, runs, stored

PARETO = ("experiment=pareto", *TINY, "batch_size={low: 4, high: 4096, scale: log}")


def test_the_preset_runs_repeats_nothing_and_is_reported_again(tmp_path: Path) -> None:
    done = run(tmp_path, *PARETO, "study.n_trials=25")
    assert "sgd B=4..4096 C=0.05 seed=0: " in done.stderr
    assert "examples at best, 25 trials (25 new)" in done.stderr
    assert "Frontier of steps and examples, sgd" in done.stdout
    assert "over exact" in done.stdout
    (name,) = stored(tmp_path)
    assert name.startswith("sgd-paper_small-constant-B4..4096-C0.05-s0-")
    assert mirrored(tmp_path) == stored(tmp_path) == {name: 25}
    (folder,) = (tmp_path / "mlruns" / "figures").iterdir()
    kinds = ("csv", "pdf", "png", "svg")
    assert {file.name for file in folder.iterdir()} == {f"pareto.{kind}" for kind in kinds}
    figure = (folder / "pareto.svg").read_bytes()
    (study,) = runs(tmp_path, "study")
    assert study.data.params["batch_size"] == "4..4096"
    assert {"optimizer", "spectrum", "schedule", "target", "seed"} <= set(study.data.params)
    assert study.data.metrics["gap_to_exact_frontier"] < 1.0
    assert "are the frontier found" in study.data.tags["mlflow.note.content"]
    reached = [t for t in runs(tmp_path, "trial") if t.data.metrics["reached"]]
    assert reached
    for trial in reached:
        size = int(trial.data.params["batch_size"])
        told = trial.data.metrics
        assert told["examples_to_target"] == size * told["steps_to_target"]
    (summary,) = runs(tmp_path, "summary")
    assert summary.data.params["batch_size"] == "4..4096"

    again = run(tmp_path, *PARETO, "study.n_trials=25")
    assert "25 trials (0 new)" in again.stderr
    assert again.stdout == done.stdout
    more = run(tmp_path, *PARETO, "study.n_trials=30")
    assert "30 trials (5 new)" in more.stderr
    run(tmp_path, *PARETO, "study.n_trials=25")
    report = run(tmp_path, module="nqm_study.report")
    assert "Frontier of steps and examples, sgd" in report.stdout
    assert (folder / "pareto.svg").read_bytes() != figure
    assert mirrored(tmp_path) == {name: 30}


def test_m_compares_optimizers_and_samplers_and_sweeps_no_batch_sizes(tmp_path: Path) -> None:
    one = ("study.n_trials=12", "study.truth=false", "tracking=none")
    run(tmp_path, *PARETO, *one, ALONE, "-m")
    counts = stored(tmp_path)
    assert sorted(name.split("-")[0] for name in counts) == ["momentum", "momentum", "sgd", "sgd"]
    assert set(counts.values()) == {12}
    assert all("-B4..4096-" in name for name in counts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sampler=tpe"], "sampler.finish=0.6: must be 0 where batch_size is searched"),
        (
            ["sampler=cmaes"],
            "sampler=cmaes: must be one of gp, grid, nsgaii, qmc, random, tpe, tpe_alone where",
        ),
        (["sampler.population_size=1", "sampler=nsgaii"], "sampler.population_size=1: must be"),
        (["batch_size={low: 0, high: 8}"], "batch_size.low=0: must be greater than 0"),
        (
            ["batch_size={low: 1.5, high: 8}"],
            "batch_size.low=1.5: must be an integer of at least 1",
        ),
        (["batch_size={low: null, high: 8}"], "batch_size.low=null: must be a number"),
        (["batch_size={low: 8, high: 4}"], "batch_size.low=8: must be less than high=4"),
        (
            ["batch_size={low: 4, high: 8, scale: log_one_minus}"],
            "batch_size.scale=log_one_minus: must be log or linear",
        ),
        (["study.enqueue=[{batch_size: 2}]"], "study.enqueue.batch_size=2: must be in the range"),
    ],
)
def test_what_two_objectives_cannot_have_is_refused_in_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, "experiment=pareto", *arguments, status=2)
    assert done.stderr.startswith(f"nqm_study: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_batch_size_that_is_given_makes_an_ordinary_study(tmp_path: Path) -> None:
    done = run(
        tmp_path, "experiment=pareto", *TINY, "batch_size=64", "study.n_trials=5", "tracking=none"
    )
    assert "Fewest steps" in done.stdout
    (name,) = stored(tmp_path)
    assert "-B64-" in name
