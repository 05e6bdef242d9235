"""Samplers whose proposal depends on the seed, the trial's number and the trials before, only.

A sampler that carries its random state from trial to trial proposes the same points again when a
study is resumed with the same seed. These are made anew for each trial from (seed, trial number),
so that an interrupted study ends as an unbroken one would.
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

from nqm_study.study.definition import SAMPLER_SETTINGS, grid_points
from nqm_study.study.samplers.delegating import Delegating
from nqm_study.study.samplers.finish import Finished
from nqm_study.study.samplers.local_search import is_local
from nqm_study.study.space import Search, SearchSpace


def make_sampler(
    settings: Mapping[str, Any],
    search: Search,
    seed: int,
    finished: int,
    *,
    shared: bool = False,
) -> BaseSampler:
    """The sampler of a study.

    Args:
        settings: ``name`` (one of ``SAMPLER_SETTINGS``) and that sampler's own settings.
        search: what is searched, and the first trials.
        seed: the study's seed.
        finished: how many trials the study has that the sampler's own count leaves out.
        shared: whether it is asked and told outside Optuna's own loop, by several processes.

    Raises:
        ValueError: for an unknown name or a setting the sampler does not have.
    """
    options = {key: v for key, v in settings.items() if key not in ("name", "finish")}
    share = float(settings.get("finish", 0.0))
    own = sum(
        number >= len(search.starts) and not is_local(number, share) for number in range(finished)
    )
    sampler = _optunas(settings["name"], options, search.space, seed, own, shared=shared)
    return Finished(sampler, search, share, seed) if share or search.starts else sampler


def _optunas(
    name: str,
    options: Mapping[str, Any],
    space: SearchSpace,
    seed: int,
    finished: int,
    *,
    shared: bool,
) -> BaseSampler:
    """Optuna's sampler, which has proposed so many of the finished trials."""
    if name == "grid":
        kind = _Grid if shared else GridSampler
        return kind(space.grid(grid_points(options, len(space.coordinates))), seed=seed)
    if name == "qmc":
        return _qmc(space, seed, finished, **options)
    simple: dict[str, Callable[..., BaseSampler]] = {
        "tpe": TPESampler,
        "cmaes": functools.partial(CmaEsSampler, warn_independent_sampling=False),
        "gp": _gp,
        "random": RandomSampler,
        "nsgaii": _Generations,
    }
    if name not in simple:
        raise ValueError(f"sampler.name={name}: must be one of {', '.join(SAMPLER_SETTINGS)}")
    return Reseeded(functools.partial(simple[name], **options), seed)


def asks_in_turn(sampler: BaseSampler, number: int) -> bool:
    """Whether what is proposed for a trial depends on what others have been given before.

    Quasi-random points are counted in the study, and the local search does not ask a point twice.
    """
    if isinstance(sampler, Finished):
        return sampler.is_own(number) or asks_in_turn(sampler.sampler, number)
    return isinstance(sampler, QMCSampler)


class Reseeded(Delegating):
    """Another sampler, made anew for each trial with a seed of its own."""

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        super().__init__(make(seed=seed))
        self._make = make
        self._seed = seed
        self._space: dict[str, BaseDistribution] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        entropy = np.random.SeedSequence([self._seed, trial.number])
        self.sampler = self._make(seed=int(entropy.generate_state(1)[0]))
        super().before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """As the trial's own sampler does; every trial of a study has the same space.

        Optuna's samplers find it in what they have seen of the trials, and each of these is new.
        """
        if not self._space:
            self._space = super().infer_relative_search_space(study, trial)
        return self._space


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
    """Optuna's sampler stops Optuna's loop when the grid is done; here the budget ends a study."""

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Nothing is left to be done."""


def _gp(**options: Any) -> BaseSampler:
    with warnings.catch_warnings():
        # Optuna calls the argument experimental; that is a word about its interface.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return GPSampler(deterministic_objective=True, **options)


def _qmc(space: SearchSpace, seed: int, finished: int, **options: Any) -> BaseSampler:
    """Scrambled Sobol points, at the place in the sequence where the study left off."""
    with warnings.catch_warnings():
        # Optuna calls the sampler experimental; that is a word about its interface.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _Sobol(space, seed, finished, **options)


class _Sobol(QMCSampler):
    """Optuna's sampler counts its points in the study it samples for, which is in memory here."""

    def __init__(self, space: SearchSpace, seed: int, finished: int, **options: Any) -> None:
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False, **options)
        self._space = space.distributions
        self._behind = finished

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
