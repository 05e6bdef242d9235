import dataclasses

from fake_records import ADAM, LEARNING_RATE, MOMENTUM, definition

from nqm_study.report.labels import labels
from nqm_study.study.definition import Range


def test_optimizer_alone_is_enough_where_optimizers_differ() -> None:
    made = [definition(target=0.1), definition(optimizer="adam", hyperparameters=ADAM)]
    assert labels(made) == ("sgd", "adam")


def test_schedules_that_differ_are_named_with_every_curve() -> None:
    # Without them nothing in a table would tell which schedule a row is of.
    made = [definition(), definition(optimizer="adam", hyperparameters=ADAM, schedule="cosine")]
    assert labels(made) == ("sgd, constant", "adam, cosine")


def test_schedule_is_named_though_shorter_texts_would_do() -> None:
    made = [
        definition(),
        definition(schedule="optimal", sampler={"name": "none"}),
        definition(schedule="cosine", hyperparameters={"learning_rate": LEARNING_RATE}),
    ]
    assert labels(made) == ("sgd, constant", "sgd, optimal", "sgd, cosine")


def test_one_schedule_with_other_settings_or_hyperparameters_is_told_apart() -> None:
    pieces = [
        definition(schedule="optimal", schedule_settings={"pieces": count}) for count in (6.0, 50.0)
    ]
    assert labels(pieces) == ("sgd, pieces 6", "sgd, pieces 50")
    fixed = {"learning_rate": LEARNING_RATE, "final_fraction": 0.0}
    searched = {**fixed, "final_fraction": Range(1e-4, 1.0)}
    cosines = [definition(schedule="cosine", hyperparameters=h) for h in (fixed, searched)]
    assert labels([definition(), *cosines]) == (
        "sgd, constant",
        "sgd, cosine, final_fraction 0",
        "sgd, cosine, final_fraction searched",
    )


def test_a_half_life_curve_is_always_told_from_a_fixed_one() -> None:
    fixed = definition(optimizer="adam", hyperparameters=ADAM)
    half = [
        dataclasses.replace(
            fixed,
            optimizer_settings={"beta2_policy": "half_life", "beta2_batch_size": batch_size},
        )
        for batch_size in (256.0, 64.0)
    ]
    assert labels([fixed, half[0]]) == ("adam", "adam, beta2 half_life")
    assert labels([definition(), half[0]]) == ("sgd", "adam, beta2 half_life")
    assert labels([fixed, *half]) == (
        "adam",
        "adam, beta2 half_life, beta2_batch_size 256",
        "adam, beta2 half_life, beta2_batch_size 64",
    )


def test_only_what_differs_is_named() -> None:
    made = [
        definition(),
        definition(schedule="cosine"),
        definition(optimizer="adam", hyperparameters=ADAM),
    ]
    assert labels(made) == ("sgd, constant", "sgd, cosine", "adam, constant")


def test_fixed_and_searched_hyperparameters_are_told_apart() -> None:
    fixed = {"learning_rate": LEARNING_RATE, "momentum": 0.9}
    made = [definition(hyperparameters=values) for values in (MOMENTUM, fixed)]
    assert labels(made) == ("sgd, momentum searched", "sgd, momentum 0.9")


def test_moved_bounds_are_written_out() -> None:
    made = [definition(hyperparameters={"learning_rate": Range(1e-4, high)}) for high in (1, 2)]
    assert labels(made) == ("sgd, learning_rate 0.0001..1", "sgd, learning_rate 0.0001..2")


def test_values_that_round_alike_are_written_in_full() -> None:
    made = [
        definition(hyperparameters={"learning_rate": LEARNING_RATE, "momentum": value})
        for value in (0.99999991, 0.99999992)
    ]
    assert labels(made) == ("sgd, momentum 0.99999991", "sgd, momentum 0.99999992")


def test_one_property_is_preferred_to_two_and_the_shorter_to_the_longer() -> None:
    made = [
        definition(target=0.1, max_steps=10**6, sampler={"name": "tpe"}),
        definition(target=0.2, max_steps=10**7, sampler={"name": "gp"}),
    ]
    assert labels(made) == ("sgd, tpe", "sgd, gp")


def test_labels_are_unique_where_several_properties_are_needed() -> None:
    made = [
        definition(schedule=schedule, target=target, sampler={"name": "tpe", "n_startup": n})
        for schedule in ("constant", "cosine")
        for target in (0.1, 0.01)
        for n in (10, 20)
    ]
    named = labels(made)
    assert len(set(named)) == len(made)
    assert named[0] == "sgd, constant, target 0.1, n_startup 10"


def test_definitions_no_text_tells_apart_still_have_unique_labels() -> None:
    made = [
        definition(hyperparameters={"learning_rate": LEARNING_RATE, "momentum": value})
        for value in (0, 0.0)
    ]
    assert len(set(labels(made))) == 2


def test_one_spectrum_under_several_names_is_told_apart_by_what_it_was_made_from() -> None:
    files = [
        definition(spectrum="file", spectrum_settings={"file": file, "modes": 13.5, **scale})
        for file, scale in (("a.csv", {}), ("b.csv", {"scale": 0.25}))
    ]
    assert labels(files) == ("sgd, a.csv", "sgd, b.csv")
    law = definition(spectrum="power_law", spectrum_settings={"dim": 1e4, "exponent": 1.0})
    assert labels([files[0], law]) == ("sgd, file", "sgd, power_law")
    scaled = [
        definition(spectrum="file", spectrum_settings={"file": "a.csv", "modes": 2.0, **scale})
        for scale in ({}, {"scale": 0.25}, {"scale": 4.0})
    ]
    assert labels(scaled) == ("sgd, no scale", "sgd, scale 0.25", "sgd, scale 4")
