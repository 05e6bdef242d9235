"""Where a text can stand beside its line without covering anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

_FRACTIONS = (0.5, 0.7, 0.3, 1.0, 0.0, 1.2, 1.4)  # along the line, its middle first
_DISTANCES = (7, 11, 16, 22)  # points from the line, the nearest first
_CLEARANCE = 3.0  # pixels between a text and what is drawn


@dataclass(frozen=True)
class Note:
    """A text in a colour, to stand beside the straight line between two points."""

    text: str
    color: str
    start: tuple[float, float]
    end: tuple[float, float]


def place(axes: Axes, notes: Sequence[Note]) -> bool:
    """Write every note beside its line, or none: False where one of them has no free place.

    The layout must be final. A note stands above and left of its line, or below and right.
    """
    obstacles = _drawn(axes)
    placed: list[Annotation] = []
    taken: list[Bbox] = []
    for note in notes:
        found = _first_free(axes, note, obstacles, taken)
        if found is None:
            for annotation in placed:
                annotation.remove()
            return False
        annotation, box = found
        placed.append(annotation)
        taken.append(box)
    return True


def _first_free(
    axes: Axes, note: Note, obstacles: NDArray[np.float64], taken: Sequence[Bbox]
) -> tuple[Annotation, Bbox] | None:
    start, end = axes.transData.transform([note.start, note.end])
    for distance in _DISTANCES:
        for fraction in _FRACTIONS:
            anchor = axes.transData.inverted().transform(start + fraction * (end - start))
            for side in (-1, 1):
                annotation = axes.annotate(
                    note.text,
                    xy=(float(anchor[0]), float(anchor[1])),
                    xytext=(side * distance, -side * distance * 0.6),
                    textcoords="offset points",
                    ha="right" if side < 0 else "left",
                    va="bottom" if side < 0 else "top",
                    fontsize=8,
                    color=note.color,
                )
                annotation.set_in_layout(False)
                box = annotation.get_window_extent().padded(_CLEARANCE)
                if _free(axes, box, obstacles, taken):
                    return annotation, box
                annotation.remove()
    return None


def _free(axes: Axes, box: Bbox, obstacles: NDArray[np.float64], taken: Sequence[Bbox]) -> bool:
    frame = axes.get_window_extent()
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    return inside and box.count_contains(obstacles) == 0 and not box.count_overlaps(taken)


def _drawn(axes: Axes) -> NDArray[np.float64]:
    """Pixels close together along every line of the axes."""
    tracks = [np.empty((0, 2))]
    for line in axes.get_lines():
        corners = line.get_transform().transform(line.get_xydata())
        tracks.append(corners)
        for start, end in pairwise(corners):
            n_steps = max(2, int(np.hypot(*(end - start)) / 3.0))
            tracks.append(np.linspace(start, end, n_steps))
    return np.concatenate(tracks)
