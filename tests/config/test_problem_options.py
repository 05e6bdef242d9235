"""The groups problem and spectrum: what they make, what tells it apart, and what is refused."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from composing import composed
from hydra import initialize_config_dir

import nqm_study as nqm
from nqm_study.config.plan import StudyPlan, python_plan, study_plan
from nqm_study.config.problem import problem_of
from nqm_study.report.frame import properties
from nqm_study.report.labels import labels
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.options import conf_dir

RNG = np.random.default_rng(5)
FEATURES = RNG.standard_normal((80, 5)) + 1.0
TARGETS = FEATURES @ RNG.standard_normal(5) + RNG.standard_normal(80)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with data in it."""
    monkeypatch.chdir(tmp_path)
    np.savez("d.npz", features=FEATURES, targets=TARGETS)
    rows = [",".join(map(repr, map(float, row))) for row in np.column_stack((FEATURES, TARGETS))]
    Path("d.csv").write_text("\n".join(["a,b,c,d,e,y", *rows]))
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield tmp_path


def planned(*overrides: str) -> StudyPlan:
    return study_plan(composed("target=0.1", *overrides))


def least_squares(*overrides: str) -> nqm.LeastSquares:
    problem = planned(*overrides).problem
    assert isinstance(problem, nqm.LeastSquares)
    return problem


def test_least_squares_has_the_label_noise_that_is_given() -> None:
    assert least_squares("problem=least_squares").label_noise == 1.0
    assert least_squares("problem=least_squares", "problem.label_noise=0").label_noise == 0.0
    plan = planned("problem=least_squares", "problem.label_noise=0.25", "batch_size=8")
    assert plan.problem.batch_size == 8
    assert plan.definition.problem == "least_squares"
    assert plan.definition.problem_settings == {"label_noise": 0.25}
    text = "paper (dim 10000, exponent 1), least_squares (label_noise 0.25)"
    assert plan.definition.spectrum_text == text
    assert plan.name.startswith("sgd-paper-least_squares-constant-B8-C0.1-s0-")
    assert StudyDefinition.from_json(plan.definition.to_json()) == plan.definition


def test_the_noisy_quadratic_is_left_out_of_a_definition() -> None:
    plain = planned().definition
    assert not {"problem", "problem_settings"} & set(plain.to_json())
    assert planned("problem=noisy_quadratic").definition == plain
    assert plain.problem_digest == plain.spectrum_digest


@pytest.mark.parametrize("file", ["d.npz", "d.csv"])
def test_data_set_the_problem_its_start_and_its_label_noise(file: str) -> None:
    column = ["spectrum.target_column=y"] if file == "d.csv" else []
    given = ("spectrum=data", f"spectrum.path={file}", *column)
    plan = planned(*given, "batch_size=4")
    expected = nqm.least_squares_from_data(FEATURES, TARGETS, 4)
    assert isinstance(plan.problem, nqm.LeastSquares)
    assert plan.problem.spectrum.digest == expected.spectrum.digest
    assert plan.problem.label_noise == expected.label_noise
    settings = {"examples": 80.0, "features": 5.0, "modes": 5.0}
    if column:
        settings = {"target_column": "y", **settings}
    assert plan.definition.spectrum_settings == {"file": file, **settings}
    made = planned(*given, "spectrum.center=true", "spectrum.scale=true").definition
    found = nqm.Regression.of(FEATURES, TARGETS, center=True, scale=True)
    assert made.spectrum_digest == found.spectrum.digest
    assert made.problem_settings == {"label_noise": found.label_noise}
    assert made.spectrum_text.partition(")")[0].endswith("modes 5, centred, scaled")


def test_a_label_noise_that_is_given_wins_over_the_datas() -> None:
    plan = planned("spectrum=data", "spectrum.path=d.npz", "problem.label_noise=0.5")
    residual = nqm.Regression.of(FEATURES, TARGETS).label_noise
    assert plan.definition.problem_settings == {"label_noise": 0.5}
    assert plan.definition.spectrum_settings["residual"] == residual


def test_python_and_the_command_line_define_one_study() -> None:
    line = planned("spectrum=data", "spectrum.path=d.npz", "batch_size=4", "study.n_trials=3")
    problem = nqm.Regression.of(FEATURES, TARGETS).problem(4)
    ours = python_plan(problem, "sgd", target=0.1, n_trials=3).definition
    names = {"spectrum": "data", "spectrum_settings": line.definition.spectrum_settings}
    assert replace(ours, **names) == line.definition
    source = planned("spectrum=power_law", "spectrum.source=1.2", "problem=least_squares")
    noise = 1.0 + nqm.power_law_tail(10_000, 1.0, 1.2)
    spectrum = nqm.power_law(10_000, source=1.2)
    other = python_plan(nqm.LeastSquares(spectrum, 256, noise), "sgd", target=0.1).definition
    assert other.problem_settings == source.definition.problem_settings
    assert other.spectrum_digest == source.definition.spectrum_digest


def test_the_modes_beyond_a_power_law_with_a_source_are_label_noise() -> None:
    given = ("spectrum=power_law", "spectrum.dim=50", "spectrum.source=0.7", "target=0.01")
    plain = planned(*given)
    assert plain.definition.spectrum_settings == {"dim": 50.0, "exponent": 1.0, "source": 0.7}
    assert not isinstance(plain.problem, nqm.LeastSquares)
    i = np.arange(1.0, 51.0)
    np.testing.assert_allclose(plain.problem.spectrum.initial_variance, i**-0.7)
    problem = least_squares(*given, "problem=least_squares", "problem.label_noise=0.125")
    tail = nqm.power_law_tail(50, 1.0, 0.7)
    assert problem.label_noise == 0.125 + tail
    # Two thousand terms, and the integral with Euler and Maclaurin's first correction beyond.
    k = np.arange(51.0, 2051.0)
    beyond = 2051.0**-0.7 / 0.7 + 0.5 * 2051.0**-1.7
    assert tail == pytest.approx(np.sum(k**-1.7) + beyond, rel=1e-6)


def test_a_tail_has_the_first_of_its_modes_more_than_the_next() -> None:
    first, rest = (nqm.power_law_tail(dim, 1.5, 0.25) for dim in (9, 10))
    assert first - rest == pytest.approx(10.0**-1.75)


def test_problems_are_told_apart_wherever_studies_are() -> None:
    """Studies of different problems or label noises never share a curve, a figure or a name."""
    plans = [
        planned(),
        planned("problem=least_squares"),
        planned("problem=least_squares", "problem.label_noise=0"),
    ]
    made = [plan.definition for plan in plans]
    for of in ("curve", "benchmark", "fingerprint", "problem_digest", "spectrum_text"):
        assert len({getattr(each, of) for each in made}) == 3
    assert len(set(labels(made))) == 3
    assert properties(made[0])["problem"] == "noisy_quadratic"
    assert properties(made[2])["label_noise"] == 0.0
    sizes = [planned("problem=least_squares", f"batch_size={size}").definition for size in (4, 8)]
    assert sizes[0].curve == sizes[1].curve


@dataclass(frozen=True)
class Steady(nqm.Problem):
    """Noise that follows the loss, with some of any size that does not, as a user may have it."""

    follows_loss: ClassVar[bool] = True
    size: float = 2.0
    kind: str = "plain"

    @property
    def steady_noise(self) -> float:
        """The size."""
        return self.size


def of_data(center: bool) -> nqm.Regression:
    """The user's own data."""
    return nqm.Regression.of(FEATURES, TARGETS, center=center)


def test_a_problem_of_the_users_is_taken_with_its_fields() -> None:
    mine = f"problem._target_={__name__}.Steady"
    plan = planned(mine, "+problem.size=3", "+problem.kind=wide")
    assert isinstance(plan.problem, Steady)
    assert plan.definition.problem == "steady"
    assert plan.definition.problem_settings == {"size": 3.0, "kind": "wide"}
    assert plan.definition.code["problem"].startswith(f"{__name__}.Steady ")
    assert planned(mine, "+problem.size=null").problem == Steady(plan.problem.spectrum, 256)


def test_noise_that_does_not_follow_the_loss_is_the_spectrums() -> None:
    @dataclass(frozen=True)
    class Twice(nqm.Problem):
        @property
        def steady_noise(self) -> float:
            return 2.0

    with pytest.raises(
        ValueError, match=r"steady_noise=2\.0: must be 1 where follows_loss is False"
    ):
        Twice(nqm.power_law(10, 1.0), 4)


def test_a_function_of_the_users_may_return_a_regression() -> None:
    section = {"_target_": of_data, "center": True}
    problem, settings = problem_of({"_target_": nqm.LeastSquares}, section, 8)
    expected = of_data(center=True)
    assert problem == nqm.LeastSquares(problem.spectrum, 8, expected.label_noise)
    assert problem.spectrum.digest == expected.spectrum.digest
    assert settings["examples"] == 80.0
    with pytest.raises(
        ValueError, match=r"^problem=noisy_quadratic: must be least_squares with sp"
    ):
        problem_of({"_target_": nqm.NoisyQuadratic}, section, 8)


DATA = ("spectrum=data", "spectrum.path=d.npz")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["problem=least_squares", "problem.label_noise=-1"], "problem.label_noise=-1: must be a"),
        (["problem=least_squares", "problem.label_noise=x"], "problem.label_noise='x': must be a"),
        (["problem=least_squares", "problem.label_noise=[1]"], "problem.label_noise=[1]: must be"),
        (["problem=least_squares", "+problem.x=1"], "problem.x=1: least_squares has only label_"),
        (["+problem.x=1"], "problem.x=1: noisy_quadratic has no keys"),
        (["problem._target_=nqm_study.SGD"], "problem._target_=nqm_study.model.optimizers.sgd.SGD"),
        (["problem._target_=nqm_study.Problem"], "problem._target_=nqm_study.model.problems.prob"),
        ([*DATA, "problem=noisy_quadratic"], "problem=noisy_quadratic: must be least_squares with"),
        (["spectrum=data"], "spectrum.path=null: must be the path of an .npz, .csv or .parquet"),
        (
            ["spectrum=data", "spectrum.path=x.npz"],
            "spectrum.path={folder}/x.npz: must be",
        ),
        (
            [*DATA, "spectrum.target_column=y"],
            "spectrum.target_column=y: must be null with an",
        ),
        (
            ["spectrum=data", "spectrum.path=d.csv"],
            "spectrum.target_column=null: must be a column of d.csv, which has a, b, c, d, e, y",
        ),
        ([*DATA, "spectrum.center=2"], "spectrum.center=2: must be true or false"),
        ([*DATA, "+spectrum.dim=2"], "spectrum.dim=2: no such key"),
        ([*DATA, "target=1e9"], "target=1e+09: must be below the initial risk"),
        (
            ["spectrum=power_law", "spectrum.source=0", "problem=least_squares"],
            "spectrum.source=0: must be greater than 0, 1 - exponent",
        ),
        (
            ["spectrum.source=1", "spectrum.dim=200000"],
            "spectrum.dim=200000: must be at most 13",
        ),
        (["spectrum.source=400"], "spectrum.source=400: must be from -76.9"),
        (["spectrum.source=x"], "spectrum.source=x: must be a finite number or null"),
    ],
)
def test_what_is_no_problem_is_refused_in_one_line(
    overrides: list[str], line: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refused:
        planned(*overrides)
    assert str(refused.value).startswith(line.format(folder=folder.resolve()))


def test_problems_of_a_sweep_have_names_of_their_own() -> None:
    options = itertools.product(("noisy_quadratic", "least_squares"), (4, 8))
    names = {planned(f"problem={p}", f"batch_size={b}").name for p, b in options}
    assert len(names) == 4


def test_a_value_that_no_definition_can_hold_is_refused() -> None:
    made: Any = Steady(nqm.power_law(9), 4, size=np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^problem.size=.*: must be a number, a switch or a"):
        python_plan(made, "sgd", target=0.1)


@pytest.mark.parametrize(
    "option", ["schedule=optimal", "schedule=greedy", "batch_schedule=optimal"]
)
def test_what_is_computed_for_additive_noise_is_refused_before_anything_is_written(
    option: str,
) -> None:
    group, _, name = option.partition("=")
    with pytest.raises(
        ValueError, match=f"^{group}={name}: must be .* whose noise follows the loss"
    ):
        planned("problem=least_squares", option)
