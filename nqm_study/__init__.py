"""Tune optimizers on the noisy quadratic model and see how they scale with batch size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nqm_study.model.bounds import bayes_bound, classical_bound
from nqm_study.model.crossing import risk_curve, steps_to_target
from nqm_study.model.density import DensitySpectrum, spectrum_from_density
from nqm_study.model.greedy import GreedySchedule, greedy_schedule
from nqm_study.model.noise_scale import gradient_noise_scale
from nqm_study.model.optimal import OptimalSchedule, optimal_schedule
from nqm_study.model.optimizers import SGD, Adam
from nqm_study.model.outcome import Crossing
from nqm_study.model.power_law import power_law
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    PiecewiseConstant,
    Polynomial,
    StepDecay,
    WarmupStableDecay,
)
from nqm_study.model.shape_family import ShapeFamily
from nqm_study.model.simulate import Simulation, simulate
from nqm_study.model.spectrum import Spectrum
from nqm_study.model.tuned import Tuned, tuned
from nqm_study.spectrum_files import load_spectrum

if TYPE_CHECKING:
    from nqm_study.benchmark import Benchmark
    from nqm_study.build import run_study

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Adam",
    "Benchmark",
    "Constant",
    "Cosine",
    "Crossing",
    "DensitySpectrum",
    "Exponential",
    "GreedySchedule",
    "InverseSqrt",
    "Linear",
    "NoisyQuadratic",
    "OneCycle",
    "OptimalSchedule",
    "PiecewiseConstant",
    "Polynomial",
    "ShapeFamily",
    "Simulation",
    "Spectrum",
    "StepDecay",
    "Tuned",
    "WarmupStableDecay",
    "__version__",
    "bayes_bound",
    "classical_bound",
    "gradient_noise_scale",
    "greedy_schedule",
    "load_spectrum",
    "optimal_schedule",
    "power_law",
    "risk_curve",
    "run_study",
    "simulate",
    "spectrum_from_density",
    "steps_to_target",
    "tuned",
]


def __getattr__(name: str) -> Any:
    # These bring Optuna and Hydra with them, which the model does without.
    if name == "run_study":
        from nqm_study.build import run_study  # noqa: PLC0415

        return run_study
    if name == "Benchmark":
        from nqm_study.benchmark import Benchmark  # noqa: PLC0415

        return Benchmark
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
