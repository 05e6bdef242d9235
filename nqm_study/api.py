"""The search for the fewest steps in Python: a study in one call, and an objective to search."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from nqm_study.app.worker import open_planned, run_planned
from nqm_study.config.hyperparameters import ends
from nqm_study.config.plan import StudyPlan, python_plan
from nqm_study.model.linear.fewest_steps import LONGEST
from nqm_study.model.linear.members import require_fixable
from nqm_study.model.numerics.require import require_growth, require_integer, require_number
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import MAX_GROWTH
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.problems.power_law import power_law
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.model.schedules import BatchSchedule, Schedule, ScheduleLike
from nqm_study.optimum.dense_search import MOST_EVALUATIONS
from nqm_study.optimum.study import Truth, can_be_found, true_optimum
from nqm_study.optimum.tuned import ShapeFamily, Tuned, optimum, under_shape
from nqm_study.study.definition import Objective
from nqm_study.study.evaluation import evaluation, parts_of_run
from nqm_study.study.records import Optimum, StudyRecord, regret
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage.backends import located, require_writable
from nqm_study.study.storage.changed import require_same_code
from nqm_study.study.storage.studies import find_study, read_records
from nqm_study.study.trials import attributes, constrain, objectives, suggest, trial_records

if TYPE_CHECKING:
    from pandas import DataFrame

Array = npt.NDArray[np.float64]
Source = str | Path | BaseStorage | Iterable[StudyRecord]
"""Where studies are: a folder, an Optuna storage or its URL, or records that were read."""


def run_study(
    problem: Problem,
    family: str | type[Optimizer],
    *,
    target: float = 0.01,
    n_trials: int = 100,
    seed: int = 0,
    storage: BaseStorage | str | Path | None = None,
    schedule: str | type[Schedule] = "constant",
    batch_schedule: str | type[BatchSchedule] = "constant",
    hyperparameters: Mapping[str, Any] | None = None,
    sampler: str | type[BaseSampler] = "tpe",
    warm_start: bool = True,
    enqueue: Sequence[Mapping[str, float]] = (),
    truth: Truth = False,
    max_growth: float | None = MAX_GROWTH,
    objective: Objective = "steps",
    **cost: float,
) -> Study:
    """Tune an optimizer on a problem for the fewest steps to a target.

    Args:
        problem: spectrum and batch size.
        family: name of an optimizer's configuration: ``sgd``, ``momentum``, ``adam``, ...; or a
            class, whose learning rate is searched, and what ``hyperparameters`` says.
        target: expected loss to reach, above 0 and below the initial risk.
        n_trials: total of finished trials, those of earlier calls on this storage included.
        seed: seed of the sampler, at least 0.
        storage: what keeps the study, and resumes it: an Optuna storage or its URL; or a path, of
            the folder ``mlruns`` or the one that holds it, or of a journal file, made if it is
            missing. There a study is that of the command line: each goes on with what the other
            began, and waits while the other runs it. None keeps it in memory.
        schedule: name of a schedule's configuration: ``constant``, ``cosine``, ``optimal``, ...; or
            a class.
        batch_schedule: name of a batch schedule's configuration: ``constant``, ``ramp``, ...; or a
            class. The problem's batch size is the mean of a run. Its hyperparameters have
            ``batch_`` before their names: ``batch_end``.
        hyperparameters: values, ranges or choices that replace those of the two configurations, as
            these have them: ``{"low": 0.1, "high": 1.0, "scale": "log"}``, ``{"choices": [...]}``;
            and what else they can be given, such as ``beta2_policy``.
        sampler: name of a sampler's configuration: ``tpe``, ``cmaes``, ``random``, ...; or a class
            of Optuna's, or with its interface.
        warm_start: whether the first trial is the one that a rule says for the problem.
        enqueue: hyperparameters of trials that come before, each inside its range; what is left out
            is as the rule has it.
        truth: whether the true optimum is computed and kept with the study, by the search that
            ``tuned`` is: True where it takes seconds, of SGD in all its forms; ``"all"`` for
            Adam, classes of your own, and more than four values at once too.
        max_growth: as in ``steps_to_target``: a trial whose loss rises above this many times the
            first one is ``diverged``.
        objective: ``steps``; ``examples``, of runs of a given number of ``steps``, whatever the
            problem's batch size; or ``time``, where a step with B examples takes
            max(1, B / hardware_batch_size)^hardware_exponent.
        **cost: ``steps``, ``hardware_batch_size`` and ``hardware_exponent``, as in the
            configuration's group ``study``.

    Returns:
        The Optuna study, with the searched hyperparameters in PyTorch's units and the objective as
        the value, infinite where the target was not reached. A trial's user attributes hold all its
        hyperparameters, its steps (None where not reached), status and risk.

    Raises:
        ValueError: if a value is outside its range.
        StudyMismatchError: if the storage holds a study of this name made from another definition.
    """
    path = storage if isinstance(storage, Path) else None
    if isinstance(storage, str) and "://" not in storage:
        path = Path(storage)
    root, backends = located(path) if path is not None else (Path(), ())
    plan = python_plan(
        problem,
        family,
        named=path is not None,
        target=target,
        n_trials=n_trials,
        seed=seed,
        schedule=schedule,
        batch_schedule=batch_schedule,
        hyperparameters=hyperparameters,
        sampler=sampler,
        warm_start=warm_start,
        enqueue=enqueue,
        truth=truth,
        max_growth=max_growth,
        objective=objective,
        **cost,
    )
    if path is None:
        return _run(plan, optuna.storages.get_storage(storage))  # type: ignore[arg-type]
    require_writable(root, *(each.path(root).name for each in backends))
    for backend in backends:
        if (known := find_study(backend.open(root), plan.definition)) is not None:
            plan = replace(plan, name=known.name, definition=known.definition)
            break
    else:
        backend = backends[0]
    with backend.lock(root, "run", plan.name):
        return _run(plan, backend.open(root))


def _run(plan: StudyPlan, storage: BaseStorage) -> Study:
    if plan.recipes.resumes and storage.get_all_studies():
        warnings.warn(plan.recipes.resumes, stacklevel=3)
    require_same_code(storage, [(plan.definition, plan.recipes.versioned)])
    stored = open_planned(plan, storage)
    run_planned(plan, stored)
    return stored


def tuned(
    problem: Problem,
    family: str | type[Optimizer],
    *,
    schedule: str | type[Schedule] | ScheduleLike | ShapeFamily = "constant",
    batch_schedule: str | type[BatchSchedule] = "constant",
    hyperparameters: Mapping[str, Any] | None = None,
    target: float = 0.01,
    max_steps: int = 10**9,
    most_evaluations: int = MOST_EVALUATIONS,
    max_growth: float | None = MAX_GROWTH,
    **fixed: float,
) -> Tuned:
    """The fewest steps to a target over all hyperparameters of a family: a study's true optimum.

    What is free, and in which ranges, is as in a study of ``run_study``; the shape of a schedule is
    free where it is named, by what its configuration searches, or is a ``ShapeFamily``.

    For SGD at a constant rate, with momentum or ema_decay free or neither, the result is the best
    of all local optima over all values, found from a dense start, each exact to the step. Else it
    is the best of a dense search of the ranges. Both are proved only as far as they are dense; the
    tests compare them with wide random searches. Under a schedule the largest rate is searched up
    to 0.9998 of the limit of stability at a constant rate.

    Args:
        problem: spectrum and batch size.
        family: name of an optimizer's configuration, or a class, as in ``run_study``.
        schedule: multiplies the learning rate: name of a configuration, or a class; or a schedule
            or function whose shape is fixed, or a family of shapes.
        batch_schedule: name of a batch schedule's configuration, or a class, as in ``run_study``.
        hyperparameters: values or ranges, as in ``run_study``.
        target: expected loss to reach, > 0.
        max_steps: the most steps that count, >= 0.
        most_evaluations: a limit on the work of a dense search, >= 1.
        max_growth: members count only if their expected loss does not rise above this many times
            the first one on the way, as in ``steps_to_target``.
        **fixed: hyperparameters but the learning rate, to be held at these values:
            ``tuned(problem, "momentum", momentum=0.9)`` is the best rate for that momentum.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem={problem!r}: must be NoisyQuadratic or LeastSquares")
    target = require_number("target", target, above=0.0)
    max_steps = require_integer("max_steps", max_steps, least=0, most=LONGEST)
    most_evaluations = require_integer("most_evaluations", most_evaluations, least=1)
    plan = python_plan(
        problem,
        family,
        schedule=schedule if isinstance(schedule, (str, type)) else "constant",
        batch_schedule=batch_schedule,
        hyperparameters=hyperparameters,
        target=min(target, 0.5 * problem.spectrum.initial_risk),
        max_growth=require_growth(max_growth),
    )
    recipes, definition, factor = plan.recipes, plan.definition, 1.0
    if not isinstance(schedule, (str, type)):
        recipes, definition, factor = under_shape(recipes, definition, schedule)
    known = (*recipes.optimizer.names, *definition.hyperparameters)
    fixable = [name for name in dict.fromkeys(known) if name != "learning_rate"]
    require_fixable(fixed, fixable)
    definition = replace(
        definition,
        hyperparameters={**definition.hyperparameters, **fixed},
        target=target,
        max_steps=max_steps,
    )
    if recipes.schedule.computed or not definition.searched:
        raise ValueError(f"schedule={schedule}, hyperparameters: must leave something to search")
    if not can_be_found(definition):
        raise ValueError("hyperparameters: must have no range among the conditions of others")
    for values in ends(definition.hyperparameters):
        parts_of_run(problem, recipes, definition, values)  # refuses values out of range
    return optimum(problem, recipes, definition, factor=factor, most_evaluations=most_evaluations)


def studies_frame(source: Source = "mlruns") -> DataFrame:
    """The table of studies: one row for each that has finished trials.

        studies = nqm.studies_frame()
        studies.query("optimizer == 'sgd' and batch_size >= 64")
        nqm.plot.steps_to_target(studies)

    Args:
        source: the folder ``mlruns`` or the one that holds it, a journal file, an Optuna storage or
            its URL, or records.

    Returns:
        A DataFrame; the docstring of ``nqm_study.report.frame.studies_frame`` has its columns.

    Raises:
        ValueError: if a folder holds no studies.
    """
    from nqm_study.report import frame

    return frame.studies_frame(_records(source))


def trials_frame(source: Source = "mlruns") -> DataFrame:
    """The table of trials: one row for each finished trial, with what names its study.

    Args:
        source: as for ``studies_frame``.

    Returns:
        A DataFrame; the docstring of ``nqm_study.report.frame.trials_frame`` has its columns.

    Raises:
        ValueError: if a folder holds no studies.
    """
    from nqm_study.report import frame

    return frame.trials_frame(frame.studies_frame(_records(source)))


class Benchmark:
    """An objective for ``optuna.Study.optimize``: minimise the steps to a target.

        benchmark = nqm.Benchmark(problem, "momentum", target=0.01)
        study = optuna.create_study(sampler=nqm.CoordinateSampler(sampler, benchmark))
        study.optimize(benchmark, n_trials=100)
        benchmark.regret(study)  # how far above the true optimum, after each trial

    The parameters are the hyperparameters that a user would type, and the value is the steps. One
    that does not reach the target has an infinite value, and its constraint ``not_reached`` is 1.
    The attributes of a trial are ``hyperparameters``, the fixed ones too, ``steps``, ``status`` and
    ``risk``. The objective is deterministic. It has a narrow curved valley where momentum is free,
    plateaus, since steps are whole numbers, and at large batches cliffs, where a dip of an
    oscillating risk just misses the target. Any sampler of Optuna's can be given; wrapped in a
    ``CoordinateSampler`` it searches as studies do, in coordinates in which the valley is straight,
    and learns from the risk how far a miss was off.

    Args:
        problem: spectrum and batch size. It may be left out, as in ``Benchmark("momentum",
            batch_size=1024)``: then it is of ``spectrum`` and ``batch_size``.
        family: name of an optimizer's configuration: ``sgd``, ``momentum``, ``adam``, ...; or a
            class.
        batch_size: examples per step, a real number > 0; 1024 where no problem is given.
        spectrum: the modes; where no problem is given, the paper's, 1/i with 10,000 modes.
        target: expected loss to reach, above 0 and below the initial risk.
        schedule: name of a schedule's configuration.
        hyperparameters: numbers or ranges that replace those of the configurations.
        max_growth: as in ``steps_to_target``.

    Attributes:
        problem: spectrum and batch size.
        space: what is searched.
        target, max_steps: of the trials.

    Raises:
        ValueError: if a value is outside its range.
    """

    def __init__(
        self,
        problem: Problem | str | type[Optimizer] | None = None,
        family: str | type[Optimizer] | float | None = None,
        *,
        batch_size: float | None = None,
        spectrum: Spectrum | None = None,
        target: float = 0.01,
        schedule: str | type[Schedule] = "constant",
        batch_schedule: str | type[BatchSchedule] = "constant",
        hyperparameters: Mapping[str, Any] | None = None,
        max_growth: float | None = MAX_GROWTH,
    ) -> None:
        if isinstance(problem, (str, type)):  # the family comes first, and then its batch size
            batch_size = family if batch_size is None else batch_size  # type: ignore[assignment]
            problem, family = None, problem
        if problem is None:
            modes = _paper() if spectrum is None else spectrum
            problem = NoisyQuadratic(modes, 1024 if batch_size is None else batch_size)
        elif batch_size is not None or spectrum is not None:
            raise ValueError("batch_size, spectrum: must be left out where a problem is given")
        self.problem = problem
        self._plan = python_plan(
            problem,
            "momentum" if family is None else family,  # type: ignore[arg-type]  # refused there
            target=target,
            schedule=schedule,
            batch_schedule=batch_schedule,
            hyperparameters=hyperparameters,
            warm_start=False,
            max_growth=max_growth,
        )
        self.target = self._plan.definition.target
        self.max_steps = self._plan.definition.max_steps
        if self._plan.recipes.schedule.computed or not self._plan.definition.searched:
            raise ValueError(
                f"schedule={schedule}, hyperparameters: must leave something to search"
            )
        self._evaluate = evaluation(self.problem, self._plan.recipes, self._plan.definition)
        self.space: SearchSpace = self._plan.search.space

    def __call__(self, trial: Trial) -> float:
        """The steps to the target of what the sampler proposes; infinite where it is missed."""
        values = suggest(trial, self.space)
        found = self._evaluate(values)
        for name, value in attributes(values, found).items():
            trial.set_user_attr(name, value)
        constrain(trial, found)
        (steps,) = objectives(self._plan.definition, values, found)
        return steps

    @functools.cached_property
    def optimum(self) -> Optimum | None:
        """The fewest steps of the family and where they are; None where none reach the target.

        Computed at the first call: tenths of a second, with momentum and under a schedule some
        seconds; of Adam up to minutes. Under a schedule and of Adam it is not exact.
        """
        return true_optimum(self.problem, self._plan.recipes, self._plan.definition)

    def regret(self, study: Study | Sequence[FrozenTrial]) -> Array:
        """Relative excess of the fewest steps over the optimum's after each finished trial.

        Returns:
            Array with an entry for each finished trial, infinite while none reached the target.

        Raises:
            ValueError: where no member of the family reaches the target.
        """
        if self.optimum is None:
            raise ValueError("the target is reached by no member of the family: there is no regret")
        trials = study.get_trials(deepcopy=False) if isinstance(study, Study) else study
        return np.array(regret(trial_records(trials), self.optimum), dtype=np.float64)


def _records(source: Source) -> Iterable[StudyRecord]:
    """The records of all studies that a source holds."""
    if isinstance(source, str) and "://" in source:
        source = optuna.storages.get_storage(source)
    if isinstance(source, BaseStorage):
        return read_records(source)
    if not isinstance(source, (str, Path)):
        return source
    root, backends = located(source, "source")
    if not any(each.exists(root) for each in backends):
        raise ValueError(f"source={source}: must be a folder that holds studies, such as mlruns")
    return [record for each in backends for record in read_records(each.open(root))]


@functools.cache
def _paper() -> Spectrum:
    # One for all, since its compressions are kept on it.
    return power_law(10_000, 1.0)
