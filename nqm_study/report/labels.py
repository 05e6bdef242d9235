"""Short names that tell scaling curves apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import combinations
from typing import Any

from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition

_LEADING = ("optimizer", "schedule", "seed")
"""The fields that begin each name, or vary along a curve."""

_NAMED = [field.name for field in fields(StudyDefinition) if field.name not in _LEADING]


def labels(definitions: Sequence[StudyDefinition]) -> tuple[str, ...]:
    """One label per definition: its optimizer, and what tells it from the others of that optimizer.

    The schedule is named where there are several, and the policy of beta2 where it is not the plain
    one. Of what else differs among curves of one optimizer, schedule and policy (hyperparameters,
    target, spectrum, sampler, step limit) the fewest properties are named that make the labels
    unique, and of those the shortest to write. Batch size and seed are left out: they vary along a
    curve.

    Args:
        definitions: one for each curve.
    """
    several = len({definition.schedule for definition in definitions}) > 1
    names = []
    for definition in definitions:
        lead = [definition.optimizer, *([definition.schedule] if several else [])]
        policy = definition.optimizer_settings.get("beta2_policy")
        names.append(", ".join([*lead, *([f"beta2 {policy}"] if policy else [])]))
    return told_apart(names, definitions)


def told_apart(names: Sequence[str], definitions: Sequence[StudyDefinition]) -> tuple[str, ...]:
    """Unique names: those that are alike are completed by what differs in their definitions.

    It is the smallest set of properties that makes all unique, and of those the shortest to write.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, name in enumerate(names):
        groups[name].append(i)
    found = list(names)
    for name, members in groups.items():
        parts = _distinguishing([definitions[i] for i in members])
        for i, part in zip(members, parts, strict=True):
            found[i] = ", ".join([name, *part])
    return tuple(found)


def _distinguishing(definitions: Sequence[StudyDefinition]) -> list[tuple[str, ...]]:
    """For each definition, the texts of the smallest set of properties that makes all unique."""
    properties = [texts for texts in _properties(definitions) if len(set(texts)) > 1]
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


def _properties(definitions: Sequence[StudyDefinition]) -> list[tuple[str, ...]]:
    """The texts of each property over all definitions: of each field, and of each key of one."""
    found: list[tuple[str, ...]] = []
    for name in _NAMED:
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


def _value_text(name: str, value: Hyperparameter | None, detail: int) -> str:
    if name == "preconditioner_power":
        # Where there is none, the power is 0.
        name, value = "power", 0.0 if value is None else value
    if value is None:
        return f"no {name}"
    if not isinstance(value, Range):
        return f"{name} {value!r}" if detail == 2 else f"{name} {value:g}"
    if detail == 0:
        return f"{name} searched"
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
    "warm_start": lambda on: "first guess" if on else "no first guess",
    "enqueued": _enqueued_text,
    "max_growth": lambda most: "any growth" if most is None else f"max_growth {most:g}",
}
"""The words for a field's value; for other fields it is the name with the value."""
