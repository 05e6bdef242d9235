# The public names, each with the module it is in: read by type checkers, and by __init__.py.

from .api import (
    Benchmark as Benchmark,
)
from .api import (
    run_study as run_study,
)
from .model.bounds import (
    bayes_bound as bayes_bound,
)
from .model.bounds import (
    classical_bound as classical_bound,
)
from .model.crossing import (
    risk_curve as risk_curve,
)
from .model.crossing import (
    steps_to_target as steps_to_target,
)
from .model.density import (
    DensitySpectrum as DensitySpectrum,
)
from .model.density import (
    spectrum_from_density as spectrum_from_density,
)
from .model.greedy import (
    GreedySchedule as GreedySchedule,
)
from .model.greedy import (
    greedy_schedule as greedy_schedule,
)
from .model.noise_scale import gradient_noise_scale as gradient_noise_scale
from .model.optimal import (
    OptimalSchedule as OptimalSchedule,
)
from .model.optimal import (
    optimal_schedule as optimal_schedule,
)
from .model.optimizers import (
    SGD as SGD,
)
from .model.optimizers import (
    Adam as Adam,
)
from .model.outcome import Crossing as Crossing
from .model.power_law import power_law as power_law
from .model.problem import NoisyQuadratic as NoisyQuadratic
from .model.schedules import (
    Constant as Constant,
)
from .model.schedules import (
    Cosine as Cosine,
)
from .model.schedules import (
    Exponential as Exponential,
)
from .model.schedules import (
    InverseSqrt as InverseSqrt,
)
from .model.schedules import (
    Linear as Linear,
)
from .model.schedules import (
    OneCycle as OneCycle,
)
from .model.schedules import (
    PiecewiseConstant as PiecewiseConstant,
)
from .model.schedules import (
    Polynomial as Polynomial,
)
from .model.schedules import (
    StepDecay as StepDecay,
)
from .model.schedules import (
    WarmupStableDecay as WarmupStableDecay,
)
from .model.shape_family import ShapeFamily as ShapeFamily
from .model.simulate import (
    Simulation as Simulation,
)
from .model.simulate import (
    simulate as simulate,
)
from .model.spectrum import Spectrum as Spectrum
from .model.tuned import (
    Tuned as Tuned,
)
from .model.tuned import (
    tuned as tuned,
)
from .spectrum_files import load_spectrum as load_spectrum

__version__: str
