"""Studies that others changed, or made with another version, are passed over with one line each."""

from pathlib import Path

import optuna
import pytest
from damaged import spoil
from optuna.storages import BaseStorage
from studies import definition, journal, run_in

from nqm_study.study.storage.studies import UnreadableError, check_definition, read_records


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[BaseStorage, list[str]]:
    storage = journal(tmp_path_factory.mktemp("spoiled"))
    run_in(storage, definition(), 3)
    return storage, spoil(storage)


def test_each_damaged_study_is_passed_over_with_one_line_that_names_it(
    spoiled: tuple[BaseStorage, list[str]],
) -> None:
    storage, names = spoiled
    said: list[str] = []
    assert [record.name for record in read_records(storage, said.append)] == ["study"]
    shown = [name.replace("\x1b", "\\x1b") for name in sorted(names)]
    assert [line.partition(": is passed over, ")[0] for line in said] == [
        f"study {n}" for n in shown
    ]
    assert all(line.isprintable() for line in said)


def test_the_very_study_that_is_to_be_continued_is_refused_if_it_is_damaged(
    spoiled: tuple[BaseStorage, list[str]],
) -> None:
    storage, names = spoiled
    for name in names:
        stored = optuna.load_study(study_name=name, storage=storage)
        with pytest.raises(UnreadableError, match="was stored by another version") as refusal:
            check_definition(stored, definition())
        assert str(refusal.value).isprintable()


def test_reading_in_python_warns_of_what_is_passed_over(tmp_path: Path) -> None:
    study = optuna.create_study(storage=journal(tmp_path), study_name="odd")
    study.set_user_attr("nqm_study", "mine")
    with pytest.warns(UserWarning, match="^study odd: is passed over, "):
        assert read_records(journal(tmp_path)) == ()


@pytest.mark.parametrize("direction", ["maximize", "both"])
def test_an_empty_study_of_other_objectives_is_refused(tmp_path: Path, direction: str) -> None:
    directions = ["minimize"] * 2 if direction == "both" else [direction]
    optuna.create_study(storage=journal(tmp_path), study_name="study", directions=directions)
    with pytest.raises(ValueError, match="did not make"):
        run_in(journal(tmp_path), definition(), 2)
