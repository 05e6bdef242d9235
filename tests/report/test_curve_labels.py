import dataclasses

from fake_records import ADAM, LEARNING_RATE, MOMENTUM, definition

from nqm_study.report.labels import labels
from nqm_study.study.definition import Range, StudyDefinition


def test_optimizer_alone_is_enough_where_optimizers_differ() -> None:
    made = [definition(), definition(optimizer="adam", hyperparameters=ADAM)]
    assert labels(made) == ("sgd", "adam")


def test_a_schedule_is_named_unless_it_is_constant() -> None:
    made = [
        definition(),
        definition(schedule="optimal", sampler={"name": "none"}),
        definition(optimizer="adam", hyperparameters=ADAM, schedule="cosine"),
    ]
    assert labels(made) == ("sgd", "sgd, optimal", "adam, cosine")
    assert [labels([each]) for each in made] == [("sgd",), ("sgd, optimal",), ("adam, cosine",)]


def test_what_was_chosen_by_hand_is_named_whatever_else_there_is() -> None:
    fixed = {"learning_rate": LEARNING_RATE, "final_fraction": 0.0}
    some = {
        "sgd, optimal, pieces 6": {"schedule": "optimal", "schedule_settings": {"pieces": 6.0}},
        "sgd, optimal": {"schedule": "optimal", "schedule_settings": {"pieces": 50.0}},
        "sgd, cosine, final_fraction 0": {"schedule": "cosine", "hyperparameters": fixed},
        "sgd, momentum searched": {"hyperparameters": MOMENTUM},
        "sgd, learning_rate 0.3": {"hyperparameters": {"learning_rate": 0.3}},
        "sgd, cmaes": {"sampler": {"name": "cmaes"}},
        "mine, v 0.7": {"optimizer": "mine", "hyperparameters": {"v": 0.7}},
    }
    for name, changes in some.items():
        assert labels([definition(**changes)]) == (name,)
    assert labels([definition(**changes) for changes in some.values()]) == tuple(some)


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
        "adam, beta2 half_life",
    )


def test_fixed_and_searched_hyperparameters_are_told_apart() -> None:
    fixed = {"learning_rate": LEARNING_RATE, "momentum": 0.9}
    made = [definition(optimizer="momentum", hyperparameters=h) for h in (MOMENTUM, fixed)]
    assert labels(made) == ("momentum", "momentum, momentum 0.9")


def test_moved_bounds_are_written_out() -> None:
    made = [definition(hyperparameters={"learning_rate": Range(1e-4, high)}) for high in (1, 2)]
    assert labels(made) == ("sgd", "sgd, learning_rate 0.0001..2")


def test_values_that_round_alike_are_written_in_full() -> None:
    made = [
        definition(hyperparameters={"learning_rate": LEARNING_RATE, "momentum": value})
        for value in (0.99999991, 0.99999992)
    ]
    assert labels(made) == ("sgd, momentum 0.99999991", "sgd, momentum 0.99999992")


def test_of_curves_of_one_name_that_with_the_finish_keeps_it() -> None:
    finish = definition(sampler={"name": "tpe", "finish": 0.6})
    for made in ([finish, definition()], [definition(), finish]):
        assert dict(zip(made_names(made), labels(made), strict=True)) == {
            "tpe + finish": "sgd",
            "tpe": "sgd, tpe",
        }


def made_names(made: list[StudyDefinition]) -> list[str]:
    return [each.sampler_text for each in made]


def test_how_a_study_is_run_is_in_its_name_unless_it_is_the_usual_way() -> None:
    changes: list[dict[str, object]] = [
        {},
        {"max_steps": 3000},
        {"max_steps": 1500},
        {"max_growth": 50.0},
        {"max_growth": None},
        {"warm_start": False},
        {"enqueued": ({"learning_rate": 0.1},)},
    ]
    made = [definition(**each) for each in changes]
    names = (
        *("sgd", "sgd, max_steps 3000", "sgd, max_steps 1500", "sgd, max_growth 50"),
        *("sgd, any growth", "sgd, no first guess", "sgd, enqueued learning_rate 0.1"),
    )
    assert labels(made) == names
    assert labels(made[::-1]) == names[::-1]
    assert [labels([each]) for each in made] == [(name,) for name in names], "alone as together"


def test_of_several_problems_all_are_named_in_the_fewest_words() -> None:
    made = [
        definition(target=0.1),
        definition(target=0.2, sampler={"name": "gp"}),
        definition(target=0.2, optimizer="adam", hyperparameters=ADAM),
    ]
    assert labels(made) == ("sgd, target 0.1", "sgd, gp, target 0.2", "adam, target 0.2")


def test_labels_are_unique_where_several_properties_are_needed() -> None:
    made = [
        definition(schedule=schedule, target=target, sampler={"name": "tpe", "n_startup": n})
        for schedule in ("constant", "cosine")
        for target in (0.1, 0.01)
        for n in (10, 20)
    ]
    named = labels(made)
    assert len(set(named)) == len(made)
    assert named[:2] == ("sgd, target 0.1", "sgd, n_startup 20, target 0.1")


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
    assert labels(files) == ("sgd", "sgd, b.csv, scale 0.25")
    law = definition(spectrum="power_law", spectrum_settings={"dim": 1e4, "exponent": 1.0})
    other = dataclasses.replace(law, spectrum_digest="d2")
    assert labels([files[0], other]) == ("sgd, file", "sgd, power_law")
    scaled = [
        definition(spectrum="file", spectrum_settings={"file": "a.csv", "modes": 2.0, **scale})
        for scale in ({}, {"scale": 0.25}, {"scale": 4.0})
    ]
    assert labels(scaled) == ("sgd", "sgd, scale 0.25", "sgd, scale 4")
