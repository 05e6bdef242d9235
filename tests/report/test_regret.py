import dataclasses
import io
import math
from pathlib import Path

import pandas as pd
import pytest
from fake_records import (
    FINISH,
    TPE,
    contest,
    csv_rows,
    definition,
    figure_of,
    searched,
    sgd,
    with_optima,
)
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from pandas import DataFrame
from rich.console import Console
from terminal_sheets import require_whole_numbers

from nqm_study.app.publish import Published, publish, show
from nqm_study.report.figures import regret as regret_figure
from nqm_study.report.frame import studies_frame
from nqm_study.report.labels import labels, told_apart
from nqm_study.report.regret import COLUMNS, QUARTILES, curve_regrets, regret_sentence, regrets
from nqm_study.report.tables import regret_table
from nqm_study.report.write import write_figures
from nqm_study.study.records import StudyRecord

INF = math.inf
RANDOM = {"name": "random"}


def compared(records: list[StudyRecord]) -> DataFrame:
    return regrets(studies_frame(records))


def only(records: list[StudyRecord]) -> DataFrame:
    found = compared(records)
    assert found.comparison.nunique() == 1
    return found


def by_name(records: list[StudyRecord]) -> dict[str, DataFrame]:
    return dict(list(only(records).groupby("sampler")))


def test_benchmark_leaves_out_batch_size_seed_and_sampler_alone() -> None:
    base = definition()
    for changes in ({"batch_size": 4}, {"seed": 7}, {"sampler": FINISH}):
        assert definition(**changes).benchmark == base.benchmark
    for changes in ({"target": 0.1}, {"optimizer": "adam"}, {"schedule": "cosine"}):
        assert definition(**changes).benchmark != base.benchmark
    assert definition(sampler=FINISH).curve != base.curve


def test_a_sampler_with_a_local_search_is_named_so() -> None:
    texts = [
        definition(sampler={"name": "tpe", **finish}).sampler_text
        for finish in ({}, {"finish": 0}, {"finish": 0.0}, {"finish": 0.6})
    ]
    assert texts == ["tpe", "tpe", "tpe", "tpe + finish"]


def test_labels_of_curves_name_the_finish_as_the_sampler_does() -> None:
    def named(*samplers: dict[str, object]) -> tuple[str, ...]:
        return labels([definition(sampler=sampler) for sampler in samplers])

    assert named(TPE, FINISH) == ("sgd, tpe", "sgd")
    random = {**RANDOM, "finish": 0.0}
    assert named(random, {**random, "finish": 0.6}) == ("sgd, random", "sgd, random + finish")
    sooner = {"name": "tpe", "finish": 0.3}
    assert named(TPE, FINISH, sooner) == ("sgd, tpe", "sgd", "sgd, finish 0.3")
    assert named(TPE, {"name": "tpe", "finish": 0.0}) == ("sgd", "sgd, finish 0")


def test_samplers_of_one_name_are_told_apart_by_their_settings() -> None:
    samplers = [
        {"name": "tpe", "n_startup_trials": 10},
        {"name": "tpe", "n_startup_trials": 20},
        {"name": "tpe", "n_startup_trials": 10, "finish": 0.6},
    ]
    made = [definition(sampler=sampler) for sampler in samplers]
    assert told_apart([each.sampler_text for each in made], made) == (
        "tpe, n_startup_trials 10",
        "tpe, n_startup_trials 20",
        "tpe + finish",
    )


def test_regret_is_that_of_the_best_so_far_and_infinite_before_the_target() -> None:
    found = by_name(
        [
            searched(TPE, [None, 1500, 2000, 1100, None, 1000]),
            searched(RANDOM, [3000, None, None, None, 1500, 1500]),
        ]
    )
    medians = {name: list(each["median"]) for name, each in found.items()}
    assert medians["tpe"] == pytest.approx((INF, 0.5, 0.5, 0.1, 0.1, 0.0))
    assert medians["random"] == pytest.approx((2.0, 2.0, 2.0, 2.0, 0.5, 0.5))
    assert [list(each.trials) for each in found.values()] == [[1, 2, 3, 4, 5, 6]] * 2


def test_quartiles_are_linear_between_studies_and_infinite_beside_infinity() -> None:
    steps: list[int | None] = [1000, 1100, 1200, None]
    records = [
        searched(sampler, [count], seed=seed)
        for sampler in (TPE, RANDOM)
        for seed, count in enumerate(steps)
    ]
    (regret,) = by_name(records)["tpe"].to_dict("records")
    assert [regret[name] for name in QUARTILES] == pytest.approx([0.075, 0.15, INF, INF])
    assert regret["studies"] == 4
    five = [*records, searched(TPE, [1300], seed=4), searched(RANDOM, [1300], seed=4)]
    (regret,) = by_name(five)["tpe"].to_dict("records")
    assert regret["upper_quartile"] == pytest.approx(0.3), "on a study, not beside infinity"


def test_only_studies_that_all_samplers_have_are_compared() -> None:
    records = [searched(TPE, [1000], batch_size=b, seed=s) for b in (4, 16) for s in (0, 1)]
    records += [searched(RANDOM, [2000], batch_size=b, seed=s) for b, s in ((4, 0), (16, 1))]
    records += [searched(RANDOM, [2000], batch_size=64)]
    comparison = only(records)
    assert list(comparison.studies) == [2, 2]
    assert set(zip(comparison.batch_sizes, comparison.seeds, strict=True)) == {((4, 16), 2)}


def test_only_as_many_trials_as_all_studies_have_are_compared() -> None:
    comparison = only(
        [searched(TPE, [1000] * 9), searched(RANDOM, [1000] * 5), searched(FINISH, [1000] * 7)]
    )
    assert list(comparison.groupby("sampler").trials.max()) == [5, 5, 5]
    assert len(comparison) == 15


@pytest.mark.parametrize(
    "records",
    [
        [],
        [searched(TPE, [1000], seed=seed) for seed in range(3)],
        [searched(TPE, [1000]), searched(RANDOM, [1000], seed=1)],
        [searched(TPE, [1000]), searched(RANDOM, [])],
        [searched(TPE, [1000]), searched(RANDOM, [1000], optimum=None)],
        [searched(TPE, [1000]), searched(RANDOM, [1000], schedule="cosine")],
        [searched(TPE, [1000]), searched({**TPE, "finish": 0.0}, [1000])],
    ],
    ids=["none", "one", "no case", "no trials", "no optimum", "not the same", "the same sampler"],
)
def test_nothing_is_compared_where_nothing_can_be(records: list[StudyRecord]) -> None:
    assert compared(records).empty
    assert regret_figure.draw(studies_frame(records)) is None
    assert tuple(regret_figure.table(studies_frame(records))) == COLUMNS


def test_samplers_are_measured_by_one_optimum() -> None:
    # Dense searches may differ; of two the better one counts for both.
    dense = [searched(TPE, [1000], optimum=1000, exact=False)]
    dense += [searched(RANDOM, [1000], optimum=800, exact=False)]
    comparison = only(dense)
    assert list(comparison["median"]) == [0.25, 0.25]
    assert not comparison.exact.any()
    exact = only([dense[0], searched(RANDOM, [1000], optimum=900)])
    assert exact.exact.all()
    assert exact["median"].iloc[0] == pytest.approx(1 / 9)


def test_comparisons_do_not_depend_on_the_order_of_the_records() -> None:
    records = contest(n_trials=8, n_seeds=2) + contest(n_trials=8, n_seeds=1, optimizer="momentum")
    found = compared(records)
    pd.testing.assert_frame_equal(compared(records[::-1]), found)
    assert list(found.comparison.unique()) == ["sgd", "momentum, momentum 0"]
    first = found[found.comparison == "sgd"]
    assert list(first.sampler.unique()) == ["random", "tpe", "tpe + finish"]


def test_comparisons_are_labelled_by_what_is_not_the_sampler() -> None:
    records = contest(n_trials=4, n_seeds=1)
    records += contest(n_trials=4, n_seeds=1, schedule="cosine")
    assert list(compared(records).comparison.unique()) == ["sgd", "sgd, cosine"]


CONTEST = contest(n_trials=40)
drawn = figure_of("regret")


def legend_of(axes: Axes) -> dict[str, Line2D]:
    legend = axes.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    return dict(zip(texts, legend.get_lines(), strict=True))


def test_figure_has_a_line_and_a_band_for_each_sampler() -> None:
    (axes,) = drawn(CONTEST).axes
    assert len(axes.get_lines()) == len(axes.collections) == 3
    entries = legend_of(axes)
    for sampler, regret in by_name(CONTEST).items():
        (line,) = [
            line for line in axes.get_lines() if line.get_color() == entries[sampler].get_color()
        ]
        assert line.get_marker() == entries[sampler].get_marker()
        known = {k: 100 * r for k, r in enumerate(regret["median"], 1) if math.isfinite(r)}
        shown = {k: r for k, r in zip(*line.get_data(), strict=True) if math.isfinite(r)}
        assert shown == pytest.approx(known)


def test_legend_goes_from_the_highest_line_to_the_lowest_and_stands_clear() -> None:
    figure = drawn(CONTEST)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert list(legend_of(axes)) == ["random", "tpe", "tpe + finish"]
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert axes.get_window_extent().x1 < box.x0
    assert box.x1 <= figure.bbox.x1


def test_zero_has_a_place_on_the_axis() -> None:
    (axes,) = drawn(CONTEST).axes
    low, high = axes.get_ylim()
    assert low < 0.0 < high
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    labels_ = [label.get_text() for label in axes.yaxis.get_ticklabels()]
    assert labels_[:3] == ["0", "0.1", "1"]


def test_an_optimum_that_was_beaten_is_inside_the_axes() -> None:
    records = [searched(sampler, [900], exact=False) for sampler in (TPE, RANDOM)]
    figure = drawn(records)
    assert figure.axes[0].get_ylim()[0] < -10.0
    assert "the best of a dense search stands in" in " ".join(figure.get_supxlabel().split())


def test_a_contest_in_which_no_target_was_reached_can_be_drawn() -> None:
    figure = drawn([searched(sampler, [None] * 3) for sampler in (TPE, RANDOM)])
    figure.draw_without_rendering()


def test_caption_and_title_say_what_was_compared() -> None:
    figure = drawn(CONTEST)
    caption = " ".join(figure.get_supxlabel().split())
    for text in ("Optimizer: sgd.", "Schedule: constant.", "Spectrum: paper.", "Target loss: 0.01"):
        assert text in caption
    title = figure.axes[0].get_title(loc="left")
    assert title == "sgd: 7 batch sizes, B = $2^{2}$..$2^{14}$; 5 seeds"
    one = [record for record in CONTEST if record.definition.batch_size == 4]
    single = drawn([r for r in one if r.definition.seed == 0])
    assert "medians" in caption
    assert "medians" not in single.get_supxlabel()
    assert single.axes[0].get_title(loc="left") == "sgd: B = $2^{2}$; 1 seed"


def test_panels_share_the_looks_of_samplers() -> None:
    paces = {"tpe": 1.6, "random": 0.5}
    found = CONTEST + contest(paces, n_trials=4, n_seeds=1, optimizer="adam")
    upper, lower = (legend_of(axes) for axes in drawn(found).axes)
    assert set(lower) == {"tpe", "random"}
    for name, line in lower.items():
        assert line.get_color() == upper[name].get_color()
        assert line.get_marker() == upper[name].get_marker()


def test_numbers_are_written_in_full() -> None:
    rows = csv_rows("regret", CONTEST)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 3 * 40
    (last,) = [row for row in rows if row["sampler"] == "random" and row["trials"] == "40"]
    random = by_name(CONTEST)["random"].iloc[-1]
    for name in QUARTILES:
        assert float(last[name]) == random[name]
    assert rows[0]["worst"] == "inf"


def test_files_are_written_where_samplers_compete(tmp_path: Path) -> None:
    records = [r for r in CONTEST if r.definition.batch_size == 4]
    written = write_figures(studies_frame(records), tmp_path / "a")
    kinds = ["regret.png", "regret.svg", "regret.pdf", "regret.csv"]
    assert [path.name for path in written if path.stem == "regret"] == kinds
    again = write_figures(studies_frame(records[::-1]), tmp_path / "b")
    for one, other in zip(written, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    alone = write_figures(studies_frame(records[:1]), tmp_path / "c")
    assert len(alone) == 7


def rendered(comparison: DataFrame, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(regret_table(comparison))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text.splitlines()


def test_table_has_a_row_for_each_sampler_the_best_at_the_end_first() -> None:
    steps = {"tpe": [None, 1200, 1100, 1001], "random": [1500, 1500, 1400, 1400]}
    records = [
        searched({"name": name}, counts, seed=seed)
        for name, counts in steps.items()
        for seed in range(3)
    ]
    lines = rendered(only(records))
    assert [line.split()[0] for line in lines[-2:]] == ["tpe", "random"]
    assert lines[-2].split() == ["tpe", "-", "-", "-", *["20", "%"] * 3, *["0.1", "%"] * 3]
    assert lines[-1].split() == ["random", *["50", "%"] * 6, *["40", "%"] * 3]
    assert "worst of 3 studies (1 batch size, 3 seeds)" in " ".join(" ".join(lines).split())


def test_table_fits_eighty_columns() -> None:
    paces = {"random": 0.01, "cmaes + finish": 1.0, "tpe + finish": 1.0}
    wide = only(contest(paces, n_trials=80, n_seeds=2))
    assert max(len(line.rstrip()) for line in rendered(wide, width=80)[2:]) <= 80
    assert all("…" not in line for line in rendered(wide))


def test_numbers_of_trials_are_not_repeated() -> None:
    few = only([searched(sampler, [1000]) for sampler in (TPE, RANDOM)])
    assert rendered(few)[-1].split()[1:] == ["0", "%"] * 3


def test_a_curve_tells_its_own_regret_without_others() -> None:
    records = [searched(FINISH, [None, 1500, 1200, 1000 + 10 * s], seed=s) for s in range(3)]
    assert regret_sentence(curve_regrets(studies_frame(records))) == (
        "The sampler, tpe + finish, is above the true optimum by an unknown share (target not "
        "reached) after 1 trial, 50 % after 2, 1.0 % after 4 (medians of 3 studies; the worst at "
        "the end: 2.0 %)."
    )
    unknown = [dataclasses.replace(record, optimum=None) for record in records]
    for some in (unknown, [searched(TPE, [])]):
        assert curve_regrets(studies_frame(some)).empty
    twice = [searched(TPE, [1500] * n, name=name) for n, name in ((3, "a"), (1, "b"))]
    longest = curve_regrets(studies_frame(twice))
    assert (len(longest), longest.studies.iloc[0]) == (3, 1), "one study under two names"


def test_a_call_prints_the_contest_of_its_studies_alone(tmp_path: Path) -> None:
    records = tuple(r for r in CONTEST if r.definition.batch_size == 4)

    def printed(chosen: tuple[StudyRecord, ...]) -> str:
        console = Console(file=io.StringIO(), width=80)
        show(Published(studies_frame(chosen)), console, None)
        text: str = console.file.getvalue()  # type: ignore[attr-defined]
        return text

    assert "upper quartile" in printed(records)
    assert "upper quartile" not in printed(records[:3])
    published = publish(tmp_path, studies_frame(records), frozenset({records[0].name}))
    (summary,) = published.summaries
    assert "regret.csv" in {Path(file).name for file in summary.files}
    assert summary.params["sampler"] == "random"
    assert "sampler.finish" not in summary.params
    finished = next(r.name for r in records if r.definition.sampler_text == "tpe + finish")
    (other,) = publish(tmp_path, studies_frame(records), frozenset({finished})).summaries
    assert (other.params["sampler"], other.params["sampler.finish"]) == ("tpe", "0.6")
    assert "The sampler, random, is above the true optimum by" in summary.note
    plain = publish(tmp_path, studies_frame(sgd([4, 16]))).summaries[0]
    assert "The sampler" not in plain.note
    known = publish(tmp_path, studies_frame(with_optima(sgd([4, 16])))).summaries[0]
    assert "0 % after 1 trial (medians of 2 studies; the worst at the end: 0 %)." in known.note


def test_numbers_of_the_table_are_whole_at_every_width() -> None:
    steps = {"tpe": [None, 1200, 1100, 1001], "random": [1500, 1500, 1400, 1400]}
    records = [searched({"name": name}, counts) for name, counts in steps.items()]
    require_whole_numbers(regret_table(only(records)))
