"""Compiled code is kept for as long as the sources are the same that it was made from."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

KERNELS = {
    "numbers": "FACTOR = 2.0",
    "inner": """
        from nqm_study.model.numerics.compiled import compiled_within
        from made.numbers import FACTOR

        @compiled_within
        def inner(x):
            return FACTOR * x
    """,
    "outer": """
        from nqm_study.model.numerics.compiled import compiled
        from made.inner import inner

        @compiled
        def outer(x):
            return inner(x) + 1.0
    """,
    "other": """
        from nqm_study.model.numerics.compiled import compiled

        @compiled
        def other(x):
            return -x
    """,
    "caller": "from made.outer import outer",
}
CALL = """
from made.caller import outer
from made.other import other
print(outer(3.0), other(3.0), *(sum(each.stats.cache_hits.values()) for each in (outer, other)))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    for name, text in {"__init__": "", **KERNELS}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def called(package: Path) -> list[float]:
    """What both kernels gave in a new process, and how often each was found compiled."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(package.parent / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CALL], cwd=package.parent, env=environment,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(word) for word in done.stdout.split()]


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("inner", "FACTOR * x", "FACTOR * x + 10.0", 17.0),
        ("numbers", "2.0", "5.0", 16.0),
    ],
)
def test_an_edit_of_what_a_kernel_calls_or_of_a_constant_makes_it_anew(
    package: Path, name: str, old: str, new: str, expected: float
) -> None:
    assert called(package) == [7.0, -3.0, 0, 0]
    file = package / f"{name}.py"
    file.write_text(file.read_text().replace(old, new))
    assert called(package) == [expected, -3.0, 0, 1]
    assert called(package) == [expected, -3.0, 1, 1]


def test_an_edit_of_another_file_and_a_new_installation_of_the_same_leave_it(package: Path) -> None:
    called(package)
    (package / "caller.py").write_text("# Edited.\nfrom made.outer import outer\n")
    assert called(package) == [7.0, -3.0, 1, 1]
    for file in package.glob("*.py"):
        os.utime(file, (1, 1))
    assert called(package) == [7.0, -3.0, 1, 1]
