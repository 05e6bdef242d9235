"""Random rules of linear optimizers against the same step by step: opt-in, two minutes.

    python -m pytest -s tests/benchmarks/bench_rules.py

Coefficients change with the step or do not, and are linear in the rate or not. Every integer has to
be that of the recursion over all modes, unless ``Crossing.tie`` says that rounding may decide.
"""

import os
from dataclasses import dataclass
from typing import Any

import campaign
import numpy as np
from moments import rule_recursion

import nqm_study as nqm

SCALE = float(os.environ.get("CASES", "1"))
LONGEST, HORIZON = 600, 60


@dataclass(frozen=True)
class Random(nqm.LinearOptimizer):
    """theta' = theta - f(r) ((1 - v) g + v u'), u' = b u + (1 - b) g, x' = (1 - k) x + k theta'.

    k = 1 / (max(t - s, 0) + 1) from the step s on, or constant; f(r) = r / (1 + a r).
    """

    learning_rate: float
    b: float
    v: float
    k: float
    s: int
    a: float
    constant: Any = False

    def update(self, step: Any, rate: Any) -> nqm.Update:
        b, v, r = self.b, self.v, rate / (1.0 + self.a * rate)
        k = 1.0 / (np.maximum(step - self.s, 0) + 1.0) if not self.constant else 0.0 * r + self.k
        drift, gain = np.zeros((r.size, 3, 3)), np.zeros((r.size, 3))
        drift[:, 0, 0], drift[:, 0, 1], drift[:, 1, 1] = 1.0, -r * v * b, b
        gain[:, 0], gain[:, 1] = -r * ((1.0 - v) + v * (1.0 - b)), 1.0 - b
        drift[:, 2] = k[:, None] * drift[:, 0]
        drift[:, 2, 2], gain[:, 2] = 1.0 - k, k * gain[:, 0]
        theta = np.eye(3)[0]
        return nqm.Update(drift, gain, theta[None], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0])


def compared(rng: Any) -> tuple[bool, bool, float]:
    """Whether a random case agrees, whether it was a tie, and how far off its risk is."""
    spectrum = campaign.random_spectrum(rng, 30)
    problem = nqm.NoisyQuadratic(spectrum, float(np.exp(rng.uniform(0.0, 8.0))))
    rate = float(np.exp(rng.uniform(-4.0, 0.6))) / spectrum.curvature.max()
    constant = bool(rng.random() < 0.5)
    optimizer: Any = Random(
        rate, float(rng.uniform(0.0, 0.97)), float(rng.uniform(0.0, 1.0)),
        float(rng.uniform(0.05, 1.0)), int(rng.integers(0, 40)), float(rng.choice([0.0, 0.5])),
        constant,
    )  # fmt: skip
    scale: Any = 1.0
    if rng.random() < 0.3:
        power = float(rng.uniform(0.0, 1.0))
        optimizer, scale = nqm.Preconditioned(optimizer, power), spectrum.curvature**-power
    if rng.random() < 0.3:
        optimizer = nqm.Averaged(optimizer, float(rng.uniform(0.0, 0.95)))
    kind = rng.integers(3)
    schedule = (nqm.Constant(), nqm.InverseSqrt(30.0), campaign.random_schedule(rng))[kind]
    last = HORIZON if schedule.needs_horizon else LONGEST
    if schedule.needs_horizon:
        risks = np.array([spectrum.initial_risk] + [
            rule_recursion(problem, optimizer, rate * schedule.at_steps(np.arange(t), t), scale)[-1]
            for t in np.arange(1.0, last + 1.0)
        ])  # fmt: skip
    else:
        factors = schedule.at_steps(np.arange(float(last)), last)
        risks = np.array(rule_recursion(problem, optimizer, rate * factors, scale))
    least, share = float(np.nanmin(risks)), float(np.exp(rng.uniform(-6.0, 0.0)))
    target = least + share * (risks[0] - least) if least < risks[0] else 0.5 * least
    hits = np.flatnonzero(risks <= target)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=last)
    same = found.steps == (int(hits[0]) if hits.size else None)
    off = abs(found.risk / risks[hits[0]] - 1.0) if same and hits.size else 0.0
    return same, found.tie, off


def test_integers_are_those_of_the_rule_step_by_step() -> None:
    cases, wrong, ties, worst = round(SCALE * 1000), [], 0, 0.0
    for seed in range(cases):
        with np.errstate(over="ignore", invalid="ignore"):  # some runs diverge
            same, tie, off = compared(np.random.default_rng(seed))
        ties += tie
        worst = max(worst, off)
        if not (same or tie):
            wrong.append(seed)
    print(
        f"\n{cases} random rules: {len(wrong)} wrong integers, {ties} ties; the worst risk at a "
        f"crossing is off by {worst:.1e}"
    )
    assert not wrong
