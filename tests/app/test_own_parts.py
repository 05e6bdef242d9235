"""A user's own optimizer, schedule and spectrum work through --config-dir as those here do."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import own_parts
import pytest
from composing import composed
from hydra import initialize_config_dir
from omegaconf import OmegaConf, open_dict
from program import ONE, run, runs

import nqm_study as nqm
from nqm_study.config.plan import study_plan
from nqm_study.study.options import conf_dir
from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import ATTRIBUTE, read_records

OWN = ("--config-dir", "my_conf", "optimizer=qhm", "target=0.05")


def script(folder: Path, *arguments: str) -> str:
    """What the console script says of its progress, called by a user who has no PYTHONPATH."""
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [Path(sys.executable).with_name("nqm-study"), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies of own parts, begun and continued by the console script."""
    folder = tmp_path_factory.mktemp("own")
    own_parts.write(folder)
    sweep = ("-m", *OWN, "schedule=drop", "spectrum=two", "batch_size=16,64")
    assert script(folder, *sweep, "study.n_trials=4").count("4 trials (4 new)") == 2
    assert script(folder, *sweep, "study.n_trials=6").count("6 trials (2 new)") == 2
    return folder


def test_own_parts_are_in_the_storage_in_mlflow_and_in_figures(swept: Path) -> None:
    for record in read_records(open_journal(swept / "mlruns" / "optuna.journal")):
        made = record.definition
        assert (made.optimizer, made.schedule, made.spectrum) == ("qhm", "drop", "two")
        assert set(made.searched) == {"learning_rate", "momentum", "v", "after"}
        assert {group: code.split()[0] for group, code in made.code.items()} == {
            "optimizer": "my_parts.QHM",
            "schedule": "my_parts.Drop",
        }
    trials = runs(swept, "trial")
    assert len(trials) == 12
    assert all({"learning_rate", "momentum", "v", "after"} <= set(t.data.params) for t in trials)
    figures = {path.name for path in (swept / "mlruns" / "figures").rglob("*.png")}
    assert {"steps_to_target.png", "learning_rate.png"} <= figures


def test_own_steps_are_those_of_the_classes(swept: Path) -> None:
    made = own_parts.classes()
    for record in read_records(open_journal(swept / "mlruns" / "optuna.journal")):
        problem = nqm.NoisyQuadratic(made["two_scales"](40), record.definition.one_batch_size)
        for trial in record.trials:
            values = dict(trial.hyperparameters)
            schedule = made["Drop"](values.pop("after"))
            found = nqm.steps_to_target(
                problem, made["QHM"](**values), schedule, target=0.05, max_growth=1000
            )
            assert (trial.steps, trial.status) == (found.steps, found.status)


def test_a_report_needs_no_code_of_a_user(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept / "mlruns", tmp_path / "mlruns", ignore=shutil.ignore_patterns("*.png"))
    done = run(tmp_path, module="nqm_study.report")
    assert any((tmp_path / "mlruns" / "figures").rglob("steps_to_target.png"))
    assert "qhm" in done.stdout


MIXED = ("--config-dir", "my_conf", "optimizer=mixed", "spectrum=two", "target=0.05")


def test_choices_conditions_and_whole_numbers_are_searched_and_shown(tmp_path: Path) -> None:
    own_parts.write(tmp_path)
    call = (*MIXED, "batch_size=64", "sampler=one_by_one")
    assert "8 trials (8 new)" in run(tmp_path, *call, "study.n_trials=8").stderr
    done = run(tmp_path, *call, "study.n_trials=20")
    assert "20 trials (12 new)" in done.stderr
    (record,) = read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))
    assert record.definition.sampler == {
        "name": "one_by_one",
        "target": "optuna.samplers._tpe.sampler.TPESampler",
        "multivariate": False,
        "n_startup_trials": 3,
    }
    values = [trial.hyperparameters for trial in record.trials]
    assert {each["kind"] for each in values} == {"plain", "heavy"}
    assert all(("momentum" in each) == (each["kind"] == "heavy") for each in values)
    assert {each["over"] for each in values} <= {1, 2, 3, 4}
    assert record.best is not None
    assert f" {record.best.hyperparameters['kind']} " in done.stdout
    params = [trial.data.params for trial in runs(tmp_path, "trial")]
    assert {each["kind"] for each in params} == {"plain", "heavy"}


def test_choices_have_a_true_optimum_where_all_are_asked_for(tmp_path: Path) -> None:
    own_parts.write(tmp_path)
    call = (*MIXED, "batch_size=16", "study.truth=all", "study.n_trials=4", "tracking=none")
    assert "over" in run(tmp_path, *call).stdout
    (record,) = read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))
    assert record.optimum is not None
    assert record.best is not None
    assert record.best.steps is not None
    assert record.optimum.steps <= record.best.steps
    assert record.optimum.hyperparameters["kind"] in ("plain", "heavy")


def test_a_sampler_without_a_seed_is_told_in_one_line(tmp_path: Path) -> None:
    own_parts.write(tmp_path)
    call = (*MIXED, "batch_size=64", "sampler=own", "study.n_trials=2", "tracking=none")
    said = run(tmp_path, *call).stderr
    assert (
        "nqm_study: sampler: Own takes no seed, so that a study that is resumed need not end as an "
        "unbroken one\n"
    ) in said


def test_a_module_beside_the_configuration_is_found_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "work").mkdir()
    own_parts.write(tmp_path / "parts")
    given = ("--config-dir", "../parts/my_conf", "optimizer=qhm", "spectrum=two", "target=0.05")
    done = script(tmp_path / "work", *given, "batch_size=64", "study.n_trials=2", "tracking=none")
    assert "2 trials (2 new)" in done


@pytest.mark.parametrize("group", ["optimizer", "sampler", "hyperparameters", "code"])
def test_nothing_that_a_storage_names_is_run(
    group: str, studied: Path, copied: Callable[[Path], Path]
) -> None:
    folder = copied(studied)
    storage = open_journal(folder / "mlruns" / "optuna.journal")
    (name,) = optuna.study.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    stored = study.user_attrs[ATTRIBUTE]
    order = {"_target_": "os.system", "command": f"touch {folder}/ran", "name": "tpe"}
    definition = {**stored["definition"], group: order}
    study.set_user_attr(ATTRIBUTE, {**stored, "definition": definition})
    # Of no form that a study has, it is passed over, and no other is there.
    run(folder, module="nqm_study.report", status=2 if group == "optimizer" else 0)
    done = run(folder, *ONE, f"study.name={name}", "study.n_trials=5", status=2)
    assert done.stderr.startswith(f"nqm_study: study.name={name}: ")
    assert not (folder / "ran").exists()


CHANGED = own_parts.MODULE.replace("1.0 - v * b", "1.0 - v * (1.0 * b)")


def versioned(version: str) -> str:
    return CHANGED.replace(
        "class QHM(nqm.LinearOptimizer):",
        f"class QHM(nqm.LinearOptimizer):\n    version = {version!r}\n",
    )


def test_a_class_that_changed_is_refused_and_goes_on_under_a_version(tmp_path: Path) -> None:
    own_parts.write(tmp_path)
    call = (*OWN, "spectrum=two", "batch_size=64", "tracking=none")
    run(tmp_path, *call, "study.n_trials=2")
    (record,) = read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))
    digest = record.definition.code["optimizer"].split()[1]

    commented = own_parts.MODULE.replace("theta' = theta -", "as published: theta' = theta -")
    own_parts.write(tmp_path, commented.replace("b, v =", "# symbols\n        b, v ="))
    assert "(0 new)" in run(tmp_path, *call, "study.n_trials=2").stderr

    own_parts.write(tmp_path, CHANGED)
    refused = run(tmp_path, *call, "study.n_trials=3", status=2).stderr
    assert refused == (
        f"nqm_study: optimizer=qhm: my_parts.QHM has changed since the study {record.name} was "
        f'made; give the class version = "{digest}" to continue that study, or version = "2" to '
        "begin another\n"
    )
    own_parts.write(tmp_path, versioned(digest))
    assert "3 trials (1 new)" in run(tmp_path, *call, "study.n_trials=3").stderr
    own_parts.write(tmp_path, versioned("2"))
    assert "2 trials (2 new)" in run(tmp_path, *call, "study.n_trials=2").stderr
    assert len(read_records(open_journal(tmp_path / "mlruns" / "optuna.journal"))) == 2


WRONG = {
    "no such module": (
        "_target_: no_such_module.QHM",
        "optimizer._target_=no_such_module.QHM: cannot be imported, ModuleNotFoundError",
    ),
    "no such class": (
        "_target_: my_parts.Missing",
        "optimizer._target_=my_parts.Missing: cannot be imported, AttributeError",
    ),
    "no optimizer": (
        "_target_: os.system",
        "optimizer._target_=posix.system: must be a class of LinearOptimizer",
    ),
    "no name": (
        "_target_: 3",
        "optimizer._target_=3: must be the name of a class or a function",
    ),
    "partial": (
        "_target_: my_parts.QHM\n_partial_: true",
        "optimizer._partial_=true: no such key; _target_ alone is read",
    ),
    "args": (
        "_target_: my_parts.QHM\n_args_: [1]",
        "optimizer._args_=[1]: no such key; _target_ alone is read",
    ),
    "unknown key": (
        "_target_: my_parts.QHM\nlearning_rate: 0.1\nw: 1",
        "optimizer.w=1: QHM has only learning_rate, momentum, v",
    ),
    "no rate": (
        "_target_: my_parts.QHM\nv: 0.5",
        "optimizer.learning_rate: is missing",
    ),
    "missing field": (
        "_target_: my_parts.Bare\nlearning_rate: 0.1",
        "optimizer.beta: is missing",
    ),
    "wrong shape": (
        "_target_: my_parts.Shapes\nlearning_rate: 0.1",
        "optimizer=own: my_parts.Shapes.update failed for 1 steps, ValueError: gain has shape",
    ),
    "no update": (
        "_target_: my_parts.NoRule\nlearning_rate: 0.1",
        "optimizer._target_=my_parts.NoRule: must have the method update",
    ),
    "no dataclass": (
        "_target_: my_parts.Plain\nlearning_rate: 0.1",
        "optimizer._target_=my_parts.Plain: must be a dataclass",
    ),
    "not finite": (
        "_target_: my_parts.Nan\nlearning_rate: 0.1",
        "optimizer=own: my_parts.Nan.update: must have finite numbers in gain",
    ),
    "raises": (
        "_target_: my_parts.Raises\nlearning_rate: 0.1",
        "optimizer=own: my_parts.Raises.update failed for 1 steps, KeyError: 'b'",
    ),
    "another kind": (
        "_target_: my_parts.Returns\nlearning_rate: 0.1",
        "optimizer=own: my_parts.Returns.update: must return an Update, not dict",
    ),
    "unstable": (
        "_target_: my_parts.Grows\nlearning_rate: {low: null, high: null, scale: log}",
        "optimizer=own: is unstable at any learning rate",
    ),
    "no schedule": (
        "_target_: nqm_study.Cosine\nlearning_rate: 0.1",
        "optimizer._target_=nqm_study.model.schedules.decays.Cosine: must be a class",
    ),
    "condition": (
        "_target_: my_parts.QHM\nlearning_rate: 0.1\nv: {choices: [1, 2], when: {w: 1}}",
        "optimizer.v.when.w: must be another hyperparameter",
    ),
    "no choices": (
        "_target_: my_parts.QHM\nlearning_rate: 0.1\nv: {choices: 1}",
        "optimizer.v={'choices': 1}: choices are {choices: [..., ...]}",
    ),
    "one choice": (
        "_target_: my_parts.QHM\nlearning_rate: 0.1\nv: {choices: [1]}",
        "optimizer.v.choices: must be two values or more",
    ),
    "integer": (
        "_target_: my_parts.QHM\nlearning_rate: 0.1\nv: {low: 0.5, high: 1, integer: true}",
        "optimizer.v.low=0.5: must be a whole number with integer=true",
    ),
}

BROKEN = (
    own_parts.MODULE
    + """

@dataclass(frozen=True)
class Bare(QHM):
    beta: float = None

    def __init__(self, learning_rate, beta):
        ...


def _rule(name, body):
    def update(self, step, rate):
        return body(rate)
    made = dataclass(frozen=True)(type(name, (nqm.LinearOptimizer,), {
        "update": update, "__annotations__": {"learning_rate": float}, "version": "1"}))
    made.__module__ = __name__
    return made


one = np.ones
square, point = one((1, 1, 1)), one((1, 1))
Shapes = _rule("Shapes", lambda r: nqm.Update(square, one((r.size, 2)), point, [1], [1]))
Nan = _rule("Nan", lambda r: nqm.Update(square, np.nan * r[:, None], point, [1], [1]))
Raises = _rule("Raises", lambda r: {}["b"])
Returns = _rule("Returns", lambda r: {})
Grows = _rule("Grows", lambda r: nqm.Update(2 * square, r[:, None], point, [1], [1]))


@dataclass(frozen=True)
class NoRule(nqm.LinearOptimizer):
    learning_rate: float


class Plain(nqm.LinearOptimizer):
    def __init__(self, learning_rate):
        self.learning_rate = learning_rate

    def update(self, step, rate):
        return nqm.Update(one((1, 1, 1)), -rate[:, None], one((1, 1)), [1], [1])
"""
)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose module has wrong classes, importable in this process."""
    own_parts.write(tmp_path, BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_parts", None)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_class_that_is_wrong_is_one_line(wrong: str, broken: Path) -> None:
    text, line = WRONG[wrong]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = composed("spectrum=paper_small", "target=0.05")
    with open_dict(config):
        config.optimizer = OmegaConf.create(f"{text}\nname: own")
    with pytest.raises(ValueError, match=f"^{re.escape(line)}") as refusal:
        study_plan(config)
    assert str(refusal.value).isprintable()
    assert not (broken / "mlruns").exists()


@pytest.mark.parametrize("wrong", ["no such module", "wrong shape", "unstable"])
def test_a_class_that_is_wrong_ends_the_call_before_anything_is_written(
    wrong: str, tmp_path: Path
) -> None:
    own_parts.write(tmp_path, BROKEN)
    text, line = WRONG[wrong]
    (tmp_path / "my_conf" / "optimizer" / "own.yaml").write_text(text)
    before = set(tmp_path.rglob("*"))
    given = ("--config-dir", "my_conf", "optimizer=own", "spectrum=paper_small", "target=0.05")
    done = run(tmp_path, *given, "batch_size=64", "study.n_trials=2", "tracking=none", status=2)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"nqm_study: {line}")
    assert {path for path in tmp_path.rglob("*") if "__pycache__" not in str(path)} == before
