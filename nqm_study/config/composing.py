"""The jobs of a sweep, composed as Hydra composes them, and fast.

Hydra reads and merges every file again for each job. ``Composer`` lets it do so once for each
combination of group choices, and sets the job's values on copies of that. What is taken from inside
of Hydra stands in this module; where that is missing, or comes to something else than Hydra does,
or a job is refused, Hydra composes the job itself.
"""

from __future__ import annotations

import functools
import pickle
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

_set_values: Callable[[list[Override], DictConfig], None] | None
try:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname

    _set_values = ConfigLoaderImpl._apply_overrides_to_config
except (ImportError, AttributeError):  # of another Hydra, which then composes every job itself
    _set_values = None


class _Base(NamedTuple):
    """What the jobs with the same group choices have in common.

    Attributes:
        pickled: their configuration, which is sooner unpickled than copied.
        text: the part of it that is not Hydra's own, unresolved.
    """

    pickled: bytes
    text: str


_Bases = dict[tuple[str, ...], _Base]

_BASES: dict[str, _Bases] = {}
"""By their sweeps, what this process composed for jobs that were sent to it."""


class Composer:
    """The configurations of a sweep's jobs.

    It stands for the loader's ``load_sweep_config``, and goes with it to the processes that run the
    jobs. The first job is composed both ways; if they differ, all are composed in Hydra's own.

    Args:
        loader: Hydra's, of this call.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._sweep = uuid.uuid4().hex
        self._bases: _Bases = {}
        self._groups: dict[str, list[str]] = {}
        self._agrees: bool | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bases": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _bases=_BASES.setdefault(state["_sweep"], {}))

    def __call__(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job.

        Args:
            master_config: the sweep's.
            sweep_overrides: the job's overrides, one value for each key.

        Raises:
            HydraException: there is no such option or key.
        """
        job = list(sweep_overrides)
        try:
            made = None if self._agrees is False else self._made(master_config, job)
        except Exception:  # noqa: BLE001 (of what it refuses, Hydra says below why)
            made = None
        if made is not None and self._agrees:
            return made
        # Of the class: the loader's own may be this object.
        composed = type(self._loader).load_sweep_config(self._loader, master_config, job)
        if made is not None:
            self._agrees = _content(made) == _content(composed)
        return composed

    def _made(self, master: DictConfig, job: list[str]) -> DictConfig | None:
        """The job's values on a copy of what its groups give; None where it is Hydra's to make."""
        parsed = [_parsed(each) for each in job]
        hydras = any(each.is_hydra_override() or each.key_or_group == "hydra" for each in parsed)
        if hydras or _set_values is None or any(each.is_sweep_override() for each in parsed):
            return None
        name, common = master.hydra.job.config_name, list(master.hydra.overrides.hydra)
        groups: list[Override] = []
        values: list[Override] = []
        for each in parsed:
            # As Hydra tells them apart.
            chosen = self._is_group(each, name, common) and not isinstance(each.value(), dict)
            (groups if chosen else values).append(each)
        base = self._base(name, common, [str(each.input_line) for each in groups])
        # Hydra's part is complete before the values are set, and otherwise after it: a value may
        # not refer to it.
        text = "\n".join([base.text, *(str(each.input_line) for each in values)])
        if "${" in text and "hydra" in text:
            return None
        made: DictConfig = pickle.loads(base.pickled)  # noqa: S301 (pickled below)
        _set_values(values, made)
        made.hydra.overrides.task.extend(job)
        said = made.hydra.job.config.override_dirname
        made.hydra.job.override_dirname = get_overrides_dirname(
            parsed, said.exclude_keys, said.item_sep, said.kv_sep
        )
        OmegaConf.copy_cache(from_config=master, to_config=made)
        return made

    def _is_group(self, override: Override, name: str | None, common: list[str]) -> bool:
        """Whether an override's key is that of a group."""
        parent, _, last = override.key_or_group.rpartition("/")
        if parent not in self._groups:
            self._groups[parent] = self._loader.get_group_options(
                parent, ObjectType.GROUP, name, common
            )
        return last in self._groups[parent]

    def _base(self, name: str | None, common: list[str], groups: list[str]) -> _Base:
        """What Hydra composes of the overrides of its own keys and of groups."""
        overrides = (*common, *groups)
        if overrides not in self._bases:
            made = self._loader.load_configuration(name, list(overrides), RunMode.RUN)
            for _ in groups:
                made.hydra.overrides.task.pop()
            own = OmegaConf.masked_copy(made, [str(key) for key in made if key != "hydra"])
            self._bases[overrides] = _Base(pickle.dumps(made), OmegaConf.to_yaml(own))
        return self._bases[overrides]


@functools.lru_cache(maxsize=4096)
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def _content(cfg: DictConfig) -> tuple[str, ...]:
    """What two configurations that are the same have in common."""
    plain = repr(OmegaConf.to_container(cfg))
    flags = [(OmegaConf.is_struct(each), OmegaConf.is_readonly(each)) for each in (cfg, cfg.hydra)]
    return plain, repr(flags), repr(OmegaConf.get_cache(cfg))
