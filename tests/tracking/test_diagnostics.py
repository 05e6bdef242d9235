"""Optuna's figures of a study: which are drawn, of what, and what a failure of one does."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import matplotlib.pyplot as plt
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.storages import InMemoryStorage
from studies import definition, evaluate, run_in

import nqm_study as nqm
from nqm_study.study.definition import Range
from nqm_study.study.records import Optimum
from nqm_study.study.storage.studies import study_record
from nqm_study.study.trials import Evaluate, Evaluation
from nqm_study.tracking import diagnostic_figures
from nqm_study.tracking.diagnostic_figures import log_ticks
from nqm_study.tracking.diagnostics import diagnostics

PNG = b"\x89PNG\r\n\x1a\n"
ALL = {"history.png", "importance.png", "parallel_coordinate.png", "slice.png"}
RATE = {"learning_rate": Range(1e-3, 3.0, "log")}


@pytest.fixture(autouse=True, scope="module")
def off_screen() -> Iterator[None]:
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.switch_backend(before)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, kept when they are closed."""
    kept: list[Figure] = []
    close = plt.close

    def keep(which: str) -> None:
        kept.append(plt.gcf())
        close(which)

    monkeypatch.setattr(plt, "close", keep)
    return kept


def study_of(
    n_trials: int, evaluation: Evaluate = evaluate, sampler: str = "random", **changes: object
) -> optuna.Study:
    what = definition(sampler, **changes)
    return run_in(InMemoryStorage(), what, n_trials, evaluation=evaluation)


def unreached(values: Mapping[str, float]) -> Evaluation:
    status, risk = "floor_above_target", 1.0 + values["learning_rate"]
    return Evaluation(nqm.Crossing(None, status, risk))


def test_a_study_has_all_figures_with_a_note_on_each() -> None:
    study = study_of(20)
    found = diagnostics(study, study_record(study))
    assert found.failures == ()
    assert set(found.files) == {*ALL, "about.md"}
    note = found.files["about.md"].decode()
    for name in ALL:
        assert found.files[name].startswith(PNG)
        assert f"- `{name}`: " in note


def test_the_history_is_of_steps_with_the_lowest_so_far_and_the_optimum(
    drawn: list[Figure],
) -> None:
    study = study_of(20)
    record = replace(study_record(study), optimum=Optimum(11, {"learning_rate": 1.0}))
    missed = sum(trial.steps is None for trial in record.trials)
    assert 0 < missed < 19
    diagnostics(study, record)
    (axes,) = drawn[0].axes
    points = {(int(x), y) for x, y in axes.collections[0].get_offsets()}
    assert points == {(t.number, t.steps) for t in record.trials if t.steps is not None}
    lowest, optimum = axes.lines
    assert record.best is not None
    assert lowest.get_ydata()[-1] == record.best.steps
    assert set(optimum.get_ydata()) == {11}
    assert axes.get_yscale() == "log"
    assert (
        axes.get_title("left") == f"Optimization history; {missed} of 20 trials missed the target"
    )


def test_one_coordinate_has_no_importance_and_no_parallel_coordinates() -> None:
    study = study_of(12, hyperparameters={**RATE, "momentum": 0.5})
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.files)) == ((), {"history.png", "slice.png", "about.md"})


@pytest.mark.parametrize("n_trials", [0, 1])
def test_a_trial_alone_is_not_drawn(n_trials: int) -> None:
    study = study_of(n_trials)
    assert diagnostics(study, study_record(study)).files == {}


def test_where_nothing_is_searched_the_history_is_left() -> None:
    study = study_of(1, hyperparameters={"learning_rate": 0.5, "momentum": 0.5})
    (trial,) = study.get_trials()
    study.add_trial(trial)
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.files)) == ((), {"history.png", "about.md"})


def test_where_no_trial_reached_the_target_the_loss_is_drawn(drawn: list[Figure]) -> None:
    study = study_of(12, evaluation=unreached)
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.files)) == ((), {*ALL, "about.md"})
    assert "Fewer than two of 12 trials reached the target" in found.files["about.md"].decode()
    assert drawn[0].axes[0].get_ylabel() == "lowest expected loss"


def test_losses_that_overflowed_are_left_out() -> None:
    overflow = Evaluation(nqm.Crossing(None, "diverged", float("inf")))
    study = study_of(12, evaluation=lambda _: overflow)
    assert diagnostics(study, study_record(study)).files == {}


def test_of_many_coordinates_the_most_important_are_drawn(drawn: list[Figure]) -> None:
    others = {f"ratio_{k}": Range(0.1, 1.0) for k in range(8)}

    def rated(values: Mapping[str, float]) -> Evaluation:
        return Evaluation(nqm.Crossing(int(1e4 * values["ratio_7"]) + 1, "reached", 0.1))

    study = study_of(60, evaluation=rated, hyperparameters={**RATE, **others})
    found = diagnostics(study, study_record(study))
    assert found.failures == ()
    shown = [axes.get_xlabel() for axes in drawn[2].axes[:-1]]
    assert len(shown) == 6
    assert "ratio_7" in shown


def test_two_objectives_have_their_front_in_steps_and_examples(drawn: list[Figure]) -> None:
    study = study_of(
        15,
        hyperparameters={**RATE, "momentum": 0.5, "batch_size": Range(4.0, 64.0, "log")},
        batch_size=Range(4.0, 64.0, "log"),
        evaluation=lambda values: evaluate({k: values[k] for k in ("learning_rate", "momentum")}),
    )
    record = study_record(study)
    found = diagnostics(study, record)
    assert found.failures == ()
    names = (ALL - {"history.png"}) | {"pareto_front.png", "about.md"}
    assert set(found.files) == names
    (axes,) = drawn[0].axes
    points = {tuple(xy) for each in axes.collections for xy in each.get_offsets().tolist()}
    assert points == {(t.steps, t.examples) for t in record.trials if t.steps is not None}


def test_a_figure_that_fails_is_told_in_one_line_and_the_others_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such figure\nand more")

    monkeypatch.setattr(diagnostic_figures.optunas, "plot_slice", fail)
    study = study_of(20)
    found = diagnostics(study, study_record(study))
    assert found.failures == ("slice.png was not drawn, RuntimeError: no such figure",)
    assert set(found.files) == {*(ALL - {"slice.png"}), "about.md"}
    assert "slice.png" not in found.files["about.md"].decode()


def test_where_optuna_ranks_no_coordinates_that_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no importance")

    monkeypatch.setattr("nqm_study.tracking.diagnostics.get_param_importances", fail)
    others = {f"ratio_{k}": Range(0.1, 1.0) for k in range(8)}
    reached = Evaluation(nqm.Crossing(7, "reached", 0.1))
    study = study_of(12, evaluation=lambda _: reached, hyperparameters={**RATE, **others})
    found = diagnostics(study, study_record(study))
    assert found.failures == ("no diagnostics were drawn, ValueError: no importance",)
    assert found.files == {}


def test_the_style_of_other_figures_is_left_as_it_was() -> None:
    before = dict(plt.rcParams)
    study = study_of(12)
    diagnostics(study, study_record(study))
    assert dict(plt.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        (0.5, 2e6, 8, [1, 10, 100, 1e3, 1e4, 1e5, 1e6]),
        (0.5, 2e6, 4, [1, 100, 1e4, 1e6]),
        (80, 1200, 8, [100, 200, 500, 1000]),
        (80, 1200, 2, [100, 1000]),
        (310, 480, 4, [350, 400, 450]),
    ],
)
def test_ticks_of_a_log_axis_are_few_and_round(
    low: float, high: float, most: int, ticks: list[float]
) -> None:
    assert log_ticks(low, high, most) == pytest.approx(ticks)
