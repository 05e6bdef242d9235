"""Where a text can stand beside its line without covering anything."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

Pixels = NDArray[np.float64]  # one in each row

_NOTHING: Pixels = np.empty((0, 2))
_FRACTIONS = (0.5, 0.7, 0.3, 1.0, 0.0, 1.2, 1.4)  # along a straight line, its middle first
_DISTANCES = (7, 11, 16, 22)  # points from the line, the nearest first
_SIDES = ((-1, 1), (1, -1), (1, 1), (-1, -1))  # left or right, below or above
_CLEARANCE = 3.0  # pixels between a text and what is drawn


@dataclass(frozen=True)
class Note:
    """A text in the colour of a line, to stand beside one of some places on it.

    Attributes:
        text: what to write, in Matplotlib's math text.
        color: that of the line, and of no other one nearby.
        places: points of the line, the best first.
    """

    text: str
    color: str
    places: tuple[tuple[float, float], ...]


def along(start: tuple[float, float], end: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    """Places on the line between two points, and a little beyond; straight on logarithmic axes."""
    return tuple(
        (start[0] * (end[0] / start[0]) ** share, start[1] * (end[1] / start[1]) ** share)
        for share in _FRACTIONS
    )


def backwards(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The middles between neighbouring points, and the points, from the last to the first."""
    places = list(points[-1:])
    for (x, y), (next_x, next_y) in reversed(list(pairwise(points))):
        places += [(math.sqrt(x * next_x), math.sqrt(y * next_y)), (x, y)]
    return tuple(places)


def place(axes: Axes, notes: Sequence[Note]) -> bool:
    """Write every note beside its line, or none: False where one of them has no free place.

    The layout must be final. A place is free where a note covers nothing, and is nearer to what is
    drawn in its own colour than to anything else.
    """
    drawn = _drawn(axes)
    placed: list[Annotation] = []
    taken: list[Bbox] = []
    for note in notes:
        found = _first_free(axes, note, drawn, taken)
        if found is None:
            for annotation in placed:
                annotation.remove()
            return False
        annotation, box = found
        placed.append(annotation)
        taken.append(box)
    return True


def _first_free(
    axes: Axes, note: Note, drawn: Mapping[str, Pixels], taken: Sequence[Bbox]
) -> tuple[Annotation, Bbox] | None:
    color = to_hex(note.color)
    own = drawn.get(color, _NOTHING)
    others = np.concatenate(
        [_NOTHING, *(pixels for other, pixels in drawn.items() if other != color)]
    )
    annotation = axes.annotate(
        note.text,
        xy=note.places[0],
        textcoords="offset points",
        xytext=(0.0, 0.0),
        fontsize=8,
        color=note.color,
    )
    annotation.set_in_layout(False)
    size = annotation.get_window_extent().size
    frame = axes.get_window_extent()
    point_size = axes.figure.dpi / 72.0  # pixels
    for distance, point, (right, up) in product(_DISTANCES, note.places, _SIDES):
        offset = np.array([right * distance, 0.6 * up * distance])  # points
        corner = axes.transData.transform(point) + offset * point_size
        opposite = corner + size * np.array([right, up])
        box = Bbox([np.minimum(corner, opposite), np.maximum(corner, opposite)])
        box = box.padded(_CLEARANCE)
        inside = np.all(frame.min <= box.min) and np.all(box.max <= frame.max)
        if inside and not box.count_overlaps(taken) and 0.0 < _gap(box, own) < _gap(box, others):
            annotation.xy = point
            annotation.set_position(tuple(offset))
            annotation.set_horizontalalignment("left" if right > 0 else "right")
            annotation.set_verticalalignment("bottom" if up > 0 else "top")
            return annotation, box
    annotation.remove()
    return None


def _gap(box: Bbox, pixels: Pixels) -> float:
    """How far a box is from the nearest of some pixels: 0 where it covers one."""
    outside = np.maximum(np.maximum(box.min - pixels, pixels - box.max), 0.0)
    return float(np.min(np.hypot(*outside.T), initial=np.inf))


def _drawn(axes: Axes) -> dict[str, Pixels]:
    """Pixels close together along every line of the axes, by the lines' colours."""
    tracks: dict[str, list[Pixels]] = defaultdict(list)
    for line in axes.get_lines():
        corners = line.get_transform().transform(line.get_xydata())
        track = tracks[to_hex(line.get_color())]
        track.append(corners)
        for start, end in pairwise(corners):
            n_steps = max(2, int(np.hypot(*(end - start)) / 3.0))
            track.append(np.linspace(start, end, n_steps))
    return {color: np.concatenate(found) for color, found in tracks.items()}
