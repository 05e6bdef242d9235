"""A user's own optimizer, schedule and spectrum, each in one module and one YAML file."""

from pathlib import Path
from typing import Any

MODULE = '''
from dataclasses import dataclass

import numpy as np
from optuna.samplers import RandomSampler

import nqm_study as nqm


@dataclass(frozen=True)
class QHM(nqm.LinearOptimizer):
    """theta' = theta - r ((1 - v) g + v u'),  u' = b u + (1 - b) g;  state (theta, u)."""

    learning_rate: float
    momentum: float = 0.9
    v: float = 0.7

    def update(self, step, rate):
        b, v = self.momentum, self.v
        drift, gain = np.zeros((rate.size, 2, 2)), np.zeros((rate.size, 2))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -rate * v * b, b
        gain[:, 0], gain[:, 1] = -rate * (1.0 - v * b), 1.0 - b
        return nqm.Update(drift, gain, point=[[1, 0]], start=[1, 0], readout=[1, 0])


@dataclass(frozen=True)
class Drop(nqm.Schedule):
    """1, and a lower rate from some fraction of the run on."""

    after: float
    to: float = 0.1

    def factor(self, fraction):
        return np.where(fraction < self.after, 1.0, self.to)


@dataclass(frozen=True)
class Mixed(nqm.LinearOptimizer):
    """Heavy ball or SGD by a choice, its rate divided by a whole number."""

    learning_rate: float
    kind: str = "plain"
    momentum: float = 0.0
    over: int = 1

    def update(self, step, rate):
        assert isinstance(self.over, int)
        heavy = self.kind == "heavy"
        inner = nqm.HeavyBall(1.0, self.momentum) if heavy else nqm.SGD(1.0)
        return inner.update(step, rate / self.over)


class Own(RandomSampler):
    """A sampler that takes no seed."""

    def __init__(self):
        super().__init__(seed=7)


def two_scales(dim=20, ratio=0.01):
    """As many modes of curvature 1 as of another."""
    return nqm.Spectrum(curvature=np.repeat([1.0, ratio], dim // 2))
'''

FILES = {
    "optimizer/qhm": """
_target_: my_parts.QHM
learning_rate: {low: null, high: null, scale: log}
momentum: {low: null, high: null, scale: log_one_minus}
v: {low: 0.0, high: 1.0, scale: linear}
""",
    "optimizer/mixed": """
_target_: my_parts.Mixed
learning_rate: {low: null, high: null, scale: log}
kind: {choices: [plain, heavy]}
momentum: {low: 0.1, high: 0.99, scale: log_one_minus, when: {kind: heavy}}
over: {low: 1, high: 4, scale: linear}
""",
    "sampler/one_by_one": """
_target_: optuna.samplers.TPESampler
multivariate: false
n_startup_trials: 3
""",
    "sampler/own": """
_target_: my_parts.Own
""",
    "schedule/drop": """
_target_: my_parts.Drop
after: {low: 0.1, high: 0.9, scale: linear}
""",
    "spectrum/two": """
_target_: my_parts.two_scales
dim: 40
""",
}


OWN = ("--config-dir", "my_conf", "optimizer=qhm", "spectrum=two", "target=0.05")
SWEEP = (*OWN, "batch_size=16,64")


def write(folder: Path, module: str = MODULE, beside: Path | None = None) -> None:
    """Put the module into a folder, and the YAML files below its ``my_conf``."""
    (folder / "my_parts.py").write_text(module)
    for name, text in FILES.items():
        path = (beside or folder) / "my_conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def classes(*, version: str | None = None) -> dict[str, Any]:
    """What the module holds, without a file of its own; its classes of a version."""
    made: dict[str, Any] = {"__name__": "my_parts"}
    exec(MODULE, made)  # noqa: S102 (the text above)
    for name in ("QHM", "Drop") if version is not None else ():
        made[name].version = version
    return made
