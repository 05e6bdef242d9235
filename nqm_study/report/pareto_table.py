"""A frontier of steps and examples in a terminal, and in words."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from nqm_study.report import words
from nqm_study.report.pareto import Frontier, spread

_MOST_ROWS = 12


def pareto_table(frontier: Frontier) -> Table:
    """Trials along the frontier that was found, from the fewest examples to the fewest steps.

    At most twelve rows. ``over exact`` is the excess of the steps over the exact frontier at the
    same batch size; a dash where it is not known.
    """
    rows = spread(frontier, _MOST_ROWS)
    result = Table(
        title=Text(f"Frontier of steps and examples, {frontier.label}"),
        title_justify="left",
        caption=Text(pareto_sentence(frontier)),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    names = [name.replace("_", " ") for name in frontier.hyperparameters]
    for heading in ("batch size", "steps", "examples", *names):
        result.add_column(heading, justify="right", no_wrap=True)
    if frontier.exact is not None:
        result.add_column("over exact", justify="right", no_wrap=True)
    for trial in rows:
        cells = [
            words.typed(trial.batch_size),
            words.count(trial.steps or 0),
            f"{trial.examples:.3e}",
        ]
        cells += [_value(trial.hyperparameters.get(name)) for name in frontier.hyperparameters]
        if frontier.exact is not None:
            excess = frontier.excess(trial)
            cells.append("-" if excess is None else words.percent(excess))
        result.add_row(*map(Text, cells))
    return result


def pareto_sentence(frontier: Frontier) -> str:
    """What was found, and how near to the exact frontier it is."""
    lead = f"{frontier.label} over {words.batch_range(frontier.low, frontier.high)}: "
    seeds = "" if frontier.seeds == 1 else f" of {frontier.seeds} seeds"
    if not frontier.found:
        return f"{lead}none of {frontier.n_trials:,} trials{seeds} reached the target."
    text = (
        f"{lead}{len(frontier.found)} of {frontier.n_trials:,} trials{seeds} are the frontier "
        "found, which no trial beats in both steps and examples."
    )
    if frontier.gap is not None:
        each = "It covers" if frontier.seeds == 1 else "A seed (the median one) covers"
        text += (
            f" {each} the exact frontier within {words.percent(frontier.gap)} in steps and in "
            "examples."
        )
    if frontier.exact is not None and frontier.critical_batch_size is None:
        text += " The critical batch size, with examples 20 % above their least, is not in it."
    elif frontier.critical_batch_size is not None:
        text += (
            f" The critical batch size, with examples 20 % above their least, is "
            f"{words.rounded(frontier.critical_batch_size)}."
        )
    return text


def _value(value: float | None) -> str:
    return "-" if value is None else words.hyperparameter(value)
