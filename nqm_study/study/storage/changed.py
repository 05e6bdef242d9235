"""Studies that were made with other code of a user's class than it has now."""

from __future__ import annotations

from collections.abc import Collection

import optuna
from optuna.storages import BaseStorage

from nqm_study.study.definition import StudyDefinition
from nqm_study.study.storage.studies import ATTRIBUTE, StudyMismatchError


def require_same_code(
    storage: BaseStorage, definition: StudyDefinition, versioned: Collection[str]
) -> None:
    """Refuse a study that differs from a stored one in the code of a user's class alone.

    Args:
        storage: where it is to be kept.
        definition: the study's.
        versioned: the groups whose classes have a ``version``: another one is another study.

    Raises:
        StudyMismatchError: in one line that says how to go on.
    """
    if not set(definition.code) - set(versioned):
        return
    asked = definition.to_json()
    for name in optuna.study.get_all_study_names(storage):
        kept = optuna.load_study(study_name=name, storage=storage).user_attrs.get(ATTRIBUTE)
        stored = kept.get("definition") if isinstance(kept, dict) else None
        if not isinstance(stored, dict) or {**stored, "code": 0} != {**asked, "code": 0}:
            continue
        for group, code in definition.code.items():
            before = str(stored.get("code", {}).get(group, ""))
            if group not in versioned and before not in ("", code):
                made, _, version = before.rpartition(" ")
                raise StudyMismatchError(
                    f"{group}={getattr(definition, group)}: {made} has changed since the study "
                    f'{name} was made; give the class version = "{version}" to continue that '
                    'study, or version = "2" to begin another'
                )
