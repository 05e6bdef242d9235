"""What must hold of the studies of a call: of all before any of them starts, and of each then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from nqm_study.config.plan import StudyPlan, study_plan
from nqm_study.study.storage.backends import EMBEDDED, embedded, require_writable


class ChangedError(CompactHydraException):
    """What a study is made from changed after the call was checked; Hydra shows it as one line."""


def check_plans(root: Path, plans: Sequence[StudyPlan]) -> None:
    """Refuse what would fail only later, or spoil what is stored.

    Raises:
        ValueError: in one line that says what is wrong and what is allowed.
    """
    require_writable(root, "mlflow.db", *EMBEDDED.values())
    if len({plan.backend for plan in plans}) > 1:
        raise ValueError("storage: must be the same for all studies of a sweep")
    if len({plan.tracking for plan in plans}) > 1:
        raise ValueError("tracking: must be the same for all studies of a sweep")
    tracking = plans[0].tracking
    if tracking is not None and not tracking.uri and set(str(root)) & set("%?"):
        raise ValueError(f"{root}: must have no % or ? in it, MLflow cannot open it")
    name, times = Counter(plan.name for plan in plans).most_common(1)[0]
    if times > 1:
        same = [plan for plan in plans if plan.name == name]
        if len({plan.definition.fingerprint for plan in same}) > 1:
            raise ValueError(
                f"study.name={name}: names several studies of the sweep; leave it out, or run one"
            )
        definition = same[0].definition
        raise ValueError(
            f"optimizer={definition.optimizer}{_policy(same[0])}{_schedule(same[0], ' schedule=')} "
            f"batch_size={definition.batch_text}: is listed twice in the sweep; list each "
            "study once"
        )
    for backend in dict.fromkeys((*embedded(root), *(plan.backend for plan in plans))):
        if not backend.exists(root):
            continue

        import optuna

        from nqm_study.study.storage.studies import check_definition

        storage = backend.open(root)
        planned = {plan.name: plan for plan in plans}
        for name in optuna.study.get_all_study_names(storage):
            plan = planned.get(name)
            if plan is not None and plan.backend != backend:
                raise ValueError(
                    f"storage={plan.backend.kind}: the study {name} is in {backend.where}; "
                    f"continue it there with storage={backend.kind}"
                )
            # The report at the end reads them all.
            stored = optuna.load_study(study_name=name, storage=storage)
            check_definition(stored, plan.definition if plan is not None else None)


def labels(plans: Sequence[StudyPlan]) -> dict[str, str]:
    """A short name for each study of a call, by its full name; different for each."""
    several = len({plan.definition.sampler_text for plan in plans}) > 1

    def label(plan: StudyPlan) -> str:
        made = plan.definition
        if plan.named:
            return plan.name
        return (
            f"{made.optimizer_text}{_schedule(plan, ' ')} B={made.batch_text} "
            f"C={made.target:g} seed={made.seed}"
            f"{f' {made.sampler_text}' if several else ''}"
        )

    times = Counter(label(plan) for plan in plans)
    return {
        plan.name: label(plan)
        if times[label(plan)] == 1
        else f"{label(plan)} ({plan.definition.fingerprint[:8]})"
        for plan in plans
    }


def _policy(plan: StudyPlan) -> str:
    """The policy of beta2, where it is not the plain one."""
    policy = plan.definition.optimizer_settings.get("beta2_policy")
    return f" optimizer.beta2_policy={policy}" if policy else ""


def _schedule(plan: StudyPlan, before: str) -> str:
    """The schedule's name, where it is not the plain one."""
    name = plan.definition.schedule
    return "" if name == "constant" else f"{before}{name}"


def marks(plans: Sequence[StudyPlan]) -> frozenset[str]:
    """What ``planned_again`` knows planned studies by: their fingerprints and their spectra's."""
    made = [plan.definition for plan in plans]
    return frozenset(mark for each in made for mark in (each.fingerprint, each.spectrum_digest))


def planned_again(cfg: DictConfig, planned: frozenset[str]) -> StudyPlan:
    """The study of a configuration, once more; it must be one that was planned, if any were.

    A job reads its spectrum's file again, minutes or hours after the call was checked. With other
    contents it would be another study, which nobody asked for and the report would leave out.

    Args:
        cfg: the configuration of one job.
        planned: the marks of the studies of the call; empty where no one checked them.

    Raises:
        ChangedError: in one line that says what changed.
    """
    try:
        plan = study_plan(cfg)
    except ValueError as error:
        raise ChangedError(f"nqm_study: {error}") from error
    made = plan.definition
    if not planned or made.fingerprint in planned:
        return plan
    what = "the configuration"
    if made.spectrum_digest not in planned and "path" in cfg.spectrum:
        what = f"spectrum.path={cfg.spectrum.path}"
    raise ChangedError(
        f"nqm_study: {what}: changed while the sweep ran; the same command starts it anew"
    )
