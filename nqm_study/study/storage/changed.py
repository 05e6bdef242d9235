"""Studies that were made with other code of a user's class than it has now."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import optuna
from optuna.storages import BaseStorage

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.storage.studies import ATTRIBUTE, StudyMismatchError


def require_same_code(
    storage: BaseStorage, asked: Iterable[tuple[StudyDefinition, Collection[str]]]
) -> None:
    """Refuse a study that differs from a stored one in the code of a user's class alone.

    Args:
        storage: where they are to be kept.
        asked: definitions, each with the groups whose classes have a ``version``: another version
            is another study.

    Raises:
        StudyMismatchError: in one line that says how to go on.
    """
    known = [
        (definition, {**definition.to_json(), "code": 0}, set(definition.code) - set(versioned))
        for definition, versioned in asked
    ]
    known = [each for each in known if each[2]]
    for name in optuna.study.get_all_study_names(storage) if known else ():
        kept = optuna.load_study(study_name=name, storage=storage).user_attrs.get(ATTRIBUTE)
        stored = kept.get("definition") if isinstance(kept, dict) else None
        if not isinstance(stored, dict):
            continue
        for definition, less_code, groups in known:
            if {**stored, "code": 0} != less_code:
                continue
            for group in sorted(groups):
                before = str(stored.get("code", {}).get(group, ""))
                if before in ("", definition.code[group]):
                    continue
                made, _, version = before.rpartition(" ")
                raise StudyMismatchError(
                    f"{group}={_name(definition, group)}: {made} has changed since the study "
                    f'{name} was made; give the class version = "{version}" to continue that '
                    'study, or version = "2" to begin another'
                )


def _name(definition: StudyDefinition, group: str) -> str:
    """The name of a study's optimizer, schedule or sampler."""
    return str(definition.sampler["name"] if group == "sampler" else getattr(definition, group))
