"""A copy of an optimizer under another name, in a user's module, is studied exactly as that is."""

import dataclasses
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nqm_study as nqm
from nqm_study.config.plan import python_plan
from nqm_study.model.optimizers import sgd
from nqm_study.optimum.study import true_optimum

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(1000), 64)
NULL = {"low": None, "high": None}
DECAY = {**NULL, "scale": "log_one_minus"}
COPIES = [
    ("sgd", "MySGD", {}),
    ("momentum", "MyHeavyBall", {"momentum": DECAY}),
    ("nesterov", "MyNesterov", {"momentum": DECAY}),
    ("ema", "MySGD", {"ema_decay": DECAY}),
    ("momentum", "MySGD", {"momentum": DECAY}),
]


@pytest.fixture(scope="module")
def copies() -> ModuleType:
    """The module of SGD and momentum, with other names for its classes."""
    text = Path(sgd.__file__).read_text()
    for name in ("SGD", "HeavyBall", "Nesterov", "Buffered"):
        text = re.sub(rf"(?<![.\w`]){name}(?=[(:) ])", f"My{name}", text)
    made = ModuleType("my_optimizers")
    sys.modules[made.__name__] = made
    exec(compile(text, "my_optimizers", "exec"), made.__dict__)  # noqa: S102 (the package's own)
    for name in ("MySGD", "MyHeavyBall", "MyNesterov"):
        getattr(made, name).version = "1"
    return made


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize(("family", "name", "given"), COPIES)
def test_a_copys_trials_are_those_of_what_it_copies(
    family: str, name: str, given: dict[str, object], schedule: str, copies: ModuleType
) -> None:
    here, there = (
        nqm.run_study(
            PROBLEM, made, target=0.02, n_trials=25, schedule=schedule, hyperparameters=more
        )
        for made, more in ((family, {}), (getattr(copies, name), given))
    )
    assert [trial.params for trial in here.trials] == [trial.params for trial in there.trials]
    assert [trial.values for trial in here.trials] == [trial.values for trial in there.trials]


@pytest.mark.parametrize(
    ("family", "name", "given", "schedule"),
    [(*each, "constant") for each in COPIES] + [(*COPIES[1], "cosine")],
)
def test_a_copys_true_optimum_is_that_of_what_it_copies(
    family: str, name: str, given: dict[str, object], schedule: str, copies: ModuleType
) -> None:
    here, there = (
        nqm.tuned(PROBLEM, made, target=0.02, schedule=schedule, hyperparameters=more)
        for made, more in ((family, {}), (getattr(copies, name), given))
    )
    assert (here.steps, here.exact) == (there.steps, there.exact)
    both = here.hyperparameters.keys() & there.hyperparameters.keys()
    assert both >= {"learning_rate", *given}
    assert all(here.hyperparameters[each] == there.hyperparameters[each] for each in both)
    assert here.exact == (schedule == "constant")


def test_a_class_that_refuses_some_values_has_the_optimum_of_its_ranges(copies: ModuleType) -> None:
    @dataclasses.dataclass(frozen=True)
    class Narrow(copies.MyHeavyBall):  # type: ignore[misc, name-defined]
        version = "1"

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.momentum > 0.95:
                raise ValueError(f"momentum={self.momentum:g}: must be at most 0.95")

    narrow = {"momentum": {"low": 0.5, "high": 0.95, "scale": "log_one_minus"}}
    best = nqm.tuned(PROBLEM, Narrow, target=0.02, hyperparameters=narrow)
    whole = nqm.tuned(PROBLEM, "momentum", target=0.02)
    assert best.steps is not None
    assert whole.steps is not None
    assert not best.exact
    assert best.steps >= whole.steps


def test_what_a_class_raises_leaves_the_optimum_unknown(
    copies: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Broken(copies.MyHeavyBall):  # type: ignore[misc, name-defined]
        version = "1"

        def update(self, step: Any, rate: Any) -> nqm.Update:
            if 0.6 < self.momentum < 0.7:
                raise RuntimeError("a hole")
            made: nqm.Update = super().update(step, rate)
            return made

    plan = python_plan(PROBLEM, Broken, target=0.02, hyperparameters={"momentum": DECAY})
    assert true_optimum(PROBLEM, plan.recipes, plan.definition) is None
    assert "no true optimum was found" in caplog.text
    assert "a hole" in caplog.text
