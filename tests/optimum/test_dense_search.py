"""Dense searches: agreement with exact optima, determinism, limits, refusals."""

import math

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.crossing import last_risk
from nqm_study.optimum.dense_search import Coordinate, dense_search

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(30), 64)
BOX = {"learning_rate": (1e-5, 4.0, "log"), "momentum": (0.0, 0.9999, "log_one_minus")}


def evaluate(values, max_steps):
    return nqm.steps_to_target(PROBLEM, nqm.SGD(**values), target=0.05, max_steps=max_steps)


def risk(values, steps):
    return last_risk(PROBLEM, nqm.SGD(**values), nqm.Constant(), steps)


def crossing_of(exact, max_steps):
    """What takes so many steps, not a whole number, to the target 1, if the risk is 1 / t."""
    steps = math.ceil(exact)
    if steps <= max_steps:
        return nqm.Crossing(steps, "reached", exact / steps)
    return nqm.Crossing(None, "max_steps", exact / max(max_steps, 1))


def hill(values):
    """Steps: 100 at (0.3, 0.02), and more around."""
    away = math.log(values["x"] / 0.3) ** 2 + 2.0 * math.log(values["y"] / 0.02) ** 2
    return 99.5 * math.exp(min(away, 30.0))


def parabola(values, max_steps):
    return crossing_of(hill(values), max_steps)


@pytest.mark.parametrize("quick", [None, risk])
def test_the_exact_optimum_is_found_with_and_without_quick_risks(quick):
    exact = nqm.tuned(PROBLEM, "momentum", target=0.05)
    found = dense_search(evaluate, BOX, target=0.05, risk=quick)
    assert found.complete
    assert found.steps == exact.steps
    assert evaluate(found.values, 10**9) == found.crossing
    assert (found.looks > 0) == (quick is not None)


def test_quick_risks_save_evaluations():
    assert dense_search(evaluate, BOX, target=0.05, risk=risk).evaluations < 50


def test_one_coordinate_is_searched():
    box = {"learning_rate": BOX["learning_rate"]}
    found = dense_search(evaluate, box, target=0.05)
    assert found.steps == nqm.tuned(PROBLEM, "sgd", target=0.05).steps


def test_optima_inside_and_at_the_edge_of_a_box_are_found():
    inside = {"x": (1e-3, 1.0, "log"), "y": (1e-4, 1.0, "log")}
    assert dense_search(parabola, inside, target=1.0).steps == 100
    edge = {"x": (0.5, 1.0, "linear"), "y": (1e-4, 0.01, "log")}
    found = dense_search(parabola, edge, target=1.0)
    assert found.values == pytest.approx({"x": 0.5, "y": 0.01}, rel=1e-3)
    assert found.steps == parabola({"x": 0.5, "y": 0.01}, 10**9).steps


def test_five_coordinates_are_searched():
    def evaluate_all(values, max_steps):
        rest = sum((values[name] - 0.4) ** 2 for name in "abc")
        return crossing_of(hill(values) * math.exp(rest), max_steps)

    box = {"x": (1e-3, 1.0, "log"), "y": (1e-4, 1.0, "log")}
    box |= dict.fromkeys("abc", (0.0, 1.0, "linear"))
    assert dense_search(evaluate_all, box, target=1.0).steps <= 101


def test_the_same_search_finds_the_same_optimum_by_the_same_work():
    first, second = (dense_search(evaluate, BOX, target=0.05, risk=risk) for _ in range(2))
    assert first == second


def test_a_limit_on_evaluations_is_kept_and_said():
    full = dense_search(evaluate, BOX, target=0.05)
    calls = []

    def counted(values, max_steps):
        calls.append(values)
        return evaluate(values, max_steps)

    short = dense_search(counted, BOX, target=0.05, most_evaluations=200)
    assert (short.complete, short.evaluations, len(calls)) == (False, 200, 200)
    assert short.steps is not None
    assert short.steps >= full.steps
    assert dense_search(evaluate, BOX, target=0.05, most_evaluations=1).steps is None


def test_targets_out_of_reach_are_said():
    best = nqm.tuned(PROBLEM, "momentum", target=0.05).steps
    assert dense_search(evaluate, BOX, target=0.05, max_steps=best).steps == best
    nothing = dense_search(evaluate, BOX, target=0.05, max_steps=best - 1)
    assert (nothing.steps, nothing.values, nothing.crossing) == (None, None, None)
    assert nothing.complete
    assert dense_search(evaluate, BOX, target=0.05, max_steps=0).steps is None


def test_target_met_at_the_start_takes_no_steps():
    def at_once(_values, _max_steps):
        return nqm.Crossing(0, "reached", 0.5)

    assert dense_search(at_once, BOX, target=1.0).steps == 0


@pytest.mark.parametrize(
    ("scale", "low", "middle", "high"),
    [("linear", -1.0, 0.5, 2.0), ("log", 0.01, 0.1, 1.0), ("log_one_minus", 0.0, 0.9, 0.99)],
)
def test_coordinates_take_even_steps_on_their_scales(scale, low, middle, high):
    coordinate = Coordinate("x", low, high, scale)
    places = [coordinate.at(fraction) for fraction in (0.0, 0.5, 1.0)]
    assert places == pytest.approx([low, middle, high])
    assert (places[0], places[2]) == (low, high)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"coordinates": {}}, r"coordinates=\(\): must have at least one"),
        ({"coordinates": [1]}, r"coordinates\[0\]=1: must be a Coordinate"),
        ({"coordinates": [Coordinate("x", 1, 2)] * 2}, "coordinates: x must be given once, not 2"),
        ({"coordinates": {"x": 1.0}}, "coordinates=.*: must map names to"),
        ({"coordinates": {"x": (0.0, 1.0, "log")}}, "x.low=0: must be a .* greater than 0"),
        ({"coordinates": {"x": (1.0, 1.0, "log")}}, "x.high=1: must be a .* greater than 1"),
        ({"coordinates": {"x": (0.5, 1.0, "log_one_minus")}}, "x.high=1: must .* less than 1"),
        ({"coordinates": {"x": (0.5, np.nan, "log")}}, "x.high=nan: must be a finite number"),
        ({"coordinates": {"x": (0.5, 1.0, "cubic")}}, "x.scale='cubic': must be one of linear"),
        ({"coordinates": {"": (0.5, 1.0, "log")}}, "name='': must be a string"),
        ({"target": 0.0}, "target=0: must be a finite number greater than 0"),
        ({"max_steps": -1}, "max_steps=-1: must be an integer of at least 0"),
        ({"most_evaluations": 0}, "most_evaluations=0: must be an integer of at least 1"),
        ({"evaluate": None}, "evaluate=None: must be a function"),
        ({"risk": 1}, "risk=1: must be a function or None"),
    ],
)
def test_bad_requests_are_refused(arguments, named):
    given = {"evaluate": evaluate, "coordinates": BOX, "target": 0.05} | arguments
    with pytest.raises(ValueError, match=f"^{named}"):
        dense_search(given.pop("evaluate"), given.pop("coordinates"), **given)
