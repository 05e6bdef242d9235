"""Real servers for tests: each with a folder and a port of its own, and gone at the end."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tool(name: str, *folders: Path) -> str:
    """The path of a server's program; a test that needs it is skipped where there is none."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


class PostgreSQL:
    """A PostgreSQL server, run by another user where this one is root."""

    def __init__(self, folder: Path) -> None:
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self._ctl = tool("pg_ctl", *places)
        self._folder = folder
        self.port = free_port()
        if os.getuid() == 0:
            shutil.chown(folder, self._user)
        self._run(tool("initdb", *places), "-D", str(folder / "data"), "-U", "nqm", "--auth=trust")

    @property
    def _user(self) -> str:
        known = {entry.pw_name for entry in pwd.getpwall()}
        return "postgres" if "postgres" in known else "nobody"

    def _run(self, *command: str) -> None:
        user = self._user if os.getuid() == 0 else None
        subprocess.run(
            command, user=user, check=True, stdout=subprocess.DEVNULL, cwd=self._folder, timeout=120
        )

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -h 127.0.0.1"
        log = str(self._folder / "log")
        data = str(self._folder / "data")
        self._run(self._ctl, "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run(self._ctl, "-D", str(self._folder / "data"), "-m", mode, "-w", "stop")

    def create(self, database: str) -> str:
        """Make a database; its address."""
        import psycopg  # noqa: PLC0415 (tests that need a server need it)

        address = f"postgresql://nqm@127.0.0.1:{self.port}"
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return f"{address}/{database}"


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
    # Under /tmp itself: pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="nqm-postgresql-"))
    try:
        server = PostgreSQL(folder)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                # A test may have left it stopped.
                server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class MlflowServer:
    """``mlflow server`` over a database."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._database = database.replace("postgresql://", "postgresql+psycopg://")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        folder = self._folder / "artifacts"
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "mlflow", "server", "--port", str(self.port),
                    "--backend-store-uri", self._database, "--workers", "2",
                    "--artifacts-destination", str(folder),
                ],
                stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health"):  # noqa: S310
                return
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
