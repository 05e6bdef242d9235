"""The command line: Hydra composes, one job runs one study, and the call ends with its report."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
import optuna
from filelock import FileLock
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from nqm_study.build import StudyPlan, conf_dir, open_planned, run_planned, study_plan
from nqm_study.progress import Board, Message, send
from nqm_study.publish import publish
from nqm_study.study.records import TrialRecord
from nqm_study.study.storage import KINDS, check_definition, read_study, study_record

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
        except HydraException:
            # An option or key that does not exist: Hydra is about to say so itself.
            return
        self._begin(config, jobs)

    def _begin(self, config: DictConfig, jobs: Iterable[DictConfig]) -> None:
        root = Path(config.hydra.runtime.cwd) / "mlruns"
        try:
            plans = tuple(study_plan(_without_hydra(job)) for job in jobs)
            check_plans(root, plans)
        except ValueError as error:
            print(f"nqm_study: {error}", file=sys.stderr)  # noqa: T201 (this is the terminal)
            raise SystemExit(REFUSED) from None
        CALL.root, CALL.plans = root, plans
        CALL.board = Board(Console(stderr=True), len(plans))
        CALL.board.start()


def check_plans(root: Path, plans: Iterable[StudyPlan]) -> None:
    """Refuse what would fail only later, or spoil what is stored.

    Raises:
        ValueError: in one line that says what is wrong and what is allowed.
    """
    plans = tuple(plans)
    _check_writable(root)
    name, times = Counter(plan.name for plan in plans).most_common(1)[0]
    if times > 1:
        same = len({plan.definition.fingerprint for plan in plans if plan.name == name}) == 1
        reason = "is swept twice" if same else "names several studies of the sweep"
        raise ValueError(f"study.name={name}: {reason}; each study needs a name of its own")
    for kind in {plan.storage for plan in plans}:
        filename, open_storage = KINDS[kind]
        if not (root / filename).is_file():
            continue
        storage = open_storage(root / filename)
        for plan in plans:
            stored = read_study(storage, plan.name) if plan.named else None
            if stored is not None:
                check_definition(stored, plan.definition)


def _check_writable(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root}: must be a directory, it is a file")
    folder = root if root.exists() else root.parent
    try:
        # A file without a name: it proves the point and leaves nothing.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{root}: must be writable, {error.strerror}") from error


def job(cfg: DictConfig) -> None:
    """Run one study, and mirror it; Hydra calls this once for each study of a sweep."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    plan = study_plan(cfg)
    root = Path(HydraConfig.get().runtime.cwd) / "mlruns"
    filename, open_storage = KINDS[plan.storage]
    locks = root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    # One writer a study: a second call of the same command waits, and then finds it done.
    with FileLock(locks / f"{hashlib.sha256(plan.name.encode()).hexdigest()[:16]}.lock"):
        stored = open_planned(plan, open_storage(root / filename))
        before = study_record(stored)
        mirror = None
        if plan.experiment is not None:
            from nqm_study.tracking.mlflow import Mirror  # noqa: PLC0415 (slow to import)

            mirror = Mirror.local(root, plan.experiment).study(before)
        done, best = len(before.trials), before.best
        steps = best.steps if best is not None else None
        label = f"{plan.definition.optimizer} B={plan.definition.batch_size:.15g}"
        if plan.definition.seed:
            label += f" seed={plan.definition.seed}"

        def tell(*, over: bool) -> None:
            ran = done - len(before.trials)
            send(Message(label, done, max(plan.n_trials, done), steps, over, ran))

        def on_trial(trial: TrialRecord) -> None:
            nonlocal done, steps
            if mirror is not None:
                mirror.trial(trial)
            done += 1
            if trial.steps is not None:
                steps = trial.steps if steps is None else min(steps, trial.steps)
            tell(over=False)

        tell(over=False)
        try:
            run_planned(plan, stored, on_trial)
        finally:
            if mirror is not None:
                mirror.finish(study_record(stored))
        tell(over=True)


def main() -> None:
    """Run the command line."""
    status = 0
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
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
        )
    sys.exit(status)


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
