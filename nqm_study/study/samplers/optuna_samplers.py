"""The sampler of a study: Optuna's, by turns with a local search from the best trial.

In every PERIOD trials the first ones are Optuna's sampler's and the rest the local search's, so a
study has a global and a local part whatever its budget, and a larger budget goes on as if it had
been asked for at once.

A sampler that carries its random state from trial to trial proposes the same points again when a
study is resumed with the same seed. Here what is proposed depends on the seed, the trial's number
and the trials before, only: Optuna's sampler is made anew for each trial from (seed, trial number),
and where the local search stands is found by giving it the stored trials once more.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.study.definition import grid_points
from nqm_study.study.samplers.local_search import LocalSearch, is_local
from nqm_study.study.space import Search, SearchSpace


def make_sampler(
    settings: Mapping[str, Any],
    search: Search,
    seed: int,
    finished: int,
    *,
    shared: bool = False,
) -> StudySampler:
    """Make the sampler of a study.

    Args:
        settings: ``name``, as its configuration has it, and that sampler's own settings.
        search: what is searched, and the first trials.
        seed: the study's seed.
        finished: how many trials the study has that the sampler's own count leaves out.
        shared: whether it is used outside Optuna's own loop, by several processes.

    Raises:
        ValueError: for an unknown name or a setting the sampler does not have.
    """
    name, space, share = settings["name"], search.space, float(settings.get("finish", 0.0))
    options = {key: v for key, v in settings.items() if key not in ("name", "finish")}
    once: BaseSampler | None = None
    if name == "grid":
        grid = space.grid(grid_points(options, len(space.coordinates)))
        once = (_Grid if shared else GridSampler)(grid, seed=seed)
    elif name == "qmc":
        first = range(len(search.starts), finished)
        behind = sum(not is_local(number, share) for number in first)
        once = _quietly(_Sobol, space, seed, behind, **options)
    elif name not in _ANEW:
        known = ", ".join((*_ANEW, "qmc", "grid"))
        raise ValueError(f"sampler.name={name}: must be one of {known}")

    def make(number: int) -> BaseSampler:
        if once is not None:
            return once
        entropy = np.random.SeedSequence([seed, number])
        return _ANEW[name](seed=int(entropy.generate_state(1)[0]), **options)

    return StudySampler(make, search, share, seed)


class StudySampler(BaseSampler):
    """Given points first, then Optuna's sampler by turns with a local search.

    Args:
        make: Optuna's sampler for the trial of a number.
        search: the space, and the coordinates of the first trials.
        share: of the trials that the local search has, from 0 to below 1.
        seed: of points beside those that others are at work on.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], search: Search, share: float, seed: int
    ) -> None:
        self._make, self._sampler = make, make(0)
        self._search, self._share = search, share
        self._left = [dict(start) for start in search.starts]
        self._local = LocalSearch(search.space, seed, share, len(search.starts))
        self._inferred: dict[str, BaseDistribution] = {}

    def asks_in_turn(self, number: int) -> bool:
        """Whether what is proposed for a trial depends on what others have been given before.

        Quasi-random points are counted in the study, and the local search does not ask a point
        twice.
        """
        own = number < len(self._search.starts) or is_local(number, self._share)
        return own or isinstance(self._sampler, QMCSampler)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make Optuna's sampler of this trial."""
        self._sampler = self._make(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As Optuna's sampler does; all coordinates where others propose points as well.

        Optuna's samplers find it in what they have seen of the trials, and each of these is new;
        but every trial of a study has the same space.
        """
        if not self._inferred:
            self._inferred = self._sampler.infer_relative_search_space(study, trial)
        if self._search.starts or self._share:
            return dict(self._search.space.distributions)
        return self._inferred

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A given point, the local search's, or Optuna's sampler's."""
        start = self._start(study, trial)
        if start is not None:
            return dict(start)
        if is_local(trial.number, self._share):
            return self._local.proposal(study.get_trials(deepcopy=False), trial.number)
        return self._sampler.sample_relative(study, trial, self._inferred or search_space)

    def _start(self, study: Study, trial: FrozenTrial) -> Mapping[str, float] | None:
        """The first of the given points that no trial has; of one that failed it is given again."""
        if not self._left:
            return None
        held = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        trials = study.get_trials(deepcopy=False, states=held)
        taken = [each.params for each in trials if each.number != trial.number]
        self._left = [start for start in self._left if start not in taken]
        return self._left[0] if self._left else None

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """As Optuna's sampler does."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As Optuna's sampler does."""
        self._sampler.after_trial(study, trial, state, values)


class _Generations(NSGAIISampler):
    """Optuna's NSGA-II, which goes on the same wherever it is made anew."""

    def __init__(self, *, population_size: int, seed: int) -> None:
        super().__init__(population_size=population_size, seed=seed)
        # Optuna gives both the same seed: what is mutated would follow from what is crossed.
        other = np.random.SeedSequence([seed, 1])
        self._random_sampler = RandomSampler(seed=int(other.generate_state(1)[0]))

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Count every trial to a generation: given points too become parents."""
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The parents by number, however they come: chosen just now, or remembered."""
        parents = super().get_parent_population(study, generation)
        return sorted(parents, key=lambda trial: trial.number)


class _Grid(GridSampler):
    """Optuna's grid, without ending Optuna's loop when it is done: here the budget ends a study."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Do nothing."""


class _Sobol(QMCSampler):
    """Scrambled Sobol points, at the place in the sequence where the study left off.

    Optuna's sampler counts its points in the study it samples for, which is in memory here.
    """

    def __init__(self, space: SearchSpace, seed: int, behind: int, **options: Any) -> None:
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False, **options)
        self._space = space.distributions
        self._behind = behind

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 (Optuna's signature)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return dict(self._space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        while self._behind > 0:
            super().sample_relative(study, trial, search_space)
            self._behind -= 1
        return super().sample_relative(study, trial, search_space)


def _quietly(make: Callable[..., BaseSampler], *values: Any, **options: Any) -> BaseSampler:
    """Make a sampler, without Optuna's word that its interface is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make(*values, **options)


_ANEW: Mapping[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "gp": functools.partial(_quietly, GPSampler, deterministic_objective=True),
    "cmaes": functools.partial(CmaEsSampler, warn_independent_sampling=False),
    "random": RandomSampler,
    "nsgaii": _Generations,
}
"""Optuna's samplers that are made anew for each trial."""
