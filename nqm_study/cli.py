"""The command line: Hydra composes, one job runs one study, and the call ends with its report."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import optuna
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException
from hydra.experimental.callback import Callback
from joblib.externals.loky import get_reusable_executor
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from nqm_study.build import StudyPlan, conf_dir, open_planned, run_planned, study_plan
from nqm_study.mirror_process import MirroredStudies, MirrorJob, Mirrors, MirrorState
from nqm_study.plans import ChangedError, check_plans, labels, marks, planned_again
from nqm_study.progress import Board, Message, orphaned, send
from nqm_study.study.database import first_line
from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.study.shared import Sharing
from nqm_study.study.storage import study_record
from nqm_study.study.trials import NotStoredError

FAILED = 1
"""Exit status when a study failed."""

REFUSED = 2
"""Exit status of our own refusals."""

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


@dataclass
class Call:
    """What this process was asked for: filled by ``Planner``, read by ``main``."""

    root: Path = field(default_factory=Path)
    plans: tuple[StudyPlan, ...] = ()
    board: Board | None = None
    mirror: Mirrors | None = None
    verbose: bool = False


CALL = Call()

_ByOverrides = dict[tuple[str, ...], DictConfig]


@dataclass
class Job:
    """Runs one study, and mirrors it; Hydra calls this once for each study of a call.

    Attributes:
        planned: marks of the studies that ``Planner`` checked. They travel with this object to the
            processes that run the studies of a sweep.
    """

    planned: frozenset[str] = frozenset()

    def __call__(self, cfg: DictConfig) -> None:
        """Run the study of a configuration.

        A study that fails says so, and takes no other down. Where nobody listens, as on another
        machine, its error goes the way of Hydra's.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # On a full disk the job's log cannot be written either, and says so in a traceback.
        logging.raiseExceptions = False
        plan = planned_again(cfg, self.planned)
        try:
            run_job(plan)
        except Exception as error:
            log = logging.getLogger(__name__)
            log.exception("the study failed")
            if not send(Message(plan.name, failed=_reason(error))):
                raise
            if HydraConfig.get().verbose:
                traceback.print_exc()


JOB = Job()


class Planner(Callback):
    """Checks every study of a call before Hydra writes its first file."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One study."""
        _start_mirrors(config, studies=1)
        self._begin(config, [config])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A sweep: its jobs are made here as Hydra's own sweeper will make them."""
        sweeper = config.hydra.sweeper
        if not sweeper._target_.endswith(".BasicSweeper"):
            return
        _start_mirrors(config, studies=Mirrors.MOST)
        loader = GlobalHydra.instance().config_loader()
        swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        try:
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(
                [*swept, *config.hydra.overrides.task]
            )
            batches = BasicSweeper.split_arguments(parsed, None)
            overrides = [tuple(job) for batch in batches for job in batch]
            jobs = [loader.load_sweep_config(config, list(job)) for job in overrides]
        except HydraException as error:
            # No such option or key. Hydra would say the same, after it made its folders.
            print(error, file=sys.stderr)  # noqa: T201 (this is the terminal)
            raise SystemExit(FAILED) from None
        self._begin(config, jobs)
        # The sweeper composes them all again, to see that it can.
        remembered = _Composed(loader.load_sweep_config, dict(zip(overrides, jobs, strict=True)))
        loader.load_sweep_config = remembered  # type: ignore[method-assign]

    def _begin(self, config: DictConfig, jobs: Sequence[DictConfig]) -> None:
        root = Path(config.hydra.runtime.cwd) / "mlruns"
        try:
            plans = tuple(study_plan(_without_hydra(job)) for job in jobs)
            check_plans(root, plans)
        except ValueError as error:
            print(f"nqm_study: {error}", file=sys.stderr)  # noqa: T201 (this is the terminal)
            raise SystemExit(REFUSED) from None
        except Exception:  # noqa: BLE001 (shown whole, and the call ends)
            # A defect of ours. Hydra would make a warning of it and start the jobs.
            traceback.print_exc()
            raise SystemExit(FAILED) from None
        CALL.root, CALL.plans, CALL.verbose = root, plans, bool(config.hydra.verbose)
        JOB.planned = marks(plans)
        CALL.board = Board(Console(stderr=True), labels(plans))
        CALL.board.start()
        tracking = plans[0].tracking
        if tracking is not None and CALL.mirror is not None:
            names = {plan.name: plan.n_trials for plan in plans}
            studies = MirroredStudies(plans[0].backend, names)
            CALL.mirror.begin(MirrorJob(root, tracking, (studies,)))


class _Composed:
    """Hydra's composition of a job, which gives once what was composed before.

    It goes with Hydra's context to the processes that run the studies, with nothing left in it.
    """

    def __init__(self, compose: Callable[..., DictConfig], composed: _ByOverrides) -> None:
        self._compose = compose
        self._composed = composed

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        found = self._composed.pop(tuple(sweep_overrides), None)
        return self._compose(master_config, sweep_overrides) if found is None else found


def _start_mirrors(config: DictConfig, studies: int) -> None:
    """Let MLflow be imported while the studies of the call are composed and checked."""

    def changed(state: MirrorState) -> None:
        if CALL.board is not None:
            CALL.board.show_mirror(state)

    if OmegaConf.select(config, "tracking.name") in ("mlflow", "server"):
        CALL.mirror = Mirrors(changed, studies=studies)


def _reason(error: Exception) -> str:
    """One line that says what went wrong, and where all of it is."""
    if isinstance(error, (NotStoredError, ValueError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'mlruns'}: {first_line(error)}"
    log = Path(HydraConfig.get().runtime.output_dir) / f"{HydraConfig.get().job.name}.log"
    return f"{type(error).__name__}: {first_line(error)}; see {log}"


def run_job(plan: StudyPlan) -> None:
    """Run one study."""
    root = Path(HydraConfig.get().runtime.cwd) / "mlruns"
    storage = plan.backend.open(root)
    if isinstance(storage, RDBStorage) and plan.backend.shared:
        turn = plan.backend.lock(root, "turn", plan.name)
        with turn:
            stored = open_planned(plan, storage)
        _run(plan, stored, Sharing(storage, turn))
        return
    lock = plan.backend.lock(root, "run", plan.name)
    if not lock.acquire(timeout=1.0):
        send(Message(plan.name, waiting=True))
        lock.acquire()
    try:
        _run(plan, open_planned(plan, storage), None)
    finally:
        lock.release()


def _run(plan: StudyPlan, stored: Study, sharing: Sharing | None) -> None:
    """Bring a study to its budget, and tell how far it is."""
    before = study_record(stored)
    told = _told(plan, before, 0)
    send(told)

    def on_trial(trial: TrialRecord, done: int) -> None:
        nonlocal told
        fewest = min((s for s in (told.steps, trial.steps) if s is not None), default=None)
        told = replace(told, done=done, steps=fewest, new=told.new + 1)
        send(told)
        if orphaned():
            # Nobody waits for this worker any more, and it would wait for them forever.
            os._exit(FAILED)

    run_planned(plan, stored, sharing=sharing, on_trial=on_trial)
    send(replace(_told(plan, study_record(stored), told.new), over=True))


def _told(plan: StudyPlan, record: StudyRecord, new: int) -> Message:
    done = len(record.trials)
    return Message(
        plan.name,
        done=done,
        total=max(plan.n_trials, done),
        steps=record.best.steps if record.best is not None else None,
        risk_error=record.told_risk_error,
        new=new,
    )


def main() -> None:
    """Run the command line."""
    # A scheduler's or a closing terminal's signal ends a call as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # Our launcher files stand for the plugins' own of the same names.
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/\w+' is validated against")
    # Hydra then leaves the errors to this function.
    asked = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    status, changed = 0, False
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(JOB)()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:  # noqa: BLE001 (shown, and the call ends)
        status, changed = FAILED, isinstance(error, ChangedError)
        _show(error, whole=asked or CALL.verbose)
    if CALL.board is None and CALL.mirror is not None:
        # The call was refused.
        CALL.mirror.kill()
    if CALL.board is not None:
        if len(CALL.plans) > 1:
            # joblib's workers are done, and Python would wait seconds for each to tidy up.
            get_reusable_executor().shutdown(wait=True, kill_workers=True)
        try:
            status = _report(CALL.board, status, changed=changed)
        except (OSError, SQLAlchemyError, StorageInternalError, ValueError) as error:
            # The storage itself cannot be read any more.
            if CALL.verbose:
                traceback.print_exc()
            _complain(f"no report: {first_line(error)}")
            status = status or FAILED
        finally:
            CALL.board.stop()
    sys.exit(status)


def _show(error: Exception, *, whole: bool) -> None:
    """Show an error that ended Hydra's part: a refusal of its own, a full disk, or a defect."""
    if whole or not isinstance(error, (CompactHydraException, OSError)):
        traceback.print_exception(error)
        return
    if isinstance(error, OSError):
        _complain(_reason(error))
        return
    lines = [str(error)]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__))
    lines.append("\nSet the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.")
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 (this is the terminal)


def _report(board: Board, status: int, *, changed: bool) -> int:
    """Show what the call came to; its exit status."""
    # Imports Matplotlib, which the processes that run the studies do without.
    from nqm_study.publish import (  # noqa: PLC0415
        Published,
        publish,
        reported,
        show,
        stored_records,
        unmirrored,
    )

    backend = CALL.plans[0].backend
    records = stored_records(CALL.root, [backend])
    _settle(board, {record.name: record for record in records})
    names = frozenset(plan.name for plan in CALL.plans)
    try:
        published = publish(CALL.root, records, names)
    except OSError as error:
        if CALL.verbose:
            traceback.print_exc()
        _complain(f"no figures: {error.filename or CALL.root}: {first_line(error)}")
        published, status = Published(reported(records, names)), status or FAILED
    state = None
    if CALL.mirror is not None:
        board.await_mirror()
        state = CALL.mirror.finish(published.summaries)
    board.stop()
    show(published, Console(), state)
    for label, reason in board.failed.items():
        _complain(f"{label}: failed, {reason}")
    if state is not None and (missing := unmirrored(state)):
        _complain(missing)
        status = status or FAILED
    if board.unfinished:
        then = "" if changed else "; the same command continues"
        _complain(f"not finished: {', '.join(map(board.label, board.unfinished))}{then}")
        status = status or FAILED
    return status


def _settle(board: Board, records: Mapping[str, StudyRecord]) -> None:
    """Tell the board of studies that ended where it could not be told."""
    for plan in CALL.plans:
        record = records.get(plan.name)
        complete = record is not None and len(record.trials) >= plan.n_trials
        if record is not None and complete and plan.name in board.unfinished:
            board.settle(replace(_told(plan, record, 0), over=True))


def _complain(text: str) -> None:
    print(f"nqm_study: {text}", file=sys.stderr)  # noqa: T201 (this is the terminal)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
