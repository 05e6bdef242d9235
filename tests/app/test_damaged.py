"""Beside studies that others damaged a run and a report end as they should, with a line each."""

from collections.abc import Callable
from pathlib import Path

import optuna
from damaged import spoil
from program import ONE, run, runs, stored

from nqm_study.study.storage.journal import open_journal


def test_a_run_and_a_report_go_on_beside_damaged_studies(
    studied: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(studied)
    (mine,) = stored(folder)
    names = spoil(open_journal(folder / "mlruns" / "optuna.journal"))
    for module, arguments in (("nqm_study", (*ONE, "study.n_trials=6")), ("nqm_study.report", ())):
        done = run(folder, *arguments, module=module)
        said = [line for line in done.stderr.splitlines() if "is passed over" in line]
        assert len(said) == len(names)
        assert all(line.startswith(f"{module}: study ") for line in said)
        assert "Traceback" not in done.stderr
        assert "sgd" in done.stdout
    assert stored_trials(folder, mine) == 6
    assert len(runs(folder, "trial")) == 6
    damaged = run(folder, *ONE, "study.name='a text'", status=2)
    assert damaged.stderr.startswith("nqm_study: study.name=a text: was stored by another version")
    assert damaged.stderr.count("\n") == 1


def stored_trials(folder: Path, name: str) -> int:
    storage = open_journal(folder / "mlruns" / "optuna.journal")
    return len(optuna.load_study(study_name=name, storage=storage).trials)
