"""Searches that missed: a study of another batch size shows that fewer steps would have done.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target that were found at B |

With the same hyperparameters a larger batch has less noise, so that T does not grow with B: this
is certain for linear optimizers, whose expected loss falls with the noise. That T B does not shrink
is no theorem. It holds for the true optima of ``BY_EXAMPLES`` at a constant rate, on all problems
that ``tests/benchmarks/bench_misses.py`` tries; those of Nesterov's momentum break it by half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nqm_study.report import words
from nqm_study.report.curves import Curve

BY_EXAMPLES = ("sgd", "momentum", "ema", "preconditioned")
"""The optimizers of which smaller batch sizes are known to need no more examples, if tuned."""


@dataclass(frozen=True)
class Miss:
    """A batch size whose studies found no run as good as another's would be there.

    Attributes:
        batch_size: where.
        steps: the fewest found there; infinite where none reached the target.
        other: the batch size that shows it.
        other_steps: the fewest steps found there.
        trials: that each study had there.
    """

    batch_size: float
    steps: float
    other: float
    other_steps: float
    trials: int

    def sentence(self, name: str) -> str:
        """Sentence on the miss of a curve of this name, and what to do."""
        here, there = f"B = {words.typed(self.batch_size)}", f"B = {words.typed(self.other)}"
        found = "none at the target"
        if self.steps < math.inf:
            found = f"{words.count(self.steps)} steps"
        if self.other < self.batch_size:
            rule = f"{words.count(self.other_steps)} do at {there}, and a larger batch"
        else:
            examples = words.rounded(self.other * self.other_steps)
            rule = f"{examples} examples do at {there}, and a smaller batch"
            found += f" or {words.rounded(self.steps * self.batch_size)} examples"
        return (
            f"{name}, {here}: the search missed ({found}, where {rule} needs no more); "
            f"the same command with study.n_trials={2 * self.trials} searches on."
        )


def misses(curve: Curve) -> tuple[Miss, ...]:
    """The batch sizes of a curve whose search missed, ascending; none where nothing is searched.

    The best of the seeds count, and a step more than allowed is no miss. Examples are compared only
    where the rule is known to hold, nothing was chosen by hand that another batch size may suit
    better, and no best trial is at the end of a range that could go on.
    """
    if not curve.searched:
        return ()
    free = not curve.variant or curve.optimizer == "preconditioned"
    free = free and curve.optimizer in BY_EXAMPLES and curve.schedule == "constant"
    found = [(p.batch_size, p.steps_low, free and not p.at_edge) for p in curve.points]
    found += [(size, math.inf, False) for size in curve.unreached]
    made = (_miss(curve, *each) for each in sorted(found))
    return tuple(miss for miss in made if miss is not None)


def _miss(curve: Curve, batch_size: float, steps: float, by_examples: bool) -> Miss | None:
    """The miss at a batch size, by the one that shows it most; None where there is none."""
    rivals = [
        (p.steps_low * max(1.0, p.batch_size / batch_size), -p.batch_size, p)
        for p in curve.points
        if p.batch_size < batch_size or (by_examples and p.batch_size > batch_size)
    ]
    if not rivals:
        return None
    allowed, _, other = min(rivals, key=lambda rival: rival[:2])
    if steps <= allowed * (1.0 + curve.tolerance) + 1.0:
        return None
    trials = max(p.trials // (p.seeds + p.seeds_unreached) for p in curve.points)
    return Miss(batch_size, steps, other.batch_size, other.steps_low, trials)
