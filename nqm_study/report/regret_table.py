"""Regrets of samplers in a terminal, and in words."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table
from rich.text import Text

from nqm_study.report import words
from nqm_study.report.regret import Comparison, Regret, told


def regret_table(comparison: Comparison) -> Table:
    """One row per sampler, that with the least median regret at the end first.

    After a quarter, half and all of the trials it has the median, the upper quartile and the worst
    over studies of the steps' excess over the true optimum; a dash where so many studies had not
    reached the target.
    """
    result = Table(
        title=Text(_title(comparison)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    result.add_column("sampler", overflow="fold")
    counts = told(comparison.trials)
    for count in counts:
        for name in ("median", "upper", "worst"):
            result.add_column(f"{count:,}\n{name}", justify="right", no_wrap=True)
    for regret in sorted(comparison.regrets, key=_rank):
        cells = [
            words.percent(values[count - 1])
            for count in counts
            for values in (regret.median, regret.upper, regret.worst)
        ]
        result.add_row(*map(Text, [regret.sampler, *cells]))
    return result


def regret_sentence(regret: Regret) -> str:
    """``The sampler, tpe, is above the true optimum by 12 % after 25 trials, 0.3 % after 50, ...``.

    It gives the median over studies, and the worst after all trials.
    """
    parts = [f"{_said(regret.median[count - 1])} after {count:,}" for count in told(regret.trials)]
    parts[0] += " trial" if parts[0].endswith(" 1") else " trials"
    name = "the true optimum" if regret.exact else "the true optimum or the best of a dense search"
    text = f"The sampler, {regret.sampler}, is above {name} by {', '.join(parts)}"
    if regret.studies == 1:
        return f"{text}."
    worst = _said(regret.worst[-1])
    return f"{text} (medians of {regret.studies:,} studies; the worst at the end: {worst})."


def _said(value: float) -> str:
    return "an unknown share (target not reached)" if math.isinf(value) else words.percent(value)


def _rank(regret: Regret) -> tuple[float, float, float, str]:
    return regret.median[-1], regret.upper[-1], regret.worst[-1], regret.sampler


def _title(comparison: Comparison) -> str:
    studies = "1 study" if comparison.studies == 1 else f"{comparison.studies} studies"
    n_sizes, seeds = len(comparison.batch_sizes), comparison.seeds
    sizes = "1 batch size" if n_sizes == 1 else f"{n_sizes} batch sizes"
    optimum = "true optimum" if comparison.exact else "true optimum, or the best of a dense search"
    return (
        f"{comparison.label}: steps above the {optimum} after so many trials; median, upper "
        f"quartile and worst of {studies} ({sizes}, "
        f"{'1 seed' if seeds == 1 else f'{seeds} seeds'})"
    )
