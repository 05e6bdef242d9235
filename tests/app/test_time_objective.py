"""The fastest batch size of a machine, and batch sizes by the time that they take on it."""

from pathlib import Path

from program import ALONE, TINY, mirrored, run, runs, stored

MACHINE = ("study.objective=time", "study.hardware_batch_size=64", "study.hardware_exponent=0.5")


def test_the_batch_size_is_searched_for_the_least_time(tmp_path: Path) -> None:
    given = (*TINY, *MACHINE, "batch_size={low: 4, high: 4096, scale: log}", "study.n_trials=15")
    done = run(tmp_path, *given)
    assert "sgd B=4..4096 C=0.05 seed=0: " in done.stderr
    assert ", time " in done.stderr
    assert "Least time, target loss 0.05" in done.stdout
    (name,) = stored(tmp_path)
    assert name.startswith("sgd-paper_small-constant-time-B4..4096-C0.05-s0-")
    assert mirrored(tmp_path) == stored(tmp_path) == {name: 15}
    (study,) = runs(tmp_path, "study")
    params, told = study.data.params, study.data.metrics
    assert (params["objective"], params["objective.hardware_batch_size"]) == ("time", "64")
    times = []
    for trial in (each.data for each in runs(tmp_path, "trial")):
        if trial.metrics["reached"]:
            share = max(1.0, int(trial.params["batch_size"]) / 64.0) ** 0.5
            assert abs(
                trial.metrics["time_to_target"] / trial.metrics["steps_to_target"] - share
            ) < (1e-9 * share)
            times.append(trial.metrics["time_to_target"])
    assert told["best_time_to_target"] == min(times)
    (summary,) = runs(tmp_path, "summary")
    assert summary.data.metrics["time_to_target"] == min(times)
    assert list((tmp_path / "mlruns" / "figures").rglob("time_to_target.png"))
    again = run(tmp_path, *given)
    assert "15 trials (0 new)" in again.stderr
    assert again.stdout == done.stdout
    assert "Least time" in run(tmp_path, module="nqm_study.report").stdout


def test_studies_of_given_batch_sizes_have_their_times(tmp_path: Path) -> None:
    one = ("batch_size=16,256", "study.n_trials=3", "study.truth=false", "tracking=none")
    done = run(tmp_path, *TINY, *MACHINE, *one, ALONE, "-m")
    assert "time" in done.stdout
    assert "examples" in done.stdout
    assert set(stored(tmp_path).values()) == {3}


def test_runs_of_one_length_are_searched_for_the_fewest_examples(tmp_path: Path) -> None:
    given = (*TINY, "study.objective=examples", "study.steps=800", "study.n_trials=4")
    done = run(tmp_path, *given, "batch_schedule=constant,optimal", ALONE, "-m")
    assert "sgd T=800 C=0.05 seed=0: 800 steps, " in done.stderr
    assert "Fewest examples, target loss 0.05" in done.stdout
    assert sorted(stored(tmp_path).values()) == [4, 4]
    assert mirrored(tmp_path) == stored(tmp_path)
    found = [study.data for study in runs(tmp_path, "study")]
    assert {(each.params["objective"], each.params["objective.steps"]) for each in found} == {
        ("examples", "800"),
    }
    for each in found:
        size = each.metrics["best_batch_size"]
        assert abs(each.metrics["best_examples_to_target"] - 800 * size) < 1e-6 * size
    sweep = run(tmp_path, *given, "batch_size=4,16", "-m", status=2)
    assert sweep.stderr.startswith("nqm_study: batch_size=4 and batch_size=16: are the same study")
