"""The rate of a rule that is neither SGD's nor heavy ball's is searched by its own limit."""

from pathlib import Path

import pytest

import nqm_study as nqm
from nqm_study.config.plan import python_plan

SPECTRUM = nqm.power_law(1000)


@pytest.mark.parametrize("batch_size", [64, 4096])
def test_a_search_is_no_worse_than_the_optimum_of_what_the_family_holds(batch_size: int) -> None:
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    study = nqm.run_study(problem, "qhm", target=0.02, n_trials=60)
    heavy = nqm.tuned(problem, "momentum", target=0.02).steps
    assert heavy is not None
    assert study.best_value <= heavy


def test_it_resumes_as_an_unbroken_one(tmp_path: Path) -> None:
    problem = nqm.NoisyQuadratic(SPECTRUM, 256)
    whole = nqm.run_study(problem, "qhm", target=0.02, n_trials=24)
    for n_trials in (5, 14, 24):
        resumed = nqm.run_study(
            problem, "qhm", target=0.02, n_trials=n_trials, storage=tmp_path / "a.journal"
        )
    assert [trial.params for trial in resumed.trials] == [trial.params for trial in whole.trials]


def test_under_a_schedule_it_stays_below_its_limit_of_stability() -> None:
    problem = nqm.NoisyQuadratic(SPECTRUM, 256)
    plan = python_plan(problem, "qhm", target=0.02, schedule="cosine")
    space = plan.search.space
    for share in (0.0, 0.3, 0.8, 1.0):
        point = {
            e.name: e.unscaled((1 - share) * e.scaled(e.low) + share * e.scaled(e.high))
            for e in space.coordinates
        }
        values = space.values(point)
        optimizer = nqm.QHM(values["learning_rate"], values["momentum"], values["v"])
        assert values["learning_rate"] <= 0.9999 * nqm.stability_limit(problem, optimizer)
