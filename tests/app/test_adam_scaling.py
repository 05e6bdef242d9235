"""What experiment=adam_scaling is for: the laws of SGD's and of Adam's best rates, from studies."""

import pytest
from fake_records import curves

import nqm_study as nqm
from nqm_study.report.laws import fit_learning_rate
from nqm_study.study.storage.studies import study_record

SPECTRUM = nqm.power_law(10_000)


# The tests of the report show the same of exact optima, and of fewer studies.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "exponents", "slope", "tolerance", "end"),
    [
        ("sgd", (2, 3, 4, 5, 6, 9, 11), 1.0, 0.03, (2**7, 2**10)),
        ("adam", (4, 6, 8, 10, 13, 15), 0.5, 0.03, (2**11, 2**14)),
    ],
)
def test_studies_show_the_law_of_the_best_rate_and_its_end(
    family: str, exponents: tuple[int, ...], slope: float, tolerance: float, end: tuple[int, int]
) -> None:
    records = [
        study_record(
            nqm.run_study(nqm.NoisyQuadratic(SPECTRUM, 2**k), family, target=0.01, n_trials=60)
        )
        for k in exponents
    ]
    (curve,) = curves(records)
    fit = fit_learning_rate(curve)
    assert fit is not None
    assert fit.interval is not None
    assert fit.slope == pytest.approx(slope, abs=tolerance)
    assert fit.interval < 0.05
    assert fit.end is not None
    assert end[0] < fit.end < end[1]
