"""Optuna's figures of a study: which are drawn, of what, and what a failure of one does."""

from collections.abc import Mapping
from dataclasses import replace

import optuna
import pytest
from optuna.storages import InMemoryStorage
from studies import definition, evaluate, run_in

import nqm_study as nqm
from nqm_study.study.definition import Range
from nqm_study.study.records import Optimum
from nqm_study.study.storage.studies import study_record
from nqm_study.study.trials import Evaluate, Evaluation
from nqm_study.tracking.diagnostics import Diagnostics, diagnostics, visualization

ALL = {"history", "importance", "parallel_coordinate", "slice"}
RATE = {"learning_rate": Range(1e-3, 3.0, "log")}


def page(found: Diagnostics) -> str:
    """The text of the page, which is the only file."""
    assert list(found.files) == ["diagnostics.html"]
    return found.files["diagnostics.html"].decode()


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
    assert set(found.figures) == ALL
    text = page(found)
    for name in ALL:
        assert text.count(f'<div id="{name}" class="plotly-graph-div"') == 1
        _, _, after = text.partition(f'Plotly.newPlot(                        "{name}"')
        note = after[after.index("<p>") :].split("</p>")[0]
        assert len(note) > 40


def test_the_history_is_of_steps_with_the_lowest_so_far_and_the_optimum() -> None:
    study = study_of(20)
    record = replace(study_record(study), optimum=Optimum(11, {"learning_rate": 1.0}))
    missed = sum(trial.steps is None for trial in record.trials)
    assert 0 < missed < 19
    figure = diagnostics(study, record).figures["history"]
    trials, lowest, optimum = (trace for trace in figure.data if trace.y)
    points = set(zip(trials.x, trials.y, strict=True))
    assert points == {(t.number, t.steps) for t in record.trials if t.steps is not None}
    assert record.best is not None
    assert (lowest.name, lowest.y[-1]) == ("lowest so far", record.best.steps)
    assert (optimum.name, set(optimum.y)) == ("true optimum", {11})
    assert figure.layout.yaxis.type == "log"
    assert (
        figure.layout.title.text == f"Optimization history; {missed} of 20 trials missed the target"
    )


def test_one_coordinate_has_no_importance_and_no_parallel_coordinates() -> None:
    study = study_of(12, hyperparameters={**RATE, "momentum": 0.5})
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.figures)) == ((), {"history", "slice"})


@pytest.mark.parametrize("n_trials", [0, 1])
def test_a_trial_alone_is_not_drawn(n_trials: int) -> None:
    study = study_of(n_trials)
    found = diagnostics(study, study_record(study))
    assert (found.failures, found.figures, found.files) == ((), {}, {})


def test_where_nothing_is_searched_the_history_is_left() -> None:
    study = study_of(1, hyperparameters={"learning_rate": 0.5, "momentum": 0.5})
    (trial,) = study.get_trials()
    study.add_trial(trial)
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.figures)) == ((), {"history"})


def test_where_no_trial_reached_the_target_the_loss_is_drawn() -> None:
    study = study_of(12, evaluation=unreached)
    found = diagnostics(study, study_record(study))
    assert (found.failures, set(found.figures)) == ((), ALL)
    assert "Fewer than two of 12 trials reached the target" in page(found)
    assert found.figures["history"].layout.yaxis.title.text == "lowest expected loss"


def test_losses_that_overflowed_are_left_out() -> None:
    overflow = Evaluation(nqm.Crossing(None, "diverged", float("inf")))
    study = study_of(12, evaluation=lambda _: overflow)
    found = diagnostics(study, study_record(study))
    assert (found.failures, found.files) == ((), {})


def test_of_many_coordinates_the_most_important_are_drawn() -> None:
    others = {f"ratio_{k}": Range(0.1, 1.0) for k in range(8)}

    def rated(values: Mapping[str, float]) -> Evaluation:
        return Evaluation(nqm.Crossing(int(1e4 * values["ratio_7"]) + 1, "reached", 0.1))

    study = study_of(60, evaluation=rated, hyperparameters={**RATE, **others})
    found = diagnostics(study, study_record(study))
    assert found.failures == ()
    layout = found.figures["slice"].layout
    shown = [layout[key].title.text for key in layout if key.startswith("xaxis")]
    assert len(shown) == 6
    assert "ratio_7" in shown
    assert len(found.figures["parallel_coordinate"].layout.xaxis.ticktext) == 7


def test_two_objectives_have_their_front_in_steps_and_examples() -> None:
    study = study_of(
        15,
        hyperparameters={**RATE, "momentum": 0.5, "batch_size": Range(4.0, 64.0, "log")},
        batch_size=Range(4.0, 64.0, "log"),
        evaluation=lambda values: evaluate({k: values[k] for k in ("learning_rate", "momentum")}),
    )
    record = study_record(study)
    found = diagnostics(study, record)
    assert found.failures == ()
    assert set(found.figures) == (ALL - {"history"}) | {"pareto_front"}
    front = found.figures["pareto_front"]
    points = {pair for trace in front.data for pair in zip(trace.x, trace.y, strict=True)}
    assert points == {(t.steps, t.examples) for t in record.trials if t.steps is not None}
    assert (front.layout.xaxis.type, front.layout.yaxis.type) == ("log", "log")


def test_a_figure_that_fails_is_told_in_one_line_and_the_others_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such figure\nand more")

    monkeypatch.setattr(visualization, "plot_slice", fail)
    study = study_of(20)
    found = diagnostics(study, study_record(study))
    assert found.failures == ("slice was not drawn, RuntimeError: no such figure",)
    assert set(found.figures) == ALL - {"slice"}
    assert "darker points" not in page(found)


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


def test_the_same_study_gives_the_same_page_which_loads_nothing() -> None:
    study = study_of(12)
    text = page(diagnostics(study, study_record(study)))
    assert text == page(diagnostics(study, study_record(study)))
    assert " src=" not in text
