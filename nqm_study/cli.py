"""The command line: Hydra composes, one job runs one study, and the call ends with its report."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import optuna
from filelock import Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from nqm_study.build import StudyPlan, conf_dir, open_planned, run_planned, study_plan
from nqm_study.plans import ChangedError, check_plans, labels, marks, planned_again
from nqm_study.progress import Board, Message, orphaned, send
from nqm_study.publish import publish
from nqm_study.study.records import TrialRecord
from nqm_study.study.run import undisturbed
from nqm_study.study.storage import KINDS, study_lock, study_record

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


CALL = Call()


@dataclass
class Job:
    """Runs one study, and mirrors it; Hydra calls this once for each study of a call.

    Attributes:
        planned: marks of the studies that ``Planner`` checked. They travel with this object to the
            processes that run the studies of a sweep.
    """

    planned: frozenset[str] = frozenset()

    def __call__(self, cfg: DictConfig) -> None:
        """Run the study of a configuration."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        run_job(planned_again(cfg, self.planned))


JOB = Job()


class Planner(Callback):
    """Checks every study of a call before Hydra writes its first file."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """One study."""
        self._begin(config, [config])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """A sweep: its jobs are made here as Hydra's own sweeper will make them."""
        sweeper = config.hydra.sweeper
        if not sweeper._target_.endswith(".BasicSweeper"):
            return
        loader = GlobalHydra.instance().config_loader()
        swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
        try:
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(
                [*swept, *config.hydra.overrides.task]
            )
            batches = BasicSweeper.split_arguments(parsed, None)
            jobs = [loader.load_sweep_config(config, job) for batch in batches for job in batch]
        except HydraException as error:
            # No such option or key. Hydra would say the same, after it made its folders.
            print(error, file=sys.stderr)  # noqa: T201 (this is the terminal)
            raise SystemExit(FAILED) from None
        self._begin(config, jobs)

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
        CALL.root, CALL.plans = root, plans
        JOB.planned = marks(plans)
        CALL.board = Board(Console(stderr=True), labels(plans))
        CALL.board.start()


def run_job(plan: StudyPlan) -> None:
    """Run one study, and mirror it."""
    root = Path(HydraConfig.get().runtime.cwd) / "mlruns"
    filename, open_storage = KINDS[plan.storage]
    lock = study_lock(root, plan.name)
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        send(Message(plan.name, waiting=True))
        held = lock.acquire()
    with held:
        stored = open_planned(plan, open_storage(root / filename))
        before = study_record(stored)
        mirror = None
        if plan.experiment is not None:
            from nqm_study.tracking.mlflow import Mirror  # noqa: PLC0415 (slow to import)

            mirror = Mirror.local(root, plan.experiment).study(before)
        found = list(before.trials)

        def tell(*, over: bool = False) -> None:
            steps = min((t.steps for t in found if t.steps is not None), default=None)
            send(
                Message(
                    plan.name,
                    done=len(found),
                    total=max(plan.n_trials, len(found)),
                    steps=steps,
                    risk_error=replace(before, trials=tuple(found)).told_risk_error,
                    new=len(found) - len(before.trials),
                    over=over,
                )
            )

        def on_trial(trial: TrialRecord) -> None:
            if mirror is not None:
                mirror.trial(trial)
            found.append(trial)
            tell()
            if orphaned():
                # Nobody waits for this worker any more, and it would wait for them forever.
                os._exit(FAILED)

        tell()
        try:
            run_planned(plan, stored, on_trial)
        finally:
            if mirror is not None:
                with undisturbed():
                    mirror.finish(study_record(stored))
        tell(over=True)


def main() -> None:
    """Run the command line."""
    # A scheduler's or a closing terminal's signal ends a call as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    status, changed = 0, False
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(JOB)()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else FAILED
        # Hydra exits while it handles the error of a job.
        changed = isinstance(stop.__context__, ChangedError)
    except KeyboardInterrupt:
        status = INTERRUPTED
    if CALL.board is not None:
        CALL.board.stop()
        experiments = [plan.experiment for plan in CALL.plans if plan.experiment is not None]
        publish(
            CALL.root,
            Console(),
            experiment=experiments[0] if experiments else None,
            only=frozenset(plan.name for plan in CALL.plans),
            catch_up=status != 0,
        )
        unfinished = CALL.board.unfinished
        if status != 0 and unfinished:
            then = "" if changed else "; the same command continues"
            print(  # noqa: T201 (this is the terminal)
                f"nqm_study: not finished: {', '.join(unfinished)}{then}", file=sys.stderr
            )
    sys.exit(status)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
