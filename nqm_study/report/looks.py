"""The colour, marker and line of a curve, by what it is and not by what else is drawn.

Optimizers and schedules that come with the program have places, in the order of ``frame``. A
curve of these two alone always has the same look, and no two of them have one. Of a curve with
values chosen by hand, or of a user's optimizer or schedule, a hash of the names makes the look:
it is the same in every figure too, unless its look is taken there by one that comes before it,
by name. In a figure of several problems the looks of the second one and of those after it are
shifted.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from nqm_study.report.axes import LINES, Look
from nqm_study.report.frame import OPTIMIZERS, SCHEDULES

COLORS = (
    *("#0072B2", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#009E73", "#882255", "#8C510A"),
    *("#332288", "#999933", "#AA4499", "#117733", "#6699CC", "#44AA99", "#CC6677", "#000000"),
)
"""Okabe and Ito's (2008) without the pale yellow, and Tol's muted ones, which differ for
colour-blind readers; past eight, markers and lines tell what colours may not."""

_SHIFTS = (0, 8, 14, 7, 13, 12, 11, 6, 9, 4, 3, 10)
"""How far the colours under each of ``SCHEDULES`` are from those at a constant rate. All differ,
and under the schedules of most sweeps no usual optimizer has the colour of one at a constant rate.
"""

_MARKERS = "os^DvPX*"
_SAMPLERS = ("tpe + finish", "tpe", "cmaes", "random", "qmc", "grid", "gp", "nsgaii")
_ALL = len(COLORS) * len(_MARKERS)


def curve_looks(curves: Iterable[Any]) -> list[Look]:
    """A look for each curve, or frontier.

    Args:
        curves: with the attributes ``optimizer``, ``schedule``, ``variant``, ``label``, ``key``,
            ``problem_digest`` and ``target``.
    """
    drawn = list(curves)
    problems = list(dict.fromkeys((each.problem_digest, each.target) for each in drawn))
    found: dict[int, Look] = {}
    plain: set[tuple[str, ...]] = set()
    taken: dict[tuple[str, str], list[str]] = {}
    for i in sorted(range(len(drawn)), key=lambda i: _order(drawn[i])):
        each = drawn[i]
        problem = problems.index((each.problem_digest, each.target))
        name = (each.optimizer, each.schedule, each.variant, str(problem))
        # Of curves with one name the first looks as if it were alone.
        own = each.variant if name not in plain else f"{each.variant} {each.key}"
        plain.add(name)
        used = taken.setdefault((each.optimizer, each.schedule), [])
        start = _hashed(own) if own else 0
        tries = partial(_looks, each.optimizer, each.schedule, start, 3 * problem)
        free = (look for look in tries() if look not in found.values())
        new = (look for look in tries() if look.color not in used and look not in found.values())
        found[i] = next(itertools.chain(new, free, tries()))
        used.append(found[i].color)
    return [found[i] for i in range(len(drawn))]


def sampler_looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each sampler by its name."""
    places = {name: _place(name, _SAMPLERS) for name in names}
    return {
        name: Look(COLORS[place % len(COLORS)], _MARKERS[place % len(_MARKERS)])
        for name, place in places.items()
    }


def _looks(optimizer: str, schedule: str, start: int, problem: int) -> Iterator[Look]:
    """The looks of an optimizer under a schedule, each once, from one of them on."""
    return (_look(optimizer, schedule, start + k, problem) for k in range(_ALL))


def _look(optimizer: str, schedule: str, shift: int, problem: int) -> Look:
    """The look so far from that of the optimizer and the schedule alone.

    With the shifts, 6 and the turn of lines after four schedules, those of 8 optimizers and 12
    schedules all differ, and so do the colours of one optimizer, or of one schedule.
    """
    row, column = _place(optimizer, OPTIMIZERS), _place(schedule, SCHEDULES)
    away = _SHIFTS[column] if column < len(_SHIFTS) else column
    # A shift never ends at the colour of the two alone.
    turn, step = divmod(shift - 1, len(COLORS) - 1) if shift else (0, -1)
    return Look(
        COLORS[(row + away + step + 1 + problem) % len(COLORS)],
        _MARKERS[(row + 6 * column + turn + problem) % len(_MARKERS)],
        LINES[(column + column // len(LINES)) % len(LINES)],
    )


def _order(curve: Any) -> tuple[object, ...]:
    """Sorting key: what has a place of its own first, then by names, the shorter one first."""
    placed = curve.optimizer in OPTIMIZERS and curve.schedule in SCHEDULES
    return (not placed, bool(curve.variant), len(curve.label), curve.label, curve.key)


def _place(name: str, known: Sequence[str]) -> int:
    return known.index(name) if name in known else len(known) + _hashed(name)


def _hashed(text: str) -> int:
    """A number that a text has in every process; 1 or more."""
    return 1 + int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)
