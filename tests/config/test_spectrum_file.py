"""Studies on a spectrum that the user brings: refusals, what is said of it, changed files."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from composing import composed
from hydra import initialize_config_dir
from program import ALONE, mirrored, run, runs, stored

import nqm_study as nqm
from nqm_study.app.job import ChangedError, marks, planned_again
from nqm_study.app.publish import stored_records
from nqm_study.config.plan import StudyPlan, study_plan
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.options import conf_dir

CURVATURES = "curvature,multiplicity\n4.0,1\n2.0,2.5\n1.0,10\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with a spectrum in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.csv").write_text(CURVATURES)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield tmp_path


def planned(*overrides: str) -> StudyPlan:
    return study_plan(composed("spectrum=file", *overrides))


def test_a_file_is_the_spectrum_it_holds(folder: Path) -> None:
    plan = planned("spectrum.path=net.csv")
    expected = nqm.Spectrum([4.0, 2.0, 1.0], multiplicity=[1.0, 2.5, 10.0])
    assert plan.problem.spectrum.digest == plan.definition.spectrum_digest == expected.digest
    assert plan.definition.spectrum_text == "file (net.csv, modes 13.5)"
    assert planned(f"spectrum.path={folder}/net.csv").name == plan.name
    assert planned("spectrum.path=net.csv", "batch_size=8").problem.spectrum is (
        plan.problem.spectrum
    ), "each study of a call read the file again"


def test_rescaling_is_part_of_the_study_and_said(folder: Path) -> None:
    assert folder.exists()
    measured = planned("spectrum.path=net.csv")
    scaled = planned("spectrum.path=net.csv", "spectrum.rescale=true")
    assert scaled.definition.spectrum_text == "file (net.csv, modes 13.5, scale 0.25)"
    assert scaled.name != measured.name
    assert scaled.definition.spectrum_digest == measured.problem.spectrum.scaled(0.25).digest


def test_the_translated_rate_and_target_take_the_same_steps(folder: Path) -> None:
    assert folder.exists()
    measured = planned("spectrum.path=net.csv").problem
    scaled = planned("spectrum.path=net.csv", "spectrum.rescale=true").problem
    steps = nqm.steps_to_target(measured, nqm.SGD(0.4 * 0.25, momentum=0.3), target=0.04).steps
    assert steps is not None
    assert steps > 1
    again = nqm.steps_to_target(scaled, nqm.SGD(0.4, momentum=0.3), target=0.04 * 0.25).steps
    assert again == steps


def test_rescaling_what_needs_none_is_the_same_study(folder: Path) -> None:
    (folder / "unit.csv").write_text("1.0\n0.5\n")
    plain = planned("spectrum.path=unit.csv")
    assert planned("spectrum.path=unit.csv", "spectrum.rescale=true").name == plain.name


def test_a_changed_file_is_another_study_and_no_other_change_is(folder: Path) -> None:
    before = planned("spectrum.path=net.csv")
    (folder / "net.csv").write_text("# measured again\n" + CURVATURES)
    assert planned("spectrum.path=net.csv").name == before.name
    (folder / "net.csv").write_text(CURVATURES.replace("4.0", "4.5"))
    assert planned("spectrum.path=net.csv").name != before.name


@pytest.mark.parametrize(
    "name", ["a b.csv", "a=b,c.csv", "a(1) [x] {y}.csv", "$x$.csv", "B\u00fccher.csv"]
)
def test_names_that_are_quoted_for_hydra_are_found(folder: Path, name: str) -> None:
    (folder / name).write_text("1.0\n")
    plan = planned(f'spectrum.path="{name}"', "target=0.1")
    assert plan.definition.spectrum_settings["file"] == name
    data = json.loads(json.dumps(plan.definition.to_json()))
    assert StudyDefinition.from_json(data).fingerprint == plan.definition.fingerprint


def test_a_definition_of_a_power_law_is_hashed_as_before(folder: Path) -> None:
    """Studies stored by earlier versions are continued, not begun again."""
    assert folder.exists()
    plan = study_plan(composed())
    assert plan.definition.to_json()["spectrum_settings"] == {"dim": 10_000.0, "exponent": 1.0}
    assert plan.definition.spectrum_text == "paper (dim 10000, exponent 1)"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "spectrum.path=null: must be the path of a .csv or .npz file, relative to the folder"),
        (["spectrum.path="], "spectrum.path=: must be the path of a .csv or .npz file"),
        (["spectrum.path=12"], "spectrum.path=12: must be the path of a .csv or .npz file"),
        (["spectrum.path=true"], "spectrum.path=true: must be the path of a .csv or .npz file"),
        (["spectrum.path='a\nb.csv'"], r"spectrum.path='a\nb.csv': must have no characters that"),
        (
            ["spectrum.path=none.csv"],
            "spectrum.path={folder}/none.csv: must be the path of a .csv or .npz file, there is no",
        ),
        (
            ["spectrum.path=bad.csv"],
            "spectrum.path={folder}/bad.csv: row 3, column noise=-1: must be a finite number of at",
        ),
        (["spectrum.path=net.csv", "spectrum.rescale=2"], "spectrum.rescale=2: must be true or"),
        (
            ["spectrum.path=net.csv", "+spectrum.dim=3"],
            "spectrum.dim=3: no such key; there are path, rescale",
        ),
        (["spectrum.path=net.csv", "~spectrum.rescale"], "spectrum.rescale: is missing"),
        (["spectrum._target_=files"], "spectrum._target_=files: must be the name of a class or"),
        (
            ["spectrum=paper", "+spectrum.path=net.csv"],
            "spectrum.path=net.csv: no such key; there are dim, exponent",
        ),
        (["spectrum=paper", "~spectrum.dim"], "spectrum.dim: is missing"),
        (
            ["spectrum.path=net.csv", "target=9.5"],
            "target=9.5: must be below the initial risk, 9.5",
        ),
    ],
)
def test_bad_input_is_one_clear_line(folder: Path, overrides: list[str], message: str) -> None:
    (folder / "bad.csv").write_text("curvature,noise\n1,1\n1,-1\n")
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refusal:
        planned(*overrides)
    assert str(refusal.value).startswith(message.replace("{folder}", str(folder)))


def test_a_bad_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("curvature\n1\noops\n")
    done = run(tmp_path, "spectrum=file", "spectrum.path=bad.csv", "-m", status=2)
    assert done.stderr == (
        f"nqm_study: spectrum.path={tmp_path}/bad.csv: row 3, column curvature=oops: must be a "
        "finite number greater than 0\n"
    )
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["bad.csv"]


def test_a_sweep_on_a_file_says_so_in_table_figure_and_mlflow(tmp_path: Path) -> None:
    (tmp_path / "my net.csv").write_text(CURVATURES)
    arguments = ("-m", "spectrum=file", 'spectrum.path="my net.csv"', "spectrum.rescale=true",
                 "batch_size=16,64", "target=0.05", "study.n_trials=4", ALONE,
                 "tracking.diagnostics=false")  # fmt: skip
    done = run(tmp_path, *arguments)
    text = "file (my net.csv, modes 13.5, scale 0.25)"
    assert text in " ".join(done.stdout.split())
    for kind, count in (("study", 2), ("summary", 1)):
        found = runs(tmp_path, kind)
        assert len(found) == count
        for each in found:
            params = each.data.params
            assert params["spectrum"] == "file"
            assert params["spectrum.file"] == "my net.csv"
            assert params["spectrum.modes"] == "13.5"
            assert params["spectrum.scale"] == "0.25"
            assert text in each.data.tags["mlflow.note.content"]
    assert run(tmp_path, *arguments).stderr.count("4 trials (0 new)") == 2


def test_a_named_study_is_not_continued_on_a_changed_file(tmp_path: Path) -> None:
    arguments = ("spectrum=file", "spectrum.path=net.csv", "study.name=mine", "study.n_trials=2",
                 "target=0.05", "tracking=none")  # fmt: skip
    (tmp_path / "net.csv").write_text(CURVATURES)
    run(tmp_path, *arguments)
    (tmp_path / "net.csv").write_text(CURVATURES.replace("4.0", "4.5"))
    done = run(tmp_path, *arguments, status=2)
    assert "study.name=mine: the stored study of this name was made with" in done.stderr
    assert "spectrum_digest=" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["a$b$c.csv", "a_$b^{c.csv", "\u5149 \u03bb.csv"])
def test_any_name_of_a_file_is_drawn_without_a_word(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CURVATURES)
    done = run(tmp_path, "spectrum=file", f"spectrum.path='{name}'", "target=0.05",
               "study.n_trials=2", "tracking=none")  # fmt: skip
    assert len(list((tmp_path / "mlruns" / "figures").rglob("*.svg"))) == 4
    assert done.stderr.count("\n") == 1, done.stderr
    assert name in done.stdout


def test_one_spectrum_under_two_names_shares_its_figure(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(CURVATURES)
    done = run(tmp_path, "spectrum=file", "spectrum.path=a.csv,b.csv", "batch_size=64",
               "target=0.05", "study.n_trials=2", "tracking=none", ALONE, "-m")  # fmt: skip
    assert re.search(r"a\.csv.* sgd +64 ", done.stdout)
    assert "sgd, b.csv" in done.stdout
    assert len(list((tmp_path / "mlruns" / "figures").iterdir())) == 1


@pytest.mark.slow
def test_a_file_that_changes_while_a_sweep_runs_ends_it_with_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "net.csv"
    file.write_text(CURVATURES)
    sizes = [4**k for k in range(1, 9)]
    arguments = ["-m", "spectrum=file", "spectrum.path=net.csv", "optimizer=momentum",
                 f"batch_size={','.join(map(str, sizes))}", "target=0.05", "study.n_trials=20",
                 "hydra.launcher.n_jobs=2"]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "nqm_study", *arguments], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as sweep:  # fmt: skip
        assert sweep.stderr is not None
        assert sweep.stderr.readline().startswith("1/8 ")
        file.write_text(CURVATURES.replace("4.0", "4.5"))
        output, errors = sweep.communicate(timeout=300)
    assert sweep.returncode == 1
    told = [line for line in errors.splitlines() if line.startswith("nqm_study: ")]
    assert told[0] == (
        "nqm_study: spectrum.path=net.csv: changed while the sweep ran; the same command starts it "
        "anew"
    )
    assert told[1].startswith("nqm_study: not finished: momentum B=")
    assert len(told) == 2
    assert "Traceback" not in errors
    finished = stored(tmp_path)
    assert 1 <= len(finished) < len(sizes)
    assert mirrored(tmp_path) == finished, "what was finished is kept"
    digests = {record.definition.spectrum_digest for record in stored_records(tmp_path / "mlruns")}
    assert len(digests) == 1, "a study of the changed file was begun"
    assert "momentum" in output


def test_a_job_tells_a_changed_file_from_a_changed_configuration_and_a_lost_file(
    folder: Path,
) -> None:
    known = marks([planned("spectrum.path=net.csv")])
    cfg = composed("spectrum=file", "spectrum.path=net.csv")
    assert planned_again(cfg, known).name == planned("spectrum.path=net.csv").name
    other = composed("spectrum=file", "spectrum.path=net.csv", "target=0.02")
    with pytest.raises(ChangedError, match="nqm_study: the configuration: changed while the sweep"):
        planned_again(other, known)
    (folder / "net.csv").write_text(CURVATURES.replace("4.0", "4.5"))
    with pytest.raises(ChangedError, match=r"nqm_study: spectrum.path=net.csv: changed while the"):
        planned_again(cfg, known)
    (folder / "net.csv").unlink()
    with pytest.raises(ChangedError, match=r"\Anqm_study: spectrum.path=[^\n]*no such file\Z"):
        planned_again(cfg, known)
