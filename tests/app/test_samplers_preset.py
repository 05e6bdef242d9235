"""experiment=samplers compares samplers by their regret: on the terminal, in a figure, a file."""

import csv
from importlib.util import find_spec
from pathlib import Path

from program import ALONE, TINY, run, runs, stored


def test_samplers_are_compared_by_their_regret(tmp_path: Path) -> None:
    done = run(
        tmp_path, "-m", *TINY, "experiment=samplers", "sampler=random,tpe", "batch_size=64,1024",
        "study.seed=0,1", "study.n_trials=24", "tracking.diagnostics=false", ALONE,
    )  # fmt: skip
    assert len(stored(tmp_path)) == 8
    assert "steps above the true optimum after so many trials" in done.stdout
    assert "4 studies (2 batch sizes, 2 seeds)" in " ".join(done.stdout.split())
    assert "tpe + finish" in done.stdout
    # A run for the best trial of each study, as the preset says.
    assert len(runs(tmp_path, "trial")) == 8
    for study in runs(tmp_path, "study"):
        assert study.data.metrics["excess_steps_over_optimum"] >= 0.0
        best, true = (
            study.data.metrics[name] for name in ("best_steps_to_target", "true_steps_to_target")
        )
        assert best >= true
    (folder,) = (tmp_path / "mlruns" / "figures").iterdir()
    assert {"regret.png", "regret.svg"} <= {path.name for path in folder.iterdir()}
    with (folder / "regret.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["sampler"] for row in rows} == {"random", "tpe + finish"}
    assert {int(row["trials"]) for row in rows} == set(range(1, 25))


def test_the_gaussian_process_takes_part_where_it_can(tmp_path: Path) -> None:
    shown = run(tmp_path, "experiment=samplers", "--cfg", "hydra", "--resolve")
    (line,) = (x for x in shown.stdout.splitlines() if x.strip().startswith("sampler: random"))
    swept = line.split(": ", 1)[1].strip("'\"").split(",")
    assert ("gp" in swept) == (find_spec("torch") is not None)
    assert swept[:6] == ["random", "qmc", "grid", "cmaes", "tpe_alone", "tpe"]
