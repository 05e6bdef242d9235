"""Choosing studies for a comparison, and naming its curves."""

from __future__ import annotations

import dataclasses

import pytest
from fake_records import adam, momentum, sgd, study, trial

from nqm_study.report.scaling import curves
from nqm_study.report.selection import select
from nqm_study.study.records import StudyRecord

RECORDS = [
    *sgd([4, 64, 1024]),
    *sgd([64], target=0.1, seed=3),
    *momentum([64]),
    *adam([64], schedule="cosine", schedule_settings={"cycles": 2.0}),
]


def chosen(text: str) -> list[tuple[str, float, float]]:
    found = [record.definition for record in select(RECORDS, text)]
    return [(each.optimizer, each.one_batch_size, each.target) for each in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 6),
        ("optimizer=sgd", 4),
        ("optimizer=sgd,adam", 5),
        ("optimizer!=sgd", 2),
        ("optimizer=*m", 2),
        ("target=0.01", 5),
        ("target=0.010 batch_size=64", 3),
        ("batch_size>=64 batch_size<1024", 4),
        ("batch_size>2^6", 1),
        ("momentum=searched", 1),
        ("optimizer.momentum=0", 4),
        ("schedule.cycles=2", 1),
        ("seed=3", 1),
        ("sampler=tpe spectrum=paper", 6),
    ],
)
def test_a_filter_chooses_what_all_its_terms_hold_for(text: str, expected: int) -> None:
    assert len(chosen(text)) == expected


def test_a_study_is_chosen_by_its_name_and_by_any_of_its_reports() -> None:
    records = [dataclasses.replace(RECORDS[0], reports=("a", "b")), *RECORDS[1:]]
    assert select(records, "report=b") == (records[0],)
    assert select(records, f"study={RECORDS[1].name}") == (RECORDS[1],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer", "must be key=value"),
        ("optimiser=sgd", "no study has optimiser; there are .*optimizer"),
        ("batch_size>many", "> must be followed by a number"),
        ("optimizer=adam batch_size=4", "no study of 6 is so"),
    ],
)
def test_a_filter_that_is_none_or_chooses_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(RECORDS, text)


def test_studies_without_finished_trials_are_no_choice() -> None:
    empty: StudyRecord = study()
    assert select([empty, study(trial(7))], "") == (study(trial(7)),)


def test_curves_are_named_by_the_keys_that_are_asked_for() -> None:
    some = [*sgd([64]), *adam([64], schedule="cosine")]
    assert [curve.label for curve in curves(some)] == ["sgd, constant", "adam, cosine"]
    assert [curve.label for curve in curves(some, ["schedule"])] == ["constant", "cosine"]
    named = curves(sgd([64]) + sgd([64], target=0.1), ["target", "optimizer"])
    assert [curve.label for curve in named] == ["target 0.01, sgd", "target 0.1, sgd"]


def test_curves_that_the_keys_leave_alike_are_told_apart_by_what_else_differs() -> None:
    some = curves(sgd([64]) + sgd([64], target=0.1) + adam([64]), ["optimizer"])
    assert [curve.label for curve in some] == ["sgd, target 0.01", "adam", "sgd, target 0.1"]


def test_a_key_of_no_study_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--by=colour: must be of .*optimizer"):
        curves(sgd([64]), ["colour"])


def test_curves_of_one_optimizer_come_in_the_order_of_what_is_fixed() -> None:
    powers = (0.75, 0.0, 1.0, 0.25)
    some = [
        record
        for power in powers
        for record in sgd([64], hyperparameters={"preconditioner_power": power})
    ]
    labels = [curve.label for curve in curves(some)]
    assert labels == [f"sgd, power {power:g}" for power in sorted(powers)]
