"""Tests of what a study says it was made with: the git revision of a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import nqm_study
from nqm_study.study.storage.origin import origin, revision

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(checkout: Path, *words: str) -> str:
    identity = ("-c", "user.name=Someone", "-c", "user.email=someone@localhost")
    command = ["git", "-C", str(checkout), *identity, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init")
    (folder / "file").write_text("first\n")
    git(folder, "add", "file")
    git(folder, "commit", "--message", "First")
    return folder


def test_a_checkout_has_the_revision_git_gives_it(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert len(head) == 40
    git(checkout, "tag", "v1")
    assert revision(checkout) == head


def test_trials_are_made_with_the_revision_of_the_programs_own_checkout() -> None:
    own = Path(nqm_study.__file__).resolve().parents[1]
    assert origin(0).revision == revision(own)
    assert bool(origin(0).revision) == (own / ".git").exists()


def test_a_changed_checkout_is_said_to_be_dirty(checkout: Path) -> None:
    (checkout / "file").write_text("second\n")
    assert revision(checkout) == git(checkout, "rev-parse", "HEAD") + "-dirty"


def test_a_folder_that_is_no_checkout_has_none(tmp_path: Path) -> None:
    assert revision(tmp_path) == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_checkout_of_another_user_has_none(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Whatever this user's settings call safe.
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", str(tmp_path / "none"))
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 12345, 12345)
    assert revision(checkout) == ""
