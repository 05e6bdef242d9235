"""Curves of optimizers that the report does not know."""

from dataclasses import replace

from fake_records import definition

from nqm_study.report.labels import labels, own_label
from nqm_study.study.definition import Range

QHM = {"learning_rate": Range(None, None), "momentum": Range(None, None, "log_one_minus")}


def test_an_unknown_optimizer_is_named_by_its_name_and_what_is_given() -> None:
    made = replace(definition(), optimizer="qhm", hyperparameters=QHM)
    assert own_label(made) == "qhm"
    given = replace(made, hyperparameters={**QHM, "v": 0.7})
    assert own_label(given) == "qhm, v 0.7"


def test_code_that_differs_is_told_where_names_are_alike() -> None:
    made = [
        replace(definition(), optimizer="qhm", hyperparameters=QHM, code={"optimizer": code})
        for code in ("mine.QHM 1", "mine.QHM 2")
    ]
    first, second = labels(made)
    assert {first, second} == {"qhm", "qhm, code mine.QHM 2"}
