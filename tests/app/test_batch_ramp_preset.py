"""The preset ``batch_ramp``: curves with batch schedules, beside the optima of their problem."""

from pathlib import Path

from program import ALONE, TINY, run, stored

import nqm_study as nqm
from nqm_study.app.publish import stored_records


def test_the_preset_draws_the_frontier_beside_the_optima_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    call = ("-m", "experiment=batch_ramp", *TINY, "study.n_trials=2", "tracking=none", ALONE)
    call = (*call, "schedule=cosine", "batch_schedule=constant,ramp", "batch_size=16,64")
    done = run(tmp_path, *call)
    assert "What the best batch sizes save" in done.stdout
    folder = tmp_path / "mlruns" / "figures" / "batch_ramp"
    names = {file.name for file in folder.iterdir()}
    assert {"examples_frontier.svg", "batch_ramps.svg", "batch_ramps.csv"} <= names
    records = stored_records(tmp_path / "mlruns")
    assert {bool(each.ramps) == bool(each.definition.batch_schedule) for each in records} == {True}
    ramps = {each.ramps for each in records if each.ramps}
    assert len(ramps) == 1, "it depends on the problem alone"
    ramp = ramps.pop()[5]
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size=64)
    best = nqm.optimal_schedule(
        problem, target=0.05, steps=ramp.steps, pieces=50, batch_sizes="optimal"
    )
    assert abs(ramp.examples / best.examples - 1.0) < 1e-12
    drawn = (folder / "examples_frontier.svg").stat().st_mtime_ns
    again = run(tmp_path, *call)
    assert again.stderr.count("(0 new)") == len(stored(tmp_path)) == 4
    assert (folder / "examples_frontier.svg").stat().st_mtime_ns == drawn
