"""Scaling curves: what was found against batch size, over the seeds at each."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from statistics import median
from typing import Any

from pandas import DataFrame

from nqm_study.report.frame import COMPUTED, effective_rate, known
from nqm_study.report.labels import labels, variant
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.records import Optimum
from nqm_study.study.text import printable

TOLERANCE = 0.02
"""The share by which a study may have more steps than one at another batch size allows, without a
word on it: as much as a limit may change by where it counts as reached."""

CLOSURE_TOLERANCE = 0.06
"""The same for Adam's steps: each of the two that are compared is within 3 %."""

_BOUNDS = (
    *("classical_bound", "optimal_steps", "optimal_gap"),
    *("stability_limit", "interpolation_batch_size"),
)
_OF_CURVE = ("label", "optimizer", "spectrum", "schedule", "target", "spectrum_digest")
_OF_RUN = ("curve", "label", "optimizer", "schedule", "target", "batch_size", "fixed")


@dataclass(frozen=True)
class Point:
    """The best found at one batch size, over its seeds.

    Attributes:
        batch_size: examples per step.
        steps, steps_low, steps_high: median and range over seeds of the fewest steps to the target.
        hyperparameters: of the best trials, fixed ones too; median over seeds, the user's units.
        trials: finished trials, summed over seeds.
        seeds, seeds_unreached: seeds that reached the target, and those that did not.
        bayes_bound: the fewest steps any algorithm could need; 0 where it is not known at this
            batch size, which was found.
        hyperparameter_ranges: lowest and highest value over seeds.
        effective_rate: lr / (1 - momentum) of the best trials, median over seeds. It is what sets
            the pace: lr and momentum alone trade off.
        effective_rate_range: lowest and highest over seeds.
        classical_bound: d / (2 C B), the large-sample limit; None where it is not known.
        optimal_steps: steps of SGD's optimal schedule; None where it is not known.
        optimal_gap: the share of them that another schedule may save; None where it is not known.
        stability_limit: the largest stable rate of SGD where the noise follows the loss, and None
            elsewhere.
        interpolation_batch_size: tr(H) / h_1 + 1 in examples, there.
        rates: (step, learning rate) pairs of the schedule of the trial with the fewest steps, which
            are ``steps_low``; empty unless it was computed.
        optimum: the true optimum of the searched hyperparameters; None where it is not known.
        seed_rates: the effective rates of the seeds' best trials, in no order.
        at_edge: whether a best trial is at the end of a range that could go on.
        words: the hyperparameters of the best trial that are no numbers.
        summed_examples: the sum of batch sizes, where they change; median over seeds.
        time, time_low, time_high: median and range over seeds of the least time to the target;
            NaN unless that is the objective.
    """

    batch_size: float
    steps: float
    steps_low: float
    steps_high: float
    hyperparameters: Mapping[str, float]
    trials: int
    seeds: int
    bayes_bound: int
    hyperparameter_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    seeds_unreached: int = 0
    effective_rate: float = math.nan
    effective_rate_range: tuple[float, float] = (math.nan, math.nan)
    classical_bound: float | None = None
    optimal_steps: int | None = None
    optimal_gap: float | None = None
    stability_limit: float | None = None
    interpolation_batch_size: float | None = None
    rates: tuple[tuple[int, float], ...] = ()
    optimum: Optimum | None = None
    seed_rates: tuple[float, ...] = ()
    at_edge: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    summed_examples: float | None = None
    time: float = math.nan
    time_low: float = math.nan
    time_high: float = math.nan

    @property
    def ratio_to_bound(self) -> float:
        """Steps over the Bayes bound; nan where the bound is 0."""
        return self.steps / self.bayes_bound if self.bayes_bound else math.nan

    @property
    def ratio_to_optimal(self) -> float:
        """Steps over those of SGD's optimal schedule; nan where these are not known."""
        return self.steps / self.optimal_steps if self.optimal_steps else math.nan

    @property
    def excess(self) -> float | None:
        """How far the median steps are above the true optimum's, relative; None if not known."""
        if self.optimum is None or self.optimum.steps == 0:
            return None
        return self.steps / self.optimum.steps - 1.0

    @property
    def optimal_rate(self) -> float:
        """The true optimum's lr / (1 - momentum); nan where it is not known."""
        return math.nan if self.optimum is None else effective_rate(self.optimum.hyperparameters)

    def at_optimum(self) -> Point | None:
        """The point that a search would have found at the true optimum; None if it is not known."""
        if self.optimum is None:
            return None
        steps, rate = float(self.optimum.steps), self.optimal_rate
        return replace(
            self,
            steps=steps,
            steps_low=steps,
            steps_high=steps,
            hyperparameters=_numbers(self.optimum.hyperparameters),
            words=_words(self.optimum.hyperparameters),
            hyperparameter_ranges={},
            effective_rate=rate,
            effective_rate_range=(rate, rate),
            seed_rates=(rate,),
            summed_examples=None,
        )

    @property
    def examples(self) -> float:
        """Examples seen until the target: steps times batch size, or the sum of batch sizes."""
        if self.summed_examples is not None:
            return self.summed_examples
        return self.steps * self.batch_size


@dataclass(frozen=True)
class Missed:
    """A batch size at which no trial reached the target.

    Attributes:
        batch_size: examples per step.
        trials: finished trials, summed over seeds.
        hyperparameters: those that are given, in the user's units.
    """

    batch_size: float
    trials: int
    hyperparameters: Mapping[str, float]


@dataclass(frozen=True)
class Curve:
    """Studies that differ only in batch size and seed.

    Attributes:
        key: the definition's hash less batch size and seed.
        label: its name, which it has whatever else is drawn (see ``labels``).
        optimizer, spectrum, schedule: names of the configurations.
        target: expected loss to reach.
        searched: names of the searched hyperparameters.
        points: by batch size, smallest first.
        missed: batch sizes with finished trials of which none reached the target.
        spectrum_digest: hash of the spectrum's arrays.
        spectrum_text: the spectrum's name with its settings, and the problem's unless it is usual.
        problem: name of the problem's class; empty for the noisy quadratic.
        problem_digest: hash of the spectrum and the problem.
        variant: what was chosen by hand, beside optimizer and schedule; empty for nothing.
        optima: true optima by batch size, where they are known; also where none was reached.
        tolerance: the share by which steps may be above what another batch size allows; infinite
            where each has hyperparameters of its own, by a policy, and where the fewest steps
            need not take the least time.
        objective: what is minimised: ``steps``, ``examples`` or ``time``.
        batch_schedule: name of the batch schedule's configuration; empty for none.
    """

    key: str
    label: str
    optimizer: str
    spectrum: str
    schedule: str
    target: float
    searched: tuple[str, ...]
    points: tuple[Point, ...]
    missed: tuple[Missed, ...]
    spectrum_digest: str = ""
    spectrum_text: str = ""
    problem: str = ""
    problem_digest: str = ""
    variant: str = ""
    optima: tuple[tuple[float, Optimum], ...] = ()
    tolerance: float = TOLERANCE
    objective: str = "steps"
    batch_schedule: str = ""

    @property
    def unreached(self) -> tuple[float, ...]:
        """The batch sizes at which no trial reached the target."""
        return tuple(each.batch_size for each in self.missed)

    @property
    def computed(self) -> bool:
        """Whether its schedules were computed: their largest rate is mostly the cap on them."""
        return self.schedule in COMPUTED

    @property
    def fixed(self) -> bool:
        """Whether nothing of it is searched or computed: each study is one run at a given rate."""
        return not self.searched and not self.computed


def curves(studies: DataFrame) -> tuple[Curve, ...]:
    """The scaling curves of a table of studies, in its order.

    Their names are those of the column ``label`` (see ``labelled``). Studies that search the batch
    size are on no curve.
    """
    return tuple(
        _curve(rows)
        for rows in _grouped(labelled(on_curves(studies)).to_dict("records"), "curve").values()
    )


def on_curves(studies: DataFrame) -> DataFrame:
    """The studies of one batch size; of equal ones that with the most trials."""
    return _one_each(studies[~studies.two_objectives])


def on_frontiers(studies: DataFrame) -> DataFrame:
    """The studies that search the batch size too; of equal ones that with the most trials."""
    return _one_each(studies[studies.two_objectives])


def labelled(studies: DataFrame) -> DataFrame:
    """The studies with the names of their curves in the column ``label``, unless they have them."""
    if "label" in studies:
        return studies
    names: dict[str, str] = {}
    for each in (on_curves(studies), on_frontiers(studies)):  # which are never drawn together
        first = each.drop_duplicates("curve")
        names |= zip(first.curve, map(printable, labels(list(first.definition))), strict=True)
    return studies.assign(label=studies.curve.map(names))


def best_optimum(optima: Iterable[Optimum | None]) -> Optimum | None:
    """The true optimum of studies of one batch size that differ in seed and sampler at most.

    They all have the same one, unless it is not exact: then it is the best of theirs. None where it
    is not known.
    """
    found = [each for each in optima if each is not None]
    return min(found, key=lambda optimum: (not optimum.exact, optimum.steps), default=None)


def runs_frame(studies: DataFrame) -> DataFrame:
    """The runs whose course is known, or that diverged: a row for each curve and batch size.

    Of several seeds it is the one with the fewest steps. Beside ``curve``, ``label``,
    ``optimizer``, ``schedule``, ``target``, ``batch_size`` and ``fixed`` of its study a run has its
    ``learning_rate`` (0 where there is none), ``reached``, ``steps`` (<NA> unless reached), and
    ``training``, None where it diverged at once.
    """
    rows = []
    for study in labelled(on_curves(studies)).itertuples():
        course = study.training
        number = study.trials[0].number if course is None else course.trial
        trial = next((each for each in study.trials if each.number == number), None)
        if trial is not None and (course is not None or study.diverged):
            rows.append(
                {
                    **{name: getattr(study, name) for name in _OF_RUN},
                    "learning_rate": trial.hyperparameters.get("learning_rate", 0.0),
                    "reached": trial.steps is not None,
                    "steps": trial.steps,
                    "training": course,
                }
            )
    columns = (*_OF_RUN, "learning_rate", "reached", "steps", "training")
    types = {"reached": "bool", "steps": "Int64", "fixed": "bool", "training": "object"}
    frame = DataFrame(rows, columns=list(columns)).astype(types)
    fastest_first = frame.sort_values("steps", kind="stable")
    return fastest_first.drop_duplicates(["curve", "batch_size"]).sort_index()


def by_problem(studies: DataFrame) -> list[DataFrame]:
    """The studies of each problem and target apart, as one figure shows them, by their names."""
    groups = [group for _, group in studies.groupby(["problem_digest", "target"])]
    return sorted(groups, key=lambda group: str(group.spectrum.min()))


def one_problem_each(curves: Sequence[Curve]) -> tuple[tuple[Curve, ...], ...]:
    """The curves of each problem and target apart, in the order of the first of each."""
    groups: dict[tuple[str, float], list[Curve]] = defaultdict(list)
    for curve in curves:
        groups[curve.problem_digest, curve.target].append(curve)
    return tuple(map(tuple, groups.values()))


def compared(curves: Sequence[Curve]) -> list[Curve]:
    """The curves that are compared by their fewest steps: without fixed ones, if there are others.

    Fixed ones are what the figure ``training`` is for.
    """
    return [curve for curve in curves if not curve.fixed] or list(curves)


def of_one_problem(curves: Sequence[Curve]) -> list[Curve]:
    """The curves with points, if all are of one spectrum and target; else none."""
    with_points = [curve for curve in curves if curve.points]
    return with_points if len(one_problem_each(with_points)) == 1 else []


def scheduled(curves: Sequence[Curve]) -> bool:
    """Whether any curve's learning rate changes in the course of a run, so that it has a peak."""
    return any(curve.schedule != "constant" for curve in curves)


def _one_each(studies: DataFrame) -> DataFrame:
    longest_last = studies.sort_values(["n_trials", "study"])
    return longest_last.drop_duplicates("fingerprint", keep="last").sort_index()


def _curve(studies: list[dict[str, Any]]) -> Curve:
    first = studies[0]
    definition: StudyDefinition = first["definition"]
    sizes = sorted(_grouped(studies, "batch_size").items())
    optima = [(size, best_optimum(each["optimum"] for each in seeds)) for size, seeds in sizes]
    return Curve(
        **{name: first[name] for name in _OF_CURVE},
        key=first["curve"],
        searched=definition.searched,
        points=tuple(
            _point(size, seeds) for size, seeds in sizes if any(each["reached"] for each in seeds)
        ),
        missed=tuple(
            Missed(
                size,
                sum(each["n_trials"] for each in seeds),
                _numbers(seeds[0]["definition"].given),
            )
            for size, seeds in sizes
            if not any(each["reached"] for each in seeds)
        ),
        spectrum_text=printable(definition.spectrum_text),
        problem=definition.problem,
        problem_digest=definition.problem_digest,
        variant=variant(definition),
        optima=tuple((size, optimum) for size, optimum in optima if optimum is not None),
        tolerance=_tolerance(definition),
        objective=first["objective"],
        batch_schedule=definition.batch_schedule,
    )


def _point(batch_size: float, studies: list[dict[str, Any]]) -> Point:
    """The point of the studies of one batch size, of which some reached the target."""
    reached = (each for each in studies if each["reached"])
    found = sorted(reached, key=itemgetter(f"{studies[0]['objective']}_to_target"))
    best = found[0]
    definition: StudyDefinition = best["definition"]
    steps, steps_range = _median_and_range(each["steps_to_target"] for each in found)
    rate, rate_range = _median_and_range(each["effective_learning_rate"] for each in found)
    time, time_range = _median_and_range(each["time_to_target"] for each in found)
    examples, _ = _median_and_range(each["examples_to_target"] for each in found)
    values = best["hyperparameters"]
    over_seeds = {
        name: _median_and_range(each["hyperparameters"].get(name, math.nan) for each in found)
        for name in _numbers(values)
    }
    return Point(
        batch_size=batch_size,
        steps=steps,
        steps_low=steps_range[0],
        steps_high=steps_range[1],
        hyperparameters={name: median for name, (median, _) in over_seeds.items()},
        trials=sum(each["n_trials"] for each in studies),
        seeds=len(found),
        bayes_bound=0 if definition.finds_batch_size else best["bayes_bound"],
        hyperparameter_ranges={name: ends for name, (_, ends) in over_seeds.items()},
        seeds_unreached=len(studies) - len(found),
        effective_rate=rate,
        effective_rate_range=rate_range,
        **{name: _first_known(name, [best, *studies]) for name in _BOUNDS},
        rates=best["rates"],
        optimum=best_optimum(each["optimum"] for each in studies),
        seed_rates=tuple(each["effective_learning_rate"] for each in found),
        at_edge=any(each["at_edge"] for each in found),
        words=_words(values),
        summed_examples=examples if _sums_examples(definition) else None,
        time=time,
        time_low=time_range[0],
        time_high=time_range[1],
    )


def _sums_examples(definition: StudyDefinition) -> bool:
    """Whether examples need not be steps times batch size, or are what is minimised."""
    return bool(definition.batch_schedule) or definition.objective == "examples"


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The hyperparameters that are numbers."""
    return {n: float(v) for n, v in values.items() if not isinstance(v, str)}


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    """The hyperparameters that are none."""
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _tolerance(definition: StudyDefinition) -> float:
    timed = definition.objective == "time" and not definition.batch_schedule
    if definition.optimizer_settings or (definition.objective and not timed):
        return math.inf
    return CLOSURE_TOLERANCE if definition.approximate else TOLERANCE


def _grouped(rows: Iterable[dict[str, Any]], name: str) -> dict[Any, list[dict[str, Any]]]:
    """Rows by the value of a column, in the order in which the values come."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[name], []).append(row)
    return groups


def _median_and_range(values: Iterable[float]) -> tuple[float, tuple[float, float]]:
    """Median, and lowest and highest, of the values that are known; NaN where none is."""
    given = [float(value) for value in values if not math.isnan(value)] or [math.nan]
    return median(given), (min(given), max(given))


def _first_known(name: str, rows: Iterable[Mapping[str, Any]]) -> Any:
    return next((row[name] for row in rows if known(row[name]) is not None), None)
