"""The parts of a report drawn on all cores, in processes that are forked for it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from pandas import DataFrame

from nqm_study.report.write import contents_here
from nqm_study.study.processes import CONTEXT, cores, prepare


def contents_on_all_cores(studies: DataFrame, parts: Sequence[str]) -> list[dict[str, bytes]]:
    """What ``contents_here`` gives, the same bytes."""
    try:
        waiting = [_pool().submit(contents_here, studies, [part]) for part in parts]
        return [files for each in waiting for files in each.result()]
    except BrokenProcessPool:  # one was killed, as where memory is short
        return contents_here(studies, parts)
    except KeyboardInterrupt:
        # Python waits for what has begun, which takes less than a second.
        _pool().shutdown(wait=False, cancel_futures=True)
        raise


@functools.cache
def _pool() -> ProcessPoolExecutor:
    prepare()
    return ProcessPoolExecutor(cores(), mp_context=CONTEXT)
