"""``python -m nqm_study.tracking.worker``: follows stored studies and writes their runs in MLflow.

``MirrorProcess`` starts it. The first line on standard input is a ``MirrorJob``; one with
``finish`` ends it once all is written. Lines on standard output say how far it is. Whatever goes
wrong with MLflow is tried again: the storage is the truth, and nothing is lost meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import optuna

from nqm_study.study.storage.failures import refused
from nqm_study.tracking.follower import OUTAGES, Follower, reason
from nqm_study.tracking.process import MirrorJob, Summary

POLL_SECONDS = 0.2
"""Between two looks at the storage when nothing is known to be missing."""

OTHERS_SECONDS = 5.0
"""Seconds to wait for another call that mirrors the same study, before it is left to that one."""

LONGEST_PAUSE = 5.0

CHANNEL = sys.stdout
"""Where ``tell`` writes; ``main`` takes it away from MLflow, which prints there as well."""


def tell(**what: object) -> None:
    """Send one line of news to the process that started this one."""
    print(json.dumps(what), file=CHANNEL, flush=True)


def commands() -> queue.Queue[Mapping[str, Any]]:
    """The commands that arrive on standard input; the process ends with the one that sends them."""
    arrived: queue.Queue[Mapping[str, Any]] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            arrived.put(json.loads(line))
        # It was killed. What is missing is written by the next call.
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return arrived


def pauses() -> Iterator[float]:
    """Seconds to wait between tries, longer each time."""
    pause = POLL_SECONDS
    while True:
        yield pause
        pause = min(2.0 * pause, LONGEST_PAUSE)


def main() -> None:
    """Follow until asked to finish; exit status 1 if not all could be written."""
    global CHANNEL  # noqa: PLW0603 (one for the process, as standard output is)
    CHANNEL = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # The process that started this one decides when it ends, or ends it with itself.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
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
    job = MirrorJob.from_json(sys.stdin.readline())
    sys.exit(0 if follow(Follower(job, tell), commands()) else 1)


def follow(follower: Follower, arrived: queue.Queue[Mapping[str, Any]]) -> bool:
    """Mirror until asked to finish and all is written; False if MLflow stays away."""
    finish, summaries = False, None
    since: float | None = None
    wait, pause = pauses(), 0.0
    until = 0.0
    while True:
        with suppress(queue.Empty):
            command = arrived.get(timeout=pause) if pause else arrived.get_nowait()
            finish = True
            if command["finish"] is not None:
                summaries = [Summary(**each) for each in command["finish"]]
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


if __name__ == "__main__":
    main()
