"""Where the configuration's files are."""

from __future__ import annotations

from pathlib import Path


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
