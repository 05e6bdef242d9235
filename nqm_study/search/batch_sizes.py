"""Ranges and first trials that fit a problem, where its batch size is searched as well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.search.ranges import WIDE, fit, middle_of, with_starts
from nqm_study.study.definition import BATCH_SIZE, Range, StudyDefinition
from nqm_study.study.space import Coordinate, Search, SearchSpace, plain

STARTS = 5
"""Number of batch sizes across the range that the first trials are at."""

HIGHER = 4.0
"""Multiples of the rule's values are searched up to this many times ``WIDE``."""


def fit_sizes(problem: NoisyQuadratic, algorithm: str, definition: StudyDefinition) -> Search:
    """Fit the search space of a study as ``fit`` does, also where its batch size is searched.

    There a hyperparameter without bounds is searched as a multiple of its guide, the rule's value
    at the trial's batch size. The first trials are the rule's at batch sizes across the range.

    Args:
        problem: the spectrum; its batch size does not matter where that is searched.
        algorithm: name of the optimizer's class, ``SGD`` or ``Adam``.
        definition: the study's.

    Raises:
        ValueError: as ``fit`` does.
    """
    sizes = definition.batch_size
    if not isinstance(sizes, Range):
        return fit(problem, algorithm, definition)
    batch_size = replace(plain(BATCH_SIZE, sizes, open_low=False, open_high=False), integer=True)
    fits = {size: _fit_one(problem, algorithm, definition, size) for size in sizes_across(sizes)}
    first = next(iter(fits.values())).space
    coordinates = (
        batch_size,
        *(
            _guided(
                {size: each.space.coordinates[i] for size, each in fits.items()},
                {size: each.starts[-1][coordinate.name] for size, each in fits.items()},
                definition,
            )
            for i, coordinate in enumerate(first.coordinates)
        ),
    )
    space = SearchSpace(first.fixed, coordinates, (BATCH_SIZE, *first.names))

    def rule(size: float) -> dict[str, float]:
        """The rule's values at a batch size; the middle of ranges where it says nothing."""
        middle = {
            each.name: 1.0 if each.guide else each.unscaled(middle_of(each)) for each in coordinates
        }
        return space.values({**middle, BATCH_SIZE: batch_size.clipped(size)})

    middle = batch_size.unscaled(middle_of(batch_size))
    asked = [{**rule(given.get(BATCH_SIZE, middle)), **given} for given in definition.enqueued]
    low, high = (batch_size.scaled(end) for end in (batch_size.low, batch_size.high))
    places = (low + (high - low) * k / (STARTS - 1) for k in range(STARTS))
    firsts = (rule(batch_size.unscaled(place)) for place in places)
    return with_starts(space, asked, firsts, definition)


def sizes_across(sizes: Range) -> list[int]:
    """The powers of two in a range of batch sizes, and its ends."""
    low, high = int(sizes.low or 1), int(sizes.high or 1)
    powers = (2**k for k in range(low.bit_length(), high.bit_length()))
    return sorted({low, *(power for power in powers if low < power < high), high})


def _fit_one(
    problem: NoisyQuadratic, algorithm: str, definition: StudyDefinition, size: int
) -> Search:
    """What fits one batch size, with the rule's point as its first trial."""
    alone = replace(
        definition,
        batch_size=float(size),
        warm_start=True,
        enqueued=(),
        sampler={"name": "random"},
    )
    return fit(replace(problem, batch_size=size), algorithm, alone)


def _guided(
    by_size: Mapping[int, Coordinate], starts: Mapping[int, float], definition: StudyDefinition
) -> Coordinate:
    """A coordinate over all batch sizes, from those at some and the first trials there."""
    first = next(iter(by_size.values()))
    given = definition.hyperparameters[first.hyperparameter]
    if not (isinstance(given, Range) and given.low is None and given.high is None):
        return replace(
            first,
            low=min(each.low for each in by_size.values()),
            high=max(each.high for each in by_size.values()),
        )
    low = min(each.low / starts[size] for size, each in by_size.items())
    high = max(each.high / starts[size] for size, each in by_size.items())
    if first.hyperparameter != "timescale":
        low, high = max(low, 1.0 / WIDE), min(high, HIGHER * WIDE)
    return replace(
        first,
        low=low,
        high=high,
        log=True,
        limit=math.inf,
        guide=tuple((float(size), start) for size, start in starts.items()),
        limits=tuple((float(size), each.limit) for size, each in by_size.items())
        if first.kind == "to_limit"
        else (),
    )
