"""Output in any encoding, to a reader that leaves, to a full disk and to nowhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from program import TINY

from nqm_study.study.text import file_name, printable

PRINT = """
from nqm_study.app.terminal import begin, complain
begin()
for number in range(20_000):
    print("± 1 % ─ … µ", number)
open("done", "w").write("all of it")
complain("± at the end")
"""


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("python", sys.executable)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(PRINT)
    return path


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (">&-", ""),
        ("<&- >&-", ""),
        ("| head -1", ""),
        (">/dev/full", "standard output: No space left on device; the rest of it is lost"),
        ("2>/dev/full | tail -1", None),
        ("2>&- | tail -1", None),
    ],
)
def test_the_work_goes_on_whatever_becomes_of_the_output(
    script: Path, end: str, message: str | None
) -> None:
    done = shell(f"python script.py {end}", script.parent)
    assert done.returncode == 0
    assert (script.parent / "done").read_text() == "all of it"
    if message is None:
        assert done.stdout == "± 1 % ─ … µ 19999\n"
    else:
        lines = [f"nqm_study: {line}" for line in (message, "± at the end") if line]
        assert sorted(done.stderr.splitlines()) == sorted(lines)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
)
def test_every_character_has_plain_letters(script: Path, environment: dict[str, str]) -> None:
    done = shell("python script.py | head -1", script.parent, **environment)
    assert (done.returncode, done.stdout) == (0, "+- 1 % - ... \\xb5 0\n")
    assert done.stderr == "nqm_study: +- at the end\n"


def test_a_sweep_and_its_report_need_no_output(tmp_path: Path) -> None:
    sweep = f"python -m nqm_study {' '.join(TINY)} batch_size=16,64 study.n_trials=3 -m"
    closed = shell(f"{sweep} >&-", tmp_path)
    assert (closed.returncode, closed.stderr.count("(3 new)")) == (0, 2), closed.stderr
    report = shell(
        "python -m nqm_study.report --no-mlflow", tmp_path, PYTHONIOENCODING="ascii", COLUMNS="60"
    )
    assert report.returncode == 0, report.stderr
    assert f"figures: {tmp_path}" in report.stdout
    assert "+-" in report.stdout
    full = shell("python -m nqm_study.report --no-mlflow >/dev/full", tmp_path)
    assert full.returncode == 0
    assert full.stderr == (
        "nqm_study: standard output: No space left on device; the rest of it is lost\n"
    )


def test_help_ends_quietly_with_its_reader(tmp_path: Path) -> None:
    done = shell("python -m nqm_study --help | head -1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Tune optimizers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("paper", "paper"),
        (r"$\frac{$ .../x", "frac-...-x"),
        ("../../etc/passwd", "etc-passwd"),
        ("..", "unnamed"),
        ("\x1b[31m", "31m"),
        ("a" * 300, "a" * 100),
    ],
)
def test_a_name_of_others_is_one_folder(text: str, name: str) -> None:
    assert file_name(text) == name
    assert Path(file_name(text)).name == file_name(text)


def test_printable_keeps_what_can_be_shown() -> None:
    assert printable("± \N{GREEK SMALL LETTER MU} 学 a\nb", keep="\n") == "± μ 学 a\nb"
    assert printable("a\nb\tc\udc80") == r"a\nb\tc\udc80"
    assert printable("\x1b[2J\x07\u202e") == r"\x1b[2J\x07\u202e"
