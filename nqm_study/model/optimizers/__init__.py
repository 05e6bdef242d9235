"""Optimizers as data: linear ones by their rule, and Adam.

To import: SGD, HeavyBall, Nesterov, Adam, LinearOptimizer with Update and Transition, Averaged and
Preconditioned, and Optimizer, which is any of them. Here is what an optimizer does in one step, and
nothing of how runs are computed.
"""

from nqm_study.model.optimizers.adam import Adam as Adam
from nqm_study.model.optimizers.linear import (
    LinearOptimizer as LinearOptimizer,
    Transition as Transition,
    Update as Update,
)
from nqm_study.model.optimizers.sgd import (
    SGD as SGD,
    HeavyBall as HeavyBall,
    Nesterov as Nesterov,
)
from nqm_study.model.optimizers.wrappers import (
    Averaged as Averaged,
    Preconditioned as Preconditioned,
)

Optimizer = LinearOptimizer | Adam
