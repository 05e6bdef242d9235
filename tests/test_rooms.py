"""The rooms of the house: nothing stands loose beside them, and each says what it is for."""

import ast
from pathlib import Path

import pytest

import nqm_study

ROOT = Path(nqm_study.__file__).parent
ROOMS = ("app", "config", "tracking", "report", "optimum", "search", "study", "model")
PACKAGES = sorted(file.parent for file in ROOT.rglob("__init__.py") if file.parent != ROOT)


def test_no_module_stands_loose_beside_the_rooms() -> None:
    found = {path.name for path in ROOT.iterdir() if path.name != "__pycache__"}
    beside = {"__init__.py", "__init__.pyi", "__main__.py", "api.py", "py.typed"}
    assert found - {"conf"} == beside | set(ROOMS)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_says_what_lives_there_and_what_does_not(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert text is not None
    assert len(text.splitlines()) >= 3


def test_every_room_has_its_tests() -> None:
    folder = Path(__file__).parent
    assert all(list((folder / room).glob("test_*.py")) for room in ROOMS)
