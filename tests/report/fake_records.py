"""Study records with made-up trials, near the figures of the paper's problem."""

from __future__ import annotations

import csv
import dataclasses
import io
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from matplotlib.figure import Figure

from nqm_study.report import curves as scaling, figures
from nqm_study.report.frame import studies_frame
from nqm_study.report.values import csv_bytes
from nqm_study.study.definition import Hyperparameter, Range, StudyDefinition
from nqm_study.study.records import Optimum, StudyRecord, TrialRecord


def curves(records: Iterable[StudyRecord]) -> tuple[scaling.Curve, ...]:
    """The scaling curves of studies."""
    return scaling.curves(studies_frame(records))


def figure_of(name: str) -> Callable[[Iterable[StudyRecord]], Figure]:
    """The function that draws a figure of studies, which must have something to draw."""

    def draw(records: Iterable[StudyRecord]) -> Figure:
        figure: Figure | None = figures.module(name).draw(studies_frame(records))
        assert figure is not None
        return figure

    return draw


def csv_rows(name: str, records: Iterable[StudyRecord]) -> list[dict[str, str]]:
    """The rows of the CSV file beside a figure."""
    written = csv_bytes(figures.module(name).table(studies_frame(records))).decode()
    return list(csv.DictReader(io.StringIO(written)))


steps_figure, learning_rate_figure = figure_of("steps_to_target"), figure_of("learning_rate")

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
LEARNING_RATE = Range(1e-5, 10.0)


def definition(**changes: Any) -> StudyDefinition:
    values: dict[str, Any] = {
        "optimizer": "sgd",
        "hyperparameters": {"learning_rate": LEARNING_RATE, "momentum": 0.0},
        "spectrum": "paper",
        "spectrum_digest": "d1",
        "schedule": "constant",
        "batch_size": 256,
        "target": 0.01,
        "seed": 0,
        "sampler": {"name": "tpe"},
        "max_steps": 10**9,
        "max_growth": 1000.0,
        "warm_start": True,
    }
    return StudyDefinition(**{**values, **changes})


def bounded(records: Sequence[StudyRecord]) -> list[StudyRecord]:
    """The same with the classical bound and the steps of SGD's optimal schedule."""
    return [
        dataclasses.replace(
            record,
            classical_bound=500_000 / record.definition.batch_size,
            optimal_steps=optimal_steps(record.definition.batch_size),
        )
        for record in records
    ]


def with_optima(
    records: Sequence[StudyRecord],
    excess: Callable[[float], float] = lambda _: 0.0,
    off: Callable[[float], float] = lambda _: 1.0,
    *,
    exact: bool = True,
) -> list[StudyRecord]:
    """The same with true optima.

    Args:
        records: studies with a trial that reached the target.
        excess: how far the best trial's steps are above the optimum's, relative, by batch size.
        off: the best trial's learning rate over the optimum's, by batch size.
        exact: whether the optima are.
    """
    made = []
    for record in records:
        best, batch_size = record.best, record.definition.batch_size
        assert best is not None
        assert best.steps is not None
        rate = best.hyperparameters["learning_rate"] / off(batch_size)
        optimum = Optimum(
            round(best.steps / (1.0 + excess(batch_size))),
            {**best.hyperparameters, "learning_rate": rate},
            exact,
        )
        made.append(dataclasses.replace(record, optimum=optimum))
    return made


def optimal_steps(batch_size: float) -> int:
    return round(6679 + 7.6e5 / batch_size)


def trial(steps: int | None, number: int = 0, **hyperparameters: float) -> TrialRecord:
    return TrialRecord(
        number=number,
        hyperparameters={"learning_rate": 0.1, "momentum": 0.0, **hyperparameters},
        steps=steps,
        status="reached" if steps is not None else "floor_above_target",
        risk=0.01,
        started=NOON,
        finished=NOON,
    )


def study(
    *trials: TrialRecord, bayes_bound: int = 1934, name: str = "", **changes: Any
) -> StudyRecord:
    made = definition(**changes)
    return StudyRecord(name or made.default_name, made, bayes_bound, 4.9, trials)


def sweep(
    steps: Callable[[float], float | None],
    learning_rate: Callable[[float], float],
    batch_sizes: Sequence[int],
    *,
    others: Mapping[str, Callable[[float], float]] | None = None,
    hyperparameters: Mapping[str, Hyperparameter] | None = None,
    **changes: Any,
) -> list[StudyRecord]:
    """One study of one trial per batch size."""
    searched = hyperparameters or {"learning_rate": LEARNING_RATE, "momentum": 0.0}
    fixed = {name: value for name, value in searched.items() if not isinstance(value, Range)}
    records = []
    for batch_size in batch_sizes:
        count = steps(batch_size)
        found = {name: value(batch_size) for name, value in (others or {}).items()}
        values = {**fixed, "learning_rate": learning_rate(batch_size), **found}
        result = None if count is None else round(count)
        one = TrialRecord(0, values, result, "reached", 0.01, NOON, NOON)
        records.append(
            study(
                one,
                bayes_bound=max(1, round(495_016 / batch_size)),
                batch_size=batch_size,
                hyperparameters=searched,
                **changes,
            )
        )
    return records


POWERS = [4**k for k in range(1, 11)]
MOMENTUM = {"learning_rate": LEARNING_RATE, "momentum": Range(0.0, 0.9999, "log_one_minus")}
ADAM = {"learning_rate": Range(1e-6, 1.0), "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def sgd(batch_sizes: Sequence[int] = POWERS, **changes: Any) -> list[StudyRecord]:
    return sweep(
        lambda b: 6.024e6 / b * (1 + (b / 500) ** 1.1) if b < 400 else 7000 + 4.5e6 / b,
        lambda b: 3.4e-3 * b / (1 + (3.4e-3 * b / 1.95) ** 2) ** 0.5,
        batch_sizes,
        **changes,
    )


def momentum(batch_sizes: Sequence[int] = POWERS, **changes: Any) -> list[StudyRecord]:
    return sweep(
        lambda b: 5.0e6 / b + 140,
        lambda b: min(1.5, 1e-3 * b**0.9),
        batch_sizes,
        others={"momentum": lambda b: 1 - 1 / (20 + 2e4 / b)},
        **{"optimizer": "momentum", "hyperparameters": MOMENTUM, **changes},
    )


def adam(batch_sizes: Sequence[int] = POWERS, **changes: Any) -> list[StudyRecord]:
    return sweep(
        lambda b: 1.39e6 / b * (1 + (b / 9000) ** 1.5) ** (1 / 1.5),
        lambda b: 1.71e-4 * b**0.5 if b <= 2048 else 1.71e-4 * 2048**0.5 * (b / 2048) ** 0.2,
        batch_sizes,
        **{"optimizer": "adam", "hyperparameters": ADAM, **changes},
    )


def crossed() -> list[StudyRecord]:
    """Two optimizers, each with two preconditioner powers."""
    return [
        record
        for power in (0.0, 0.5)
        for make, fixed in ((sgd, {"learning_rate": LEARNING_RATE}), (momentum, MOMENTUM))
        for record in make(hyperparameters={**fixed, "preconditioner_power": power})
    ]


CAP = 1.9996
COMPUTED = {"momentum": 0.0}


def with_rates(
    rate: Callable[[float, float], float],
    steps: Callable[[float], int],
    batch_sizes: Sequence[int],
    **changes: Any,
) -> list[StudyRecord]:
    """One study of one trial per batch size, whose rate was computed for 50 pieces of the run.

    Args:
        rate: the uncapped rate by batch size and fraction of the run.
        steps: of the run, by batch size.
        batch_sizes: at which.
        changes: of the definition.
    """
    records = []
    for batch_size in batch_sizes:
        count = steps(batch_size)
        firsts = [count * piece // 50 for piece in range(50)]
        rates = tuple((first, min(CAP, rate(batch_size, first / count))) for first in firsts)
        largest = max(value for _, value in rates)
        one = dataclasses.replace(trial(count, learning_rate=largest), rates=rates)
        records.append(
            study(one, batch_size=batch_size, **{"hyperparameters": COMPUTED, **changes})
        )
    return bounded(records)


def optimal(batch_sizes: Sequence[int] = POWERS, **changes: Any) -> list[StudyRecord]:
    return with_rates(
        lambda b, fraction: 0.02 * b * (1.02 - fraction) / (0.02 + fraction),
        optimal_steps,
        batch_sizes,
        **{"schedule": "optimal", "schedule_settings": {"pieces": 50.0}, **changes},
    )


def greedy(batch_sizes: Sequence[int] = POWERS, **changes: Any) -> list[StudyRecord]:
    return with_rates(
        lambda b, fraction: 0.01 * b / (1 + 10 * fraction),
        lambda b: 2 * optimal_steps(b),
        batch_sizes,
        **{"schedule": "greedy", **changes},
    )


def searched(
    sampler: Mapping[str, Any],
    steps: Sequence[int | None],
    *,
    optimum: int | None = 1000,
    exact: bool = True,
    **changes: Any,
) -> StudyRecord:
    """A study of one sampler, by the steps of its trials and of the true optimum."""
    trials = [trial(count, number) for number, count in enumerate(steps)]
    made = study(*trials, sampler=sampler, **changes)
    if optimum is None:
        return made
    found = Optimum(optimum, {"learning_rate": 0.1, "momentum": 0.0}, exact)
    return dataclasses.replace(made, optimum=found)


TPE, FINISH = {"name": "tpe"}, {"name": "tpe", "finish": 0.6}


def contest(
    paces: Mapping[str, float] | None = None, n_trials: int = 100, n_seeds: int = 5, **changes: Any
) -> list[StudyRecord]:
    """Studies at seven batch sizes of samplers that near the optimum at different paces."""
    generator = random.Random(0)  # noqa: S311 - noise, not secrets
    paces = paces or {"random": 0.6, "tpe": 1.6, "tpe + finish": 1.6}
    made = []
    for text, pace in paces.items():
        sampler = {"name": text.removesuffix(" + finish"), "finish": 0.6 * text.endswith("finish")}
        for batch_size in (4**k for k in range(1, 8)):
            for seed in range(n_seeds):
                steps: list[int | None] = []
                for k in range(n_trials):
                    speed = 8.0 if sampler["finish"] and k > 0.6 * n_trials else pace
                    regret = generator.expovariate(1.0) * 20.0 / (1 + k) ** speed
                    steps.append(round(100_000 * (1.0 + regret)) if k > seed else None)
                made.append(
                    searched(
                        sampler, steps, optimum=100_000, batch_size=batch_size, seed=seed, **changes
                    )
                )
    return made
