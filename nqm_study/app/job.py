"""One Hydra job is one study. What runs it is imported when it starts."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig


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
        import optuna

        from nqm_study.app.checks import planned_again
        from nqm_study.app.progress import Message, send
        from nqm_study.app.worker import run_job

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        # On a full disk the job's log cannot be written either, and says so in a traceback.
        logging.raiseExceptions = False
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


def reason(error: Exception) -> str:
    """One line that says what went wrong, and where all of it is."""
    from nqm_study.study.storage.failures import first_line
    from nqm_study.study.trials import NotStoredError

    if isinstance(error, (NotStoredError, ValueError)):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'mlruns'}: {first_line(error)}"
    log = Path(HydraConfig.get().runtime.output_dir) / f"{HydraConfig.get().job.name}.log"
    return f"{type(error).__name__}: {first_line(error)}; see {log}"
