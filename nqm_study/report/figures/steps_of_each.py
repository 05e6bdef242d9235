"""Steps to the target against batch size, a panel for each of many curves."""

from __future__ import annotations

from matplotlib.figure import Figure
from pandas import DataFrame

from nqm_study.report.curves import compared, curves, of_one_problem
from nqm_study.report.looks import curve_looks
from nqm_study.report.multiples import multiples
from nqm_study.report.reference_lines import draw_reference, reference_values


def draw(studies: DataFrame) -> Figure | None:
    """Fewest steps to the target against batch size, both in powers of two, of each curve alone.

    Behind it are the other curves, the Bayes bound and SGD's optimal schedule, as among the steps.

    Returns:
        the figure, or None for fewer than nine curves, or for several problems.
    """
    shown = of_one_problem(compared(curves(studies)))
    looks = curve_looks(shown)
    return multiples(
        shown,
        lambda curve: [(point.batch_size, point.steps) for point in curve.points],
        "steps to target, T (optimizer steps)",
        lambda axes: draw_reference(axes, shown, looks),
        [value for value in reference_values(shown) if value >= 1.0],
    )
