"""Backends that keep studies: an embedded file under mlruns/, or a server that many machines share.

The embedded default is a journal file. Measured on two cores with ``add_trial``: 1.3 ms a trial
(SQLite: 32, with a write-ahead log 6), two writers at once 1.6 to 3.2 ms (10 to 18), and 3,000
trials are read in 0.2 s (1.1).
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from nqm_study.study.storage.database import LockServer
    from nqm_study.study.storage.locks import Lock

EMBEDDED = {"journal": "optuna.journal", "sqlite": "optuna.db"}
"""The embedded kinds, and the file of each under mlruns/."""

SHARED = "postgresql"
"""The kind that any number of processes on any machines share."""

KINDS = (*EMBEDDED, SHARED)

FOLDERS = (".locks", "artifacts", "figures", "hydra")
"""The folders under mlruns/ that a call writes to."""

LEAST_SPACE = 2**23
"""Bytes that must be free before a call starts: a small sweep writes a few million."""

Purpose = Literal["run", "mirror", "turn"]
"""Purposes of a lock on a study: run it, write its runs in MLflow, or ask for its next trial."""


@dataclass(frozen=True)
class Backend:
    """A place where studies are kept. Embedded files and their locks are under a root, mlruns/.

    Attributes:
        kind: one of ``KINDS``.
        file: name of the embedded file under the root, where it is not the kind's own.
        url: the server's address, for ``postgresql``.
        heartbeat_interval: seconds between two signs of life of whoever runs a shared trial.
        grace_period: seconds without one after which a shared trial is given to another process.
    """

    kind: str = "journal"
    url: str = ""
    heartbeat_interval: int = 60
    grace_period: int = 120
    file: str = ""

    @property
    def shared(self) -> bool:
        """Whether several processes may run one study at once."""
        return self.kind == SHARED

    @property
    def where(self) -> str:
        """The place as it is shown to people; never the password."""
        if not self.shared:
            return f"mlruns/{EMBEDDED[self.kind]}"

        from nqm_study.study.storage.database import server_url

        return str(server_url(self.url))

    def exists(self, root: Path) -> bool:
        """Whether there are studies to open; a server is always taken to have some."""
        return self.shared or self.path(root).is_file()

    def path(self, root: Path) -> Path:
        """The embedded file."""
        return root / (self.file or EMBEDDED[self.kind])

    def open(self, root: Path) -> BaseStorage:
        """The studies as an Optuna storage, made if missing; the same object within a process.

        Raises:
            DamagedError: if the embedded file is damaged.
            UnreachableError: if the server does not answer.
        """
        return _opened(self, root)

    def lock(self, root: Path, purpose: Purpose, study: str) -> Lock:
        """The lock on a study for a purpose, not yet acquired.

        It is among the clients of a server, or the processes of one machine.
        """
        if self.shared:
            from nqm_study.study.storage.database import ServerLock

            return ServerLock(_locks(self.url), f"nqm_study/{purpose}/{study}")

        from nqm_study.study.storage.locks import HostLock

        digest = hashlib.sha256(study.encode()).hexdigest()[:16]
        return HostLock(root / ".locks" / f"{purpose}-{digest}.lock")


@functools.cache
def _opened(backend: Backend, root: Path) -> BaseStorage:
    if backend.kind == "journal":
        from nqm_study.study.storage.journal import open_journal

        return open_journal(backend.path(root))

    from nqm_study.study.storage.database import open_postgresql, open_sqlite, server_url

    if not backend.shared:
        return open_sqlite(backend.path(root))
    url = server_url(backend.url)
    return open_postgresql(url, backend.heartbeat_interval, backend.grace_period)


@functools.cache
def _locks(url: str) -> LockServer:
    from nqm_study.study.storage.database import LockServer, connect, server_url

    return LockServer(connect(server_url(url)))


def embedded(root: Path) -> tuple[Backend, ...]:
    """The embedded backends that a directory holds."""
    backends = (Backend(kind) for kind in EMBEDDED)
    return tuple(backend for backend in backends if backend.exists(root))


def located(place: str | Path, key: str = "storage") -> tuple[Path, tuple[Backend, ...]]:
    """The root and the backends at a path: a journal file, ``mlruns``, or the folder that holds it.

    What is not there is made where its name says what it is to be: ``mlruns``, ``*.journal`` or
    ``*.log``, in a folder that is there.

    Raises:
        ValueError: if the path is none of these.
    """
    path = Path(place).absolute()
    for root in (path, path / "mlruns"):
        if backends := embedded(root):
            return root, backends
    there = path.parent.is_dir() if not path.exists() else path.is_dir()
    if there and path.name == "mlruns":
        return path, (Backend(),)
    if path.name == EMBEDDED["sqlite"] and path.is_file():
        return path.parent, (Backend("sqlite"),)
    if not path.exists() and there and path.suffix in (".journal", ".log"):
        return path.parent, (Backend(file=path.name),)
    if path.is_file():
        with path.open("rb") as file:
            # Opening a journal cuts off half a line at its end: not of a file that is none.
            if file.read(1) in (b"", b"{"):
                return path.parent, (Backend(file=path.name),)
    raise ValueError(
        f"{key}={place}: must be Optuna's storage or its URL, the folder mlruns or the one that "
        "holds it, or a journal file, whose name ends in .journal or .log if it is to be made"
    )


def working_folder() -> Path:
    """The folder that the program was started in.

    Raises:
        ValueError: if it is gone, or has a name that Hydra takes for a variable.
    """
    try:
        folder = Path.cwd()
    except OSError as error:
        raise ValueError(f"the working folder: must exist, {error.strerror}") from error
    if "${" in str(folder):
        raise ValueError(f"{folder}: must have no ${{ in it, Hydra takes it for a variable")
    return folder


def require_writable(root: Path, *files: str) -> None:
    """Refuse a directory that cannot be written, or a file in it that cannot; writes nothing.

    Raises:
        ValueError: naming the path and what is wrong with it.
    """
    for path in (root, *(root / name for name in FOLDERS)):
        _require_kind(path, Path.is_dir, "directory", "file")
    folder = root if root.exists() else root.parent
    try:
        # A file without a name: it proves the point and leaves nothing.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"{root}: must be writable, {error.strerror}") from error
    free = shutil.disk_usage(folder).free
    if free < LEAST_SPACE:
        raise ValueError(
            f"{root}: must have {LEAST_SPACE // 2**20} MB free, it has {free / 2**20:.1f}"
        )
    for path in (root / file for file in files):
        _require_kind(path, Path.is_file, "file", "directory")
        if path.exists() and not os.access(path, os.R_OK | os.W_OK):
            raise ValueError(f"{path}: must be readable and writable")


def _require_kind(path: Path, is_kind: Callable[[Path], bool], kind: str, other: str) -> None:
    """Refuse a path that holds something else, or a link to nothing; there may be nothing."""
    if os.path.lexists(path) and not is_kind(path):
        found = f"a {other}" if path.exists() else "a link to nothing"
        raise ValueError(f"{path}: must be a {kind}, it is {found}")
