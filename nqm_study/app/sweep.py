"""Before anything is written: every study of a call is composed, checked, and remembered."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from nqm_study.app.exit_status import FAILED, REFUSED, complain
from nqm_study.app.job import Job
from nqm_study.app.presets import Presets, presets_of

if TYPE_CHECKING:
    from nqm_study.app.progress import Board
    from nqm_study.config.plan import StudyPlan
    from nqm_study.tracking.pool import Mirrors, MirrorState


@dataclass
class Call:
    """What this process was asked for: filled by ``Planner``, read by ``main``."""

    root: Path = field(default_factory=Path)
    plans: tuple[StudyPlan, ...] = ()
    board: Board | None = None
    mirror: Mirrors | None = None
    verbose: bool = False
    presets: Presets | None = None


CALL = Call()

_ByOverrides = dict[tuple[str, ...], DictConfig]


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
        from nqm_study.app.checks import check_plans, labels, marks
        from nqm_study.config.plan import study_plan

        root = Path(config.hydra.runtime.cwd) / "mlruns"
        try:
            plans = tuple(study_plan(_without_hydra(job)) for job in jobs)
            check_plans(root, plans)
        except ValueError as error:
            complain(str(error))
            raise SystemExit(REFUSED) from None
        except Exception:  # noqa: BLE001 (shown whole, and the call ends)
            # A defect of ours. Hydra would make a warning of it and start the jobs.
            traceback.print_exc()
            raise SystemExit(FAILED) from None
        CALL.root, CALL.plans, CALL.verbose = root, plans, bool(config.hydra.verbose)
        JOB.planned = marks(plans)

        from rich.console import Console

        from nqm_study.app.progress import Board

        CALL.board = Board(Console(stderr=True), labels(plans))
        CALL.board.start()
        CALL.mirror = _mirrors(root, plans)


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


def _leave_to_presets(config: DictConfig) -> None:
    """End Hydra's part where the configuration stands for several presets: ``main`` calls them."""
    try:
        CALL.presets = presets_of(config)
    except ValueError as error:
        complain(str(error))
        raise SystemExit(REFUSED) from None
    if CALL.presets is not None:
        raise SystemExit(0)


def _mirrors(root: Path, plans: Sequence[StudyPlan]) -> Mirrors | None:
    """The processes that write the studies' runs in MLflow, started; None without tracking."""
    tracking = plans[0].tracking
    if tracking is None:
        return None

    from nqm_study.tracking.pool import MirroredStudy, MirrorJob, Mirrors

    def changed(state: MirrorState) -> None:
        if CALL.board is not None:
            CALL.board.show_mirror(state)

    studies = tuple(MirroredStudy(plan.backend, plan.name, plan.n_trials) for plan in plans)
    job = MirrorJob(root, tracking, studies)
    # The studies have the other cores.
    return Mirrors(changed, job, cores=(os.cpu_count() or 1) // 2)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
