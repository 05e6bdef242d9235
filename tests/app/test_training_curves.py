"""Fixed learning rates make training curves; every study keeps the run of its best trial."""

import csv
from pathlib import Path

from program import ALONE, TINY, run, stored

from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import read_records


def test_fixed_rates_are_drawn_as_training_curves(tmp_path: Path) -> None:
    rates = (0.03, 0.1, 0.3, 1.9)
    listed = ",".join(map(str, rates))
    arguments = (*TINY, "tracking=none", "batch_size=16", "study.truth=false", ALONE)
    done = run(tmp_path, *arguments, f"optimizer.learning_rate={listed}", "-m")
    assert set(stored(tmp_path).values()) == {1}
    assert "target not reached" in done.stdout
    (folder,) = (tmp_path / "mlruns" / "figures").iterdir()
    names = {path.name for path in folder.iterdir()}
    kinds = {
        f"{name}.{end}" for name in ("training", "noise_scale") for end in ("png", "svg", "csv")
    }
    assert kinds < names
    with (folder / "training.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted({float(row["learning_rate"]) for row in rows}) == list(rates)
    records = read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))
    assert all(record.training is not None for record in records)

    # With a study that searches, it alone is in the figures of the fewest steps.
    before = (folder / "training.csv").read_bytes()
    run(tmp_path, *arguments, "study.n_trials=5")
    after = (folder / "training.csv").read_bytes()
    assert after.startswith(before), "the best runs of searches follow"
    with (folder / "noise_scale.csv").open() as file:
        curves = {row["curve"] for row in csv.DictReader(file)}
    assert len(curves) == 1
    assert not any("0.03" in name for name in curves)
    svg = (folder / "steps_to_target.svg").read_text()
    assert "learning_rate 0.03" not in svg
