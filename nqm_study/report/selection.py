"""Filters that choose studies for a comparison, and keys that name its curves.

A filter is a condition on the columns of the table of studies, as ``DataFrame.query`` has it:
``optimizer == "sgd" and batch_size >= 64``. Or it is terms with blanks between them, all of which
must hold: ``spectrum=paper target=0.01``, ``batch_size>=2^6``, ``optimizer=sgd,momentum`` for
either, ``optimizer=*m``. There a hyperparameter has the value that was given, or is ``searched``.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from pandas import DataFrame, Series
from pandas.api.types import is_bool_dtype

from nqm_study.report.frame import Value, properties
from nqm_study.report.labels import told_apart
from nqm_study.study.definition import StudyDefinition

_TERM = re.compile(r"(?P<key>[A-Za-z_][\w.]*)(?P<sign><=|>=|!=|=|<|>)(?P<value>[^\s=]\S*)")
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_GROUPS = ("optimizer", "problem", "spectrum", "schedule", "sampler", "study")
_BARE = ("optimizer", "schedule", "problem", "spectrum", "sampler")
"""Keys whose values say what they are of."""


def select(studies: DataFrame, text: str) -> DataFrame:
    """The studies for which a filter holds.

    Raises:
        ValueError: if it is no filter, names what no study has, or if nothing is left.
    """
    terms = [matched for word in text.split() if (matched := _TERM.fullmatch(word))]
    if len(terms) == len(text.split()):
        facts = _facts(studies)
        holds = [[True] * len(studies), *(_term(matched, facts) for matched in terms)]
        chosen = studies[[all(row) for row in zip(*holds, strict=True)]]
    else:
        chosen = studies[_condition(text, studies)]
    if chosen.empty:
        raise ValueError(f"--filter={text!r}: no study of {len(studies)} is so")
    return chosen


def named_by(studies: DataFrame, keys: Sequence[str]) -> DataFrame:
    """The studies with curves named by the values of these keys, in the column ``label``.

    Curves that have the same name then are told apart by what else differs, in the fewest words.

    Args:
        studies: the chosen ones.
        keys: as a filter's terms have them.

    Raises:
        ValueError: if a key is of no study.
    """
    first = studies.drop_duplicates("curve")
    known = {key for definition in first.definition for key in properties(definition)}
    keys = [_key(key) for key in keys]
    for key in keys:
        if key not in known:
            raise ValueError(f"--by={key}: must be of {', '.join(sorted(known))}")
    names = [_name(definition, keys) for definition in first.definition]
    labels = dict(zip(first.curve, told_apart(names, list(first.definition)), strict=True))
    return studies.assign(label=studies.curve.map(labels))


def _condition(text: str, studies: DataFrame) -> Series:
    """For each study, whether a condition holds."""
    try:
        found = studies.eval(text, engine="python", local_dict={}, global_dict={})
    except Exception as error:  # noqa: BLE001 (what a wrong expression raises is not documented)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, NameError):
            reason += f"; there are {', '.join(studies)}"
    else:
        if isinstance(found, Series) and is_bool_dtype(found.dtype):
            return found.fillna(False)
        reason = "is none"
    raise ValueError(
        f"--filter={text!r}: must be key=value, with = != < <= > or >=, or a condition such as "
        f"'optimizer == \"sgd\" and batch_size >= 64' ({reason})"
    )


def _facts(studies: DataFrame) -> DataFrame:
    """Table of what terms choose by: a tuple of values for each study and key."""
    rows = [
        {
            **{key: (value,) for key, value in properties(study.definition).items()},
            "batch_size": (study.batch_size,),
            "seed": (float(study.seed),),
            "study": (study.study,),
            "report": study.reports,
        }
        for study in studies.itertuples()
    ]
    return DataFrame(rows, dtype=object)


def _term(matched: re.Match[str], facts: DataFrame) -> list[bool]:
    """For each study, whether a term holds."""
    word = matched[0]
    key, sign, text = _key(matched["key"]), matched["sign"], matched["value"]
    if key not in facts:
        listed = ", ".join(sorted(facts))
        raise ValueError(f"--filter={word!r}: no study has {key}; there are {listed}")
    found = [values if isinstance(values, tuple) else () for values in facts[key]]
    if sign in _ORDERS:
        limit = _number(text)
        if limit is None:
            raise ValueError(f"--filter={word!r}: {sign} must be followed by a number")
        order = _ORDERS[sign]
        return [any(not isinstance(v, str) and order(v, limit) for v in vs) for vs in found]
    wanted = text.split(",")
    equal = [any(_same(value, each) for value in values for each in wanted) for values in found]
    return equal if sign == "=" else [not each for each in equal]


def _key(text: str) -> str:
    """A key without its group: ``optimizer.momentum`` is ``momentum``."""
    group, dot, name = text.partition(".")
    return name if dot and group in _GROUPS else text


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
    found = properties(definition)
    texts = [_text(key, found[key]) for key in keys if key in found]
    return ", ".join(texts) or definition.optimizer


def _text(key: str, value: Value) -> str:
    if isinstance(value, str):
        return value if key in _BARE or key == "path" else f"{key} {value}"
    return f"{key} {value:.15g}"
