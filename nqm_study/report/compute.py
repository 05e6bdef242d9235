"""The best dimension for compute budgets: what the figure and the table of it share."""

from __future__ import annotations

from collections.abc import Sequence

from pandas import DataFrame

from nqm_study.report import words
from nqm_study.report.sheet import Sheet
from nqm_study.study.records import ComputeScaling, Exponent

TITLE = "The best dimension d for compute C = d T B"
_NOTE = (
    "Loss of the whole problem, with the modes beyond d: SGD at its best constant rate. ± is half "
    "the 95 % interval of an exponent by the scatter about the line; what bends it is not in it."
)


def laws(studies: DataFrame) -> list[DataFrame]:
    """The studies whose best dimensions are known, by the law of their problem, the least d first.

    Studies of a law differ in their dimensions, targets and in how they search.
    """
    known = studies[studies.compute.notna()]
    if known.empty:
        return []
    found: dict[object, list[int]] = {}
    for place, scaling in enumerate(known.compute):
        found.setdefault(scaling.points, []).append(place)
    return [known.iloc[places].sort_values("dim", kind="stable") for places in found.values()]


def law_text(law: DataFrame) -> str:
    """What the law of some studies is, in a line."""
    first = law.iloc[0]
    return (
        f"h = i^-{first.exponent:g}, E w*^2 = i^-{first.source:g}, "
        f"label noise {own_noise(law):g}, B = {words.typed(first.batch_size)}"
    )


def own_noise(law: DataFrame) -> float:
    """The targets' noise, without that of the modes beyond the dimension."""
    first = law.iloc[0]
    own = first.label_noise - 2.0 * first.compute.rest
    return float(f"{own:.6g}") if own > 1e-6 * first.compute.rest else 0.0


def exponent_text(name: str, found: Exponent) -> str:
    """``d ~ C^(0.401 ± 0.001), derived 0.400``."""
    size = words.plus_minus(found.value, found.interval)
    return f"{name} ~ C^({size}), derived {found.derived:.3f}"


def exponent_texts(scaling: ComputeScaling) -> Sequence[str]:
    """The same of both exponents: of loss and dimension."""
    return exponent_text("loss", scaling.loss), exponent_text("d", scaling.dim)


def compute_table(law: DataFrame) -> Sheet:
    """The best dimension for each compute budget, and the exponents, of one law."""
    scaling: ComputeScaling = law.compute.iloc[0]
    points = scaling.points
    cells = {
        "compute C": [f"{point.compute:.3e}" for point in points],
        "best d": [words.count(point.dim) for point in points],
        "steps T": [words.rounded(point.steps) for point in points],
        "learning rate": [words.hyperparameter(point.learning_rate) for point in points],
        "loss": [f"{point.loss:.3g}" for point in points],
    }
    note = f"{'; '.join(exponent_texts(scaling))}. {_NOTE}"
    return Sheet(f"{TITLE}, {law_text(law)}", DataFrame(cells), ["learning rate"], note=note)
