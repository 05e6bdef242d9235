"""The preset ``check_data``: the best runs of studies on data, measured on the data themselves."""

from pathlib import Path

import numpy as np
from pandas import read_csv
from program import ALONE, run, stored

import nqm_study as nqm
from nqm_study.app.publish import stored_records
from nqm_study.report.analysis.tables import other_parts
from nqm_study.report.frame import studies_frame
from nqm_study.tracking import layout

CALL = ("-m", "experiment=check_data", "spectrum.path=data.npz", "target=0.3", "study.n_trials=2")
CALL = (*CALL, "study.truth=false", "tracking=none", "batch_size=4", ALONE)


def test_the_preset_measures_each_best_run_and_repeats_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((2000, 5)) * np.arange(1, 6) ** -0.5
    targets = features @ np.ones(5) + rng.standard_normal(2000)
    np.savez(tmp_path / "data.npz", features=features, targets=targets)
    call = (*CALL, "optimizer=sgd,momentum,adam", "study.data_runs=64")
    done = run(tmp_path, *call)
    folder = tmp_path / "mlruns" / "figures" / "check_data"
    names = {file.name for file in folder.iterdir()}
    assert {"check_data.png", "check_data.svg", "check_data.csv", "steps_to_target.svg"} <= names
    assert "was not run on the data: Adam's prediction" in " ".join(done.stdout.split())
    assert "furthest off" in done.stdout
    table = read_csv(folder / "check_data.csv")
    records = stored_records(tmp_path / "mlruns")
    checks = {each.definition.optimizer: each for each in records}
    assert checks["adam"].data_check.left_out.startswith("Adam's prediction")
    ((section, texts),) = other_parts(studies_frame(records))
    assert section.title == "Excess risk of the best runs on the data, over the predicted one"
    for name in ("sgd", "momentum"):
        record = checks[name]
        found, best = record.data_check, record.best
        assert (found.trial, found.runs, found.steps[-1]) == (best.number, 64, best.steps)
        assert abs(found.predicted[-1] / best.risk - 1.0) < 1e-6
        off = np.abs(np.subtract(found.measured, found.predicted)) / found.standard_errors
        assert np.all(off < 4.0)
        ratio = found.measured[-1] / found.predicted[-1]
        logged = {point.key: point.value for point in layout.results(record)}
        assert logged["measured_over_predicted"] == ratio
        assert f"{ratio:.3f} ±" in texts[texts.curve == name]["at the end"].item()
        rows = table[table.optimizer == name]
        assert tuple(rows.step) == found.steps
        assert np.allclose(rows.ratio, np.divide(found.measured, found.predicted))
        values = {
            key: best.hyperparameters[key]
            for key in ("learning_rate", "momentum")[: 1 + (name == "momentum")]
        }
        again = nqm.run_on_data(
            features, targets, nqm.SGD(**values), batch_size=4, steps=found.steps, n_runs=64
        )
        assert np.array_equal(again.mean, found.measured)

    again = run(tmp_path, *call)
    assert again.stderr.count("(0 new)") == len(stored(tmp_path)) == 3
    run(tmp_path, *CALL, "optimizer=sgd", "study.data_runs=65")
    runs = {each.definition.optimizer: each for each in stored_records(tmp_path / "mlruns")}
    assert runs["sgd"].data_check.runs == 65, "more runs are made where more are asked for"


def test_runs_on_data_need_data(tmp_path: Path) -> None:
    for call, said in (
        (("study.data_runs=4",), "study.data_runs=4: must be 0 unless with spectrum=data"),
        (("study.data_runs=1",), "study.data_runs=1: must be"),
        (("experiment=check_data",), "spectrum.path=null: must be the path of an .npz"),
    ):
        assert said in run(tmp_path, *call, status=2).stderr
    assert not (tmp_path / "mlruns").exists()
