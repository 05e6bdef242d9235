"""From the group ``optimizer`` to what is fixed and what is searched of an optimizer."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nqm_study.config.hyperparameters import ends, hyperparameter
from nqm_study.config.refusals import choice, listed, present, readable, typed, under
from nqm_study.model.numerics.require import require_number
from nqm_study.study.definition import Hyperparameter
from nqm_study.study.registry import ALGORITHMS, make_optimizer, set_by_policy

POLICIES = ("fixed", "half_life")
"""What beta2 may be across batch sizes."""

SETTINGS: Mapping[str, tuple[str, ...]] = {
    "SGD": (),
    "Adam": ("beta2_policy", "beta2_batch_size"),
}
"""Keys of each algorithm that are no hyperparameters: they can only be given."""


@dataclass(frozen=True)
class OptimizerSpace:
    """An optimizer as a configuration has it.

    Attributes:
        name: the configuration's name.
        algorithm: name of its class, a key of ``ALGORITHMS``.
        hyperparameters: each one a number (fixed) or a ``Range`` (searched).
        settings: the policy of beta2 and its batch size; empty where beta2 is the same at all.
    """

    name: str
    algorithm: str
    hyperparameters: Mapping[str, Hyperparameter]
    settings: Mapping[str, float | str]


def optimizer_space(section: Mapping[str, Any], batch_size: float) -> OptimizerSpace:
    """The optimizer of its group, at a batch size.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    present("optimizer", section, "name", "algorithm", "learning_rate")
    algorithm = choice("optimizer.algorithm", section["algorithm"], tuple(ALGORITHMS))
    name = readable("optimizer.name", section["name"])
    own = SETTINGS[algorithm]
    known = (*(each.name for each in fields(ALGORITHMS[algorithm])), *own)
    given = {key: v for key, v in section.items() if key not in ("name", "algorithm")}
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"optimizer.{key}={typed(value)}: {algorithm} has only {listed(known)}"
            )
    settings = _settings({key: given.pop(key) for key in own if key in given})
    hyperparameters = {
        key: hyperparameter(f"optimizer.{key}", value) for key, value in given.items()
    }
    # P = h^0 is none: with it and without it an optimizer is one and the same study. The
    # configuration that is about powers keeps it, so that it is told from the others.
    if name != "preconditioned" and hyperparameters.get("preconditioner_power") == 0.0:
        del hyperparameters["preconditioner_power"]
    for values in ends(hyperparameters):
        under("optimizer", functools.partial(make_optimizer, algorithm, values))
        _check_beta2(values, settings, batch_size)
    return OptimizerSpace(name, algorithm, hyperparameters, settings)


def _settings(given: Mapping[str, Any]) -> dict[str, float | str]:
    """The settings of a section; none with ``fixed``, so that stored studies keep their names."""
    policy = choice("optimizer.beta2_policy", given.get("beta2_policy", "fixed"), POLICIES)
    if "beta2_batch_size" in given:
        key = "optimizer.beta2_batch_size"
        batch_size = require_number(key, given["beta2_batch_size"], above=0.0)
    elif policy == "half_life":
        raise ValueError("optimizer.beta2_batch_size: is missing")
    if policy == "fixed":
        return {}
    return {"beta2_policy": policy, "beta2_batch_size": batch_size}


def _check_beta2(
    values: Mapping[str, float], settings: Mapping[str, float | str], batch_size: float
) -> None:
    if settings and "beta2" not in values:
        raise ValueError("optimizer.beta2: is missing, and beta2_policy=half_life needs it")
    # So close to 1 that its distance from it is lost to rounding.
    if set_by_policy(values, settings, batch_size).get("beta2", 0.0) >= 1.0:
        raise ValueError(
            f"optimizer.beta2_batch_size={settings['beta2_batch_size']:g}: "
            f"beta2={values['beta2']:g} there is 1 at batch_size={batch_size:g}, and must be less "
            "than 1"
        )
