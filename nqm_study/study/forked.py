"""Imported first by the process that the others of a call are forked from (``processes``)."""

from __future__ import annotations

import gc
import os
import signal

# Ctrl-C is the call's, which ends the others. It was blocked until here.
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
# What is imported stays, and is shared for as long as nothing looks at it for what can be freed.
gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
