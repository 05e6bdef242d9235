"""Runs cut into stretches that grow with the step, for rules that change with it."""

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.schedules import Schedule
from nqm_study.model.schedules.stretches import changing


@pytest.mark.parametrize("schedule", [nqm.Cosine(), nqm.Constant(), nqm.Linear(0.1, 0.25)])
@pytest.mark.parametrize("horizon", [1, 40, 999, 123_456])
def test_the_nodes_of_growing_stretches_have_the_mean_of_all_their_steps(
    schedule: Schedule, horizon: int
) -> None:
    asked = sorted({min(7, horizon), horizon // 2})
    run = changing(schedule, horizon, 24, (0, 300), asked)
    ends = np.concatenate(([0], np.cumsum(run.lengths)))
    assert ends[-1] == horizon
    assert set(ends) >= {*asked, min(300, horizon)}
    assert np.all(run.steps >= ends[:-1])
    assert np.all(run.steps < ends[1:])
    for power in range(4):
        sums = np.cumsum(np.append(0.0, np.arange(float(horizon)) ** power))
        mean = np.diff(sums[ends]) / run.lengths
        nodes = np.sum(run.shares * run.steps.astype(float) ** power, axis=0)
        np.testing.assert_allclose(nodes, mean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bend", [0, 5000])
def test_stretches_grow_from_a_bend_on(bend: int) -> None:
    count, horizon = 64, 10**6
    run = changing(nqm.Constant(), horizon, count, sorted({0, bend}))
    ends = np.cumsum(run.lengths)
    after = ends[ends > bend] - bend
    assert np.all(run.lengths[(ends > bend) & (ends <= bend + count)] == 1)
    # So many stretches for each octave, of which every one takes the same share of it.
    octaves = np.log2(after[(after >= 1000) & (after < horizon - bend)])
    np.testing.assert_allclose(np.diff(octaves), 2.0 / count, rtol=0.03)


def test_a_schedule_that_changes_adds_stretches_shorter_towards_its_ends() -> None:
    count, horizon = 64, 10**6
    fewer, more = (
        changing(schedule, horizon, count, (0,)) for schedule in (nqm.Constant(), nqm.Cosine())
    )
    assert more.lengths.size - fewer.lengths.size == pytest.approx(count, abs=2)
    assert np.all(np.diff(more.lengths[-8:]) < 0)
    assert more.lengths[-1] < 0.1 * more.lengths.max()
