import io

import pytest
from fake_records import (
    LEARNING_RATE,
    adam,
    bounded,
    curves,
    momentum,
    optimal,
    sgd,
    study,
    sweep,
    trial,
    with_optima,
)
from rich.console import Console

from nqm_study.report import words
from nqm_study.report.tables import result_table
from nqm_study.study.definition import Range
from nqm_study.study.records import StudyRecord


def render(records: list[StudyRecord], width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(result_table(curves(records)))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def row(text: str, *starts: str) -> list[str]:
    (found,) = [
        line.split() for line in text.splitlines() if line.split()[: len(starts)] == [*starts]
    ]
    return found


def headings(text: str) -> str:
    return " ".join(text.split("─", maxsplit=1)[0].split())


def test_row_holds_steps_hyperparameters_trials_and_ratio() -> None:
    text = render(momentum([256]))
    assert row(text, "momentum") == ["momentum", "256", "19,671", "0.147", "0.99", "1", "10.2", "-"]
    assert "target loss 0.01" in text
    assert "spectrum paper" in text


def test_hyperparameters_that_do_not_apply_have_no_column() -> None:
    text = headings(render(sgd([256])))
    assert "learning" in text
    assert "momentum" not in text
    assert "beta1" not in text
    assert " eps " not in headings(render(adam([256])))
    assert "beta2" in headings(render(adam([256])))


def test_cell_of_a_hyperparameter_an_optimizer_lacks_is_a_dash() -> None:
    text = render(sgd([256]) + adam([256]))
    assert row(text, "sgd")[4:6] == ["-", "-"]


def test_unreached_batch_size_says_so() -> None:
    text = render([study(trial(None), batch_size=4), study(trial(100), batch_size=64)])
    assert "target not reached" in text
    assert row(text, "sgd", "4")[2:5] == ["target", "not", "reached"]


def test_a_row_that_missed_the_target_has_what_was_given_and_its_trials() -> None:
    fixed = {"hyperparameters": {"learning_rate": 1.9}}
    records = [
        study(trial(None), batch_size=4, **fixed),
        study(trial(100, learning_rate=1.9), batch_size=64, **fixed),
    ]
    text = render(records)
    name = ["sgd,", "learning_rate", "1.9"]
    assert row(text, *name, "4") == [
        *name, "4", "target", "not", "reached", "1.9", "1", "-", "-",
    ]  # fmt: skip
    assert row(text, *name, "64")[4:7] == ["100", "1.9", "1"]
    assert "trials 1" in render(records, width=60), "the number is the same in all rows"


def test_range_over_seeds_is_shown_with_several_seeds_only() -> None:
    seeds = [study(trial(1000 + seed), seed=seed) for seed in range(3)]
    assert "1,000 to 1,002" in render(seeds)
    assert "over" not in headings(render(seeds[:1]))


def test_seeds_that_missed_are_counted() -> None:
    text = render([study(trial(1000)), study(trial(None), seed=1)])
    assert "1 of 2 reached" in text


def test_differing_targets_and_spectra_have_columns() -> None:
    text = render(sgd([256]) + sgd([256], target=0.1) + sgd([256], spectrum="file"), width=80)
    assert headings(text).startswith("Fewest steps, schedule constant, trials 1 ")
    assert row(text, "file", "0.01")[2:4] == ["sgd,", "file"]


def test_nothing_is_cut_off_at_eighty_columns() -> None:
    text = render(sgd() + momentum() + adam(), width=80)
    assert "…" not in text
    for value in ("1,513,434", "1048576", "7,004", "0.99921", "0.000342"):
        assert value in text


def test_no_curves_say_so() -> None:
    assert "no finished trials" in render([])


def test_label_with_brackets_is_not_markup() -> None:
    assert "[bold]" in render([study(trial(100), optimizer="[bold]")])


def test_values_near_one_keep_their_distance_from_one() -> None:
    assert words.hyperparameter(0.99987) == "0.99987"
    assert words.hyperparameter(0.999) == "0.999"
    assert words.hyperparameter(0.9) == "0.9"
    assert words.hyperparameter(1.71e-4) == "0.000171"


def test_both_ratios_have_columns() -> None:
    text = render(bounded(sgd([4])), width=80)
    assert headings(text).endswith("Bayes rate <= optimizer size steps rate trials bound 2/h_1")
    assert row(text, "sgd")[-2:] == ["12.2", "7.69"]
    assert row(render(optimal([256])), "sgd,", "optimal")[-1] == "1.00"


def test_sgd_and_adam_fit_eighty_columns_with_two_spaces_between() -> None:
    lines = render(bounded(sgd() + adam()), width=80).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    (line,) = [line for line in lines if line.split()[:2] == ["adam", "4"]]
    assert "347,502  0.000342    0.9  0.999" in line


def test_curves_of_several_schedules_are_told_apart() -> None:
    text = render(sgd([4]) + sgd([4], schedule="cosine") + adam([4], schedule="cosine"))
    assert "schedule" not in text.splitlines()[0]
    for label in (["sgd", "4"], ["sgd,", "cosine"], ["adam,", "cosine"]):
        assert row(text, *label)


def test_rates_of_a_schedule_are_peak_rates() -> None:
    assert "peak" in headings(render(sgd([4], schedule="cosine")))
    assert "peak" not in headings(render(sgd([4])))


def pieces(n_ratios: int) -> list[StudyRecord]:
    names = [f"ratio_{k}" for k in range(2, 2 + n_ratios)]
    return sweep(
        lambda b: 1e6 / b,
        lambda _: 0.1,
        [4],
        others={"final_fraction": lambda _: 0.25, **{name: lambda _: 0.125 for name in names}},
        hyperparameters={
            "learning_rate": LEARNING_RATE,
            **{name: Range(0.0, 1.0, "linear") for name in ("final_fraction", *names)},
        },
        schedule="piecewise_constant",
    )


def test_many_ratios_of_pieces_are_left_to_mlflow() -> None:
    three, five = render(pieces(3)), render(pieces(5))
    assert row(three, "sgd,").count("0.125") == 3
    assert row(five, "sgd,").count("0.125") == 0
    assert "0.25" in row(five, "sgd,"), "other hyperparameters of a schedule stay"


def test_excess_over_the_true_optimum_has_a_column_where_one_is_known() -> None:
    excess = {4: 0.0, 16: 1e-5, 64: 0.0034, 256: 0.12}
    known = with_optima(sgd(list(excess)), lambda b: excess[int(b)])
    text = render(known + sgd([1024]))
    assert "optimum" in headings(text)
    found = [row(text, "sgd", str(size))[3:5] for size in (4, 16, 64, 256, 1024)]
    assert found[:4] == [["0", "%"], ["<0.1", "%"], ["0.3", "%"], ["12", "%"]]
    assert found[4][0] == "-"
    assert "optimum" not in headings(render(sgd([4])))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 %"),
        (4e-4, "<0.1 %"),
        (-4e-4, "<0.1 %"),
        (6e-4, "0.1 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (-0.031, "-3.1 %"),
        (12.5, "1,250 %"),
        (float("inf"), "-"),
    ],
)
def test_a_percentage_of_zero_is_said_of_zero_alone(value: float, text: str) -> None:
    assert words.percent(value) == text


def test_tables_with_optima_fit_eighty_columns() -> None:
    several = [r for seed in range(2) for r in with_optima(bounded(sgd(seed=seed)))]
    cases = {
        "one": with_optima(bounded(sgd())),
        "two": with_optima(bounded(sgd() + adam())),
        "three": with_optima(bounded(sgd() + momentum() + adam())),
        "seeds": several,
    }
    for records in cases.values():
        lines = render(records, width=80).splitlines()
        assert max(len(line.rstrip()) for line in lines) <= 80


def test_what_is_missed_least_is_left_out_first() -> None:
    two = render(with_optima(bounded(sgd() + adam())), width=80)
    assert two.splitlines()[0].rstrip().endswith("trials 1"), "the same in all rows"
    assert headings(two).count("trials") == 1, "in the title alone"
    assert "Bayes" in headings(two)
    shorter = [*sgd(), study(trial(100), trial(90, 1), optimizer="momentum", batch_size=256)]
    assert "trials" not in render(bounded(shorter + adam()), width=80).splitlines()[0]
    both = [r for seed in (0, 1) for r in with_optima(bounded(sgd(seed=seed) + adam(seed=seed)))]
    assert "over seeds" not in headings(render(both, width=80))
    missed = [*both, study(trial(None), seed=2, batch_size=4)]
    assert "over seeds" in headings(render(missed, width=80)), "it says that one missed the target"
