"""The package works where it cannot be written to, as in a system's or a container's Python."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nqm_study

# In an empty cache all that is called is compiled.
pytestmark = pytest.mark.slow

# Adam has the kernel that is compiled fastest; all are decorated alike.
CODE = """
import nqm_study as nqm
assert nqm.__file__.startswith({folder!r}), nqm.__file__
problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size=16)
print(nqm.steps_to_target(problem, nqm.Adam(0.01), target=0.1).steps)
"""


@pytest.fixture
def unprivileged() -> list[str]:
    """What to put before a command so that permissions hold for it."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and there is no setpriv to take that from it")
    return ["setpriv", "--bounding-set=-dac_override"]


@pytest.fixture
def site(tmp_path: Path, unprivileged: list[str]) -> Iterator[Path]:
    """A folder with the package in which nothing can be written."""
    folder = tmp_path / "site"
    package = Path(nqm_study.__file__).parent
    shutil.copytree(
        package, folder / "nqm_study", ignore=shutil.ignore_patterns("__pycache__", "conf")
    )
    _chmod(folder, 0o555)
    tried = subprocess.run(
        [*unprivileged, sys.executable, "-c", f"open({str(folder / 'new')!r}, 'w')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "PermissionError" not in tried.stderr:
        pytest.skip(f"permissions do not hold here: {tried.stderr or 'a file could be written'}")
    yield folder
    _chmod(folder, 0o755)  # so that pytest can delete it


def _chmod(folder: Path, mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(mode)


def _first_call(site: Path, home: Path | None, unprivileged: list[str]) -> None:
    """A process that has to compile, and says nothing but its result."""
    hidden = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        [*unprivileged, sys.executable, "-W", "error", "-c", CODE.format(folder=str(site))],
        env={**kept, "PYTHONPATH": str(site), **({} if home is None else {"HOME": str(home)})},
        cwd=site, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 0


def test_compiled_code_goes_to_the_users_cache_and_is_used_again(
    site: Path, tmp_path: Path, unprivileged: list[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _first_call(site, home, unprivileged)
    made = {path: path.stat().st_mtime_ns for path in home.rglob("*.nb?")}
    assert made
    _first_call(site, home, unprivileged)
    again = {path: path.stat().st_mtime_ns for path in home.rglob("*.nb?")}
    assert again == made, "the second process compiled once more"


def test_without_any_folder_to_write_to_each_process_compiles_for_itself(
    site: Path, unprivileged: list[str]
) -> None:
    _first_call(site, site, unprivileged)
    assert not list(site.rglob("*.nb?"))
