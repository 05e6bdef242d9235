"""Short names that tell scaling curves apart."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import combinations
from typing import Any

from nqm_study.study.definition import BATCH, Hyperparameter, Range, Searched, StudyDefinition
from nqm_study.study.options import option_values

_LEADING = ("optimizer", "schedule", "seed")
"""The fields that begin each name, or vary along a curve."""

_NAMED = [field.name for field in fields(StudyDefinition) if field.name not in _LEADING]
_OF_PROBLEM = (
    *("spectrum", "spectrum_settings", "spectrum_digest", "problem", "problem_settings", "target"),
)

_USUAL: Mapping[str, float | str] = {
    **dict.fromkeys(("momentum", "preconditioner_power", "ema_decay", "warmup_fraction"), 0.0),
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "beta2_policy": "fixed",
}
"""Values that names leave out whatever the option: what is absent, and those of Adam by any name.
Beside them are those that the files of the optimizer and the schedule have."""

_ALL_NAMED = {"preconditioned": "preconditioner_power"}
"""What is named by all its values, since studies of the option are about it."""

_USUAL_RUN: Mapping[str, object] = {
    "max_steps": 10**9,
    "max_growth": 1000.0,
    "warm_start": True,
    "enqueued": (),
}
"""The same of the fields that say how a study is run."""


def own_label(definition: StudyDefinition) -> str:
    """Name of a curve by its definition alone: optimizer, schedule unless constant, variant.

    Target, spectrum, batch size and seed are no part of it.
    """
    schedule = "" if definition.schedule == "constant" else definition.schedule
    return ", ".join(filter(None, (definition.optimizer, schedule, variant(definition))))


def variant(definition: StudyDefinition) -> str:
    """What was chosen by hand, in a curve's name: ``momentum 0.9``; empty for nothing.

    It is values that are given where they are searched or another one is usual, searches where a
    value is usual, and the policy of beta2, how the study is run and the sampler unless they are
    the plain ones.
    """
    optimizer, schedule = (_in_file(definition, group) for group in ("optimizer", "schedule"))
    batches = _in_file(definition, "batch_schedule")
    of_batches = {f"{BATCH}{name}": _switch(v) for name, v in batches.items()}
    in_files = {**optimizer, **schedule, **of_batches}
    expected = {name for name, value in in_files.items() if isinstance(value, Mapping)}
    usual = {**_USUAL, **{name: v for name, v in in_files.items() if name not in expected}}
    usual.pop(_ALL_NAMED.get(definition.optimizer, ""), None)
    given = {
        **definition.hyperparameters,
        **definition.schedule_settings,
        **{f"{BATCH}{name}": _switch(v) for name, v in definition.batch_settings.items()},
        **{k: v for k, v in definition.optimizer_settings.items() if k == "beta2_policy"},
    }
    parts = [f"batch {definition.batch_schedule}"] if definition.batch_schedule else []
    parts += [f"least {definition.objective}"] if definition.objective == "time" else []
    parts += (
        [f"least examples, {definition.size_text}"] if definition.objective == "examples" else []
    )
    for name, value in given.items():
        if isinstance(value, Searched):
            if optimizer and name in usual and name not in expected:
                parts.append(_value_text(name, value, 0))
        elif isinstance(value, str):
            if value != usual.get(name):
                parts.append(f"{name.removesuffix('_policy')} {value}")
        elif value != usual.get(name) or name in expected:
            parts.append(_value_text(name, value, 0 if float(f"{value:g}") == value else 2))
    parts += [
        text
        for name, usual_value in _USUAL_RUN.items()
        if (value := getattr(definition, name)) != usual_value
        for text in [_WORDS.get(name, partial(_field_text, name))(value)]
    ]
    if definition.sampler["name"] not in ("tpe", "none", ""):
        parts.append(definition.sampler_text)
    return ", ".join(parts)


def _switch(value: Any) -> Any:
    """A switch as a user would type it; other values as they are."""
    return str(value).lower() if isinstance(value, bool) else value


def _in_file(definition: StudyDefinition, group: str) -> Mapping[str, Any]:
    """What the option of a group has in its file; empty for a user's own."""
    return {} if group in definition.code else option_values(group, getattr(definition, group))


def labels(definitions: Sequence[StudyDefinition]) -> tuple[str, ...]:
    """One name for each definition: its own, and what tells it from others of the same name.

    Of curves that have one name, the first keeps it (that with the finish, then by what they are
    defined by); to the others is added what differs from the first, whatever the rest are. So a
    curve that joins changes no name, unless it comes first among those of its name. Of several
    problems each curve has the problem in its name, in the fewest words.

    Args:
        definitions: one for each curve.
    """
    problems: dict[tuple[str, float], list[int]] = defaultdict(list)
    for i, definition in enumerate(definitions):
        problems[definition.problem_digest, definition.target].append(i)
    firsts = [definitions[members[0]] for members in problems.values()]
    texts = dict(zip(problems, _distinguishing(firsts, _OF_PROBLEM), strict=True))
    found = [""] * len(definitions)
    for problem, members in problems.items():
        for i, name in zip(members, _completed([definitions[i] for i in members]), strict=True):
            found[i] = ", ".join([name, *texts[problem]])
    return tuple(found)


def _completed(definitions: Sequence[StudyDefinition]) -> list[str]:
    """Names of curves of one problem: those that are alike by what differs from the first."""
    groups: dict[str, list[StudyDefinition]] = defaultdict(list)
    for definition in definitions:
        groups[own_label(definition)].append(definition)
    names: dict[str, str] = {}
    for name, members in groups.items():
        first, *others = sorted(members, key=_plainest)
        names[first.curve] = name
        for other in others:
            pairs = _properties([first, other], _NAMED)
            texts = [mine for its, mine in pairs if its != mine]
            names[other.curve] = ", ".join([name, *texts])
    taken = Counter(names.values())
    # Definitions may differ in a way no text shows, such as 0 and 0.0.
    return [
        name if taken[name] == 1 else f"{name}, #{definition.curve[:8]}"
        for definition in definitions
        if (name := names[definition.curve])
    ]


def _plainest(definition: StudyDefinition) -> tuple[object, ...]:
    """Sorting key of definitions of one name: what the program does by itself comes first."""
    text = json.dumps(definition.to_json(), sort_keys=True)
    return (-float(definition.sampler.get("finish", 0.0)), len(text), text)


def told_apart(names: Sequence[str], definitions: Sequence[StudyDefinition]) -> tuple[str, ...]:
    """Unique names: those that are alike are completed by what differs in their definitions.

    It is the smallest set of properties that makes all unique, and of those the shortest to write.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[name].append(i)
    found = list(names)
    for name, members in groups.items():
        parts = _distinguishing([definitions[i] for i in members], _NAMED)
        for i, part in zip(members, parts, strict=True):
            found[i] = ", ".join([name, *part])
    return tuple(found)


def _distinguishing(
    definitions: Sequence[StudyDefinition], named: Sequence[str]
) -> list[tuple[str, ...]]:
    """For each definition, the texts of the smallest set of properties that makes all unique.

    Args:
        definitions: different ones.
        named: the fields whose properties may be told.
    """
    properties = [texts for texts in _properties(definitions, named) if len(set(texts)) > 1]
    for size in range(len(properties) + 1):
        rows: list[list[tuple[str, ...]]] = [
            [tuple(texts[i] for texts in chosen) for i in range(len(definitions))]
            for chosen in combinations(properties, size)
        ]
        unique = [row for row in rows if len(set(row)) == len(definitions)]
        if unique:
            return min(unique, key=_length)
    # Definitions may differ in a way no text shows, such as 0 and 0.0.
    return [(f"#{definition.curve[:8]}",) for definition in definitions]


def _length(row: Sequence[tuple[str, ...]]) -> int:
    return sum(len(text) for texts in row for text in texts)


def _properties(
    definitions: Sequence[StudyDefinition], named: Sequence[str]
) -> list[tuple[str, ...]]:
    """The texts of each property over all definitions: of each field, and of each key of one."""
    found: list[tuple[str, ...]] = []
    for name in named:
        values = [getattr(definition, name) for definition in definitions]
        if name == "hyperparameters":
            found += [
                _hyperparameter_texts(key, [each.get(key) for each in values])
                for key in _names(values)
            ]
        elif name == "spectrum_settings":
            found += [
                tuple(_spectrum_text(key, definition) for definition in definitions)
                for key in _names(values)
            ]
        elif name == "sampler":
            found.append(tuple(definition.sampler_text for definition in definitions))
            known = {"name"} if _finish_varies(definitions) else {"name", "finish"}
            found += [
                tuple(_setting_text(key, each) for each in values)
                for key in _names(values)
                if key not in known
            ]
        elif name.endswith("_settings"):
            found += [tuple(_setting_text(key, each) for each in values) for key in _names(values)]
        else:
            word = _WORDS.get(name, partial(_field_text, name))
            found.append(tuple(map(word, values)))
    return found


def _finish_varies(definitions: Sequence[StudyDefinition]) -> bool:
    """Whether samplers of one text differ in how soon the local search begins."""
    found = {
        (definition.sampler_text, definition.sampler.get("finish")) for definition in definitions
    }
    return len(found) > len({text for text, _ in found})


def _names(mappings: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _hyperparameter_texts(name: str, values: Sequence[Hyperparameter | None]) -> tuple[str, ...]:
    """The shortest wording that keeps different values of one hyperparameter different."""
    for detail in range(3):
        texts = tuple(_value_text(name, value, detail) for value in values)
        if len(set(texts)) == len(set(values)):
            break
    return texts


def _value_text(name: str, value: Hyperparameter | None, detail: int) -> str:  # noqa: PLR0911 (one for each kind)
    if name == "preconditioner_power":
        # Where there is none, the power is 0.
        name, value = "power", 0.0 if value is None else value
    if value is None:
        return f"no {name}"
    if isinstance(value, str):
        return f"{name} {value}"
    if not isinstance(value, Searched):
        return f"{name} {value!r}" if detail == 2 else f"{name} {value:g}"
    if detail == 0:
        return f"{name} searched"
    if not isinstance(value, Range):
        return f"{name} {value}"
    if value.low is None and value.high is None:
        return f"{name} fitted"
    ends = (value.low, value.high)
    if detail == 1:
        return f"{name} " + "..".join("fitted" if end is None else f"{end:g}" for end in ends)
    texts = ("fitted" if end is None else repr(end) for end in ends)
    return f"{name} {'..'.join(texts)} {value.scale}"


def _spectrum_text(name: str, definition: StudyDefinition) -> str:
    value = definition.spectrum_settings.get(name)
    if value is None:  # a spectrum of another kind, but for the scale, which a file may lack
        return f"no {name}" if name == "scale" else definition.spectrum
    # As in a definition's spectrum_text: a file's name says by itself what it is.
    return value if isinstance(value, str) else f"{name} {value:.15g}"


def _field_text(name: str, value: float | str) -> str:
    return f"{name} {value if isinstance(value, str) else format(value, 'g')}"


def _batch_size_text(value: float | Range) -> str:
    return f"B {value.low:.15g}..{value.high:.15g}" if isinstance(value, Range) else ""


def _enqueued_text(value: Sequence[Mapping[str, float]]) -> str:
    given = (" ".join(f"{name} {value:g}" for name, value in each.items()) for each in value)
    return f"enqueued {'; '.join(given)}" if value else "nothing enqueued"


def _setting_text(name: str, settings: Mapping[str, object]) -> str:
    value = settings.get(name)
    if value is None:
        return f"no {name}"
    return f"{name} {value:.15g}" if isinstance(value, float) else f"{name} {value}"


_WORDS: Mapping[str, Callable[[Any], str]] = {
    "batch_size": _batch_size_text,
    "spectrum": str,
    "spectrum_digest": lambda digest: f"spectrum {digest[:8]}",
    "problem": lambda name: name or "noisy_quadratic",
    "objective": lambda least: f"least {least or 'steps'}",
    "warm_start": lambda on: "first guess" if on else "no first guess",
    "enqueued": _enqueued_text,
    "max_growth": lambda most: "any growth" if most is None else f"max_growth {most:g}",
    "code": lambda code: f"code {', '.join(code.values()) or 'built in'}",
}
"""The words for a field's value; for other fields it is the name with the value."""
