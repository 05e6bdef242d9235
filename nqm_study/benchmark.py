"""The search for the fewest steps as a benchmark of search algorithms, with its optimum known."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from nqm_study.build import python_plan
from nqm_study.evaluations import evaluation
from nqm_study.model.power_law import power_law
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.spectrum import Spectrum
from nqm_study.schedule_parts import COMPUTED
from nqm_study.study.definition import Hyperparameter
from nqm_study.study.records import Optimum, regret
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage import trial_records
from nqm_study.study.trials import attributes, constrain, loss, suggest
from nqm_study.truth import true_optimum

Array = npt.NDArray[np.float64]


class Benchmark:
    """An objective for ``optuna.Study.optimize``: minimise the logarithm of the steps to a target.

        benchmark = nqm.Benchmark("momentum", batch_size=1024)
        study = optuna.create_study(sampler=sampler)
        study.optimize(benchmark, n_trials=100)
        benchmark.regret(study)  # how far above the true optimum, after each trial

    A point that does not reach the target gets a finite value above all that do, larger the further
    from the target it stays, and the constraint ``not_reached`` is 1. The objective is
    deterministic. It has a narrow curved valley where momentum is free, plateaus, since steps are
    whole numbers, and at large batches cliffs, where a dip of an oscillating risk just misses the
    target. The coordinates are those that studies search, and the values that a user would type are
    in the trial's attribute ``hyperparameters``, with ``steps``, ``status`` and ``risk``.

    Args:
        family: name of an optimizer's configuration: ``sgd``, ``momentum``, ``adam``, ...
        batch_size: examples per step, a real number > 0.
        spectrum: the modes; None for the paper's, 1/i with 10,000 modes.
        target: expected loss to reach, above 0 and below the initial risk.
        schedule: name of a schedule's configuration.
        hyperparameters: numbers or ranges that replace those of the configurations.

    Attributes:
        problem: spectrum and batch size.
        space: what is searched.

    Raises:
        ValueError: if a value is outside its range.
    """

    def __init__(
        self,
        family: str = "momentum",
        batch_size: float = 1024,
        *,
        spectrum: Spectrum | None = None,
        target: float = 0.01,
        schedule: str = "constant",
        hyperparameters: Mapping[str, Hyperparameter | str] | None = None,
    ) -> None:
        modes = _paper() if spectrum is None else spectrum
        self.problem = NoisyQuadratic(modes, batch_size)
        self._plan = python_plan(
            self.problem,
            family,
            target=target,
            schedule=schedule,
            hyperparameters=hyperparameters,
            warm_start=False,
        )
        if schedule in COMPUTED or not self._plan.definition.searched:
            raise ValueError(
                f"schedule={schedule}, hyperparameters: must leave something to search"
            )
        self._evaluate = evaluation(self.problem, self._plan.algorithm, self._plan.definition)
        self.space: SearchSpace = self._plan.search.space

    def __call__(self, trial: Trial) -> float:
        """The logarithm of the steps, or the penalty, at the point that the sampler proposes."""
        values = self.space.values(suggest(trial, self.space))
        found = self._evaluate(values)
        for name, value in attributes(values, found).items():
            trial.set_user_attr(name, value)
        constrain(trial, found)
        made = self._plan.definition
        return loss(found.crossing, made.target, made.max_steps)

    @functools.cached_property
    def optimum(self) -> Optimum | None:
        """The fewest steps of the family and where they are; None where none reach the target.

        Computed at the first call: tenths of a second, with momentum some seconds; under a schedule
        or of Adam up to minutes, and not exact.
        """
        return true_optimum(self.problem, self._plan.algorithm, self._plan.definition, self.space)

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


@functools.cache
def _paper() -> Spectrum:
    # One for all, since its compressions are kept on it.
    return power_law(10_000, 1.0)
