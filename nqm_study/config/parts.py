"""From the sections of a configuration to the parts of a study."""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nqm_study.config.values import choice, integer, listed, text, typed, under
from nqm_study.model.numerics.require import require_number
from nqm_study.model.problems.files import loaded
from nqm_study.model.problems.law import MOST_DIM
from nqm_study.model.problems.power_law import power_law
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.optimum.study import Truth
from nqm_study.study.definition import (
    BATCH_SIZE,
    ONE_OBJECTIVE,
    SAMPLER_SETTINGS,
    Hyperparameter,
    Range,
    Scale,
    grid_points,
)
from nqm_study.study.records import TRACKED, Tracked
from nqm_study.study.storage.backends import KINDS, SHARED, Backend
from nqm_study.tracking.settings import Tracking

SECTIONS: Mapping[str, tuple[str, ...]] = {
    "study": (
        "n_trials",
        "seed",
        "name",
        "max_steps",
        "max_growth",
        "warm_start",
        "enqueue",
        "truth",
    ),
    "optimizer": ("name", "algorithm", "learning_rate"),
    "spectrum": ("name", "kind"),
    "schedule": ("name",),
    "sampler": ("name",),
    "storage": ("name",),
    "tracking": ("name",),
    "report": ("name",),
}
"""The groups of a configuration, and the keys that none may lack."""

SPECTRA: Mapping[str, tuple[str, ...]] = {
    "power_law": ("dim", "exponent"),
    "file": ("path", "rescale"),
}
"""The kinds of spectrum, and the keys that each has beside name and kind."""


FITTED: Mapping[str, tuple[float, Scale]] = {
    "learning_rate": (1.0, "log"),
    "momentum": (0.0, "log_one_minus"),
    "ema_decay": (0.0, "log_one_minus"),
    "timescale": (1.0, "log"),
}
"""Hyperparameters whose bounds can be left to be fitted to the problem: some value, the scale."""


def sections(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, with every key that is needed and no other."""
    try:
        data: Any = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error).splitlines()[0]) from error
    known = ("batch_size", "target", *SECTIONS)
    for key in data:
        if key not in known:
            raise ValueError(f"{key}={typed(data[key])}: no such key; there are {listed(known)}")
    for key in known:
        if key not in data:
            raise ValueError(f"{key}: is missing")
    for key, needed in SECTIONS.items():
        section = data[key]
        if not isinstance(section, dict):
            raise ValueError(f"{key}={typed(section)}: must be a group with {listed(needed)}")
        for name in needed:
            if name not in section:
                raise ValueError(f"{key}.{name}: is missing")
    for group in ("study", "report"):
        own = SECTIONS[group]
        for name in data[group]:
            if name not in own:
                raise ValueError(f"{group}.{name}: no such key; there are {listed(own)}")
    return dict(data)


def make_spectrum(section: Mapping[str, Any]) -> tuple[Spectrum, dict[str, float | str]]:
    """The spectrum of its section, and the settings that tell it from others of its name."""
    kind = choice("spectrum.kind", section["kind"], tuple(SPECTRA))
    for key, value in section.items():
        if key not in ("name", "kind", *SPECTRA[kind]):
            raise ValueError(
                f"spectrum.{key}={typed(value)}: the settings of kind {kind} are "
                f"{listed(SPECTRA[kind])}"
            )
    for key in SPECTRA[kind]:
        if key not in section:
            raise ValueError(f"spectrum.{key}: is missing")
    if kind == "file":
        return _spectrum_of_file(section["path"], section["rescale"])
    integer("spectrum.dim", section["dim"], 1, MOST_DIM)
    require_number("spectrum.exponent", section["exponent"], least=0.0)
    settings: dict[str, float | str] = {key: float(section[key]) for key in SPECTRA[kind]}
    make = functools.partial(_power_law, section["dim"], section["exponent"])
    return under("spectrum", make), settings


def _spectrum_of_file(path: object, rescale: object) -> tuple[Spectrum, dict[str, float | str]]:
    if not isinstance(rescale, bool):
        raise ValueError(f"spectrum.rescale={typed(rescale)}: must be true or false")
    if not isinstance(path, str) or not path.strip():
        raise ValueError(
            f"spectrum.path={typed(path)}: must be the path of a .csv or .npz file, relative to "
            "the folder the program is started in"
        )
    if not path.isprintable():
        raise ValueError(f"spectrum.path={path!r}: must have no characters that cannot be shown")
    # With hydra.job.chdir a job runs in a folder of its own.
    file = Path(to_absolute_path(path))
    try:
        spectrum, scale = loaded(file, rescale=rescale)
    except ValueError as error:
        raise ValueError(f"spectrum.path={error}") from error
    # Nine digits are enough to know a spectrum by; its digest is of every bit.
    settings: dict[str, float | str] = {
        "file": file.name,
        "modes": float(f"{spectrum.multiplicity.sum():.9g}"),
    }
    if scale != 1.0:
        settings["scale"] = float(f"{scale:.9g}")
    return spectrum, settings


@functools.lru_cache(maxsize=8)
def _power_law(dim: int, exponent: float) -> Spectrum:
    # One spectrum for all the studies of a call: its compressions are kept on it.
    return power_law(dim, exponent)


def ends(hyperparameters: Mapping[str, Hyperparameter]) -> tuple[dict[str, float], ...]:
    """The values at the low and at the high end of every range.

    Both must make what they are the hyperparameters of; so a bad bound is told before any trial.
    """
    return tuple(
        {
            # A bound that is fitted to the problem will do, whatever it is.
            name: FITTED[name][0] if (bound := _end(each, end)) is None else bound
            for name, each in hyperparameters.items()
        }
        for end in ("low", "high")
    )


def _end(each: Hyperparameter, end: str) -> float | None:
    if not isinstance(each, Range):
        return each
    return each.low if end == "low" else each.high


def hyperparameter(key: str, value: Any) -> Hyperparameter:
    """A number or a range, from what the configuration has under a key."""
    if isinstance(value, Range):
        return _with_ends(key, value)
    if isinstance(value, Mapping):
        odd = [name for name in value if name not in ("low", "high", "scale")]
        if odd or not {"low", "high"} <= set(value):
            raise ValueError(f"{key}={dict(value)}: a range is {{low: ..., high: ..., scale: ...}}")
        return _with_ends(key, under(key, functools.partial(Range, **value)))
    if not isinstance(value, (int, float)):
        raise ValueError(f"{key}={typed(value)}: must be a number or a range")
    # 0 and 0.0 are one value, and must make one fingerprint.
    return value if isinstance(value, bool) else float(value)


def _with_ends(key: str, each: Range) -> Range:
    """The range, if those of its bounds that are missing can be fitted; else a ValueError."""
    name = key.rpartition(".")[2]
    for end, bound in (("low", each.low), ("high", each.high)):
        if bound is None and name not in FITTED:
            raise ValueError(
                f"{key}.{end}=null: must be a number; of {listed(FITTED)} it may be null"
            )
    if each.fitted and each.scale != FITTED[name][1]:
        raise ValueError(
            f"{key}.scale={each.scale}: must be {FITTED[name][1]} where a bound is null"
        )
    return each


def sampler_settings(
    section: Mapping[str, Any], hyperparameters: Mapping[str, Hyperparameter], n_trials: int
) -> dict[str, Any]:
    """The sampler's name and settings, checked against the space and the budget.

    A batch size among the hyperparameters says that it is searched, for two objectives.
    """
    settings = dict(section)
    name = choice("sampler.name", settings["name"], tuple(SAMPLER_SETTINGS))
    if BATCH_SIZE in hyperparameters and name in ONE_OBJECTIVE:
        others = listed(each for each in SAMPLER_SETTINGS if each not in ONE_OBJECTIVE)
        raise ValueError(f"sampler={name}: must be one of {others} where batch_size is searched")
    for key, value in settings.items():
        if key not in ("name", *SAMPLER_SETTINGS[name]):
            has = listed(SAMPLER_SETTINGS[name]) or "none"
            raise ValueError(f"sampler.{key}={typed(value)}: the settings of {name} are {has}")
    for key in ("n_startup_trials", "size"):
        if key in settings:
            integer(f"sampler.{key}", settings[key], 1)
    if "population_size" in settings:
        integer("sampler.population_size", settings["population_size"], 2)
    if "qmc_type" in settings:
        choice("sampler.qmc_type", settings["qmc_type"], ("sobol", "halton"))
    if "finish" in settings:
        settings["finish"] = require_number(
            "sampler.finish", settings["finish"], least=0.0, most=0.95
        )
        if settings["finish"] and BATCH_SIZE in hyperparameters:
            raise ValueError(
                f"sampler.finish={settings['finish']:g}: must be 0 where batch_size is searched, "
                "as with sampler=tpe_alone or nsgaii"
            )
    if name == "gp" and importlib.util.find_spec("torch") is None:
        raise ValueError("sampler=gp: needs PyTorch, which is not installed")
    dimensions = sum(isinstance(each, Range) for each in hyperparameters.values())
    if name == "grid" and dimensions:
        held = grid_points(settings, dimensions) ** dimensions
        if n_trials > held:
            raise ValueError(
                f"study.n_trials={n_trials}: must be at most {held}, the points of the grid; "
                "sampler.size makes it finer"
            )
    return settings


def batch_sizes(value: object, most: int) -> float | Range:
    """The batch size, or the range of it that is searched."""
    if not isinstance(value, Mapping):
        return float(integer("batch_size", value, 1, most))
    if value.get("scale") == "log_one_minus":
        raise ValueError("batch_size.scale=log_one_minus: must be log or linear")
    found = hyperparameter("batch_size", value)
    assert isinstance(found, Range)  # noqa: S101 (made from a mapping)
    for end in ("low", "high"):
        integer(f"batch_size.{end}", value[end], 1, most)
    return found


def ends_of(batch_size: float | Range) -> tuple[float, float]:
    """The smallest and the largest batch size of a study."""
    if not isinstance(batch_size, Range):
        return batch_size, batch_size
    return batch_size.low or 1.0, batch_size.high or 1.0


def switch(key: str, value: object) -> bool:
    """The value, if it is true or false; else a ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"{key}={typed(value)}: must be true or false")
    return value


def truth_of(key: str, value: object) -> Truth:
    """The value, if it says which optima are computed; else a ValueError."""
    if isinstance(value, bool):
        return value
    if value == "all":
        return "all"
    raise ValueError(f"{key}={typed(value)}: must be true, false or all")


def enqueued(key: str, value: object) -> tuple[dict[str, float], ...]:
    """The hyperparameters of trials that the user asks for: a list of names with values."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{key}={typed(value)}: must be a list, such as [{{learning_rate: 0.1}}]")
    for each in value:
        if not isinstance(each, Mapping) or not each:
            raise ValueError(
                f"{key}: each of its entries must be values by name, such as {{learning_rate: 0.1}}"
            )
    return tuple(
        {name: require_number(f"{key}.{name}", number) for name, number in each.items()}
        for each in value
    )


def make_backend(section: Mapping[str, Any]) -> Backend:
    """Where studies are kept."""
    kind = choice("storage", section["name"], KINDS)
    if kind != SHARED:
        _only("storage", section, "name")
        return Backend(kind)
    _only("storage", section, "name", "url", "heartbeat_interval", "grace_period")
    given = section.get("url")

    from nqm_study.study.storage.database import server_url

    server_url(given if isinstance(given, str) else "")
    interval = integer("storage.heartbeat_interval", section.get("heartbeat_interval"), 1)
    grace = integer("storage.grace_period", section.get("grace_period"), 1)
    if grace <= interval:
        raise ValueError(
            f"storage.grace_period={grace}: must be above storage.heartbeat_interval={interval}"
        )
    return Backend(kind, str(given), interval, grace)


def make_tracking(section: Mapping[str, Any]) -> Tracking | None:
    """The MLflow that studies are mirrored into; None for none."""
    name = choice("tracking", section["name"], ("mlflow", "server", "none"))
    if name == "none":
        # A preset may say which trials, and whether there are figures, whatever the tracking.
        _only("tracking", section, "name", "trials", "diagnostics")
        return None
    own = ("name", "experiment", "trials", "patience", "diagnostics")
    _only("tracking", section, *own, *(("uri",) if name == "server" else ()))
    uri = ""
    if name == "server":
        uri = text("tracking.uri", section.get("uri"))
        if not uri.startswith(("http://", "https://")):
            raise ValueError(f"tracking.uri={uri}: must be an address, http://host:port")
    experiment = text("tracking.experiment", section.get("experiment"))
    trials = choice("tracking.trials", section.get("trials"), TRACKED)
    patience = require_number("tracking.patience", section.get("patience"), least=0.0)
    diagnostics = switch("tracking.diagnostics", section.get("diagnostics"))
    return Tracking(experiment, uri, cast("Tracked", trials), patience, diagnostics)


def report_name(key: str, value: object) -> str | None:
    """The name of a report, which is a folder's; None for none."""
    if value is None:
        return None
    # The folders of problems have hyphens in their names.
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_]+", value):
        raise ValueError(f"{key}={typed(value)}: must be letters, digits and _, or null")
    return value


def _only(group: str, section: Mapping[str, Any], *known: str) -> None:
    for key, value in section.items():
        if key not in known:
            raise ValueError(f"{group}.{key}={typed(value)}: the settings are {listed(known)}")
