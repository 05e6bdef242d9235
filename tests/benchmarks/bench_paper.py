"""Seconds for the exact curves of the paper: pytest -s tests/benchmarks/bench_paper.py."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import nqm_study as nqm

SIZES = [4**k for k in range(1, 11)]
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
Job = tuple[str, int, float, Mapping[str, float]]


def jobs() -> list[Job]:
    """Family, batch size, target and what is fixed, of each point; the slowest first."""
    made: list[Job] = [
        ("momentum", size, 0.01, {"preconditioner_power": power})
        for size in SIZES
        for power in POWERS[:4]
    ]
    made += [("ema", size, 0.01, {}) for size in SIZES]
    made += [("optimal", size, 0.01, {}) for size in SIZES]
    made += [
        ("preconditioned", size, 0.01, {"preconditioner_power": power})
        for size in SIZES
        for power in POWERS
    ]
    made += [("sgd", size, target, {}) for size in SIZES for target in (1.0, 0.1, 0.001)]
    return made + [("sgd", 2**k, 0.01, {}) for k in range(3, 20, 2)]


def steps(job: Job) -> int | None:
    family, size, target, fixed = job
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), size)
    if family == "optimal":
        return nqm.optimal_schedule(problem, target=target).steps
    return nqm.tuned(problem, family, target=target, **fixed).steps


def test_exact_curves_of_the_paper() -> None:
    made = jobs()
    cores = min(os.cpu_count() or 1, 2)
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        # Kernels are compiled, or loaded, once for each process.
        for family in ("momentum", "ema", "sgd", "optimal"):
            list(pool.map(steps, [(family, 2**18, 0.01, {})] * cores))
        started = time.perf_counter()
        found = list(pool.map(steps, made))
    seconds = time.perf_counter() - started
    print(f"\n{len(made)} exact points on {cores} cores: {seconds:.1f} s")
    assert all(count is not None for count in found)
