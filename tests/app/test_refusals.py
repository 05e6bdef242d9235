"""What is refused is refused in one line, with exit status 2, before anything is written."""

from pathlib import Path

import pytest
from program import ONE, TINY, run, stored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch_size=0"], "batch_size=0: must be an integer of at least 1"),
        (["batch_size=64,0", "-m"], "batch_size=0: must be an integer of at least 1"),
        (["target=5", "-m"], "target=5: must be below the initial risk, 4.8938"),
        (["batch_size=64,64", "-m"], "batch_size=64,64: has 64 twice; list each value once"),
        (
            ["optimizer.learning_rate=0.1,0.10", "-m"],
            "optimizer.learning_rate=0.1,0.10: has 0.1 twice; list each value once",
        ),
        (
            ["sampler.finish=0,0.0", "-m"],
            "sampler.finish=0 and sampler.finish=0.0: are the same study; list each study once",
        ),
        (["schedule=optimal,linear", "optimizer=adam", "-m"], "schedule=optimal: is computed for"),
        (["schedule=cosine,cosine", "-m"], "schedule=cosine,cosine: has cosine twice; list each"),
        (
            ["optimizer=adam", "optimizer.beta2_policy=halving", "-m"],
            "optimizer.beta2_policy=halving: must be one of fixed, half_life",
        ),
        (["study.name=a", "-m"], "study.name=a: names several studies of the sweep"),
    ],
)
def test_our_refusals_are_one_line_and_leave_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, *arguments, status=2)
    assert message in done.stderr
    assert done.stderr.startswith("nqm_study: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch_size=64,256"], "Ambiguous value for argument 'batch_size=64,256'"),
        (["schedule=1"], "Config group override must be a string or a list. Got int"),
        (["optimizer=adamx"], "Available options in 'optimizer':\n\tadam\n"),
        (["optimizer=sgd,adamx", "-m"], "Could not find 'optimizer/adamx'"),
        (["learning_rate=1"], "Key 'learning_rate' is not in struct"),
    ],
)
def test_hydra_refuses_what_it_does_not_know(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, *arguments, status=1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_mlruns_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("")
    done = run(tmp_path, status=2)
    assert done.stderr == f"nqm_study: {tmp_path}/mlruns: must be a directory, it is a file\n"
    assert (tmp_path / "mlruns").read_text() == ""


def test_a_name_whose_study_was_made_with_another_search_space_is_refused(tmp_path: Path) -> None:
    named = (*TINY, "tracking=none", "study.name=mine", "study.n_trials=3")
    run(tmp_path, *named)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*")}
    done = run(tmp_path, *named, "optimizer.learning_rate.low=1e-3", status=2)
    assert "study.name=mine" in done.stderr
    assert "hyperparameters.learning_rate.low=None (now 0.001)" in done.stderr
    assert done.stderr.count("\n") == 1
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "mlruns").rglob("*")}
    assert {p: t for p, t in after.items() if p.name[0] != "."} == {
        p: t for p, t in before.items() if p.name[0] != "."
    }
    assert stored(tmp_path) == {"mine": 3}


def test_a_study_is_not_begun_again_in_another_storage(studied: Path) -> None:
    """MLflow knows a study by its name: two of one name would delete each other's runs."""
    done = run(studied, *ONE, "storage=sqlite", status=2)
    assert "continue it there with storage=journal" in done.stderr
    assert not (studied / "mlruns" / "optuna.db").exists()


def test_a_folder_that_mlflow_cannot_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "100%"
    folder.mkdir()
    done = run(folder, status=2)
    assert "must have no %, no ? and no bytes" in done.stderr
    assert list(folder.iterdir()) == []


def test_a_report_on_nothing_says_what_to_run_first(tmp_path: Path) -> None:
    done = run(tmp_path, module="nqm_study.report", status=2)
    assert "run `python -m nqm_study -m` first" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_refused_in_one_line_without_the_password(
    tmp_path: Path,
) -> None:
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    address = "postgresql://nqm:secret@127.0.0.1:9/studies"
    done = run(
        tmp_path, *TINY, "storage=postgresql", status=2, environment={"NQM_STUDY_STORAGE": address}
    )
    assert done.stderr.startswith("nqm_study: storage.url=postgresql+psycopg://nqm:***@127.0.0.1:9")
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr
    assert list(tmp_path.iterdir()) == []
