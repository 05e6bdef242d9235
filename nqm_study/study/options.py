"""The configuration's files: where they are, and what an option has."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """The configuration's directory: beside the package's modules in a wheel, above in a checkout.

    Raises:
        FileNotFoundError: if neither holds config.yaml.
    """
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "conf", package.parent / "conf"):
        if (candidate / "config.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"no conf/config.yaml in {package} or {package.parent}")


@functools.cache
def option_values(group: str, option: str) -> Mapping[str, Any]:
    """The keys of a group's option, values and ranges, as its file has them.

    They are empty where this package has no such file.
    """
    path = next((p for p in (conf_dir() / group).glob("*.yaml") if p.stem == option), None)
    if path is None:
        return {}

    from omegaconf import OmegaConf

    data: Any = OmegaConf.to_container(OmegaConf.load(path))
    found: dict[str, Any] = {}
    for each in data.pop("defaults", ["_self_"]):
        found |= data if each == "_self_" else option_values(group, each)
    return found
