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
from collections.abc import Callable, Iterator, Sequence
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
        import psycopg

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
    """``mlflow server`` over a database, or what else of MLflow's is asked for."""

    def __init__(self, folder: Path, database: str = "", arguments: Sequence[str] = ()) -> None:
        self._folder = folder
        database = database.replace("postgresql://", "postgresql+psycopg://")
        self._arguments = arguments or (
            *("server", "--backend-store-uri", database, "--workers", "2"),
            *("--artifacts-destination", str(folder / "artifacts")),
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *self._arguments, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
            )
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


def processes_with(name: str, value: str) -> list[int]:
    """The processes that were started with this environment variable."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


class Slurm:
    """A Slurm of one node, which is this machine.

    Attributes:
        environment: what Slurm's commands, and the program, need to find it.
    """

    def __init__(self, folder: Path) -> None:
        self._munged, self._slurmctld, self._slurmd, *_ = (
            tool(name, Path("/usr/sbin"))
            for name in ("munged", "slurmctld", "slurmd", "sinfo", "sbatch", "srun", "scancel")
        )
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self) -> None:
        self._configure()
        munge = self._folder / "munge"
        options = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._start(self._munged, "-F", f"--socket={munge / 'socket'}", *options, user="munge")
        self._wait_until((munge / "socket").exists)
        self._start(self._slurmctld, "-D")
        self._start(self._slurmd, "-D", "-N", self._node)
        self._wait_until(lambda: self.ask("sinfo", "--noheader", "--format=%T") == "idle")

    def stop(self) -> None:
        if self._processes:
            self.ask("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
        for process in reversed(self._processes):
            process.terminate()
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = []
        # Jobs outlive slurmd.
        for process in processes_with("SLURM_CONF", self.environment["SLURM_CONF"]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        asked = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
            timeout=60, env={**os.environ, **self.environment},
        )  # fmt: skip
        return asked.stdout.strip()

    @property
    def _node(self) -> str:
        return socket.gethostname().partition(".")[0]

    def _configure(self) -> None:
        for name in ("state", "spool", "munge", "bin"):
            (self._folder / name).mkdir()
        # munged, of another user, has to get there.
        self._folder.chmod(0o755)
        key = self._folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        for path in (key, key.parent):
            shutil.chown(path, "munge", "munge")
        settings = {
            "ClusterName": "nqm",
            "SlurmctldHost": f"{self._node}(127.0.0.1)",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "SlurmUser": "root",
            "SlurmdUser": "root",
            # A job that is requeued starts again only when its credential has expired.
            "AuthInfo": f"socket={key.parent / 'socket'},cred_expire=5",
            "StateSaveLocation": self._folder / "state",
            "SlurmdSpoolDir": self._folder / "spool",
            "SlurmctldPidFile": self._folder / "slurmctld.pid",
            "SlurmdPidFile": self._folder / "slurmd.pid",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            # As many CPUs as it is told to have.
            "SlurmdParameters": "config_overrides",
            "ReturnToService": 2,
            # Seconds from SIGTERM to SIGKILL: the least there are.
            "KillWait": 5,
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [
            f"NodeName={self._node} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000",
            "PartitionName=main Nodes=ALL Default=YES",
        ]
        (self._folder / "slurm.conf").write_text("\n".join(lines) + "\n")
        (self._folder / "cgroup.conf").write_text("IgnoreSystemd=yes\n")
        # Accounting needs MySQL. Of what submitit asks sacct, the controller knows as much.
        sacct = self._folder / "bin" / "sacct"
        sacct.write_text(
            "#!/bin/sh\necho 'JobID|State|NodeList'\n"
            "exec squeue --noheader --states=all --format='%i|%T|%N'\n"
        )
        sacct.chmod(0o755)

    def _start(self, program: str, *arguments: str, user: str | None = None) -> None:
        with (self._folder / f"{Path(program).name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [program, *arguments],
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    user=user,
                    group=user,
                    extra_groups=None if user is None else [],
                    cwd=self._folder,
                    env={**os.environ, **self.environment},
                )
            )

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not ready():
            log = "\n".join(each.read_text() for each in self._folder.glob("*.log"))
            assert all(process.poll() is None for process in self._processes), log
            assert time.monotonic() < deadline, log
            time.sleep(0.2)


@contextlib.contextmanager
def slurm() -> Iterator[Slurm]:
    if os.getuid() != 0:
        pytest.skip("a Slurm of its own is started by root")
    # Under /tmp itself: pytest's own folders are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="nqm-slurm-"))
    try:
        cluster = Slurm(folder)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
