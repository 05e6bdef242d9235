"""The machine of studies whose objective is time: one that is flat up to some batch size."""

from __future__ import annotations

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.study.definition import StudyDefinition


def step_time(definition: StudyDefinition, batch_sizes: Array) -> Array:
    """The time that steps of some batch sizes take, max(1, B / B_hardware)^exponent.

    Its unit is that of a step with at most B_hardware examples, which all take the same.
    """
    machine = definition.objective_settings
    share = np.maximum(1.0, batch_sizes / machine["hardware_batch_size"])
    return np.asarray(share ** machine["hardware_exponent"])
