"""The name and the look of a curve, whatever is drawn with it."""

import itertools
from typing import Any

from fake_records import ADAM, LEARNING_RATE, MOMENTUM, curves, optimal, sgd, study, trial

from nqm_study.report.axes import Look
from nqm_study.report.frame import OPTIMIZERS, SCHEDULES
from nqm_study.report.labels import labels
from nqm_study.report.looks import COLORS, curve_looks, sampler_looks
from nqm_study.study.records import StudyRecord

FREE = {"learning_rate": LEARNING_RATE}


def sweep(**changes: Any) -> list[StudyRecord]:
    return [study(trial(1000), batch_size=size, **changes) for size in (4, 16)]


DOZEN = [
    sweep(hyperparameters=FREE),
    sweep(hyperparameters=FREE, schedule="linear"),
    sweep(hyperparameters=FREE, schedule="cosine"),
    sweep(optimizer="momentum", hyperparameters=MOMENTUM),
    sweep(optimizer="momentum", hyperparameters={**FREE, "momentum": 0.9}),
    sweep(optimizer="momentum", hyperparameters={**FREE, "momentum": 0.99}),
    sweep(optimizer="momentum", hyperparameters=MOMENTUM, schedule="warmup_stable_decay"),
    sweep(optimizer="adam", hyperparameters=ADAM),
    sweep(optimizer="adam", hyperparameters={**ADAM, "beta2": 0.99}),
    sweep(optimizer="adam", hyperparameters=ADAM, schedule="cosine"),
    sweep(optimizer="lion_of_mine", hyperparameters=FREE),
    optimal([4, 16]),
]


def shown(sweeps: list[list[StudyRecord]]) -> dict[str, tuple[str, Look]]:
    found = curves(record for each in sweeps for record in each)
    pairs = zip(found, curve_looks(found), strict=True)
    return {curve.key: (curve.label, look) for curve, look in pairs}


def test_names_and_looks_stay_as_they_are_when_curves_join_in_any_order() -> None:
    together = shown(DOZEN)
    assert len({name for name, _ in together.values()}) == len(DOZEN)
    assert len({look for _, look in together.values()}) == len(DOZEN)
    for part in (DOZEN[::-1], DOZEN[:5], DOZEN[7:], *([each] for each in DOZEN)):
        assert shown(part).items() <= together.items()
    # What has joined is a subset, whatever the order was: these are all there are.
    drawn = curves(record for each in DOZEN for record in each)
    named = {each[0].definition.curve: each[0].definition for each in DOZEN}
    for n in range(1, len(DOZEN)):
        for some in itertools.combinations(drawn, n):
            names = labels([named[curve.key] for curve in some])
            pairs = zip(names, curve_looks(some), strict=True)
            found = dict(zip((curve.key for curve in some), pairs, strict=True))
            assert found.items() <= together.items()


def test_a_sweep_keeps_its_looks_when_two_of_other_optimizers_join() -> None:
    first, second, third = DOZEN[0] + DOZEN[4], DOZEN[7], DOZEN[3] + DOZEN[10]
    before = shown([first])
    assert before.items() <= shown([first, second]).items() <= shown([first, second, third]).items()


def test_no_usual_optimizer_has_the_colour_of_another_under_a_schedule() -> None:
    usual = ("sgd", "momentum", "nesterov", "adam")
    for schedule in ("linear", "cosine", "step_decay", "warmup_stable_decay", "optimal"):
        drawn = [
            sweep(hyperparameters=FREE, optimizer=optimizer, schedule=each)
            for optimizer in usual
            for each in ("constant", schedule)
        ]
        found = curves(record for each in drawn for record in each)
        assert len({look.color for look in curve_looks(found)}) == 2 * len(usual)


def test_every_optimizer_under_every_schedule_has_a_look_of_its_own() -> None:
    every = [
        sweep(optimizer=optimizer, schedule=schedule, hyperparameters=FREE)
        for optimizer in OPTIMIZERS
        for schedule in SCHEDULES
    ]
    found = curves(record for each in every for record in each)
    drawn = {
        (c.optimizer, c.schedule): look for c, look in zip(found, curve_looks(found), strict=True)
    }
    assert len(set(drawn.values())) == len(OPTIMIZERS) * len(SCHEDULES)
    for optimizer in OPTIMIZERS:
        assert len({drawn[optimizer, schedule].color for schedule in SCHEDULES}) == len(SCHEDULES)
    for schedule in SCHEDULES:
        of_one = [drawn[optimizer, schedule] for optimizer in OPTIMIZERS]
        assert len({look.color for look in of_one}) == len(OPTIMIZERS)
        assert len({look.marker for look in of_one}) == len(OPTIMIZERS), "in grey"


def test_curves_that_share_all_but_a_setting_never_share_a_colour() -> None:
    powers = [
        sweep(hyperparameters={**FREE, "preconditioner_power": k / 10}) for k in range(len(COLORS))
    ]
    assert len({look.color for _, look in shown(powers).values()}) == len(COLORS)
    many = [sweep(hyperparameters=FREE, max_steps=10**6 + k) for k in range(60)]
    assert len({look for _, look in shown(many).values()}) == len(many)


def test_targets_in_one_figure_have_looks_of_their_own() -> None:
    found = shown([sgd([4]), sgd([4], target=0.1), sgd([4], target=0.2)])
    assert len({look.color for _, look in found.values()}) == 3


def test_a_sampler_looks_alike_beside_any_others() -> None:
    some = sampler_looks(["tpe", "cmaes", "mine"])
    assert some.items() <= sampler_looks(["random", "tpe", "cmaes", "gp", "mine"]).items()
    assert len(set(some.values())) == 3
