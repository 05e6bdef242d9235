"""A study begun in Python goes on at the command line, and the other way round."""

from pathlib import Path

import optuna
import pytest
from optuna.study import Study
from program import TINY, run, stored
from studies import journal

import nqm_study as nqm
from nqm_study.study.storage.backends import Backend
from nqm_study.study.storage.studies import read_records

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
TYPED = (*TINY, "optimizer=momentum", "batch_size=64", "tracking=none")


def in_python(place: Path | str | None, n_trials: int) -> Study:
    return nqm.run_study(PROBLEM, "momentum", target=0.05, n_trials=n_trials, storage=place)


def test_either_goes_on_with_what_the_other_began(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    run(here, *TYPED, "study.n_trials=9")
    begun_there = in_python(here, 24)
    in_python(str(there / "mlruns"), 9)
    done = run(there, *TYPED, "study.n_trials=24")
    assert "24 trials (15 new)" in done.stderr
    assert stored(here) == stored(there)
    assert list(stored(here).values()) == [24]
    unbroken = [(trial.params, trial.values) for trial in in_python(None, 24).trials]
    assert [(trial.params, trial.values) for trial in begun_there.trials] == unbroken
    (name,) = stored(there)
    begun_here = optuna.load_study(study_name=name, storage=journal(there / "mlruns"))
    assert [(trial.params, trial.values) for trial in begun_here.trials] == unbroken


def test_a_study_is_known_by_its_spectrum_whatever_that_is_called(tmp_path: Path) -> None:
    (tmp_path / "net.csv").write_text("1.0\n0.5\n0.1\n")
    typed = ("spectrum=file", "spectrum.path=net.csv", "target=0.1", "batch_size=8")
    run(tmp_path, *typed, "study.name=mine", "study.n_trials=3", "tracking=none")
    problem = nqm.NoisyQuadratic(nqm.load_spectrum(tmp_path / "net.csv"), 8)
    nqm.run_study(problem, "sgd", target=0.1, n_trials=5, storage=tmp_path)
    nqm.run_study(problem, "sgd", target=0.2, n_trials=2, storage=tmp_path)
    counts = stored(tmp_path)
    assert counts.pop("mine") == 5
    assert [(name.split("-")[1], count) for name, count in counts.items()] == [("custom", 2)]


@pytest.mark.parametrize("name", ["a.journal", "b.log", "mlruns", "mlruns/optuna.journal"])
def test_a_place_that_is_not_there_is_made_where_its_name_says_what_it_is(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for n_trials in (2, 3):
        in_python(tmp_path / name, n_trials)
    frame = nqm.studies_frame(tmp_path / name)
    assert frame["n_trials"].tolist() == [3]


def test_a_file_that_is_no_journal_is_refused_as_it_is_and_so_are_other_places(
    tmp_path: Path,
) -> None:
    text = "learning_rate,steps\n0.1,3"  # opened as a journal, its last line would be cut off
    (tmp_path / "a.journal").write_text(text)
    for place in ("a.journal", "missing.db", "no/mlruns", "no/a.journal", "."):
        with pytest.raises(ValueError, match=r"^storage=.*: must be Optuna's storage or its URL"):
            in_python(tmp_path / place, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.journal"]
    assert (tmp_path / "a.journal").read_text() == text


def test_python_waits_while_another_process_runs_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_python(tmp_path / "mlruns", 2)
    (record,) = read_records(journal(tmp_path / "mlruns"))
    lock, held = Backend().lock(tmp_path / "mlruns", "run", record.name), []
    monkeypatch.setattr("nqm_study.api._run", lambda *_: held.append(lock.acquire(timeout=0.0)))
    in_python(tmp_path / "mlruns", 3)
    assert held == [False]
