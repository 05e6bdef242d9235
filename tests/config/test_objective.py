"""What a study makes least: the steps or the time, and what each is refused with."""

import re
from collections.abc import Iterator

import pytest
from composing import composed
from hydra import initialize_config_dir

from nqm_study.config.plan import study_plan
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.options import conf_dir

RANGE = "batch_size={low: 4, high: 4096, scale: log}"
TIME = "study.objective=time"


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def definition(*overrides: str) -> StudyDefinition:
    return study_plan(composed(*overrides)).definition


def test_a_study_of_steps_has_no_new_fields_whatever_the_machine() -> None:
    plain, other = definition(), definition("study.hardware_batch_size=7")
    assert not {"objective", "objective_settings"} & set(plain.to_json())
    assert plain.fingerprint == other.fingerprint
    assert "-constant-B256-" in plain.default_name


def test_a_study_of_time_is_known_by_its_machine_too() -> None:
    found = definition(TIME, "study.hardware_batch_size=64", "study.hardware_exponent=0.5")
    assert found.objective_settings == {"hardware_batch_size": 64.0, "hardware_exponent": 0.5}
    assert StudyDefinition.from_json(found.to_json()) == found
    assert len({found.fingerprint, definition(TIME).fingerprint, definition().fingerprint}) == 3
    assert "-constant-time-B256-" in found.default_name
    assert len({found.curve, definition(TIME).curve, definition().curve}) == 3


def test_a_batch_size_that_is_searched_makes_two_objectives_of_steps_and_one_of_time() -> None:
    steps, time = definition("sampler=tpe_alone", RANGE), definition(TIME, RANGE)
    assert (steps.searches_batch_size, steps.two_objectives) == (True, True)
    assert (time.searches_batch_size, time.two_objectives) == (True, False)
    assert "batch_size" in time.varied
    assert definition(TIME, RANGE, "sampler=cmaes").sampler["name"] == "cmaes"
    with pytest.raises(ValueError, match=r"^sampler\.finish=0\.6: must be 0 where batch_size is"):
        definition(RANGE)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("study.objective=speed", "study.objective=speed: must be one of steps, time"),
        ("study.hardware_batch_size=0", "study.hardware_batch_size=0: must be a finite number of"),
        ("study.hardware_batch_size=null", "study.hardware_batch_size=null: must be a finite"),
        ("study.hardware_exponent=0", "study.hardware_exponent=0: must be a finite number greater"),
        ("study.hardware_exponent=1.5", "study.hardware_exponent=1.5: must be a finite number"),
    ],
)
def test_what_no_objective_or_machine_can_be_is_refused(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refusal:
        definition(override)
    assert "\n" not in str(refusal.value)
