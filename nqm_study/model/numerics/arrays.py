"""Types of the arrays that the model is computed with, and how they are shown."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_FEW = 6


def shown(values: Array | Sequence[float]) -> str:
    """The numbers, where they are few, or how many there are and their range, on one line."""
    if len(values) <= _FEW:
        return ", ".join(f"{value:.6g}" for value in values)
    return f"{len(values):,} from {min(values):.6g} to {max(values):.6g}"
