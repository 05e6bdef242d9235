"""Optuna's sampler by turns with a local search from the best trial: both ask ordinary trials.

In every PERIOD trials the first ones are the sampler's and the rest the local search's, so a study
has a global and a local part whatever its budget, and a larger budget goes on as if it had been
asked for at once. What is proposed depends on the seed, the trial's number and the trials before:
where the local search stands is found by giving it the stored trials once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.study.samplers.delegating import Delegating
from nqm_study.study.samplers.local_search import LocalSearch, is_local
from nqm_study.study.space import Search


class Finished(Delegating):
    """Another sampler, whose proposals come after given ones and by turns with a local search's.

    Args:
        sampler: proposes the rest.
        search: the space, and the coordinates of the first trials.
        share: of the trials that the local search has, from 0 to below 1.
        seed: of points beside those that others are at work on.
    """

    def __init__(self, sampler: BaseSampler, search: Search, share: float, seed: int) -> None:
        super().__init__(sampler)
        self._search = search
        self._share = share
        self._left = [dict(start) for start in search.starts]
        self._local = LocalSearch(search.space, seed, share, len(search.starts))

    def is_own(self, number: int) -> bool:
        """Whether a trial is none of the sampler's."""
        return number < len(self._search.starts) or is_local(number, self._share)

    def _start(self, study: Study, trial: FrozenTrial) -> Mapping[str, float] | None:
        """The first of the given points that no trial has; of one that failed it is given again."""
        if not self._left:
            return None
        held = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        trials = study.get_trials(deepcopy=False, states=held)
        taken = [each.params for each in trials if each.number != trial.number]
        self._left = [start for start in self._left if start not in taken]
        return self._left[0] if self._left else None

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 (Optuna's signature)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All coordinates."""
        return dict(self._search.space.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A given point, the local search's, or the sampler's."""
        start = self._start(study, trial)
        if start is not None:
            return dict(start)
        if is_local(trial.number, self._share):
            return self._local.proposal(study.get_trials(deepcopy=False), trial.number)
        inferred = super().infer_relative_search_space(study, trial)
        return super().sample_relative(study, trial, inferred or search_space)
