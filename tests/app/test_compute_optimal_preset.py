"""The preset ``compute_optimal``: dimensions beside the best ones for their compute."""

from pathlib import Path

import pytest
from program import ALONE, run

import nqm_study as nqm
from nqm_study.app.publish import stored_records


@pytest.mark.slow
def test_the_preset_draws_its_dimension_beside_the_best_of_the_law(tmp_path: Path) -> None:
    call = ("-m", "experiment=compute_optimal", "study.n_trials=2", "tracking=none", ALONE)
    done = run(tmp_path, *call, "spectrum.dim=16", "target=0.05", "spectrum.exponent=2")
    assert "The best dimension d for compute C = d T B" in done.stdout
    folder = tmp_path / "mlruns" / "figures" / "compute_optimal"
    names = {file.name for file in folder.iterdir()}
    assert {"compute_optimal.png", "compute_optimal.svg", "compute_optimal.csv"} <= names
    (record,) = stored_records(tmp_path / "mlruns")
    assert record.compute is not None
    # E w*^2 = i^-0.5 and h = i^-2: p = 1.5, over 1 + 2.
    assert record.compute.loss.value == pytest.approx(-0.5, abs=0.01)
    assert record.compute.dim.value == pytest.approx(1.0 / 3.0, abs=0.01)
    assert record.compute.rest == pytest.approx(0.5 * nqm.power_law_tail(16, 2.0, 0.5))


@pytest.mark.parametrize(
    "given",
    [
        ("study.compute_optimal=true",),
        ("experiment=compute_optimal", "spectrum.source=null"),
        (
            "experiment=compute_optimal",
            "batch_size={low: 4, high: 64, scale: log}",
            "sampler=nsgaii",
        ),
    ],
)
def test_problems_of_no_such_law_are_refused(tmp_path: Path, given: tuple[str, ...]) -> None:
    done = run(tmp_path, *given, status=2)
    assert "study.compute_optimal=true: must be false without problem=least_squares" in done.stderr
    assert not (tmp_path / "mlruns").exists()
