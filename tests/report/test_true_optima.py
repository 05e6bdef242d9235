"""True optima in the figures and in words."""

from collections.abc import Callable, Sequence

import pytest
from fake_records import (
    POWERS,
    adam,
    bounded,
    curves,
    learning_rate_figure,
    momentum,
    sgd,
    steps_figure,
    sweep,
    with_optima,
)
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nqm_study.report.curves import Curve
from nqm_study.report.describe import describe
from nqm_study.study.records import StudyRecord

FIGURES = [steps_figure, learning_rate_figure]
NAME = "true optimum, same search space"


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def thin_lines(figure: Figure) -> list[Line2D]:
    return [line for line in figure.axes[0].get_lines() if line.get_linewidth() == 0.9]


@pytest.mark.parametrize("figure_of", FIGURES)
def test_true_optima_are_a_thin_line_under_markers_of_the_curve(
    figure_of: Callable[[Sequence[Curve]], Figure],
) -> None:
    figure = figure_of(with_optima(sgd() + adam(), lambda _: 0.1, lambda _: 1.1))
    markers = [line for line in figure.axes[0].get_lines() if line.get_marker() in ("o", "P")]
    assert [line.get_linestyle() for line in markers] == ["None", "None"]
    lines = thin_lines(figure)
    assert [line.get_color() for line in lines] == [line.get_color() for line in markers]
    for line, points in zip(lines, markers, strict=True):
        assert line.get_zorder() < points.get_zorder()
        ratios = points.get_ydata() / line.get_ydata()
        assert list(ratios) == pytest.approx([1.1] * len(POWERS), rel=0.01)
    assert legend_texts(figure).count(NAME) == 1


@pytest.mark.parametrize("figure_of", FIGURES)
def test_points_without_known_optima_are_joined_as_ever(
    figure_of: Callable[[Sequence[Curve]], Figure],
) -> None:
    figure = figure_of(sgd())
    assert not thin_lines(figure)
    assert NAME not in legend_texts(figure)
    partly = figure_of([*with_optima(sgd([4, 16])), *sgd([64])])
    (line,) = thin_lines(partly)
    assert list(line.get_xdata()) == [4, 16]
    (points,) = [line for line in partly.axes[0].get_lines() if line.get_marker() == "o"]
    assert points.get_linestyle() == "-"


def test_a_single_optimum_is_a_short_bar() -> None:
    records = with_optima(sgd([256]))
    (line,) = thin_lines(steps_figure(records))
    assert records[0].optimum is not None
    assert list(line.get_ydata()) == [records[0].optimum.steps] * 2


def test_a_dense_search_is_not_called_the_true_optimum() -> None:
    dense = with_optima(adam(), exact=False)
    assert "best of a dense search, same search space" in legend_texts(steps_figure(dense))
    both = legend_texts(steps_figure(with_optima(sgd()) + dense))
    assert "true optimum, or best of a dense search, same search space" in both


def test_an_optimum_far_from_the_points_is_inside_the_axes() -> None:
    records = with_optima(sgd([4, 16]), lambda _: 63.0, lambda _: 1000.0)
    for figure_of in FIGURES:
        figure = figure_of(records)
        low, high = figure.axes[0].get_ylim()
        (line,) = thin_lines(figure)
        assert low < min(line.get_ydata()) <= max(line.get_ydata()) < high


@pytest.mark.parametrize(
    ("excess", "exact", "text"),
    [
        (0.004, True, "at most 0.4 % above the true optimum."),
        (0.0001, True, "less than 0.1 % above the true optimum."),
        (0.0, True, "at the true optimum."),
        (0.02, False, "at most 2.0 % above the best of a dense search."),
        (-0.02, False, "below the best of a dense search."),
    ],
)
def test_description_says_how_far_a_curve_is_above_its_optima(
    excess: float, exact: bool, text: str
) -> None:
    made = with_optima(sgd([4, 16]), lambda b: excess if b == 4 else min(excess, 0.0), exact=exact)
    assert f"times the Bayes bound; {text}" in describe(curves(made))


def test_description_explains_the_optima_once_and_where_there_are_any() -> None:
    text = describe(curves(with_optima(sgd()) + with_optima(momentum())))
    assert text.count("The true optimum is the fewest steps that any values") == 1
    assert "dense search" not in text
    dense = describe(curves(with_optima(adam(), exact=False)))
    assert "A dense search stands in for the true optimum" in dense
    assert "The true optimum is" not in dense
    assert "optimum" not in describe(curves(sgd()))


def drifting(*, exact: bool = True) -> list[StudyRecord]:
    records = sweep(lambda b: 2**30 / b, lambda b: 1e-3 * b**1.03, POWERS)
    return with_optima(records, off=lambda b: b**0.03, exact=exact)


def test_slopes_are_given_with_those_of_the_true_optima() -> None:
    text = describe(curves(drifting()))
    assert "slope 1.03 ± 0.03 (bend), true optima 1.00, B = 2^2..2^20" in text
    assert "± (bend) adds up how far the slope found is off" in text
    dense = describe(curves(drifting(exact=False)))
    assert "slope 1.03 ± 0.03 (95 %), dense search 1.00, B" in dense
    assert "and, where known, the distance from the true optima's slope." in dense
    assert "true optima's slope" not in describe(curves(sgd())), "none is known"


def test_slopes_beside_their_line_and_in_the_legend_have_short_lines() -> None:
    (note,) = learning_rate_figure(drifting()).axes[0].texts
    assert note.get_text().split("\n") == [
        "sgd",
        "slope 1.03 ± 0.03 (bend)",
        "true optima 1.00",
        "B = $2^{2}$..$2^{20}$",
    ]
    many = [r for i in range(8) for r in with_optima(adam(optimizer=f"adam_{i}"))]
    texts = [t.get_text() for t in learning_rate_figure(many).legends[0].get_texts()]
    assert sum("\ntrue optima 0.500\n" in text for text in texts) == 8


def test_a_tall_legend_stands_on_no_caption() -> None:
    many = [r for i in range(8) for r in with_optima(adam(optimizer=f"adam_{i}"))]
    figure = learning_rate_figure(many)
    figure.draw_without_rendering()
    (caption,) = figure.texts
    assert figure.legends[0].get_window_extent().y0 > caption.get_window_extent().y1


def test_legends_with_optima_stay_inside_the_figure() -> None:
    records = with_optima(bounded(sgd())) + with_optima(bounded(adam()), exact=False)
    for figure_of in FIGURES:
        figure = figure_of(records)
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
        assert box.x0 > figure.axes[0].get_window_extent().x1
        assert box.x1 <= figure.bbox.x1
        label = figure.axes[0].yaxis.label.get_window_extent()
        assert label.y0 >= 0.0
        assert label.y1 <= figure.bbox.y1
