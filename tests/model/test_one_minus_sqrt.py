"""The decay by the root of the fraction."""

import numpy as np
import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(100), 64)


def test_it_is_one_minus_the_root_after_the_warm_up() -> None:
    made = nqm.OneMinusSqrt(final_fraction=0.1, warmup_fraction=0.2)
    u = np.array([0.1, 0.2, 0.4, 1.0])
    np.testing.assert_allclose(made(u), [0.5, 1.0, 0.1 + 0.9 * (1.0 - np.sqrt(0.25)), 0.1])


def test_a_stable_run_that_decays_from_its_start_is_the_same() -> None:
    own = nqm.OneMinusSqrt(0.05)
    same = nqm.WarmupStableDecay(final_fraction=0.05, decay_fraction=1.0, decay="sqrt")
    found = [nqm.steps_to_target(PROBLEM, nqm.SGD(1.0), s, target=0.05).steps for s in (own, same)]
    assert found[0] == found[1] is not None


def test_a_rate_below_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^final_fraction=-1: must be"):
        nqm.OneMinusSqrt(-1.0)
