"""Which studies a comparison is of, and what tells its curves apart.

A filter is terms with blanks between them, all of which must hold: ``spectrum=paper target=0.01``,
``batch_size>=64``, ``optimizer=sgd,momentum`` for either. Names may have ``*`` and ``?`` in them.
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from nqm_study.report.grouping import by_curve
from nqm_study.report.labels import distinguishing
from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition
from nqm_study.study.records import StudyRecord

Value = float | str

_TERM = re.compile(r"(?P<key>[A-Za-z_][\w.]*)(?P<sign><=|>=|!=|=|<|>)(?P<value>\S+)")
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_GROUPS = ("optimizer", "spectrum", "schedule", "sampler", "study")
_ABSENT = ("momentum", "preconditioner_power", "ema_decay")
_BARE = ("optimizer", "schedule", "spectrum", "sampler")  # keys whose values say what they are of


def facts(record: StudyRecord) -> dict[str, tuple[Value, ...]]:
    """What a study can be chosen by: key and value, several where it has several.

    Keys are those of the configuration, without their group: ``optimizer``, ``batch_size``,
    ``momentum``, ``dim``, ``pieces``; also ``study``, its name, and ``report``.
    """
    definition = record.definition
    return {
        **{key: (value,) for key, value in _properties(definition).items()},
        "batch_size": (definition.batch_text,)
        if definition.two_objectives
        else (definition.one_batch_size,),
        "seed": (float(definition.seed),),
        "study": (record.name,),
        "report": record.reports,
    }


def select(records: Sequence[StudyRecord], text: str) -> tuple[StudyRecord, ...]:
    """The studies with finished trials for which a filter holds.

    Raises:
        ValueError: if a term is none, names what no study has, or if nothing is left.
    """
    with_trials = [record for record in records if record.trials]
    known = {key for record in with_trials for key in facts(record)}
    terms = [_term(word, known) for word in text.split()]
    chosen = tuple(r for r in with_trials if all(holds(facts(r)) for holds in terms))
    if not chosen:
        raise ValueError(f"--filter={text!r}: no study of {len(with_trials)} is so")
    return chosen


def by_keys(
    records: Sequence[StudyRecord], keys: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[StudyRecord, ...], ...]]:
    """The studies of each curve, and a name for each that says what these keys are.

    Curves that have the same name then are told apart by what else differs, in the fewest words.

    Args:
        records: the chosen studies.
        keys: as ``facts`` has them.

    Raises:
        ValueError: if a key is of no study.
    """
    known = {key for record in records for key in _properties(record.definition)}
    keys = [_key(key) for key in keys]
    for key in keys:
        if key not in known:
            raise ValueError(f"--by={key}: must be of {', '.join(sorted(known))}")
    groups = by_curve(records)
    definitions = [group[0].definition for group in groups]
    names = [_name(definition, keys) for definition in definitions]
    same: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        same[name].append(i)
    for name, members in same.items():
        parts = distinguishing([definitions[i] for i in members])
        for i, part in zip(members, parts, strict=True):
            names[i] = ", ".join([name, *part])
    return tuple(names), groups


def _properties(definition: StudyDefinition) -> dict[str, Value]:
    """What all studies of a curve share."""
    hyperparameters: dict[str, Value] = {
        name: _value(value) for name, value in definition.hyperparameters.items()
    }
    # What an optimizer of the kind of SGD has none of, it has 0 of.
    absent: dict[str, Value] = {} if definition.approximate else dict.fromkeys(_ABSENT, 0.0)
    settings = {
        **definition.spectrum_settings,
        **definition.schedule_settings,
        **definition.optimizer_settings,
    }
    return {
        "optimizer": definition.optimizer,
        "spectrum": definition.spectrum,
        "schedule": definition.schedule,
        "sampler": definition.sampler_text,
        "target": definition.target,
        "max_steps": float(definition.max_steps),
        "max_growth": math.inf if definition.max_growth is None else definition.max_growth,
        "warm_start": _value(definition.warm_start),
        **settings,
        **absent,
        **hyperparameters,
    }


def _value(value: Hyperparameter) -> Value:
    if isinstance(value, bool):
        return str(value).lower()
    return "searched" if isinstance(value, Range) else float(value)


def _key(text: str) -> str:
    """A key without its group: ``optimizer.momentum`` is ``momentum``."""
    group, dot, name = text.partition(".")
    return name if dot and group in _GROUPS else text


def _term(word: str, known: set[str]) -> Callable[[Mapping[str, Sequence[Value]]], bool]:
    matched = _TERM.fullmatch(word)
    if matched is None:
        raise ValueError(f"--filter={word!r}: must be key=value, with = != < <= > or >=")
    key, sign, text = _key(matched["key"]), matched["sign"], matched["value"]
    if key not in known:
        raise ValueError(f"--filter={word!r}: no study has {key}; there are {_listed(known)}")
    if sign in _ORDERS:
        limit = _number(text)
        if limit is None:
            raise ValueError(f"--filter={word!r}: {sign} must be followed by a number")
        order = _ORDERS[sign]
        return lambda found: any(
            not isinstance(value, str) and order(value, limit) for value in found.get(key, ())
        )
    wanted = text.split(",")

    def equal(found: Mapping[str, Sequence[Value]]) -> bool:
        return any(_same(value, each) for value in found.get(key, ()) for each in wanted)

    return equal if sign == "=" else lambda found: not equal(found)


def _same(value: Value, text: str) -> bool:
    return fnmatchcase(value, text) if isinstance(value, str) else value == _number(text)


def _number(text: str) -> float | None:
    """The number that a text says, ``2^10`` too."""
    base, power, exponent = text.partition("^")
    try:
        return float(base) ** float(exponent) if power else float(text)
    except (OverflowError, ValueError):
        return None


def _name(definition: StudyDefinition, keys: Sequence[str]) -> str:
    found = _properties(definition)
    texts = [_text(key, found[key]) for key in keys if key in found]
    return ", ".join(texts) or definition.optimizer


def _text(key: str, value: Value) -> str:
    if isinstance(value, str):
        return value if key in _BARE or key == "path" else f"{key} {value}"
    return f"{key} {value:.15g}"


def _listed(keys: set[str]) -> str:
    return ", ".join(sorted(keys))
