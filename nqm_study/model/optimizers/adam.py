"""Adam's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass

from nqm_study.model.numerics.require import require_number


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction and eps outside the root, as torch.optim.Adam has it.

    With ``weight_decay`` it is torch.optim.AdamW, whose weights are 0 at the start: besides Adam's
    step, theta moves to theta_0 by the share lr weight_decay of the way, lr being the schedule's.

    Args:
        learning_rate: > 0.
        beta1: decay of the gradient's mean, in [0, 1).
        beta2: decay of the gradient's square, in [0, 1).
        eps: >= 0, added to the root of the corrected second moment.
        weight_decay: >= 0, decoupled from the gradient.

    Raises:
        ValueError: if a value is outside its range.
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        require_number("learning_rate", self.learning_rate, above=0.0)
        require_number("beta1", self.beta1, least=0.0, below=1.0)
        require_number("beta2", self.beta2, least=0.0, below=1.0)
        require_number("eps", self.eps, least=0.0)
        require_number("weight_decay", self.weight_decay, least=0.0)
