"""Samplers of Optuna's wrapped in coordinates, and by themselves: how far above the true optimum.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_coordinates.py

Momentum on the paper's problem at target 0.01, 100 trials. The Gaussian process takes a quarter of
an hour, the others a minute. And the cost of a trial that nothing else is in.
"""

import time
from statistics import median

import optuna
import pytest

import nqm_study as nqm

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:Constraints have been set, but"),
    # The Gaussian process by itself is shown infinite values.
    pytest.mark.filterwarnings("ignore:Clip non-finite values"),
]

SAMPLERS = {
    "random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
}
SPECTRUM = nqm.power_law(10_000)
SEEDS, TRIALS = range(5), 100


def excess(sampler, benchmark):
    """Excess in percent over the true optimum, and milliseconds a trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    started = time.perf_counter()
    study.optimize(benchmark, n_trials=TRIALS)
    seconds = time.perf_counter() - started
    return 100.0 * benchmark.regret(study)[-1], 1e3 * seconds / TRIALS


@pytest.mark.parametrize("batch_size", [16, 256, 4096, 65536])
@pytest.mark.parametrize("name", SAMPLERS)
def test_wrapped_is_no_worse(bar, name, batch_size):
    benchmark = nqm.Benchmark("momentum", batch_size, spectrum=SPECTRUM)
    make = SAMPLERS[name]
    wrapped = [excess(nqm.CoordinateSampler(make(seed=s), benchmark), benchmark) for s in SEEDS]
    alone = [excess(make(seed=s), benchmark) for s in SEEDS]
    told, middles = [], []
    for found in (wrapped, alone):
        ends = [end for end, _ in found]
        middles.append(median(ends))
        cost = median(cost for _, cost in found)
        told.append(f"{median(ends):.2f} %, {max(ends):.2f} %, {cost:.1f} ms")
    bar(
        f"{name} B={batch_size}: median, worst, a trial; wrapped / alone",
        " / ".join(told),
        bound="median no worse",
        met=middles[0] <= middles[1],
    )
