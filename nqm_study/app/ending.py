"""The end of a call: the report on what its studies came to."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace

from rich.console import Console

from nqm_study.app.exit_status import FAILED
from nqm_study.app.progress import Board
from nqm_study.app.publish import Published, publish, reported, show, stored_records, unmirrored
from nqm_study.app.sweep import CALL
from nqm_study.app.terminal import complain
from nqm_study.app.worker import progress_of
from nqm_study.report.frame import studies_frame
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.failures import failures, first_line


def conclude(board: Board, status: int, *, changed: bool) -> int:
    """Report on the studies of the call, as far as they came; the call's exit status."""
    if loky := sys.modules.get("joblib.externals.loky"):
        # joblib's workers are done, and Python would wait seconds for each to tidy up.
        loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)
    try:
        return _report(board, status, changed=changed)
    except failures(ValueError) as error:
        # The storage itself cannot be read any more.
        if CALL.verbose:
            traceback.print_exc()
        complain(f"no report: {first_line(error)}")
        return status or FAILED
    finally:
        board.stop()


def _report(board: Board, status: int, *, changed: bool) -> int:
    """Show what the call came to; its exit status."""
    backend = CALL.plans[0].backend
    if CALL.mirror is not None:
        CALL.mirror.hurry()
    records = stored_records(CALL.root, [backend], CALL.ended)
    studies = studies_frame(records)
    _settle(board, {record.name: record for record in records})
    names = frozenset(plan.name for plan in CALL.plans)
    try:
        published = publish(CALL.root, studies, names)
    except OSError as error:
        if CALL.verbose:
            traceback.print_exc()
        complain(f"no figures: {error.filename or CALL.root}: {first_line(error)}")
        published, status = Published(reported(studies, names)), status or FAILED
    state = None
    if CALL.mirror is not None:
        board.await_mirror()
        ours = [record for record in records if record.name in names]
        state = CALL.mirror.finish(ours, published.summaries)
    board.stop()
    show(published, Console(), state)
    for label, why in board.failed.items():
        complain(f"{label}: failed, {why}")
    if state is not None and (missing := unmirrored(state)):
        complain(missing)
        status = status or FAILED
    if board.unfinished:
        then = "" if changed else "; the same command continues"
        complain(f"not finished: {', '.join(map(board.label, board.unfinished))}{then}")
        status = status or FAILED
    return status


def _settle(board: Board, records: Mapping[str, StudyRecord]) -> None:
    """Show the end of studies that could not send it, such as those on other machines."""
    board.hear_out()
    for plan in CALL.plans:
        record = records.get(plan.name)
        complete = record is not None and len(record.trials) >= plan.n_trials
        if record is not None and complete and plan.name in board.unfinished:
            board.settle(replace(progress_of(plan, record, None), over=True))
