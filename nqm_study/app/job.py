"""A Hydra job, which is one study; what runs it is imported when the job starts."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

if TYPE_CHECKING:
    from nqm_study.config.plan import StudyPlan


@dataclass
class Job:
    """Runs one study, and mirrors it; Hydra calls this once for each study of a call.

    The attributes travel with this object to the processes that run the studies of a sweep.

    Attributes:
        planned: marks of the studies that ``Planner`` checked.
        folders: where the users' own modules are.
        listener: the address of the process that shows progress.
    """

    planned: frozenset[str] = frozenset()
    folders: tuple[str, ...] = ()
    listener: str = ""

    def __call__(self, cfg: DictConfig) -> None:
        """Run the study of a configuration.

        A study that fails says so, and takes no other down. Where nobody listens, as on another
        machine, its error goes the way of Hydra's.
        """
        import optuna

        from nqm_study.app.progress import ADDRESS, Message, send, sent_elsewhere
        from nqm_study.app.stopping import leave_to_the_caller
        from nqm_study.app.worker import run_job

        os.environ[ADDRESS] = self.listener
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        look_in(self.folders)
        # On a full disk the job's log cannot be written either, and says so in a traceback.
        logging.raiseExceptions = False
        if sent_elsewhere():
            leave_to_the_caller()
        plan = planned_again(cfg, self.planned)
        try:
            run_job(plan)
        except Exception as error:
            log = logging.getLogger(__name__)
            log.exception("the study failed")
            if not send(Message(plan.name, failed=reason(error))):
                raise
            if HydraConfig.get().verbose:
                traceback.print_exc()


def users_folders(arguments: Sequence[str]) -> tuple[str, ...]:
    """Where users keep modules of their own: the folder they start in, and that of --config-dir.

    Args:
        arguments: those of the command line.
    """
    folder = config_dir(arguments)
    return (str(Path.cwd()), *([] if folder is None else [str(folder.parent)]))


def config_dir(arguments: Sequence[str]) -> Path | None:
    """The folder of --config-dir among the arguments of the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    given = parser.parse_known_args(arguments)[0].config_dir
    return None if given is None else Path(given).resolve()


def look_in(folders: Sequence[str]) -> None:
    """Make modules in these folders importable, after all that are installed."""
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def reason(error: Exception) -> str:
    """One line that says what went wrong, and which log has all of it."""
    from nqm_study.study.storage.failures import first_line
    from nqm_study.study.trials import NotStoredError

    if isinstance(error, (NotStoredError, ValueError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'mlruns'}: {first_line(error)}"
    log = Path(HydraConfig.get().runtime.output_dir) / f"{HydraConfig.get().job.name}.log"
    return f"{type(error).__name__}: {first_line(error)}; see {log}"


class ChangedError(CompactHydraException):
    """What a study is made from changed after the call was checked; Hydra shows it as one line."""


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
    from nqm_study.config.plan import study_plan

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
