"""A preset that stands for several: each is a call of its own, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nqm_study.app.exit_status import FAILED
from nqm_study.config.refusals import readable, typed

_GROUP = "experiment"


@dataclass(frozen=True)
class Presets:
    """What to call.

    Attributes:
        names: of the group ``experiment``, in turn.
        overrides: what each is called with.
    """

    names: tuple[str, ...]
    overrides: tuple[str, ...]

    def command(self, name: str) -> list[str]:
        """The arguments of the call for one of them."""
        return ["-m", f"{_GROUP}={name}", *self.overrides]


def presets_of(config: DictConfig) -> Presets | None:
    """The presets that a composed configuration stands for; None where it is itself to be run.

    Raises:
        ValueError: naming key, value and what is allowed.
    """
    found = OmegaConf.select(config, "presets")
    if found is None:
        return None
    section = OmegaConf.to_container(found, resolve=True)
    if not isinstance(section, dict):
        raise ValueError(f"presets={typed(section)}: must have names and overrides")
    typed_in = config.hydra.overrides
    # What says which presets are called is not for them.
    own = (f"{_GROUP}=", "presets.")
    mine = [each for each in typed_in.task if not each.lstrip("+").startswith(own)]
    mine += [each for each in typed_in.hydra if not each.startswith("hydra.mode=")]
    names = _texts("presets.names", section.get("names"))
    return Presets(names, (*_texts("presets.overrides", section.get("overrides", [])), *mine))


def call_in_turn(presets: Presets) -> int:
    """Call them; the exit status of the first that failed, or that ended all.

    A refusal and an interruption end all; a study that failed does not.
    """
    status = 0
    for place, name in enumerate(presets.names, start=1):
        print(f"{_GROUP}={name} ({place} of {len(presets.names)})", flush=True)  # noqa: T201 (this is the terminal)
        found = _call(presets.command(name))
        status = status or found
        if found not in (0, FAILED):
            break
    return status


def _call(arguments: Sequence[str]) -> int:
    """Run the program with these arguments, and hand every signal on to it."""
    process = subprocess.Popen(  # noqa: S603 (this program)
        [sys.executable, "-m", "nqm_study", *arguments],
        # Found wherever this one was found.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    def hand_on(number: int, _: FrameType | None) -> None:
        # A terminal's Ctrl-C reaches the other process by itself.
        if number != signal.SIGINT:
            process.send_signal(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, hand_on) for number in numbers}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _texts(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key}={typed(value)}: must be a list")
    return tuple(readable(key, each) for each in value)
