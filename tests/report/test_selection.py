"""Choosing studies for a comparison, and naming its curves."""

from __future__ import annotations

import dataclasses

import pytest
from fake_records import adam, curves, momentum, sgd, study, trial

from nqm_study.report import curves as scaling
from nqm_study.report.frame import studies_frame
from nqm_study.report.selection import named_by, select
from nqm_study.study.records import StudyRecord

RECORDS = [
    *sgd([4, 64, 1024]),
    *sgd([64], target=0.1, seed=3),
    *momentum([64]),
    *adam([64], schedule="cosine", schedule_settings={"cycles": 2.0}),
]


def chosen(text: str) -> list[tuple[str, float, float]]:
    found = select(studies_frame(RECORDS), text)
    return list(zip(found.optimizer, found.batch_size, found.target, strict=True))


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
        ('optimizer == "sgd" and batch_size >= 64', 3),
        ("batch_size>=2**6 and target==0.1", 1),
        ("optimizer in ['momentum', 'adam']", 2),
        ("steps_to_target < 20000 or schedule != 'constant'", 2),
        ("cycles == 2", 1),
        ('study.str.contains("cosine")', 1),
    ],
)
def test_a_filter_chooses_what_all_its_terms_hold_for(text: str, expected: int) -> None:
    assert len(chosen(text)) == expected


def test_a_study_is_chosen_by_its_name_and_by_any_of_its_reports() -> None:
    records = [dataclasses.replace(RECORDS[0], reports=("a", "b")), *RECORDS[1:]]
    frame = studies_frame(records)
    assert list(select(frame, "report=b").study) == [records[0].name]
    assert list(select(frame, f"study={RECORDS[1].name}").study) == [RECORDS[1].name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer", "must be key=value"),
        ("optimiser=sgd", "no study has optimiser; there are .*optimizer"),
        ("batch_size>many", "> must be followed by a number"),
        ("optimizer=adam batch_size=4", "no study of 6 is so"),
        ("batch_size == 5", "no study of 6 is so"),
        ("batch_size + 5", "must be key=value, .* or a condition such as"),
        ("optimiser == 'sgd'", "must be key=value, .*optimiser.* there are study, optimizer, "),
        ("batch_size >= and", "must be key=value"),
    ],
)
def test_a_filter_that_is_none_or_chooses_nothing_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(studies_frame(RECORDS), text)


def test_studies_without_finished_trials_are_no_choice() -> None:
    empty: StudyRecord = study()
    assert list(select(studies_frame([empty, study(trial(7))]), "").n_trials) == [1]


def named_curves(records: list[StudyRecord], *keys: str) -> tuple[scaling.Curve, ...]:
    return scaling.curves(named_by(studies_frame(records), keys))


def test_curves_are_named_by_the_keys_that_are_asked_for() -> None:
    some = [*sgd([64]), *adam([64], schedule="cosine")]
    assert [curve.label for curve in curves(some)] == ["sgd", "adam, cosine"]
    assert [curve.label for curve in named_curves(some, "schedule")] == ["constant", "cosine"]
    named = named_curves(sgd([64]) + sgd([64], target=0.1), "target", "optimizer")
    assert [curve.label for curve in named] == ["target 0.01, sgd", "target 0.1, sgd"]


def test_curves_that_the_keys_leave_alike_are_told_apart_by_what_else_differs() -> None:
    some = named_curves(sgd([64]) + sgd([64], target=0.1) + adam([64]), "optimizer")
    assert [curve.label for curve in some] == ["sgd, target 0.01", "adam", "sgd, target 0.1"]


def test_a_key_of_no_study_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--by=colour: must be of .*optimizer"):
        named_curves(sgd([64]), "colour")


def test_curves_of_one_optimizer_come_in_the_order_of_what_is_fixed() -> None:
    powers = (0.75, 0.0, 1.0, 0.25)
    some = [
        record
        for power in powers
        for record in sgd([64], hyperparameters={"preconditioner_power": power})
    ]
    labels = [curve.label for curve in curves(some)]
    assert labels == ["sgd", *(f"sgd, power {power:g}" for power in sorted(powers)[1:])]
