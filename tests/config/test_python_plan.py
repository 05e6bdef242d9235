"""A study asked for in Python goes the way of the command line: the same checks and values."""

import pytest
from composing import composed
from hydra import compose, initialize_config_dir

import nqm_study as nqm
from nqm_study.config.plan import python_plan, study_plan
from nqm_study.study.options import conf_dir

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size=256)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1), ("seed", 2**32), ("n_trials", 0), ("n_trials", 1.5), ("max_growth", 0.5),
        ("truth", "some"), ("warm_start", 1),
    ],
)  # fmt: skip
def test_both_refuse_the_same_values_in_the_same_words(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{key}=") as python:
        python_plan(PROBLEM, "sgd", **{key: value})
    typed = f"'{value}'" if isinstance(value, str) else value
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = composed(f"study.{key}={typed}")
    with pytest.raises(ValueError, match=r"^study\.") as command_line:
        study_plan(cfg)
    assert str(command_line.value) == f"study.{python.value}"


@pytest.mark.parametrize("family", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "warmup_stable_decay", "optimal"])
def test_both_make_the_same_definition_but_for_the_spectrums_name(
    family: str, schedule: str
) -> None:
    if family == "adam" and schedule == "optimal":
        return
    python = python_plan(PROBLEM, family, schedule=schedule).definition.to_json()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = composed(f"optimizer={family}", f"schedule={schedule}")
    command_line = study_plan(cfg).definition.to_json()
    names = {"spectrum", "spectrum_settings"}
    assert {k: v for k, v in python.items() if k not in names} == {
        k: v for k, v in command_line.items() if k not in names
    }


def test_a_study_in_python_leaves_a_running_hydra_as_it_is() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        before = compose("config", ["optimizer=ema"])
        python_plan(PROBLEM, "nesterov", schedule="exponential")
        assert compose("config", ["optimizer=ema"]) == before
