"""Files that are written at once, and digests by which a later call knows that they still hold."""

from __future__ import annotations

import functools
import hashlib
import os
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file at once, in place of the one before: a reader sees either, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def made_with(room: Path, *libraries: str) -> dict[str, str]:
    """The versions of libraries by name, and a digest of all the sources in a folder."""
    sources = b"".join(path.read_bytes() for path in sorted(room.rglob("*.py")))
    return {**{name: version(name) for name in libraries}, "sources": digest(sources)}
