"""The best dimension for compute budgets: the fact beside studies, its figure and its table."""

import dataclasses
from typing import Any

import pytest
from fake_records import csv_rows, figure_of, sgd
from rich.console import Console

import nqm_study as nqm
from nqm_study.optimum import compute
from nqm_study.report.compute import compute_table, laws
from nqm_study.report.figures import compute_optimal
from nqm_study.report.frame import studies_frame
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes
from nqm_study.study.records import ComputeScaling, StudyRecord
from nqm_study.study.storage.studies import _json, _read_compute

DIMS = (16, 64)
BUDGETS = (1e3, 1e4, 1e5)
LAW = {"exponent": 1.5, "source": 0.5}


def studied(dim: int, label_noise: float = 0.0) -> StudyRecord:
    """A study of one dimension, with the fact beside it."""
    spectrum = nqm.power_law(dim, LAW["exponent"], source=LAW["source"])
    noise = label_noise + nqm.power_law_tail(dim, LAW["exponent"], LAW["source"])
    problem = nqm.LeastSquares(spectrum, 16, noise)
    changes: dict[str, Any] = {
        "spectrum_settings": {"dim": float(dim), **LAW},
        "spectrum_digest": problem.spectrum.digest,
        "problem": "least_squares",
        "problem_settings": {"label_noise": noise},
        "target": 0.05,
    }
    (record,) = sgd([16], **changes)
    found = compute.true_compute(problem, Recipes(Recipe(nqm.SGD), CONSTANT), record.definition)
    return dataclasses.replace(record, name=f"d{dim} {label_noise}", compute=found)


@pytest.fixture(scope="module")
def records() -> list[StudyRecord]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(compute, "BUDGETS", BUDGETS)
        patched.setattr(compute, "FINER", BUDGETS)
        return [studied(dim) for dim in DIMS] + [studied(16, label_noise=1.0)]


def scaling(record: StudyRecord) -> ComputeScaling:
    assert record.compute is not None
    return record.compute


def test_the_fact_is_of_the_law_and_of_the_study_alone(records: list[StudyRecord]) -> None:
    small, large, noisy = map(scaling, records)
    budgets = [16 * budget for budget in BUDGETS]
    for found, noise in ((small, 0.0), (large, 0.0), (noisy, 1.0)):
        known = nqm.compute_optimal(budgets, **LAW, label_noise=noise, batch_size=16)
        for ours, theirs in zip(found.points, known.points, strict=True):
            assert (ours.dim, ours.steps) == (theirs.dim, theirs.steps)
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert small.points == large.points
    assert small.rest > large.rest > 0.0
    # No dimension has less loss than the best of as much compute; whole steps are uneven.
    for (spent, loss), point in zip(large.curve, large.points, strict=True):
        assert spent <= 1.05 * point.compute
        assert loss > 0.95 * point.loss
    assert _read_compute(_json(small)) == small


def test_the_figure_has_the_lines_of_dimensions_the_best_and_what_was_found(
    records: list[StudyRecord],
) -> None:
    above, below = figure_of("compute_optimal")(records[:2]).axes
    drawn = [list(zip(*map(list, line.get_data()), strict=True)) for line in above.get_lines()]
    points = scaling(records[0]).points
    assert [(point.compute, point.loss) for point in points] in drawn
    for record, dim in zip(records, DIMS, strict=False):
        assert list(scaling(record).curve) in drawn
        assert record.best is not None
        assert record.best.steps is not None
        spent = dim * record.best.steps * 16
        assert [(spent, 0.05 + scaling(record).rest)] in drawn
    dims = [list(line.get_ydata()) for line in below.get_lines()]
    assert [point.dim for point in points] in dims
    legend = above.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:2] == ["d = 16", "d = 64"]
    assert "derived: loss ~ C^-0.400" in texts
    kinds = [row["kind"] for row in csv_rows("compute_optimal", records[:2])]
    assert [kinds.count(kind) for kind in ("best", "dimension", "found")] == [3, 6, 2]


def test_each_law_has_panels_and_a_table_of_its_own(records: list[StudyRecord]) -> None:
    studies = studies_frame(records)
    assert [list(law.dim) for law in laws(studies)] == [[16.0, 64.0], [16.0]]
    assert len(figure_of("compute_optimal")(records).axes) == 4
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*map(compute_table, laws(studies)))
    text = capture.get()
    assert text.count("The best dimension d for compute C = d T B") == 2
    assert "label noise 0, B = 16" in text
    assert "label noise 1, B = 16" in text
    assert "derived -0.400" in text


def test_studies_without_the_fact_have_no_such_figure() -> None:
    assert compute_optimal.draw(studies_frame(sgd([16, 64]))) is None
