"""Every file of conf/ composes, says what it is, and becomes typed objects or one clear refusal."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composing import composed
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

import nqm_study as nqm
from nqm_study.app.presets import presets_of
from nqm_study.app.sweep import labels
from nqm_study.config.hyperparameters import ends
from nqm_study.config.parts import batch_part, optimizer_part, schedule_part
from nqm_study.config.plan import options, study_plan
from nqm_study.config.schema import SETTINGS, described
from nqm_study.config.targets import located
from nqm_study.report.labels import own_label
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.options import conf_dir
from nqm_study.study.recipes import piecewise_constant
from nqm_study.study.samplers.optuna_samplers import make_sampler

HALF_LIFE = ("optimizer=adam", "optimizer.beta2_policy=half_life")
NAMED = (
    *("optimizer", "problem", "spectrum", "schedule", "batch_schedule"),
    *("sampler", "storage", "tracking"),
)
COMPUTED = ("greedy", "optimal")
GROUPS = (*NAMED, "batch_sizes", "experiment")
OPTIONS = [
    (group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))
]
FAMILIES = [name for group, name in OPTIONS if group == "schedule" and name not in COMPUTED]


@pytest.fixture(autouse=True, scope="module")
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def section_of(group: str, option: str) -> dict[str, Any]:
    return _plain(composed(f"{group}={option}")[group]) | {"name": option}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_to_a_study(group: str, option: str, tmp_path: Path) -> None:
    overrides = [f"{group}={option}"]
    if (group, option) == ("spectrum", "file"):
        (tmp_path / "a.csv").write_text("1.0\n0.5\n")
        overrides.append(f"spectrum.path={tmp_path}/a.csv")
    if option in ("data", "check_data"):
        np.savez(tmp_path / "a.npz", features=np.eye(3), targets=[1.0, 2.0, 3.0])
        overrides.append(f"spectrum.path={tmp_path}/a.npz")
    if (group, option) == ("storage", "postgresql"):
        overrides.append("storage.url=postgresql://somewhere/studies")
    if (group, option) == ("sampler", "gp"):
        pytest.importorskip("torch")
    if (group, option) == ("experiment", "paper"):
        presets = presets_of(compose("config", overrides, return_hydra_config=True))
        assert presets is not None
        overrides = presets.command(presets.names[0])[1:]
    plan = study_plan(composed(*overrides))
    make_sampler(plan.definition, plan.search)


@pytest.mark.parametrize(("group", "option"), [each for each in OPTIONS if each[0] in NAMED])
def test_every_option_has_the_name_of_its_file(group: str, option: str) -> None:
    name = composed(f"{group}={option}")[group].get("name")
    if option == "tpe_alone":  # the same sampler, without the local search
        assert name == "tpe"
    else:
        assert name == (option if group in ("storage", "tracking") else None)


def test_a_name_that_is_given_is_taken() -> None:
    given = ("optimizer.name=mine", "schedule.name=still", "spectrum.name=ours")
    made = study_plan(composed(*given)).definition
    assert (made.optimizer, made.schedule, made.spectrum) == ("mine", "still", "ours")


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "optimizer"])
def test_every_key_of_an_optimizer_is_a_field_of_its_class_or_a_setting(option: str) -> None:
    section = composed(f"optimizer={option}").optimizer
    made = located("optimizer", section)
    settings = (
        {each.name for each in fields(SETTINGS[made.__name__])}
        if made.__name__ in SETTINGS
        else set()
    )
    # Those of what it wraps stand beside its own.
    wraps = {"optimizer"} if "optimizer" in section else set()
    known = {*optimizer_part(section_of("optimizer", option), 256.0).recipe.names, *wraps}
    assert wraps <= {each.name for each in fields(made)}
    assert set(section) - {"name", "_target_"} <= known | settings
    assert settings <= set(section)


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "optimizer"])
def test_both_ends_of_an_optimizers_ranges_make_one(option: str) -> None:
    part = optimizer_part(section_of("optimizer", option), 256.0)
    for values in ends(part.hyperparameters):
        assert isinstance(part.recipe(values), nqm.LinearOptimizer | nqm.Adam)


def _plain(section: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(section)  # type: ignore[return-value]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schedules_file_gives_what_its_class_takes(family: str) -> None:
    section = section_of("schedule", family)
    assert "warmup_fraction" in section
    if family != "piecewise_constant":
        taken = {each.name for each in fields(located("schedule", section))}
        assert set(section) - {"name", "_target_"} == taken
    part = schedule_part(section)
    for values in ends(part.hyperparameters):
        assert isinstance(part.recipe({**values, **part.settings}), nqm.Schedule)


@pytest.mark.parametrize("option", options("batch_schedule"))
def test_a_batch_schedules_file_gives_what_its_class_takes(option: str) -> None:
    section = section_of("batch_schedule", option)
    taken = {each.name for each in fields(located("batch_schedule", section))}
    if option == "constant":
        assert set(section) == {"name", "_target_"}
        assert batch_part(section) is None
        return
    assert set(section) - {"name", "_target_"} == taken
    part = batch_part(section, 256.0)
    assert part is not None
    for values in ends(part.hyperparameters):
        assert isinstance(part.recipe({**values, **part.settings}), nqm.BatchSchedule)
    definition = study_plan(composed(f"batch_schedule={option}")).definition
    assert own_label(definition) == f"sgd, batch {option}"
    assert {f"batch_{name}" for name in part.hyperparameters} < definition.hyperparameters.keys()
    assert f"-constant-{option}-B256" in definition.default_name


def test_without_a_batch_schedule_a_definition_is_what_it_was() -> None:
    definition = study_plan(composed("batch_schedule=constant")).definition
    assert not {"batch_schedule", "batch_settings"} & definition.to_json().keys()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["=ramp", ".end=0"], "batch_schedule.end=0: must be a finite number greater than 0"),
        (["=ramp", ".min=300"], "batch_schedule.min=300: must be at most batch_size=256"),
        (["=ramp", ".curve=steep"], "batch_schedule.curve=steep: must be "),
        (["=ramp", "+.growth=2"], "batch_schedule.growth=2: ramp has only "),
        (["=steps", ".stages=1.5"], "batch_schedule.stages=1.5: must be a whole number"),
        (["=coupled", ".integer=2"], "batch_schedule.integer=2: must be true or false"),
        (["+.integer=true"], "batch_schedule.integer=true: constant has no keys"),
        (["=optimal", "optimizer=adam"], "batch_schedule=optimal: must be another one with opt"),
        (["=ramp", "schedule=optimal"], "batch_schedule=ramp: must be constant with schedule="),
        (["._target_=nqm_study.Cosine"], "batch_schedule._target_=nqm_study"),
    ],
)
def test_a_wrong_batch_schedule_is_one_line(overrides: list[str], line: str) -> None:
    given = [
        f"{'+' * (each[0] == '+')}batch_schedule{each.lstrip('+')}" if each[0] in "=.+" else each
        for each in overrides
    ]
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        study_plan(composed(*given))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_hyperparameter_is_of_both_a_schedule_and_an_optimizer(family: str) -> None:
    taken = {each.name for made in (nqm.SGD, nqm.Adam) for each in fields(made)}
    taken |= {each.name for each in fields(SETTINGS["Adam"])}
    own = set(schedule_part(section_of("schedule", family)).recipe.names)
    assert not taken & (own | {"pieces", "ratio", "ratio_2", "max_learning_rate"})


@pytest.mark.parametrize(
    ("family", "searched", "settings"),
    [
        ("constant", set(), {}),
        ("linear", {"final_fraction"}, {}),
        ("cosine", {"final_fraction"}, {}),
        ("polynomial", {"power"}, {}),
        ("exponential", {"final_fraction"}, {}),
        ("inverse_sqrt", {"timescale"}, {}),
        ("piecewise_constant", {f"ratio_{piece}" for piece in range(2, 7)}, {"pieces": 6}),
        ("step_decay", {"decay_rate"}, {"drops": 3}),
        ("warmup_stable_decay", {"decay_fraction", "warmup_fraction"}, {"decay": "linear"}),
        ("one_cycle", {"pct_start"}, {}),
    ],
)
def test_each_family_searches_the_shape_that_defines_it(
    family: str, searched: set[str], settings: dict[str, float | str]
) -> None:
    definition = study_plan(composed(f"schedule={family}")).definition
    assert set(definition.searched) == searched | {"learning_rate"}
    assert definition.schedule_settings == settings
    assert definition.schedule == family


def test_six_pieces_are_six_searched_rates_and_one_can_be_fixed() -> None:
    plan = study_plan(composed("schedule=piecewise_constant", "schedule.pieces=6"))
    assert set(plan.search.space.distributions) == {
        "learning_rate",
        *(f"ratio_{piece}" for piece in range(2, 7)),
    }
    fixed = study_plan(composed("schedule=piecewise_constant", "+schedule.ratio_3=0.1"))
    assert fixed.definition.hyperparameters["ratio_3"] == 0.1
    assert len(fixed.definition.searched) == 5
    one = study_plan(composed("schedule=piecewise_constant", "schedule.pieces=1"))
    assert one.definition.searched == ("learning_rate",)


def test_a_piece_has_its_ratio_times_the_rate_of_the_piece_before() -> None:
    values = {"ratio_2": 0.5, "ratio_3": 0.25, "warmup_fraction": 0.2}
    made = piecewise_constant(pieces=3, **values)
    assert made == nqm.PiecewiseConstant((1.0, 0.5, 0.125), warmup_fraction=0.2)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        # Of commit 4d7b9f0 and before: the names that these definitions had in storages then.
        ({}, "sgd-paper-constant-B256-C0.01-s0-43eccc56"),
        (
            {
                "optimizer": "adam",
                "hyperparameters": {
                    "learning_rate": {"low": 1e-4, "high": 1.0, "scale": "log"},
                    "beta1": 0.9,
                    "beta2": 0.999,
                    "eps": 1e-8,
                },
            },
            "adam-paper-constant-B256-C0.01-s0-bdb30758",
        ),
    ],
)
def test_stored_studies_keep_the_names_they_had(changes: dict[str, object], name: str) -> None:
    stored = {
        "optimizer": "sgd",
        "hyperparameters": {"learning_rate": {"low": 1e-5, "high": 2.0, "scale": "log"}},
        "spectrum": "paper",
        "spectrum_digest": study_plan(composed()).definition.spectrum_digest,
        "schedule": "constant",
        "batch_size": 256.0,
        "target": 0.01,
        "seed": 0,
        "sampler": {"name": "tpe", "n_startup_trials": 10},
        "max_steps": 10**9,
        "spectrum_settings": {"dim": 10000.0, "exponent": 1.0},
    }
    assert StudyDefinition.from_json({**stored, **changes}).default_name == name


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule.warmup_fraction=0"],
        ["optimizer=sgd", "batch_size=256"],
        ["study.truth=false", "study.n_trials=7"],
        ["optimizer.learning_rate.low=null", "study.enqueue=[]"],
    ],
)
def test_what_changes_no_trial_changes_no_name(overrides: list[str]) -> None:
    assert study_plan(composed(*overrides)).name == study_plan(composed()).name


def test_a_warm_up_makes_another_study_even_of_a_constant_rate() -> None:
    warm = study_plan(composed("schedule.warmup_fraction=0.1"))
    assert warm.definition.hyperparameters["warmup_fraction"] == 0.1
    assert warm.name != study_plan(composed()).name


def test_a_policy_of_beta2_keeps_what_was_given_and_is_told_in_the_settings() -> None:
    fixed = study_plan(composed("optimizer=adam")).definition
    half = study_plan(composed(*HALF_LIFE)).definition
    assert fixed.optimizer_settings == {}
    assert "optimizer_settings" not in fixed.to_json()
    assert half.optimizer_settings == {"beta2_policy": "half_life", "beta2_batch_size": 256.0}
    assert half.hyperparameters == fixed.hyperparameters
    assert half.fingerprint != fixed.fingerprint
    searched = study_plan(composed("optimizer=adam_full", HALF_LIFE[1])).definition
    assert searched.hyperparameters["beta2"] == Range(0.9, 0.99999, "log_one_minus")


def test_studies_of_one_policy_are_one_curve_across_batch_sizes() -> None:
    sizes = [f"batch_size={size}" for size in (4, 256, 2**20)]
    half = {study_plan(composed(*HALF_LIFE, size)).definition.curve for size in sizes}
    other = study_plan(composed(*HALF_LIFE, "optimizer.beta2_batch_size=64")).definition.curve
    assert len(half | {other, study_plan(composed("optimizer=adam")).definition.curve}) == 3


@pytest.mark.parametrize(
    ("option", "searched"),
    [
        ("adam", {"learning_rate"}),
        ("rmsprop", {"learning_rate"}),
        ("adam_full", {"learning_rate", "beta1", "beta2"}),
        ("adamw", {"learning_rate", "weight_decay"}),
    ],
)
def test_each_form_of_adam_searches_what_its_name_says(option: str, searched: set[str]) -> None:
    plan = study_plan(composed(f"optimizer={option}"))
    assert set(plan.search.space.distributions) == searched
    assert plan.recipes.optimizer.make is nqm.Adam
    assert plan.definition.hyperparameters["learning_rate"] == Range(None, None, "log")


@pytest.mark.parametrize("schedule", COMPUTED)
def test_a_computed_schedule_has_no_learning_rate_to_search(schedule: str) -> None:
    plan = study_plan(composed(f"schedule={schedule}", "optimizer.learning_rate.low=1e-4"))
    assert plan.definition.hyperparameters == {}
    assert plan.n_trials == 1


def test_momentum_is_searched_under_an_optimal_schedule() -> None:
    plan = study_plan(composed("optimizer=momentum", "schedule=optimal"))
    assert set(plan.definition.hyperparameters) == {"momentum"}
    assert plan.definition.schedule_settings == {"pieces": 50}
    bounded = study_plan(composed("schedule=optimal", "schedule.max_learning_rate=1"))
    assert bounded.definition.schedule_settings == {"pieces": 50, "max_learning_rate": 1.0}


def test_labels_tell_schedules_apart_and_leave_the_plain_one_out() -> None:
    plans = [study_plan(composed(f"schedule={each}")) for each in ("constant", "cosine", "greedy")]
    assert list(labels(plans).values()) == [
        "sgd B=256 C=0.01 seed=0",
        "sgd cosine B=256 C=0.01 seed=0",
        "sgd greedy B=256 C=0.01 seed=0",
    ]


def test_labels_tell_policies_apart_and_leave_the_plain_one_out() -> None:
    plans = [study_plan(composed("optimizer=adam")), study_plan(composed(*HALF_LIFE))]
    assert list(labels(plans).values()) == [
        "adam B=256 C=0.01 seed=0",
        "adam half_life B=256 C=0.01 seed=0",
    ]


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["optimizer.learning_rate=0.03", "optimizer.learning_rate=1.9"], "learning_rate 1.9"),
        (["optimizer.learning_rate.high=1", "optimizer.learning_rate.high=2"], "fitted..2"),
        (["spectrum.dim=100", "spectrum.dim=200"], "dim 200"),
        (["study.max_steps=1000", "study.max_steps=2000"], "max_steps 2000"),
        (["study.max_growth=2", "study.max_growth=null"], "any growth"),
        (["study.warm_start=true", "study.warm_start=false"], "no first guess"),
        (["sampler.finish=0", "sampler.finish=0.5"], "tpe + finish"),
        (["sampler.n_startup_trials=5", "sampler.n_startup_trials=7"], "n_startup_trials 7"),
    ],
)
def test_studies_of_a_call_are_named_by_what_differs(overrides: list[str], word: str) -> None:
    names = list(labels([study_plan(composed(each)) for each in overrides]).values())
    assert len(set(names)) == 2
    assert names[1].endswith(word)
    assert all(name.startswith("sgd B=256 C=0.01 seed=0") for name in names)


def test_an_experiment_sets_what_an_override_can_still_change() -> None:
    plan = study_plan(composed("experiment=optimal_schedule"))
    assert (plan.definition.optimizer, plan.definition.schedule) == ("sgd", "optimal")
    changed = study_plan(composed("experiment=optimal_schedule", "schedule=linear"))
    assert changed.definition.schedule == "linear"


@pytest.mark.parametrize(
    ("overrides", "schedules", "batch_sizes"),
    [
        (["experiment=schedules"], 7, 10),
        (["experiment=schedules", "batch_sizes=quick"], 7, 5),
        (["experiment=optimal_schedule"], 2, 10),
        (["experiment=adam_scaling"], 0, 19),
    ],
)
def test_an_experiment_says_what_is_swept(
    overrides: list[str], schedules: int, batch_sizes: int
) -> None:
    made = compose("config", overrides, return_hydra_config=True).hydra.sweeper.params
    assert len(made.batch_size.split(",")) == batch_sizes
    swept = made.get("schedule", "")
    assert len(swept.split(",") if swept else []) == schedules
    assert set(swept.split(",") if swept else []) <= {*FAMILIES, *COMPUTED}


def test_the_scaling_experiment_sweeps_sgd_and_adam_over_every_power_of_two() -> None:
    made = composed("experiment=adam_scaling")
    assert dict(made.hydra.sweeper.params) == {
        "optimizer": "sgd,adam",
        "batch_size": ",".join(str(2**k) for k in range(2, 21)),
    }
    chosen = made.hydra.runtime.choices
    assert (chosen.schedule, made.target, chosen.spectrum) == ("constant", 0.01, "paper")
    quick = ["experiment=adam_scaling", "batch_sizes=quick"]
    params = compose("config", quick, return_hydra_config=True).hydra.sweeper.params
    assert params.batch_size == "64,256,1024,4096,16384"


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_key_has_a_comment_above_it(group: str, option: str) -> None:
    lines = (conf_dir() / group / f"{option}.yaml").read_text().splitlines()
    assert lines[0].startswith("#")
    for above, line in itertools.pairwise(lines):
        if line and not line.startswith(("#", " ")) and line.split(":")[0] != "_target_":
            assert above.startswith("#"), f"{line!r} has no comment above it"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("paper", [4**k for k in range(1, 11)]),
        ("quick", [2**k for k in range(6, 15, 2)]),
        ("fine", [2**k for k in range(2, 21)]),
    ],
)
def test_the_batch_sizes_are_those_of_the_contract(option: str, expected: list[int]) -> None:
    text = OmegaConf.load(conf_dir() / "batch_sizes" / f"{option}.yaml")
    swept = OmegaConf.select(text, "hydra.sweeper.params.batch_size")
    assert [int(each) for each in swept.split(",")] == expected


def test_the_paper_is_the_default() -> None:
    plan = study_plan(composed())
    assert plan.definition.spectrum_digest == nqm.power_law(10_000).digest
    assert (plan.definition.target, plan.n_trials, plan.problem.batch_size) == (0.01, 100, 256)


def test_an_override_fixes_frees_or_moves() -> None:
    fixed = study_plan(composed("optimizer=momentum", "optimizer.momentum=0.9"))
    assert fixed.definition.hyperparameters["momentum"] == 0.9
    moved = study_plan(composed("optimizer=momentum", "optimizer.learning_rate.low=1e-4"))
    learning_rate = moved.definition.hyperparameters["learning_rate"]
    assert isinstance(learning_rate, Range)
    assert learning_rate.low == 1e-4
    free = "optimizer.beta1={low: 0.5, high: 0.99, scale: log_one_minus}"
    freed = study_plan(composed("optimizer=adam", free))
    assert freed.definition.hyperparameters["beta1"] == Range(0.5, 0.99, "log_one_minus")


def test_a_study_with_nothing_to_search_has_one_trial() -> None:
    assert study_plan(composed("optimizer=sgd", "optimizer.learning_rate=0.5")).n_trials == 1


def test_a_whole_number_and_its_decimal_make_one_study() -> None:
    one = study_plan(composed("optimizer=momentum", "optimizer.momentum=0"))
    other = study_plan(composed("optimizer=momentum", "optimizer.momentum=0.0"))
    assert one.name == other.name


def test_the_budget_does_not_change_the_name_and_the_rest_does() -> None:
    base = study_plan(composed()).name
    assert study_plan(composed("study.n_trials=7")).name == base
    for change in ("batch_size=64", "target=0.1", "study.seed=1", "sampler=random",
                   "spectrum=paper_small", "optimizer=adam", "study.max_steps=10"):  # fmt: skip
        assert study_plan(composed(change)).name != base


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=0"], "batch_size=0: must be an integer of at least 1"),
        (["batch_size=abc"], "batch_size=abc: must be an integer of at least 1"),
        (["batch_size=1.5"], "batch_size=1.5: must be an integer of at least 1"),
        (["batch_size=null"], "batch_size=null: must be an integer of at least 1"),
        (["batch_size=true"], "batch_size=true: must be an integer of at least 1"),
        (["target=-1"], "target=-1: must be a finite number greater than 0"),
        (["target=nan"], "target=nan: must be a finite number greater than 0"),
        (["target=a"], "target=a: must be a finite number greater than 0"),
        (["target=5"], "target=5: must be below the initial risk, 4.8938"),
        (["study.n_trials=0"], "study.n_trials=0: must be an integer of at least 1"),
        (["study.seed=-1"], "study.seed=-1: must be an integer of at least 0"),
        (["study.max_steps=0"], "study.max_steps=0: must be an integer of at least 1"),
        (["study.max_growth=0.5"], "study.max_growth=0.5: must be a finite number of at least 1"),
        (["study.max_growth=no"], "study.max_growth=no: must be a finite number of at least 1"),
        (
            ["optimizer.learning_rate.low=5"],
            "optimizer.learning_rate.low=5: must be below 2, which fits the problem at "
            "batch_size=256; or give both bounds",
        ),
        (
            ["optimizer.learning_rate.low=-1"],
            "optimizer.learning_rate.low=-1: must be greater than 0 on a log scale",
        ),
        (
            ["optimizer.learning_rate.scale=cubic"],
            "optimizer.learning_rate.scale=cubic: must be one of linear, log, log_one_minus",
        ),
        (
            ["optimizer.learning_rate=-0.1"],
            "optimizer.learning_rate=-0.1: must be a finite number greater than 0",
        ),
        (
            ["optimizer.learning_rate=fast"],
            "optimizer.learning_rate=fast: must be a number or a range",
        ),
        (
            ["optimizer=momentum", "optimizer.momentum=1.0"],
            "optimizer.momentum=1: must be a finite number of at least 0 and less than 1",
        ),
        (
            ["optimizer=momentum", "optimizer.momentum.low=-0.5"],
            "optimizer.momentum=-0.5: must be a finite number of at least 0 and less than 1",
        ),
        (
            ["+optimizer.beta1=0.9"],
            "optimizer.beta1=0.9: SGD has only learning_rate, momentum, nesterov, "
            "preconditioner_power, ema_decay",
        ),
        (
            ["study.seed=99999999999"],
            "study.seed=99999999999: must be an integer of at least 0 and at most 4294967295",
        ),
        (
            ["batch_size=1" + 32 * "0"],
            "batch_size=1" + 32 * "0" + ": must be an integer of at least 1 and at most 9007",
        ),
        (
            ["spectrum.dim=10000000000000000"],
            "spectrum.dim=10000000000000000: must be an integer of at least 1 and at most 9007199",
        ),
        (
            ["spectrum.exponent=null"],
            "spectrum.exponent=null: must be a finite number of at least 0",
        ),
        (["study=null"], "study=null: must be a group with n_trials, seed, name, max_steps"),
        (["study=5"], "study=5: must be a group with n_trials, seed, name, max_steps"),
        (["~optimizer"], "optimizer: is missing"),
        (["~batch_size"], "batch_size: is missing"),
        (["~study.seed"], "study.seed: is missing"),
        (["~optimizer.learning_rate"], "optimizer.learning_rate: is missing"),
        (["+foo=1"], "foo=1: no such key; there are batch_size, target, optimizer"),
        (["+study.foo=1"], "study.foo=1: no such key; there are n_trials, seed, name, max_steps"),
        (
            ["+sampler.foo=3"],
            "sampler.foo=3: no such key; there are name, n_startup_trials, finish",
        ),
        (
            ["sampler=random", "+sampler.foo=3"],
            "sampler.foo=3: no such key; there are name, finish",
        ),
        (["tracking.experiment="], "tracking.experiment=: must be a text, not empty"),
        (["tracking.diagnostics=yes please"], "tracking.diagnostics=yes please: must be true or"),
        (["tracking.experiment=null"], "tracking.experiment=null: must be a text, not empty"),
        (["study.name="], "study.name=: must be a text, not empty"),
        (["optimizer.name=''"], "optimizer.name=: must be a text, not empty"),
        (["batch_size=${foo}"], "Interpolation key 'foo' not found"),
        (["spectrum.dim=0"], "spectrum.dim=0: must be an integer of at least 1"),
        (["spectrum.exponent=-1"], "spectrum.exponent=-1: must be a finite number of at least 0"),
        (["~schedule._target_"], "schedule._target_: is missing"),
        (
            ["schedule=step_decay", "schedule.drops=0"],
            "schedule.drops=0: must be an integer of at least 1",
        ),
        (
            ["schedule=step_decay", "schedule.drops={low: 1, high: 5}"],
            "schedule.drops={'low': 1, 'high': 5}: must be an integer of at least 1",
        ),
        (
            ["schedule=step_decay", "schedule.decay_rate=0"],
            "schedule.decay_rate=0: must be a finite number greater than 0",
        ),
        (
            ["schedule=warmup_stable_decay", "schedule.decay=foo"],
            "schedule.decay=foo: must be one of linear, cosine, sqrt",
        ),
        (
            ["schedule=warmup_stable_decay", "schedule.warmup_fraction.high=1"],
            "schedule.warmup_fraction=1: must be a finite number of at least 0 and less than 1",
        ),
        (
            ["schedule=linear", "+schedule.foo=1"],
            "schedule.foo=1: linear has only final_fraction, warmup_fraction",
        ),
        (["+schedule.final_fraction=1"], "schedule.final_fraction=1: constant has only warmup"),
        (["schedule=greedy", "+schedule.foo=1"], "schedule.foo=1: greedy has no keys"),
        (
            ["schedule=linear", "schedule.final_fraction={low: -1, high: 1, scale: linear}"],
            "schedule.final_fraction=-1: must be a finite number of at least 0",
        ),
        (
            ["schedule=linear", "schedule.final_fraction.low=0"],
            "schedule.final_fraction.low=0: must be greater than 0 on a log scale",
        ),
        (
            ["schedule=cosine", "schedule.exponent=fast"],
            "schedule.exponent=fast: must be a number or a range",
        ),
        (
            ["schedule=piecewise_constant", "schedule.pieces=0"],
            "schedule.pieces=0: must be an integer of at least 1",
        ),
        (
            ["schedule=piecewise_constant", "schedule.pieces=1001"],
            "schedule.pieces=1001: must be an integer of at least 1 and at most 1000",
        ),
        (["schedule=piecewise_constant", "~schedule.pieces"], "schedule.pieces: is missing"),
        (["schedule=piecewise_constant", "~schedule.ratio"], "schedule.ratio_2: is missing"),
        (
            ["schedule=piecewise_constant", "schedule.ratio=-1"],
            "schedule.ratio=-1: must be a finite number of at least 0",
        ),
        (
            ["schedule=piecewise_constant", "+schedule.ratio_3=-1"],
            "schedule.ratio_3=-1: must be a finite number of at least 0",
        ),
        (
            ["schedule=piecewise_constant", "+schedule.ratio_7=0.1"],
            "schedule.ratio_7=0.1: with pieces=6 there are ratios 2 to 6",
        ),
        (
            ["schedule=optimal", "schedule.pieces=0"],
            "schedule.pieces=0: must be an integer of at least 1",
        ),
        (["schedule=optimal", "~schedule.pieces"], "schedule.pieces: is missing"),
        (
            ["schedule=optimal", "schedule.max_learning_rate=0"],
            "schedule.max_learning_rate=0: must be a finite number greater than 0",
        ),
        (
            ["schedule=optimal", "optimizer=adam"],
            "schedule=optimal: is computed for optimizers of nqm_study.SGD only, and "
            "optimizer=adam is Adam",
        ),
        (
            ["schedule=greedy", "optimizer=adam"],
            "schedule=greedy: is computed for optimizers of nqm_study.SGD only",
        ),
        (
            ["schedule=optimal", "optimizer.learning_rate=0.5"],
            "optimizer.learning_rate=0.5: must not be fixed with schedule=optimal, which computes "
            "the rates; schedule.max_learning_rate bounds them",
        ),
        (
            ["schedule=greedy", "optimizer=momentum"],
            "optimizer.momentum={...}: must be 0 with schedule=greedy",
        ),
        (
            ["schedule=greedy", "optimizer=momentum", "optimizer.momentum=0.9"],
            "optimizer.momentum=0.9: must be 0 with schedule=greedy",
        ),
        (
            ["schedule=greedy", "optimizer=ema", "optimizer.ema_decay=0.9"],
            "optimizer.ema_decay=0.9: must be 0 with schedule=greedy",
        ),
        (
            ["+optimizer.beta2_policy=half_life"],
            "optimizer.beta2_policy=half_life: SGD has only learning_rate, momentum, nesterov, "
            "preconditioner_power, ema_decay",
        ),
        (
            ["optimizer=adam", "+optimizer.momentum=0.9"],
            "optimizer.momentum=0.9: Adam has only learning_rate, beta1, beta2, eps, weight_decay, "
            "beta2_policy, beta2_batch_size",
        ),
        (
            ["optimizer=adam", "optimizer.beta2_policy=halving"],
            "optimizer.beta2_policy=halving: must be one of fixed, half_life",
        ),
        (
            ["optimizer=rmsprop", "optimizer.beta2_policy=null"],
            "optimizer.beta2_policy=null: must be one of fixed, half_life",
        ),
        (
            ["optimizer=adam_full", "optimizer.beta2_batch_size=0"],
            "optimizer.beta2_batch_size=0: must be a finite number greater than 0",
        ),
        (
            ["optimizer=adam", "optimizer.beta2_batch_size={low: 1, high: 5}"],
            "optimizer.beta2_batch_size={'low': 1, 'high': 5}: must be a finite number greater",
        ),
        ([*HALF_LIFE, "~optimizer.beta2_batch_size"], "optimizer.beta2_batch_size: is missing"),
        (
            [*HALF_LIFE, "~optimizer.beta2"],
            "optimizer.beta2: is missing, and beta2_policy=half_life needs it",
        ),
        (
            [*HALF_LIFE, "batch_size=1", "optimizer.beta2_batch_size=1e14"],
            "optimizer.beta2_batch_size=1e+14: beta2=0.999 there is 1 at batch_size=1, and must be "
            "less than 1",
        ),
        (
            ["optimizer=adam_full", HALF_LIFE[1], "optimizer.beta2_batch_size=1e15"],
            "optimizer.beta2_batch_size=1e+15: beta2=0.99999 there is 1 at batch_size=256, and "
            "must be less than 1",
        ),
        ([*HALF_LIFE, "optimizer.beta2=1"], "optimizer.beta2=1: must be a finite number of at"),
        (
            ["sampler=grid", "study.n_trials=200"],
            "study.n_trials=200: must be at most 100, the points of the grid",
        ),
    ],
)
def test_bad_input_is_one_clear_line(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refusal:
        study_plan(composed(*overrides))
    assert str(refusal.value).startswith(message)


def test_the_configuration_is_found_beside_the_package_in_a_checkout() -> None:
    assert conf_dir() == Path(nqm.__file__).resolve().parent.parent / "conf"


def test_help_says_what_is_allowed_under_every_key_and_what_it_is() -> None:
    text = described()
    assert "target: expected loss to reach (a finite number greater than 0)" in text
    for group, option in OPTIONS:
        if group in NAMED and group not in ("optimizer", "schedule", "batch_schedule"):
            for key in set(OmegaConf.load(conf_dir() / group / f"{option}.yaml")) - {
                "name", "_target_", "defaults",
            }:  # fmt: skip
                assert f"  {group}.{key}: " in text
    for group in ("study", "report"):
        for key in composed()[group]:
            assert f"  {group}.{key}: " in text


def test_a_curve_that_is_as_configured_is_named_by_optimizer_and_schedule_alone() -> None:
    # The report knows no configuration: its list of usual values must say what that has.
    found, plain = [], []
    choices = [
        [option for group, option in OPTIONS if group == g] for g in ("optimizer", "schedule")
    ]
    for optimizer, schedule in itertools.product(*choices):
        try:
            plan = study_plan(composed(f"optimizer={optimizer}", f"schedule={schedule}"))
        except ValueError:
            continue  # some computed schedules are of some optimizers only
        names = [optimizer, *([schedule] if schedule != "constant" else [])]
        # A preconditioner is always named with its power, which is what studies of it vary.
        names += ["power 0.5"] if optimizer == "preconditioned" else []
        found.append(own_label(plan.definition))
        plain.append(", ".join(names))
    assert found == plain
    assert len(found) > 80
