"""Composes and checks every study of a call before anything is written."""

from __future__ import annotations

import gc
import itertools
import sys
import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from nqm_study.app.exit_status import FAILED, REFUSED
from nqm_study.app.job import Job, marks
from nqm_study.app.preloading import preload
from nqm_study.app.presets import Presets, presets_of
from nqm_study.app.terminal import complain
from nqm_study.config.composing import Composer
from nqm_study.study.storage.backends import EMBEDDED, embedded, require_writable

if TYPE_CHECKING:
    from nqm_study.app.progress import Board
    from nqm_study.config.plan import StudyPlan
    from nqm_study.study.records import StudyRecord
    from nqm_study.tracking.copy import Copy
    from nqm_study.tracking.process import MirrorState


_Typed = tuple[str, ...]
"""Overrides, one value for each key."""

_OBJECTIVE = "study.objective"
"""The key of what is minimised."""


@dataclass
class Call:
    """The call of this process: its planned studies, its progress and its mirror.

    ``Planner`` fills it, and ``main`` reads it. Where there is nothing to do, it has the records of
    the studies.
    """

    root: Path = field(default_factory=Path)
    plans: tuple[StudyPlan, ...] = ()
    ended: Mapping[str, StudyRecord] = field(default_factory=dict)
    board: Board | None = None
    mirror: Copy | None = None
    verbose: bool = False
    presets: Presets | None = None


CALL = Call()

_ByOverrides = dict[_Typed, DictConfig]


JOB = Job()


class Planner(Callback):
    """Checks every study of a call before Hydra writes its first file."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One study."""
        _leave_to_presets(config)
        self._begin(config, [config])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A sweep: its jobs are made here as Hydra's own sweeper will make them."""
        _leave_to_presets(config)
        sweeper = config.hydra.sweeper
        if not sweeper._target_.endswith(".BasicSweeper"):
            return
        loader = GlobalHydra.instance().config_loader()
        swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        try:
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(
                [*swept, *config.hydra.overrides.task]
            )
            # Of a key that is given twice, the last one counts.
            values = {each.get_key_element(): _values(each) for each in parsed}
            _require_once(parsed, values)
            typed = {each.get_key_element() for each in parsed[len(swept) :]}
            if "batch_size" not in typed and values.get(_OBJECTIVE) == [f"{_OBJECTIVE}=examples"]:
                values.pop("batch_size", None)  # which is found, not given
            overrides = list(itertools.product(*values.values()))
            compose = Composer(loader)
            jobs = [compose(config, job) for job in overrides]
        except HydraException as error:
            # No such option or key. Hydra would say the same, after it made its folders.
            print(error, file=sys.stderr)  # noqa: T201 (this is the terminal)
            raise SystemExit(FAILED) from None
        except ValueError as error:
            complain(str(error))
            raise SystemExit(REFUSED) from None
        ended = self._begin(config, jobs, overrides)
        composed = enumerate(zip(overrides, jobs, strict=True))
        left = {each: job for place, (each, job) in composed if place not in ended}

        def batches(_: Sequence[Override], size: int | None) -> list[list[list[str]]]:
            """The overrides of the jobs that are left, as Hydra's sweeper splits them."""
            every, size = [list(each) for each in left], size or len(left)
            return [every[start : start + size] for start in range(0, len(every), size)]

        # Plugins are loaded by themselves, so that what is imported here may be another class.
        basic: Any = Plugins.instance().class_name_to_class[sweeper._target_]
        basic.split_arguments = staticmethod(batches)
        # The sweeper composes them all again, to see that it can.
        loader.load_sweep_config = _Composed(compose, dict(left))  # type: ignore[method-assign]

    def _begin(
        self, config: DictConfig, jobs: Sequence[DictConfig], typed: Sequence[_Typed] = ()
    ) -> Collection[int]:
        """Check the studies and start what shows and mirrors them; the places of finished ones."""
        from nqm_study.config.plan import study_plan

        root = Path(config.hydra.runtime.cwd) / "mlruns"
        plans: tuple[StudyPlan, ...] = ()
        try:
            plans = tuple(study_plan(job) for job in jobs)
            records = check_plans(root, plans, typed)
        except ValueError as error:
            complain(str(error))
            raise SystemExit(REFUSED) from None
        except Exception as error:  # noqa: BLE001 (shown, and the call ends)
            # What the storage's errors are is known once it is in use.
            from nqm_study.study.storage.failures import failures, first_line

            if isinstance(error, failures()):
                place = plans[0].backend.where if plans else root
                complain(f"{getattr(error, 'filename', None) or place}: {first_line(error)}")
                raise SystemExit(REFUSED) from None
            # A defect of ours. Hydra would make a warning of it and start the jobs.
            traceback.print_exc()
            raise SystemExit(FAILED) from None
        for line in dict.fromkeys(filter(None, (plan.recipes.resumes for plan in plans))):
            complain(line)
        CALL.root, CALL.plans, CALL.verbose = root, plans, bool(config.hydra.verbose)
        JOB.planned = marks(plans)

        from rich.console import Console

        from nqm_study.app.progress import Board
        from nqm_study.app.worker import finished, progress_of

        gc.freeze()
        gc.enable()
        CALL.board = Board(Console(stderr=True), labels(plans))
        JOB.listener = CALL.board.start()
        ended = finished(plans, root, records)
        if len(ended) < len(plans):
            preload(sweep=len(plans) > 1)
            if config.hydra.launcher._target_.endswith(".JoblibLauncher"):
                from joblib.externals.loky.backend.context import set_start_method

                set_start_method("forkserver", force=True)
        CALL.mirror = _mirror(root, plans, ended)
        for plan in plans:
            if plan.name in ended:
                message = progress_of(plan, ended[plan.name], 0)
                CALL.board.settle(replace(message, over=True))
        if len(ended) == len(plans):
            CALL.ended = ended
            raise SystemExit(0)  # no job is started
        return {place for place, plan in enumerate(plans) if plan.name in ended}


class _Composed:
    """The composition of jobs, which gives each that was composed before, once.

    It goes with Hydra's context to the processes that run the studies, and is empty by then.
    """

    def __init__(self, compose: Composer, composed: _ByOverrides) -> None:
        self._compose = compose
        self._composed = composed

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        found = self._composed.pop(tuple(sweep_overrides), None)
        return self._compose(master_config, sweep_overrides) if found is None else found


def _leave_to_presets(config: DictConfig) -> None:
    """End Hydra's part where the configuration stands for several presets: ``main`` calls them."""
    try:
        CALL.presets = presets_of(config)
    except ValueError as error:
        complain(str(error))
        raise SystemExit(REFUSED) from None
    if CALL.presets is not None:
        raise SystemExit(0)


def _mirror(
    root: Path, plans: Sequence[StudyPlan], ended: Mapping[str, StudyRecord]
) -> Copy | None:
    """MLflow's copy of the studies, with what writes the rest started; None without tracking."""
    tracking = plans[0].tracking
    if tracking is None:
        return None

    from nqm_study.tracking.copy import Copy
    from nqm_study.tracking.process import MirroredStudy

    def changed(state: MirrorState) -> None:
        if CALL.board is not None:
            CALL.board.show_mirror(state)

    copy = Copy(root, tracking, changed)
    studies = [MirroredStudy(plan.backend, plan.name, plan.n_trials) for plan in plans]
    copy.follow(studies, ended)
    return copy


def _values(override: Override) -> list[str]:
    """An override once for each of its values, as Hydra's own sweeper tries them."""
    key = override.get_key_element()
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise HydraException(f"{override.input_line}: must be a list of values, or a range of them")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def _require_once(parsed: Iterable[Override], values: Mapping[str, Sequence[str]]) -> None:
    """Refuse a sweep over one value twice, whether or not it is typed alike: 0.1 and 0.10."""
    for key, each in {each.get_key_element(): each for each in parsed}.items():
        (text, times), *_ = Counter(values[key]).most_common(1)
        if times > 1:
            value = text.partition("=")[2]
            raise ValueError(f"{each.input_line}: has {value} twice; list each value once")


def check_plans(
    root: Path, plans: Sequence[StudyPlan], typed: Sequence[_Typed] = ()
) -> dict[str, StudyRecord]:
    """Refuse what would fail only later, or spoil what is stored.

    Args:
        root: the directory mlruns/.
        plans: the studies of a call.
        typed: the overrides that each was composed with.

    Returns:
        The records, by name, of those that are stored.

    Raises:
        ValueError: in one line that says what is wrong and what is allowed.
    """
    require_writable(root, "mlflow.db", *EMBEDDED.values())
    if len({plan.backend for plan in plans}) > 1:
        raise ValueError("storage: must be the same for all studies of a sweep")
    if len({plan.tracking for plan in plans}) > 1:
        raise ValueError("tracking: must be the same for all studies of a sweep")
    tracking = plans[0].tracking
    if tracking is not None and not tracking.uri:
        from nqm_study.tracking.settings import require_nameable

        require_nameable(root)
    name, times = Counter(plan.name for plan in plans).most_common(1)[0]
    if times > 1:
        same = [plan for plan in plans if plan.name == name]
        if len({plan.definition.fingerprint for plan in same}) > 1:
            raise ValueError(
                f"study.name={name}: names several studies of the sweep; leave it out, or run one"
            )
        raise ValueError(
            _listed_twice(*(each for plan, each in zip(plans, typed, strict=True) if plan in same))
        )
    records = {}
    for backend in dict.fromkeys((*embedded(root), *(plan.backend for plan in plans))):
        if not backend.exists(root):
            continue

        import optuna

        from nqm_study.study.storage.changed import require_same_code
        from nqm_study.study.storage.studies import check_definition, check_units

        storage = backend.open(root)
        unnamed = (plan for plan in plans if not plan.named)
        require_same_code(storage, [(each.definition, each.recipes.versioned) for each in unnamed])
        planned = {plan.name: plan for plan in plans}
        for name in optuna.study.get_all_study_names(storage):
            plan = planned.get(name)
            if plan is not None and plan.backend != backend:
                raise ValueError(
                    f"storage={plan.backend.kind}: the study {name} is in {backend.where}; "
                    f"continue it there with storage={backend.kind}"
                )
            if plan is not None:
                stored = optuna.load_study(study_name=name, storage=storage)
                record = check_definition(stored, plan.definition)
                check_units(stored, plan.n_trials)
                if record is not None:
                    records[name] = record
    return records


def _listed_twice(first: _Typed, second: _Typed, *_: _Typed) -> str:
    """A refusal of overrides that make the same study."""
    here = " ".join(each for each in first if each not in second)
    there = " ".join(each for each in second if each not in first)
    return f"{here} and {there}: are the same study; list each study once"


def labels(plans: Sequence[StudyPlan]) -> dict[str, str]:
    """A short name for each study of a call, by its full name; different for each.

    A study that its user named has that name. The others are told apart by what differs.
    """
    from nqm_study.report.labels import told_apart

    unnamed = [plan for plan in plans if not plan.named]
    several = len({plan.definition.sampler_text for plan in unnamed}) > 1

    def label(plan: StudyPlan) -> str:
        made = plan.definition
        return (
            f"{made.optimizer_text}{_schedule(plan)} {made.size_text} "
            f"C={made.target:g} seed={made.seed}"
            f"{f' {made.sampler_text}' if several else ''}"
        )

    texts = told_apart(list(map(label, unnamed)), [plan.definition for plan in unnamed])
    return {plan.name: plan.name for plan in plans} | {
        plan.name: text for plan, text in zip(unnamed, texts, strict=True)
    }


def _schedule(plan: StudyPlan) -> str:
    """The schedule's name, where it is not the plain one."""
    name = plan.definition.schedule_text
    return "" if name == "constant" else f" {name}"
