"""Jobs of a sweep are what Hydra composes of them, to the last flag and the last refusal."""

import functools
import itertools
import pickle
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import own_parts
import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from hypothesis import Phase, event, example, given, settings, strategies as st
from omegaconf import DictConfig, ListConfig
from strategies import repeatable

from nqm_study.app.main import UsersFirst
from nqm_study.config import composing
from nqm_study.config.composing import Composer
from nqm_study.study.options import conf_dir

OPTIONS = {
    group: sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    for group in sorted(path.name for path in conf_dir().iterdir() if path.is_dir())
    if group != "hydra"
}
for name in own_parts.FILES:
    group, _, option = name.partition("/")
    OPTIONS[group] = sorted({*OPTIONS[group], option})

VALUES = (
    "batch_size=64",
    "batch_size=${study.seed}",
    "batch_size={low: 4, high: 64, scale: log}",
    "target=0.02",
    "study.seed=3",
    "study.seed=${batch_size}",
    "study.seed=${hydra.job.num}",
    "study.name='a, b: ${target}'",
    "study.name=null",
    "study.name=hydra",
    "study.enqueue=[{learning_rate: 0.1}]",
    "study={n_trials: 7, name: ${target}}",
    "study=${hydra.job}",
    "study={name: other}",
    "study.n_trials=???",
    "++study.n_trials=3",
    "+study.enqueue=[{momentum: 0.5}]",
    "+x={y: 1}",
    "+x.y.z=[1]",
    "++x=2",
    "~study.max_steps",
    "~study.n_trials=100",
    "~target",
    "~schedule.name",
    "optimizer.name=mine",
    "+optimizer.learning_rate=0.1",
    "optimizer={learning_rate: 0.2}",
    "+schedule={name: mine}",
    "+spectrum.dim=${target}",
    "hydra.verbose=true",
    "~hydra.help",
    "+optimizer@second=adam",
    "~schedule",
    "~sampler=tpe",
)
"""Values, interpolations, additions and deletions, and packages and deletions of groups."""

REFUSED = (
    "optimizer=nosuch",
    "optimizer=1",
    "+optimizer=adam",
    "optimizer@second=adam",
    "++optimizer=adam",
    "+nosuch/group=adam",
    "~optimizer=nosuch",
    "study.nosuch=1",
    "study.seed.nosuch=1",
    "+study.n_trials=3",
    "x=3",
    "~x",
    "~study.seed=1",
    "hydra={nosuch: true}",
    "batch_size=1,2",
    "target=[",
    "=1",
)
"""What Hydra refuses, as most of what it takes where it is drawn beside what changes it."""

SWEEPS = (
    (),
    ("hydra.verbose=true", "hydra.sweep.dir=there"),
    ("hydra/launcher=basic", "hydra.job.config.override_dirname.exclude_keys=[batch_size]"),
    ("hydra.overrides.task=[first]", "hydra.job.env_copy=[HOME]", "+hydra.nosuch=1"),
    ("hydra.job.config.override_dirname={kv_sep: '-', item_sep: '+'}",),
    ("hydra/launcher=ray",),
    ("hydra.searchpath=[file://more_conf]", "hydra.job.name=another"),
)
"""Overrides of Hydra's own keys, which all jobs of a sweep have."""


@pytest.fixture(scope="module", autouse=True)
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfigLoader]:
    """Hydra's, in a folder with a user's own options, as --config-dir has them, and with more."""
    folder = tmp_path_factory.mktemp("sweep")
    own_parts.write(folder)
    for name in ("optimizer/qhm", "extra/option"):
        path = folder / "more_conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("y: ${target}\n")
    Plugins.instance().register(UsersFirst)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["nqm_study", "--config-dir", "my_conf"])
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            yield GlobalHydra.instance().config_loader()


@functools.cache
def sweep(loader: ConfigLoader, *overrides: str) -> tuple[DictConfig, Composer]:
    """A sweep's configuration, and what composes its jobs without Hydra's being looked at."""
    master = loader.load_configuration(
        "config", ["hydra.mode=MULTIRUN", *overrides], RunMode.MULTIRUN
    )
    compose = Composer(loader)
    compose._agrees = True
    return master, compose


def inside(node: Any) -> Any:
    """All that a configuration holds: values as they are, types, flags and what was resolved."""
    if isinstance(node, DictConfig | ListConfig):
        content = node._content
        if isinstance(content, dict):
            content = {key: inside(value) for key, value in content.items()}
            content = (content, list(content))  # in their order too
        elif isinstance(content, list):
            content = [inside(value) for value in content]
    else:
        content = repr(node._value())
    return type(node), vars(node._metadata), content


def outcome(compose: Any, *args: Any) -> Any:
    """A job's configuration, whole, or how it is refused."""
    try:
        made = compose(*args)
    except Exception as error:  # noqa: BLE001 (compared)
        return type(error), str(error), repr(error.__cause__)
    return inside(made)


def choices(options: Iterable[str | None]) -> tuple[str, ...]:
    """Choices of groups, at most one of each."""
    return tuple(f"{group}={each}" for group, each in zip(OPTIONS, options, strict=True) if each)


chosen = st.tuples(*(st.sampled_from(found) | st.none() for found in OPTIONS.values())).map(choices)
values = st.lists(st.sampled_from(VALUES), max_size=4, unique=True).map(tuple)
refused = st.just(()) | st.sampled_from(REFUSED).map(lambda each: (each,))


def every_option(test: Any) -> Any:
    """The test with as many examples as have every option of every group once."""
    for options in itertools.zip_longest(*OPTIONS.values()):
        test = example((), choices(options), ("study.seed=1", "~study.max_steps"), ())(test)
    return test


@pytest.mark.filterwarnings("ignore:\\s*'hydra/launcher")
@every_option
@settings(repeatable, max_examples=12, phases=[Phase.explicit, Phase.generate])
@given(st.sampled_from(SWEEPS), chosen, values, refused)
def test_a_job_is_what_hydra_composes(
    loader: ConfigLoader,
    hydras: tuple[str, ...],
    chosen: tuple[str, ...],
    values: tuple[str, ...],
    refused: tuple[str, ...],
) -> None:
    master, compose = sweep(loader, *hydras)
    job = [*values[:1], *chosen, *values[1:], *refused]
    theirs = outcome(ConfigLoaderImpl.load_sweep_config, loader, master, job)
    assert outcome(Composer.__call__, compose, master, job) == theirs
    event("refused" if issubclass(theirs[0], Exception) else "composed")


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of every configuration that Hydra composes from files."""
    load, seen = ConfigLoaderImpl.load_configuration, []

    def counted(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        seen.append(kwargs.get("overrides") or args[1])
        return load(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    return seen


def some_jobs() -> list[list[str]]:
    return [[f"batch_size={2**i}", f"optimizer={f}"] for f in ("sgd", "adam") for i in range(20)]


def test_each_combination_of_groups_is_composed_once(
    loader: ConfigLoader, loads: list[list[str]]
) -> None:
    master, _ = sweep(loader)
    compose = Composer(loader)
    loads.clear()
    for job in some_jobs():
        compose(master, job)
    assert len(loads) == 3  # two bases, and the first job in Hydra's own way
    # In a process that runs several jobs, each of which brings its own composer.
    for job in some_jobs():
        pickle.loads(pickle.dumps(compose))(master, job)  # noqa: S301 (made here)
    assert len(loads) == 5


@pytest.mark.parametrize("broken", ["gone", "wrong"])
def test_another_hydra_composes_every_job_itself(
    loader: ConfigLoader, loads: list[list[str]], broken: str
) -> None:
    master, _ = sweep(loader)
    with pytest.MonkeyPatch.context() as patch:
        if broken == "gone":
            patch.delattr(ConfigLoaderImpl, "_apply_overrides_to_config")
        else:
            patch.setattr(ConfigLoaderImpl, "_apply_overrides_to_config", lambda *_: None)
        compose = runpy.run_path(composing.__file__)["Composer"](loader)
    loads.clear()
    jobs = some_jobs()[:3]
    for job in jobs:
        made = compose(master, job)
        assert inside(made) == inside(ConfigLoaderImpl.load_sweep_config(loader, master, job))
    assert len(loads) == 2 * len(jobs) + (broken == "wrong")


SWEEP_TWICE = """
import sys
from pathlib import Path

import hydra

from nqm_study.app.sweep import Planner
from nqm_study.config import composing
from nqm_study.study.options import conf_dir


def no_study(cfg):
    pass


Planner._begin = lambda *_: ()  # none is finished
for kept in ("quick", "slow"):
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(no_study)()
    Path("swept").rename(kept)
    composing._content = lambda cfg: object()  # nothing is the same: every job is Hydra's
"""


def test_the_files_of_a_sweep_are_those_of_hydra(tmp_path: Path) -> None:
    own_parts.write(tmp_path)
    (tmp_path / "sweep_twice.py").write_text(SWEEP_TWICE)
    done = subprocess.run(
        [
            *(sys.executable, "sweep_twice.py", "-m", "--config-dir", "my_conf"),
            *("hydra.sweep.dir=swept", "hydra.launcher.n_jobs=2", "optimizer=adam,mixed"),
            *("batch_size=16,64", "+study={seed: 3}", "~study.max_growth", "target=${study.seed}"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    # What a callback raises, Hydra makes a warning of, and goes on without it.
    assert "raised" not in done.stderr
    quick, slow = (
        {str(path.relative_to(tmp_path / kept)): path.read_bytes() for path in found}
        for kept in ("quick", "slow")
        if (found := sorted((tmp_path / kept).rglob("*.yaml")))
    )
    assert len(quick) == 4 * 3 + 1
    assert quick == slow
