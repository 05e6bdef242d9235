"""Many curves have a panel each."""

import numpy as np
import pytest
from fake_records import POWERS, curves, sweep
from matplotlib.axes import Axes

from nqm_study.report import figures
from nqm_study.report.frame import studies_frame
from nqm_study.report.multiples import FEWEST
from nqm_study.study.records import StudyRecord


def many(count: int, **changes: object) -> list[StudyRecord]:
    """Curves of different optimizers, each with rates of its own."""
    return [
        record
        for place in range(count)
        for record in sweep(
            lambda size, place=place: 1e6 * (place + 1) / size + 100,
            lambda size, place=place: 1e-3 * (place + 1) * size**0.5,
            POWERS,
            optimizer=f"own_{place}",
            **changes,
        )
    ]


def marked(axes: Axes) -> tuple[list[float], list[float]]:
    """The points of the curve that a panel is of: it alone has markers and a dark rim."""
    (line,) = [each for each in axes.lines if each.get_markeredgecolor() == "0.15"]
    return list(line.get_xdata()), list(line.get_ydata())


@pytest.mark.parametrize("name", ["steps_of_each", "rates_of_each"])
def test_each_panel_has_its_curve_before_all_others(name: str) -> None:
    records = many(FEWEST + 1)
    figure = figures.module(name).draw(studies_frame(records))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == FEWEST + 1
    known = {curve.label: curve for curve in curves(records)}
    assert [axes.get_title() for axes in shown] == list(known)
    for axes, curve in zip(shown, known.values(), strict=True):
        values = [p.steps if name == "steps_of_each" else p.effective_rate for p in curve.points]
        sizes, found = marked(axes)
        assert sizes == POWERS
        assert found == pytest.approx(values)
        pale = [line for line in axes.lines if line.get_color() == "0.82"]
        assert len(pale) == FEWEST + 1
        low, high = axes.get_ylim()
        assert low < min(values)
        assert max(values) < high
    assert len({tuple(np.array(marked(axes)[1])) for axes in shown}) == FEWEST + 1


@pytest.mark.parametrize("name", ["steps_of_each", "rates_of_each"])
def test_few_curves_and_several_problems_have_no_panels(name: str) -> None:
    draw = figures.module(name).draw
    assert draw(studies_frame(many(FEWEST - 1))) is None
    assert draw(studies_frame([*many(5), *many(5, target=0.1)])) is None
