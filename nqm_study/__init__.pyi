# The public names, each with the module it is in: read by type checkers, and by __init__.py.

from .api import (
    Benchmark as Benchmark,
    run_study as run_study,
    studies_frame as studies_frame,
    trials_frame as trials_frame,
    tuned as tuned,
)
from .model.crossing import (
    risk_curve as risk_curve,
    steps_to_target as steps_to_target,
)
from .model.data_runs import (
    DataRuns as DataRuns,
    run_on_data as run_on_data,
)
from .model.linear.stability import stability_limit as stability_limit
from .model.noise_scale import gradient_noise_scale as gradient_noise_scale
from .model.optimizers import (
    SGD as SGD,
    Adam as Adam,
    Averaged as Averaged,
    HeavyBall as HeavyBall,
    LinearOptimizer as LinearOptimizer,
    Nesterov as Nesterov,
    Preconditioned as Preconditioned,
    Transition as Transition,
    Update as Update,
)
from .model.optimizers.dana import DANA as DANA
from .model.optimizers.polyak import PolyakAverage as PolyakAverage
from .model.optimizers.qhm import QHM as QHM
from .model.optimizers.schedule_free import ScheduleFree as ScheduleFree
from .model.optimizers.two_averages import TwoAverages as TwoAverages
from .model.optimizers.weight_decay import WeightDecayed as WeightDecayed
from .model.outcome import Crossing as Crossing
from .model.problems.bounds import (
    bayes_bound as bayes_bound,
    classical_bound as classical_bound,
)
from .model.problems.data import (
    Regression as Regression,
    least_squares_from_data as least_squares_from_data,
)
from .model.problems.density import (
    DensitySpectrum as DensitySpectrum,
    spectrum_from_density as spectrum_from_density,
)
from .model.problems.files import load_spectrum as load_spectrum
from .model.problems.least_squares import LeastSquares as LeastSquares
from .model.problems.loading import load_regression as load_regression
from .model.problems.noisy_quadratic import NoisyQuadratic as NoisyQuadratic
from .model.problems.power_law import (
    power_law as power_law,
    power_law_tail as power_law_tail,
)
from .model.problems.problem import Problem as Problem
from .model.problems.spectrum import Spectrum as Spectrum
from .model.schedules import (
    BatchConstant as BatchConstant,
    BatchCoupled as BatchCoupled,
    BatchOptimal as BatchOptimal,
    BatchPieces as BatchPieces,
    BatchRamp as BatchRamp,
    BatchSchedule as BatchSchedule,
    BatchSteps as BatchSteps,
    Constant as Constant,
    Cosine as Cosine,
    Exponential as Exponential,
    InverseSqrt as InverseSqrt,
    Linear as Linear,
    OneCycle as OneCycle,
    PiecewiseConstant as PiecewiseConstant,
    Polynomial as Polynomial,
    Schedule as Schedule,
    StepDecay as StepDecay,
    WarmupStableDecay as WarmupStableDecay,
    batch_sizes as batch_sizes,
)
from .model.schedules.computed.batch_sizes import (
    OptimalBatchSizes as OptimalBatchSizes,
    optimal_batch_sizes as optimal_batch_sizes,
)
from .model.schedules.computed.greedy import (
    GreedySchedule as GreedySchedule,
    greedy_schedule as greedy_schedule,
)
from .model.schedules.computed.joint import JointOptimum as JointOptimum
from .model.schedules.computed.optimal import (
    OptimalSchedule as OptimalSchedule,
    optimal_schedule as optimal_schedule,
)
from .model.schedules.one_minus_sqrt import OneMinusSqrt as OneMinusSqrt
from .model.simulate import (
    Simulation as Simulation,
    simulate as simulate,
)
from .optimum.compute import compute_optimal as compute_optimal
from .optimum.tuned import (
    ShapeFamily as ShapeFamily,
    Tuned as Tuned,
)
from .report import plot as plot
from .study.samplers.coordinates import CoordinateSampler as CoordinateSampler

__version__: str
