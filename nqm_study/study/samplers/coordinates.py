"""A sampler of hyperparameters in the user's units that asks another in coordinates.

What Optuna stores is what a user would type: learning_rate, momentum, steps. The valley of few
steps is straight in other coordinates, which ``SearchSpace`` has, and samplers want the logarithm
of the steps and something finite where the target was missed. All of that is here, on the way from
a study to the wrapped sampler: it is shown the study's trials as points in the coordinates, with
what it should minimise, and what it proposes is mapped back. Nothing of it is stored. What the
wrapped sampler notes on a trial or the study, such as the state of CMA-ES, goes to the storage.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Container, Sequence
from typing import Any, Protocol

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nqm_study.model.outcome import MOST_STEPS
from nqm_study.study.space import SearchSpace
from nqm_study.study.trials import kept, ranking


class Searchable(Protocol):
    """Something with a search space and a target, such as ``Benchmark``."""

    space: SearchSpace
    target: float
    max_steps: int


class CoordinateSampler(BaseSampler):
    """Optuna's sampler of your choice, searching in coordinates in which the valley is straight.

        benchmark = nqm.Benchmark(problem, "momentum")
        sampler = nqm.CoordinateSampler(optuna.samplers.TPESampler(seed=0), benchmark)
        study = optuna.create_study(sampler=sampler)
        study.optimize(benchmark, n_trials=100)

    The study has the user's hyperparameters and the steps. The wrapped sampler sees points such as
    (one_minus_momentum, effective_learning_rate), and minimises the logarithm of the steps; trials
    that missed the target come after all others, by their attribute ``risk``, where they have it.

    Args:
        sampler: any of Optuna's, or one with its interface.
        space: a benchmark, or what its attribute ``space`` is.
        target, max_steps: a miss counts as ``max_steps`` times how far its loss stayed above the
            target; a benchmark has its own.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        space: SearchSpace | Searchable,
        *,
        target: float = 0.01,
        max_steps: int = MOST_STEPS,
    ) -> None:
        if not isinstance(sampler, BaseSampler):
            raise ValueError(f"sampler={sampler!r}: must be a sampler of Optuna's")
        self._sampler, self._target, self._max_steps = sampler, target, max_steps
        if isinstance(space, SearchSpace):
            self._space = space
        else:
            self._space, self._target, self._max_steps = space.space, space.target, space.max_steps
        self._shown: _Shown | None = None

    def __str__(self) -> str:
        return f"CoordinateSampler({self._sampler})"

    def __getstate__(self) -> dict[str, Any]:
        """All but the study's storage, which is seen anew."""
        return {**self.__dict__, "_shown": None}

    def reseed_rng(self) -> None:
        """As the wrapped sampler does."""
        self._sampler.reseed_rng()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """As the wrapped sampler does."""
        shown, seen = self._seen(study)
        self._sampler.before_trial(seen, shown.show(trial))

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 (Optuna's signature)
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """All that is searched: a point is proposed as a whole."""
        return dict(self._space.distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """The hyperparameters that apply at the point that the wrapped sampler proposes."""
        shown, seen = self._seen(study)
        # With what the wrapped sampler noted on it before.
        now = shown.get_trial(trial._trial_id)
        space = relative_space(self._sampler, seen, now, self._space)
        point = self._sampler.sample_relative(seen, now, space)

        def ask(name: str, distribution: BaseDistribution) -> Any:
            if name in point:
                return point[name]
            return self._sampler.sample_independent(seen, now, name, distribution)

        values = self._space.values(ask)
        return {name: values[name] for name in self._space.distributions if name in values}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What an objective asks for beside the space: as the wrapped sampler does."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As the wrapped sampler does."""
        shown, seen = self._seen(study)
        point = shown.show(trial)
        self._sampler.after_trial(seen, point, state, values and shown.ranked(trial, values))

    def _seen(self, study: Study) -> tuple[_Shown, Study]:
        """The study as the wrapped sampler sees it."""
        if self._shown is None or self._shown.storage is not study._storage:
            self._shown = _Shown(study._storage, self._space, self._target, self._max_steps)
        seen = copy.copy(study)
        seen._storage = self._shown  # type: ignore[assignment]  # all of a storage that it is asked
        seen.stop = study.stop  # type: ignore[method-assign]  # the loop is the study's own
        return self._shown, seen


def relative_space(
    sampler: BaseSampler, study: Study, trial: FrozenTrial, space: SearchSpace
) -> dict[str, BaseDistribution]:
    """What a sampler proposes at once: of what it finds in the trials, what always applies.

    Where a condition first holds in all trials and later does not, CMA-ES would be left with a
    space that is none any more.
    """
    found = sampler.infer_relative_search_space(study, trial)
    return {name: each for name, each in found.items() if name not in space.conditional}


class _Shown:
    """A storage whose trials are points in coordinates, ranked; all else is the storage's own."""

    def __init__(
        self, storage: BaseStorage, space: SearchSpace, target: float, max_steps: int
    ) -> None:
        self.storage = storage
        self._space, self._target, self._max_steps = space, target, max_steps
        self._finished: dict[int, FrozenTrial] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = self.storage.get_all_trials(study_id, deepcopy=False, states=states)
        shown = [self._finished.get(each._trial_id) or self.show(each) for each in trials]
        return copy.deepcopy(shown) if deepcopy else shown

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self.show(self.storage.get_trial(trial_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        return BaseStorage.get_best_trial(self, study_id)  # type: ignore[arg-type]

    def show(self, trial: FrozenTrial) -> FrozenTrial:
        """A trial as a point; one that runs has it once all of it is known."""
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        point: dict[str, Any] = {}
        # Not all of it may be there yet, or it may be another objective's.
        with contextlib.suppress(KeyError):
            if given:
                point = self._space.point(self._space.decided(lambda name, _: given[name]))
        shown = copy.copy(trial)
        shown.params = point
        shown.distributions = {name: self._space.coordinate_distributions[name] for name in point}
        if trial.values:
            shown.values = self.ranked(trial, trial.values)
        if trial.state.is_finished():
            self._finished[trial._trial_id] = shown
        return shown

    def ranked(self, trial: FrozenTrial, values: Sequence[float]) -> list[float]:
        """What the wrapped sampler minimises in place of a trial's values."""
        risk = kept(trial).get("risk")
        known = math.inf if risk is None else risk
        return list(ranking(values, known, self._target, self._max_steps))
