"""Short names that tell scaling curves apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition


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
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for i, definition in enumerate(definitions):
        groups[definition.optimizer, definition.schedule, _policy(definition)].append(i)
    several = len({schedule for _, schedule, _ in groups}) > 1
    named: dict[int, str] = {}
    for (optimizer, schedule, policy), members in groups.items():
        lead = [optimizer, schedule] if several else [optimizer]
        lead += [policy] if policy else []
        parts = distinguishing([definitions[i] for i in members])
        for i, part in zip(members, parts, strict=True):
            named[i] = ", ".join([*lead, *part])
    return tuple(named[i] for i in range(len(definitions)))


def sampler_labels(definitions: Sequence[StudyDefinition]) -> tuple[str, ...]:
    """A name for each definition's sampler: with its settings where the plain ones are not unique.

    Args:
        definitions: one for each sampler, alike but for that.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for i, definition in enumerate(definitions):
        groups[definition.sampler_text].append(i)
    named: dict[int, str] = {}
    for text, members in groups.items():
        parts = distinguishing([definitions[i] for i in members])
        for i, part in zip(members, parts, strict=True):
            named[i] = ", ".join([text, *part])
    return tuple(named[i] for i in range(len(definitions)))


def _policy(definition: StudyDefinition) -> str:
    policy = definition.optimizer_settings.get("beta2_policy")
    return f"beta2 {policy}" if policy else ""


def distinguishing(definitions: Sequence[StudyDefinition]) -> list[tuple[str, ...]]:
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
    """The texts of each property over all definitions."""
    rows = [
        _hyperparameter_texts(name, [d.hyperparameters.get(name) for d in definitions])
        for name in _names([definition.hyperparameters for definition in definitions])
    ]
    rows += [
        tuple(f"B {d.batch_text}" if d.two_objectives else "" for d in definitions),
        tuple(f"target {definition.target:g}" for definition in definitions),
        tuple(definition.spectrum for definition in definitions),
        tuple(f"spectrum {definition.spectrum_digest[:8]}" for definition in definitions),
    ]
    rows += [
        tuple(_spectrum_text(name, definition) for definition in definitions)
        for name in _names([definition.spectrum_settings for definition in definitions])
    ]
    rows += [
        tuple(_setting_text(name, definition.schedule_settings) for definition in definitions)
        for name in _names([definition.schedule_settings for definition in definitions])
    ]
    rows += [
        tuple(_setting_text(name, definition.optimizer_settings) for definition in definitions)
        for name in _names([definition.optimizer_settings for definition in definitions])
    ]
    rows.append(tuple(definition.sampler_text for definition in definitions))
    rows += [
        tuple(_setting_text(name, definition.sampler) for definition in definitions)
        for name in _names([definition.sampler for definition in definitions])
        if name != "name" and (name != "finish" or _finish_varies(definitions))
    ]
    rows.append(
        tuple("first guess" if each.warm_start else "no first guess" for each in definitions)
    )
    rows.append(tuple(_enqueued_text(definition) for definition in definitions))
    rows.append(tuple(f"max_steps {definition.max_steps:g}" for definition in definitions))
    rows.append(tuple(_growth_text(definition) for definition in definitions))
    return rows


def _growth_text(definition: StudyDefinition) -> str:
    growth = definition.max_growth
    return "any growth" if growth is None else f"max_growth {growth:g}"


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


def _enqueued_text(definition: StudyDefinition) -> str:
    given = (
        " ".join(f"{name} {value:g}" for name, value in each.items())
        for each in definition.enqueued
    )
    return f"enqueued {'; '.join(given)}" if definition.enqueued else "nothing enqueued"


def _setting_text(name: str, settings: Mapping[str, object]) -> str:
    value = settings.get(name)
    if value is None:
        return f"no {name}"
    return f"{name} {value:.15g}" if isinstance(value, float) else f"{name} {value}"
