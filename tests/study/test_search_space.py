"""The search space speaks the user's units, whatever coordinates a sampler sees."""

import math

import pytest
from hypothesis import given, settings, strategies as st
from optuna.distributions import FloatDistribution

from nqm_study.study.definition import Range, Scale
from nqm_study.study.space import SearchSpace

SPACE = SearchSpace.of(
    {
        "learning_rate": Range(1e-4, 1.0, "log"),
        "momentum": Range(0.0, 0.999, "log_one_minus"),
        "preconditioner_power": Range(0.0, 1.0, "linear"),
        "ema_decay": 0.5,
    }
)


def test_a_sampler_sees_one_coordinate_for_each_range_and_optuna_the_hyperparameter() -> None:
    assert set(SPACE.coordinate_distributions) == {
        "learning_rate",
        "one_minus_momentum",
        "preconditioner_power",
    }
    assert SPACE.distributions == {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 0.999),
        "preconditioner_power": FloatDistribution(0.0, 1.0),
    }


def test_momentum_is_searched_on_the_logarithm_of_one_minus_it() -> None:
    distribution = SPACE.coordinate_distributions["one_minus_momentum"]
    assert isinstance(distribution, FloatDistribution)
    assert distribution.log
    assert distribution.high == 1.0
    assert distribution.low == pytest.approx(1e-3, rel=1e-12)


@given(st.floats(1e-3, 1.0), st.floats(1e-4, 1.0), st.floats(0.0, 1.0))
@settings(derandomize=True)
def test_values_are_those_a_user_would_type(
    one_minus_momentum: float, learning_rate: float, power: float
) -> None:
    values = SPACE.values(
        {
            "one_minus_momentum": one_minus_momentum,
            "learning_rate": learning_rate,
            "preconditioner_power": power,
        }
    )
    assert values == {
        "learning_rate": learning_rate,
        "momentum": 1.0 - one_minus_momentum,
        "preconditioner_power": power,
        "ema_decay": 0.5,
    }


def test_the_grid_has_the_ends_and_is_even_on_each_scale() -> None:
    points = SPACE.grid(3)
    assert len(points) == 27
    grid = {name: sorted({point[name] for point in points}) for name in points[0]}
    assert grid["learning_rate"] == pytest.approx([1e-4, 1e-2, 1.0])
    assert grid["one_minus_momentum"] == pytest.approx([1e-3, math.sqrt(1e-3), 1.0])
    assert grid["preconditioner_power"] == pytest.approx([0.0, 0.5, 1.0])
    for coordinate in SPACE.coordinates:
        assert all(coordinate.low <= value <= coordinate.high for value in grid[coordinate.name])


@pytest.mark.parametrize(
    ("low", "high", "scale", "message"),
    [
        (2.0, 1.0, "log", "low=2: must be less than high=1"),
        (1.0, 1.0, "log", "low=1: must be less than high=1"),
        (0.0, 1.0, "log", "low=0: must be greater than 0 on a log scale"),
        (0.0, 1.0, "log_one_minus", "high=1: must be less than 1 on a log_one_minus scale"),
        (0.0, math.inf, "linear", "high=inf: must be finite"),
        (math.nan, 1.0, "linear", "low=nan: must be finite"),
        ("a", 1.0, "linear", "low=a: must be a number"),
        (True, 2.0, "linear", "low=True: must be a number"),
        (1.0, 2.0, "cubic", "scale=cubic: must be one of linear, log, log_one_minus"),
    ],
)
def test_a_bad_range_is_refused_by_name_value_and_bound(
    low: float, high: float, scale: str, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + message.replace(".", r"\.") + "$"):
        Range(low, high, scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(0.0, 5e-324, "log_one_minus"), (1.0, 1.0 + 2.0**-52, "log"), (0.5, 0.5 + 2.0**-53, "linear")],
)
def test_bounds_that_rounding_makes_one_are_refused(low: float, high: float, scale: Scale) -> None:
    with pytest.raises(ValueError, match=r"^high=.*: is next to low="):
        Range(low, high, scale)
