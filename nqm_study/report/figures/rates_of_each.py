"""The best learning rate against batch size, a panel for each of many curves."""

from __future__ import annotations

from matplotlib.figure import Figure
from pandas import DataFrame

from nqm_study.report.curves import compared, curves, of_one_problem
from nqm_study.report.figures.learning_rate import rate_label
from nqm_study.report.multiples import multiples


def draw(studies: DataFrame) -> Figure | None:
    """The best learning rate found against batch size, both in powers of two, of each curve alone.

    With momentum it is lr / (1 - momentum). Behind it are the other curves.

    Returns:
        the figure, or None for fewer than nine curves, or for several problems.
    """
    shown = [curve for curve in of_one_problem(compared(curves(studies))) if not curve.computed]
    return multiples(
        shown,
        lambda curve: [(p.batch_size, p.effective_rate) for p in curve.points],
        rate_label(shown),
        lambda _: [],
    )
