"""The process that follows stored studies and writes their runs in MLflow.

``MirrorProcess`` starts it, and sends ``Finish``, which ends it once all is written; it sends news
of how far it is. Whatever goes wrong with MLflow is tried again: the storage is the truth, and
nothing is lost meanwhile.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import optuna

from nqm_study.study.storage.failures import refused
from nqm_study.tracking.follower import OUTAGES, Follower, Tell, reason
from nqm_study.tracking.process import Finish, MirrorJob, Summary

POLL_SECONDS = 0.2
"""Between two looks at the storage when nothing is known to be missing."""

OTHERS_SECONDS = 5.0
"""Seconds to wait for another call that mirrors the same study, before it is left to that one."""

LONGEST_PAUSE = 5.0


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, longer each time."""
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(2.0 * pause, LONGEST_PAUSE)


def main(pipe: Connection, job: MirrorJob) -> None:
    """Follow until asked to finish; exit status 1 if not all could be written.

    Args:
        pipe: to the process that started this one.
        job: what to follow.
    """
    # MLflow prints there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def tell(**what: object) -> None:
        pipe.send(what)

    # A server that is down is tried again here, and not for minutes within one call.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    # It asks a server for the run once more, to print its address.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # What is drawn here is never on a screen.
    os.environ["MPLBACKEND"] = "agg"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A failure is one line, and tried again; MLflow would show a traceback for each try.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    with suppress(EOFError, BrokenPipeError):  # the call was killed
        sys.exit(0 if follow(Follower(job, tell), pipe, tell) else 1)


def follow(follower: Follower, pipe: Connection, tell: Tell) -> bool:
    """Mirror until asked to finish and all is written; False if MLflow stays away."""
    finish = False
    summaries: Sequence[Summary] | None = None
    since: float | None = None
    wait, pause = pauses(), 0.0
    until = 0.0
    while True:
        if pipe.poll(pause):
            command: Finish = pipe.recv()
            finish, summaries = True, command.summaries
            until = time.monotonic() + OTHERS_SECONDS
            since = None
        try:
            worked = follower.step(finish=finish)
            if summaries is not None and not follower.open:
                follower.write(summaries)
                tell(done=True, problem="", missing=0)
                return True
        except OUTAGES as error:
            text = f"{follower.where}: {reason(error)}"
            since = since or time.monotonic()
            tell(problem=text)
            lasting = "damaged" in text or refused(error)
            if finish and (lasting or time.monotonic() - since > follower.patience):
                return False
            pause = next(wait)
            continue
        if since is not None:
            since, wait = None, pauses()
            tell(problem="")
        if finish and not worked and time.monotonic() > until:
            for followed in follower.open:
                note = f"{followed.name}: is mirrored by another call, and left to it"
                tell(note=note, left=followed.name)
                followed.done = True
        # While studies go on, trials gather, since writing many costs little more than one.
        pause = 0.0 if worked and (finish or follower.missing) else POLL_SECONDS
