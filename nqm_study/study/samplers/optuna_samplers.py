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
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.study.definition import Range, StudyDefinition, grid_points
from nqm_study.study.evaluation import MOST_SIZE
from nqm_study.study.machine import step_time
from nqm_study.study.recipes import Recipe, made
from nqm_study.study.samplers.coordinates import CoordinateSampler, relative_space
from nqm_study.study.samplers.local_search import LocalSearch, is_local, turns
from nqm_study.study.space import Search, SearchSpace, point_key
from nqm_study.study.trials import FAILURE


def make_sampler(
    definition: StudyDefinition, search: Search, own: Recipe | None = None
) -> CoordinateSampler:
    """Make the sampler of a study, whose trials are in the user's units.

    Args:
        definition: the study's.
        search: what is searched, and the first trials.
        own: how it is made, if it is not one of those here.

    Raises:
        ValueError: for an unknown name or a setting the sampler does not have.
    """
    space, seed, settings = search.space, definition.seed, definition.sampler
    name, share = settings["name"], _share(settings)
    options = {k: v for k, v in settings.items() if k not in ("name", "finish", "target")}
    starts: Sequence[Mapping[str, Any]] = search.starts
    if name == "grid" and own is None:
        # Points in an order of their own; behind them, any.
        starts = space.grid(grid_points(options, len(space.coordinates) + len(space.choices)))
        order = np.random.default_rng(seed).permutation(len(starts))
        starts, options = [starts[place] for place in order], {}
    elif own is None and name not in (*_ANEW, "qmc"):
        known = ", ".join((*_ANEW, "qmc", "grid"))
        raise ValueError(f"sampler.name={name}: must be one of {known}")

    once: BaseSampler | None = None
    if own is not None and "seed" not in own.names:
        once = made(own, seed, options)

    def anew(number: int) -> BaseSampler:
        if once is not None:
            return once
        if name == "qmc" and own is None:
            place = turns(number, share) - turns(len(starts), share)
            return _quietly(_Sobol, space, seed, place, **options)
        entropy = np.random.SeedSequence([seed, number])
        if own is not None:
            return _quietly(made, own, int(entropy.generate_state(1)[0]), options)
        make = _ANEW.get(name, RandomSampler)
        if name == "tpe" and space.conditional:
            make = functools.partial(_quietly, TPESampler, group=True)
        return make(seed=int(entropy.generate_state(1)[0]), **options)

    sampler = StudySampler(anew, Search(space, tuple(starts)), share, seed)
    most: Any = definition.max_steps
    sizes: Any = definition.batch_size
    largest = sizes.high if isinstance(sizes, Range) else sizes
    if definition.two_objectives:
        # What missed the target is behind whatever reached it in examples, too.
        most *= largest
    elif definition.objective == "examples":
        most = definition.objective_settings["steps"] * MOST_SIZE
    elif definition.objective == "time":
        # Steps whose batch sizes have a mean take no more than this on average.
        most *= 1.0 + float(step_time(definition, np.asarray(largest)))
    return CoordinateSampler(sampler, space, target=definition.target, max_steps=most)


def asks_in_turn(definition: StudyDefinition, search: Search, number: int) -> bool:
    """Whether what is proposed for a trial depends on what others have been given before.

    No given point is given twice, and the local search does not ask a point twice.
    """
    settings = definition.sampler
    given = settings["name"] == "grid" or number < len(search.starts)
    return given or is_local(number, _share(settings))


def _share(settings: Mapping[str, Any]) -> float:
    """The share of the trials that the local search has."""
    return float(settings.get("finish", 0.0))


class StudySampler(BaseSampler):
    """Given points first, then Optuna's sampler by turns with a local search, all in coordinates.

    Args:
        make: Optuna's sampler for the trial of a number.
        search: the space, and the points of the first trials.
        share: of the trials that the local search has, from 0 to below 1.
        seed: of points beside those that others are at work on.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], search: Search, share: float, seed: int
    ) -> None:
        self._make, self._sampler = make, make(0)
        self._space, self._share = search.space, share
        # By what they are once they come back from a trial.
        self._left = {point_key(search.space.settled(each)): each for each in search.starts}
        self._local = LocalSearch(search.space, seed, share, len(search.starts))
        self._inferred: dict[str, BaseDistribution] = {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make Optuna's sampler of this trial."""
        self._sampler = self._make(trial.number)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 (Optuna's signature)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All choices and coordinates: a point is proposed as a whole."""
        return dict(self._space.coordinate_distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """A given point, the local search's, or Optuna's sampler's."""
        start = self._start(study, trial)
        if start is not None:
            return dict(start)
        if is_local(trial.number, self._share):
            return self._local.proposal(study.get_trials(deepcopy=False), trial.number)
        if not self._inferred or self._space.conditional:
            # Optuna's samplers find it in what they have seen of the trials, and each of these is
            # new; but without conditions every trial of a study has the same space.
            self._inferred = relative_space(self._sampler, study, trial, self._space)
        return self._sampler.sample_relative(study, trial, self._inferred)

    def _start(self, study: Study, trial: FrozenTrial) -> Mapping[str, Any] | None:
        """The first of the given points that no trial has, but those that were lost."""
        if not self._left:
            return None
        for each in study.get_trials(deepcopy=False):
            lost = each.state == TrialState.FAIL and FAILURE not in each.user_attrs
            if each.number != trial.number and not lost:
                self._left.pop(point_key(each.params), None)
        return next(iter(self._left.values()), None)

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


class _Sobol(QMCSampler):
    """One of the scrambled Sobol points: which, its trial's number says, and no count is kept.

    It is of all coordinates, also of those that the trial then does without.
    """

    def __init__(self, space: SearchSpace, seed: int, place: int, **options: Any) -> None:
        super().__init__(scramble=True, seed=seed, warn_independent_sampling=False, **options)
        self._space, self._place = space.coordinate_distributions, place

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002 (Optuna's signature)
    ) -> dict[str, Any]:
        return super().sample_relative(study, trial, self._space)

    def _find_sample_id(
        self,
        study: Study,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> int:
        return self._place


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
