"""The figure, the table and the numbers of studies that search the batch size too."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from fake_records import NOON, csv_rows, curves, figure_of, sgd, study
from rich.console import Console
from terminal_sheets import require_whole_numbers

from nqm_study.app.publish import publish, show
from nqm_study.report.figures import pareto
from nqm_study.report.frame import studies_frame
from nqm_study.report.pareto import frontiers, pareto_sentence, spread
from nqm_study.report.regret import regrets
from nqm_study.report.tables import pareto_table
from nqm_study.report.write import write_figures
from nqm_study.study.definition import Range
from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.tracking import layout

SIZES = Range(4, 2**20)
EXACT = tuple((2.0**k, round(7000 + 6e6 / 2.0**k)) for k in range(2, 21))


def steps(batch_size: float, excess: float = 0.0) -> int:
    return round((7000 + 6e6 / batch_size) * (1.0 + excess))


def searched(*, exact: bool = True, excess: float = 0.01, **changes: Any) -> StudyRecord:
    """A study that found good trials at some batch sizes, bad ones at others, and missed one."""
    found = [(4.0**k, steps(4.0**k, excess)) for k in range(1, 11)]
    found += [(4.0**k, steps(4.0**k, 0.8)) for k in range(3, 7)]
    trials = [
        TrialRecord(
            number,
            {"batch_size": size, "learning_rate": 1e-3 * (number + 1), "momentum": 0.0},
            count,
            "reached" if count else "diverged",
            0.01,
            NOON,
            NOON,
        )
        for number, (size, count) in enumerate([*found, (8.0, None)])
    ]
    made = study(*trials, **{"batch_size": SIZES, **changes})
    return dataclasses.replace(made, frontier=EXACT) if exact else made


NSGAII = {"name": "nsgaii", "population_size": 20}
BOTH = [searched(), searched(sampler=NSGAII, excess=0.3)]


drawn = figure_of("pareto")


def found(*records: StudyRecord) -> list[Any]:
    return list(frontiers(studies_frame(records)).itertuples())


def printed(*records: StudyRecord) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        for frontier in found(*records):
            console.print(pareto_table(frontier))
    return capture.get()


def test_studies_of_two_objectives_are_on_no_scaling_curve_and_in_no_comparison() -> None:
    single = sgd()
    assert curves([*single, *BOTH]) == curves(single)
    assert curves(BOTH) == ()
    pd.testing.assert_frame_equal(
        regrets(studies_frame([*single, *BOTH])), regrets(studies_frame(single))
    )
    assert found(*single) == []


def test_a_frontier_has_what_no_trial_beats_in_both() -> None:
    (frontier,) = found(searched())
    assert [trial.batch_size for trial in frontier.found] == [4.0**k for k in range(1, 11)]
    assert len(frontier.trials) == 14
    assert frontier.n_trials == 15
    assert (frontier.low, frontier.high) == (4, 2**20)


def test_each_sampler_has_a_frontier_and_is_named_where_there_are_several() -> None:
    assert [each.label for each in found(*BOTH[:1])] == ["sgd"]
    assert {each.label for each in found(*BOTH)} == {"sgd", "sgd, nsgaii"}
    ranges = [searched(), searched(batch_size=Range(4, 2**19))]
    assert {each.label for each in found(*ranges)} == {"sgd", "sgd, B 4..1048576"}


def test_seeds_are_pooled_into_one_frontier() -> None:
    better, worse = searched(seed=1), searched(seed=2, excess=0.2)
    (frontier,) = found(better, worse)
    assert (frontier.seeds, frontier.n_trials) == (2, 30)
    assert frontier.found == found(better)[0].found
    alone = [found(each)[0].gap or 0.0 for each in (better, worse)]
    assert frontier.gap == sum(alone) / 2


def test_order_of_the_records_does_not_matter() -> None:
    assert csv_rows("pareto", BOTH) == csv_rows("pareto", BOTH[::-1])


def test_the_csv_has_every_trial_that_reached_the_target_and_the_exact_frontier() -> None:
    rows = csv_rows("pareto", [searched()])
    kinds = [row["kind"] for row in rows]
    assert (kinds.count("frontier"), kinds.count("trial"), kinds.count("exact")) == (10, 4, 19)
    for row in rows:
        assert float(row["examples"]) == float(row["steps"]) * float(row["batch_size"])
    first = rows[0]
    assert first["kind"] == "frontier"
    assert float(first["exact_steps"]) == steps(4)


def test_the_figure_marks_the_critical_batch_size_of_each_exact_frontier() -> None:
    figure = drawn(BOTH)
    (axes,) = figure.axes
    # T B = 6e6 + 7000 B is 20 % above its least, at B = 4, from B = 177 on.
    (critical,) = (text for text in axes.texts if text.get_color() == "crimson")
    assert critical.get_text() in {"B = 176", "B = 177"}
    assert {text.get_text() for text in axes.texts} >= {"B = $2^{12}$", "B = $2^{16}$"}
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert "sgd: frontier found\nwithin" in labels[0] + labels[1]
    assert sum(label.endswith("exact frontier") for label in labels) == 1


def test_without_an_exact_frontier_there_are_only_trials() -> None:
    record = searched(exact=False)
    figure = drawn([record])
    assert list(figure.axes[0].texts) == []
    text = printed(record)
    assert "over exact" not in text
    assert "critical" not in text
    rows = csv_rows("pareto", [record])
    assert {row["kind"] for row in rows} == {"frontier", "trial"}
    assert {row["exact_steps"] for row in rows} == {""}


def test_where_no_trial_reached_the_target_the_figure_and_the_table_say_so() -> None:
    record = searched()
    missed = dataclasses.replace(record, trials=record.trials[-1:])
    (frontier,) = found(missed)
    assert "none of 1 trials reached the target" in pareto_sentence(frontier)
    assert drawn([missed])
    assert printed(missed)
    assert "None of the 1 trials reached the target" in layout.note(missed)


def test_no_frontiers_make_no_figure() -> None:
    assert pareto.draw(studies_frame(sgd())) is None


def test_the_table_tells_the_excess_at_the_same_batch_size() -> None:
    lines = printed(searched()).splitlines()
    (row,) = (line.split() for line in lines if line.strip().startswith("4096 "))
    assert row == ["4096", "8,549", "3.502e+07", "0.006", "1.0", "%"]


def test_a_long_frontier_is_shown_by_its_ends_and_others_evenly_along_it() -> None:
    (frontier,) = found(searched())
    shown = spread(frontier.found, 4)
    assert len(shown) == 4
    assert (shown[0], shown[-1]) == (frontier.found[0], frontier.found[-1])
    assert spread(frontier.found, 12) == frontier.found


def test_a_report_by_name_may_be_of_frontiers_alone(tmp_path: Path) -> None:
    published = publish(
        tmp_path, studies_frame(dataclasses.replace(each, reports=("mine",)) for each in BOTH)
    )
    assert (tmp_path / "figures" / "mine" / "pareto.svg").is_file()
    (report,) = (each for each in published.summaries if each.kind == "report")
    assert "rontier" in report.note


def test_a_folder_of_frontiers_alone_has_no_scaling_figures(tmp_path: Path) -> None:
    published = publish(tmp_path, studies_frame(BOTH))
    (folder,) = published.folders
    assert sorted(file.name for file in folder.iterdir()) == [
        "pareto.csv",
        "pareto.pdf",
        "pareto.png",
        "pareto.svg",
    ]
    assert len(published.summaries) == 2
    console = Console(width=200)
    with console.capture() as capture:
        show(published, console, None)
    assert capture.get().count("Frontier of steps and examples") == 2


def test_the_same_frontiers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_figures(studies_frame([*sgd(), *BOTH]), tmp_path / name)
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert {"pareto.png", "steps_to_target.png"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_studys_run_tells_the_range_and_how_near_the_frontier_is() -> None:
    record = searched()
    assert layout.params(record)["batch_size"] == "4..1048576"
    metrics = {
        point.key: point.value for point in [*layout.results(record), *layout.bounds(record)]
    }
    assert metrics["frontier_trials"] == 10
    assert abs(metrics["median_excess_steps_on_frontier"] - 0.01) < 1e-3
    assert metrics["gap_to_exact_frontier"] == found(record)[0].gap
    assert 170 < metrics["critical_batch_size"] < 180
    assert "10 of 15 trials are the frontier found" in layout.note(record)


def test_a_trials_run_tells_its_examples_where_the_batch_size_is_searched() -> None:
    def told(record: StudyRecord) -> dict[str, float]:
        draft = layout.draft(record.trials[0], record.name, "run")
        return {point.key: point.value for point in draft.points}

    record = searched()
    assert told(record)["examples_to_target"] == 4 * steps(4, 0.01)
    assert "examples_to_target" not in told(sgd()[0])
    kept = dataclasses.replace(record, tracked="best")
    assert layout.tracked(kept) == found(record)[0].found


def test_numbers_of_the_table_are_whole_at_every_width() -> None:
    (frontier,) = found(BOTH[0])
    require_whole_numbers(pareto_table(frontier))
