"""The command line: Hydra composes, one job runs one study, and the call ends with its report."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

import hydra
from hydra.errors import CompactHydraException
from joblib.externals.loky import get_reusable_executor
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.exceptions import StorageInternalError
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from nqm_study.build import conf_dir
from nqm_study.jobs import FAILED, reason, told_of
from nqm_study.planner import CALL, JOB
from nqm_study.plans import ChangedError
from nqm_study.presets import call_in_turn
from nqm_study.progress import Board
from nqm_study.study.database import first_line
from nqm_study.study.records import StudyRecord

CLUSTERS = ("submitit", "ray")
"""The packages whose errors say that a job did not come back."""

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def main() -> None:
    """Run the command line."""
    # A scheduler's or a closing terminal's signal ends a call as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    # For presets: what is swept only where a package is there.
    OmegaConf.register_new_resolver(
        "if_installed", lambda package, text: text if find_spec(package) else "", replace=True
    )
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
    if CALL.presets is not None and status == 0:
        if not asked:
            del os.environ["HYDRA_FULL_ERROR"]
        sys.exit(call_in_turn(CALL.presets))
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
    lost = type(error).__module__.partition(".")[0] in CLUSTERS
    if whole or not (lost or isinstance(error, (CompactHydraException, OSError))):
        traceback.print_exception(error)
        return
    if lost:
        _complain(f"a job was lost, {type(error).__name__}: {first_line(error)}")
        return
    if isinstance(error, OSError):
        _complain(reason(error))
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
    if CALL.mirror is not None:
        # The studies are over, and the figures take one core.
        CALL.mirror.hurry(os.cpu_count() or 1)
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
    for label, why in board.failed.items():
        _complain(f"{label}: failed, {why}")
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
            board.settle(replace(told_of(plan, record, None), over=True))


def _complain(text: str) -> None:
    print(f"nqm_study: {text}", file=sys.stderr)  # noqa: T201 (this is the terminal)
