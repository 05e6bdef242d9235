"""Every key of every option of every group, under wrong values of every type: one clear refusal.

The keys are those of the composed configurations, so that a new one is tried by itself.
"""

import copy
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composing import composed
from hydra import initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from nqm_study.config import plan
from nqm_study.config.plan import options, study_plan
from nqm_study.study.options import conf_dir
from nqm_study.study.storage.database import server_url

GROUPS = (
    *(
        "optimizer",
        "problem",
        "spectrum",
        "schedule",
        "batch_schedule",
        "sampler",
        "storage",
        "tracking",
    ),
)
NEEDED = {
    "file": "spectrum.path={folder}/a.csv",
    "data": "spectrum.path={folder}/d.npz",
    "postgresql": "storage.url=postgresql://user:secret@somewhere/studies",
}
"""What some options do not come with."""

HUGE = 10**400
"""An integer that no float can hold."""

WRONG = (
    *("text", "", " ", "a\nb", "x" * 600, "nan", "1e3"),
    *(-1, 0, 0.5, HUGE, -HUGE, 1e308, 5e-324, math.nan, math.inf, True, None),
    *([], [1, "a"], [[]], [None], [{"learning_rate": "a"}], [{"learning_rate": HUGE}], [{1: 1.0}]),
    *({}, {"a": 1}, {1: 2}, {"low": 1}, {"low": None, "high": None}, {"low": "a\n", "high": "b"}),
    *({"low": 0.1, "high": 0.2, "scale": 3}, {"low": 0.1, "high": 0.2, "scale": [1]}),
    *({"low": math.nan, "high": math.inf}, {"low": HUGE, "high": 10 * HUGE}),
)

FOREIGN = re.compile("invalid literal|unsupported|Input should|object\\b|argument|Errno|secret")
"""Words of Python, of libraries and of a password."""


def keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{name}.")


def replaced(data: Mapping[str, Any], key: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(dict(data))
    *path, last = key.split(".")
    node = changed
    for name in path:
        node = node[name]
    node[last] = value
    return changed


def wrong_ones(folder: Path, *overrides: str, group: str = "") -> tuple[int, list[str]]:
    """How many wrong values were tried, and what was said of those not refused as they should."""
    given = ("spectrum=paper_small", "study.truth=false", "target=0.05")
    config = composed(*given, *(each.format(folder=folder) for each in overrides))
    study_plan(config)  # right as it is
    names, sections = config.hydra.runtime.choices, [key for key in config if key != "hydra"]
    data = OmegaConf.to_container(OmegaConf.masked_copy(config, sections), resolve=True)
    assert isinstance(data, dict)
    data = plan.with_names(data, names)
    known = list(keys(data))
    tried = [
        key
        for key in known
        if (top := key.partition(".")[0]) == group or not (group or top in GROUPS)
    ]
    found = []
    for key in tried:
        for value in WRONG:
            try:
                study_plan(replaced(data, key, value))  # type: ignore[arg-type]  # see _plain
            except Exception as error:  # noqa: BLE001 (any but a refusal is what is looked for)
                text = str(error)
                said = re.split("[=:]", text, maxsplit=1)[0]
                own = said.startswith(key) or key.startswith(f"{said}.")
                named = own or (key.rpartition(".")[2] in text and said in known)
                refused = isinstance(error, ValueError) and text.isprintable() and named
                if not refused or FOREIGN.search(text):
                    found.append(f"{key}={value!r:.50}: {type(error).__name__}: {text:.200}")
    return len(tried) * len(WRONG), found


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans take plain values as well: making OmegaConf's of them takes ten times as long."""
    resolve = plan._plain
    given = lambda each: resolve(each) if isinstance(each, DictConfig) else each  # noqa: E731
    monkeypatch.setattr(plan, "_plain", given)


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("group", GROUPS)
def test_a_wrong_value_is_accepted_or_refused_in_one_line_that_begins_with_a_key(
    group: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("1.0\n0.5\n")
    features = np.random.default_rng(0).normal(size=(20, 3))
    np.savez(tmp_path / "d.npz", features=features, targets=features.sum(axis=1))
    for option in options(group):
        if option == "gp":
            pytest.importorskip("torch")
        given = (f"{group}={option}", *([NEEDED[option]] if option in NEEDED else ()))
        _, found = wrong_ones(tmp_path, *given, group=group)
        assert not found, "\n".join(found)


@pytest.mark.usefixtures("_plain")
def test_a_wrong_value_outside_the_groups_is_refused_in_one_line_as_well(tmp_path: Path) -> None:
    count, found = wrong_ones(tmp_path)
    assert not found, "\n".join(found)
    assert count > 300


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://u@h:abc/db", "postgresql://***@h:abc/db"),
        ("postgresql://u:secret@h:abc/db", "postgresql://***@h:abc/db"),
        ("postgresql://u:sec?ret@h:99999/db", "postgresql://***@h:99999/db"),
        ("postgresql://u:secret", "postgresql://u:***"),
        ("u:secret@h/db", "***@h/db"),
        ("mysql://h/db?password=secret", "mysql://h/db"),
        ("", "null"),
    ],
)
def test_an_address_is_refused_with_its_value_less_the_password(address: str, shown: str) -> None:
    config = composed("storage=postgresql", f"storage.url='{address}'")
    with pytest.raises(ValueError, match=r"^storage\.url=") as refusal:
        study_plan(config)
    place = "postgresql://user:password@host:port/database"
    assert str(refusal.value).startswith(f"storage.url={shown}: must be {place}")


def test_a_password_among_the_options_of_an_address_is_not_shown() -> None:
    url = server_url("postgresql://u@h/db?password=secret&application_name=a")
    assert (url.password, str(url)) == (
        "secret",
        "postgresql+psycopg://u:***@h/db?application_name=a",
    )


@pytest.mark.parametrize(
    ("key", "longest"),
    [
        ("study.name", 250),
        ("tracking.experiment", 250),
        ("report.name", 80),
        ("optimizer.name", 80),
        ("spectrum.name", 80),
    ],
)
def test_a_name_that_no_storage_or_mlflow_could_hold_is_refused(key: str, longest: int) -> None:
    study_plan(composed(f"{key}={'x' * longest}"))
    with pytest.raises(ValueError, match=rf"^{key}=x+\.*: must be .*at most {longest} ") as refusal:
        study_plan(composed(f"{key}={'x' * (longest + 1)}"))
    assert len(str(refusal.value)) < 350


def test_names_made_of_the_longest_parts_are_held_by_storages_and_mlflow() -> None:
    parts = [f"{key}.name={'x' * 80}" for key in ("optimizer", "spectrum")]
    given = (*parts, "schedule=warmup_stable_decay", "study.seed=4294967295", "target=1.23456e-30")
    assert len(study_plan(composed(*given, "batch_size=9007199254740992")).name) <= 250
