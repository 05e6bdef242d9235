"""Digests by which a later call knows that what was made is still what it would make."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import version
from pathlib import Path


def digest(content: bytes) -> str:
    """A digest of some bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """A digest of a file's contents, empty where it cannot be read."""
    try:
        return digest(path.read_bytes())
    except OSError:
        return ""


@functools.cache
def made_with(room: Path, *libraries: str) -> dict[str, str]:
    """The versions of libraries by name, and a digest of all the sources in a folder."""
    sources = b"".join(path.read_bytes() for path in sorted(room.rglob("*.py")))
    return {**{name: version(name) for name in libraries}, "sources": digest(sources)}
