"""The problem of a configuration: its spectrum, how noisy it is, and what both are told by."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from hydra.utils import to_absolute_path

from nqm_study.config.refusals import listed, typed, under
from nqm_study.config.schema import group_of
from nqm_study.config.targets import TARGET, located, name_of, snake
from nqm_study.model.problems.data import Regression
from nqm_study.model.problems.files import load_spectrum, loaded
from nqm_study.model.problems.least_squares import LeastSquares
from nqm_study.model.problems.loading import TargetColumnError, load_examples, load_regression
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.problems.power_law import power_law, power_law_tail
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.study.definition import Value
from nqm_study.study.recipes import Checking
from nqm_study.study.text import raised

Settings = dict[str, float | str]
T = TypeVar("T")


@dataclass(frozen=True)
class _Found:
    """A spectrum of a configuration.

    Attributes:
        spectrum: itself.
        settings: what tells it from others of its name.
        residual: the label noise of data; None where there are none.
        tail: the label noise that modes beyond the spectrum's add.
    """

    spectrum: Spectrum
    settings: Settings
    residual: float | None = None
    tail: float = 0.0


def problem_of(
    section: Mapping[str, Any], spectrum: Mapping[str, Any], batch_size: float
) -> tuple[Problem, Settings]:
    """The problem of a configuration, and what tells its spectrum from others of its name.

    A null is as good as no key: then the label noise is that of the data, where the spectrum is
    made from some, or else what the problem's class has by default.

    Args:
        section: the group ``problem``.
        spectrum: the group ``spectrum``.
        batch_size: examples per step.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    make, given = _class_of(section)
    falls = issubclass(make, LeastSquares)
    target = located("spectrum", spectrum)
    if target is load_regression:
        _require_least_squares(make, "spectrum=data")
    found = _spectrum(target, spectrum, tail=falls)
    settings = found.settings
    if found.residual is not None:
        _require_least_squares(make, f"spectrum.{TARGET}={name_of(target)}")
        if "label_noise" in given:
            settings = {**settings, "residual": found.residual}
        given = {"label_noise": found.residual, **given}
    problem = _made(make, found.spectrum, batch_size, given)
    if found.tail and isinstance(problem, LeastSquares):
        problem = replace(problem, label_noise=problem.label_noise + found.tail)
    return problem, settings


def said(problem: Problem) -> dict[str, Any]:
    """The fields of a definition that say which problem it is; none for the noisy quadratic.

    Raises:
        ValueError: if a field of the problem's is no number, switch or word.
    """
    if type(problem) is NoisyQuadratic:
        return {}
    settings: dict[str, Value] = {}
    for name in _further(type(problem)):
        value = getattr(problem, name)
        if not is_value(value):
            raise ValueError(f"problem.{name}={typed(value)}: must be a number, a switch or a word")
        # Twelve digits, as a user types at most: sums differ by machine in the last one.
        settings[name] = value if isinstance(value, (str, bool)) else float(f"{value:.12g}")
    return {"problem": snake(type(problem).__name__), "problem_settings": settings}


def is_law(problem: Problem, settings: Mapping[str, float | str]) -> bool:
    """Whether it is least squares on a power law with a source, by the settings of its spectrum."""
    if not isinstance(problem, LeastSquares) or set(settings) != {"dim", "exponent", "source"}:
        return False
    dim, exponent, source = (float(settings[each]) for each in ("dim", "exponent", "source"))
    return problem.spectrum.digest == power_law_once(int(dim), exponent, source).digest


def _class_of(section: Mapping[str, Any]) -> tuple[type[Problem], dict[str, Any]]:
    """The class of the problem, and what is given beside its spectrum and batch size."""
    make = located("problem", section)
    if not isinstance(make, type) or not issubclass(make, Problem) or inspect.isabstract(make):
        raise ValueError(
            f"problem.{TARGET}={name_of(make)}: must be a class of Problem, such as "
            "nqm_study.LeastSquares"
        )
    known = _further(make)
    given = {key: value for key, value in section.items() if key not in ("name", TARGET)}
    for key, value in given.items():
        shown = f"problem.{key}={typed(value)}"
        if key not in known:
            has = f"only {listed(known)}" if known else "no keys"
            raise ValueError(f"{shown}: {snake(make.__name__)} has {has}")
        if value is not None and not is_value(value):
            raise ValueError(f"{shown}: must be a number, a switch or a word")
    return make, {key: value for key, value in given.items() if value is not None}


def _further(make: type[Problem]) -> list[str]:
    """The fields of a problem beside its spectrum and batch size."""
    return [each.name for each in fields(make) if each.init][2:]


def _require_least_squares(make: type[Problem], where: str) -> None:
    if not issubclass(make, LeastSquares):
        raise ValueError(
            f"problem={snake(make.__name__)}: must be least_squares with {where}, since the "
            "gradient noise of a regression falls with its loss"
        )


def _made(
    make: type[Problem], spectrum: Spectrum, batch_size: float, given: Mapping[str, Any]
) -> Problem:
    try:
        return make(spectrum, batch_size, **given)
    except ValueError as error:
        own = str(error).partition("=")[0] in _further(make)
        raise ValueError(f"{'problem.' * own}{error}") from error
    except Exception as error:  # a user's class may raise anything
        raise ValueError(f"problem.{TARGET}={name_of(make)}: failed, {raised(error)}") from error


def _spectrum(make: Callable[..., object], section: Mapping[str, Any], *, tail: bool) -> _Found:
    """The spectrum of its group."""
    given = {key: v for key, v in section.items() if key not in ("name", TARGET)}
    if make is power_law:
        group = group_of("spectrum", "power_law", given)
        return under("spectrum", functools.partial(_law, group, tail=tail))  # type: ignore[no-any-return]
    if make is load_spectrum:
        return _file(group_of("spectrum", "load_spectrum", given))
    if make is load_regression:
        return _data(group_of("spectrum", "load_regression", given))
    return _own_spectrum(make, given)


def _law(group: Any, *, tail: bool) -> _Found:
    """The spectrum of a power law, with the label noise of the modes that it leaves out."""
    dim, exponent, source = group.dim, group.exponent, group.source
    spectrum = power_law_once(dim, exponent, source)
    settings: Settings = {"dim": float(dim), "exponent": exponent}
    if source is None:
        return _Found(spectrum, settings)
    left_out = power_law_tail(dim, exponent, source) if tail else 0.0
    return _Found(spectrum, {**settings, "source": source}, tail=left_out)


def _own_spectrum(make: Callable[..., object], given: Mapping[str, Any]) -> _Found:
    """The spectrum that a user's function makes, or a regression's, and its arguments."""
    known = inspect.signature(make).parameters
    for key, value in given.items():
        if key not in known:
            raise ValueError(
                f"spectrum.{key}={typed(value)}: {name_of(make)} has only {listed(known)}"
            )
    try:
        spectrum = make(**given)
    except Exception as error:  # the user's function may raise anything
        raise ValueError(f"spectrum.{TARGET}={name_of(make)}: failed, {raised(error)}") from error
    # Its arrays are known by their digest; this is for the reader.
    shown = {n: v if isinstance(v, str) else float(v) for n, v in given.items() if is_value(v)}
    if isinstance(spectrum, Regression):
        return _of_data(spectrum, shown)
    if not isinstance(spectrum, Spectrum):
        raise ValueError(
            f"spectrum.{TARGET}={name_of(make)}: must return a Spectrum, and returned "
            f"{type(spectrum).__name__}"
        )
    return _Found(spectrum, shown)


def is_value(value: object) -> bool:
    """Whether it is a number, a switch or a word."""
    return isinstance(value, (str, int, float))


def _file(group: Any) -> _Found:
    """The spectrum of a file, with its name, the modes it stands for and its scale."""
    file = _path(group.path, "a .csv or .npz file")
    spectrum, scale = _read(group.path, functools.partial(loaded, file, rescale=group.rescale))
    # Nine digits are enough to know a spectrum by; its digest is of every bit.
    modes = float(f"{spectrum.multiplicity.sum():.9g}")
    scaled = {} if scale == 1.0 else {"scale": float(f"{scale:.9g}")}
    return _Found(spectrum, {"file": file.name, "modes": modes, **scaled})


def _data(group: Any) -> _Found:
    """The spectrum of the data in a file."""
    file, read = _reading(load_regression, group)
    named = {} if group.target_column is None else {"target_column": group.target_column}
    return _of_data(_read(group.path, read), {"file": file.name, **named})


def checking_of(spectrum: Mapping[str, Any], n_runs: int) -> Checking | None:
    """What the best trial is run on, in how many runs; None for no runs.

    Raises:
        ValueError: where the spectrum is not that of data in a file.
    """
    if not n_runs:
        return None
    target = located("spectrum", spectrum)
    if target is not load_regression:
        raise ValueError(f"study.data_runs={n_runs}: must be 0 unless with spectrum=data")
    given = {key: v for key, v in spectrum.items() if key not in ("name", TARGET)}
    _, load = _reading(load_examples, group_of("spectrum", "load_regression", given))
    return Checking(load, n_runs)


def _reading(load: Callable[..., T], group: Any) -> tuple[Path, Callable[[], T]]:
    """The file with data, and what reads it."""
    file = _path(group.path, "an .npz, .csv or .parquet file")
    column = group.target_column
    return file, functools.partial(
        load, file, target_column=column, center=group.center, scale=group.scale
    )


def _of_data(found: Regression, settings: Settings) -> _Found:
    """The spectrum of a regression, with what was found in the data and done to them."""
    counts = {"examples": found.n_examples, "features": found.n_features, "modes": found.rank}
    if found.constant:
        counts["constant"] = len(found.constant)
    done = {"centered": "centred"} if found.center else {}
    done |= {"scaled": "scaled"} if found.scale else {}
    said = {name: float(count) for name, count in counts.items()}
    return _Found(found.spectrum, {**settings, **said, **done}, residual=found.label_noise)


def _path(path: object, kind: str) -> Path:
    """The path under ``spectrum.path``, from the folder the program was started in."""
    if not isinstance(path, str) or not path.strip():
        raise ValueError(
            f"spectrum.path={typed(path)}: must be the path of {kind}, relative to "
            "the folder the program is started in"
        )
    if not path.isprintable():
        raise ValueError(f"spectrum.path={path!r}: must have no characters that cannot be shown")
    # With hydra.job.chdir a job runs in a folder of its own.
    return Path(to_absolute_path(path))


def _read(path: object, read: Callable[[], T]) -> T:
    """What is in the file."""
    try:
        return read()
    except TargetColumnError as error:
        raise ValueError(f"spectrum.{error}") from error
    except ValueError as error:
        raise ValueError(f"spectrum.path={error}") from error
    except OSError as error:
        raise ValueError(
            f"spectrum.path={typed(path)}: cannot be read, {error.strerror}"
        ) from error


@functools.lru_cache(maxsize=8)
def power_law_once(dim: int, exponent: float, source: float | None = None) -> Spectrum:
    """One spectrum for all the studies of a call: its compressions are kept on it."""
    return power_law(dim, exponent, source=source)
