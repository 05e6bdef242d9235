"""Spectra from the densities that PyHessian estimates: what is kept, dropped, scaled and said."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from strategies import logarithmic, repeatable

import nqm_study as nqm

NODES = [[4.0, -1.0, 2.0], [0.0, 2.0, 8.0]]
WEIGHTS = [[0.2, 0.3, 0.5], [0.4, 0.5, 0.1]]


def lanczos_run(curvature: np.ndarray, n_steps: int, seed: int) -> tuple[list, list]:
    """One run of stochastic Lanczos quadrature on a diagonal Hessian, in PyHessian's precision.

    As there, every step is orthogonalised against all before, and goes on after the basis is
    complete; the weights are complex, since torch.linalg.eig makes them so.
    """
    h = curvature.astype(np.float32)
    random = np.random.default_rng(seed)
    v = random.choice(np.array([-1.0, 1.0], np.float32), h.size) / np.float32(np.sqrt(h.size))
    basis, diagonal, beside = [v], [], []
    for step in range(n_steps):
        w = h * v
        diagonal.append(w @ v)
        w = w - diagonal[-1] * v - (beside[-1] * basis[-2] if beside else np.float32(0.0))
        if step < n_steps - 1:
            beside.append(np.linalg.norm(w))
            for each in basis:
                w = w - (w @ each) * each
            v = w / np.linalg.norm(w)
            basis.append(v)
    matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    nodes, vectors = np.linalg.eig(matrix.astype(np.float32))
    return list(nodes), list(vectors[0].astype(np.complex64) ** 2)


def test_multiplicity_is_dim_times_weight_over_runs():
    made = nqm.spectrum_from_density(NODES, WEIGHTS, dim=100)
    np.testing.assert_array_equal(made.spectrum.curvature, [8.0, 4.0, 2.0, 2.0])
    np.testing.assert_allclose(made.spectrum.multiplicity, [5.0, 10.0, 25.0, 25.0])
    np.testing.assert_array_equal(made.spectrum.noise, made.spectrum.curvature)
    assert made.scale == 1.0


def test_nodes_that_are_not_positive_are_dropped_and_reported():
    made = nqm.spectrum_from_density(NODES, WEIGHTS, dim=100)
    assert made.lost_mass == pytest.approx(0.35)
    assert made.lost_modes == pytest.approx(35.0)
    assert str(made) == made.report
    assert made.report.startswith("kept 65 modes; dropped 35 modes (35 % of the weight)")
    assert made.report.endswith("the loss is as measured")
    assert "\n" not in made.report


def test_a_flat_list_is_one_run():
    one = nqm.spectrum_from_density(NODES[0], WEIGHTS[0], dim=10)
    other = nqm.spectrum_from_density(NODES[:1], np.array(WEIGHTS[:1]), dim=10)
    assert one.spectrum.digest == other.spectrum.digest
    np.testing.assert_allclose(one.spectrum.multiplicity, [2.0, 5.0])


def test_runs_may_differ_in_length():
    made = nqm.spectrum_from_density([[1.0], [2.0, 3.0]], [[1.0], [0.5, 0.5]], dim=4)
    np.testing.assert_allclose(made.spectrum.multiplicity, [1.0, 1.0, 2.0])


def test_nodes_without_weight_are_no_modes():
    made = nqm.spectrum_from_density([9.0, 1.0, -3.0], [0.0, 1.0, 0.0], dim=5)
    np.testing.assert_array_equal(made.spectrum.curvature, [1.0])
    assert made.lost_modes == 0.0


def test_noise_is_the_curvature_as_measured_or_what_is_given():
    scaled = nqm.spectrum_from_density(NODES, WEIGHTS, 100, rescale=True)
    np.testing.assert_allclose(scaled.spectrum.noise, np.array([8.0, 4.0, 2.0, 2.0]) / 64.0)
    # A value at a node that is dropped is not looked at.
    noise = [[1.0, -5.0, 2.0], [-5.0, 3.0, 4.0]]
    given_noise = nqm.spectrum_from_density(NODES, WEIGHTS, 100, noise=noise)
    np.testing.assert_array_equal(given_noise.spectrum.noise, [4.0, 1.0, 2.0, 3.0])
    same = nqm.spectrum_from_density(NODES, WEIGHTS, 100, noise=0.5)
    np.testing.assert_array_equal(same.spectrum.noise, 0.5)


@pytest.mark.parametrize("n_steps", [15, 80])
def test_a_lanczos_density_gives_the_trace_and_the_top_of_the_spectrum(n_steps):
    # With 80 steps on 50 modes the recursion ends in nodes that are rounding errors.
    curvature = 3.0 / np.arange(1.0, 51.0)
    runs = [lanczos_run(curvature, n_steps, seed) for seed in range(3)]
    made = nqm.spectrum_from_density([r[0] for r in runs], [r[1] for r in runs], dim=50)
    spectrum = made.spectrum
    assert made.lost_mass < 1e-6
    assert np.sum(spectrum.multiplicity) == pytest.approx(50.0, rel=1e-6)
    assert spectrum.initial_risk == pytest.approx(0.5 * np.sum(curvature), rel=1e-5)
    assert spectrum.curvature[0] == pytest.approx(3.0, rel=1e-5)


def test_rescaling_is_said_with_how_to_translate_it_back():
    made = nqm.spectrum_from_density(NODES, WEIGHTS, 100, rescale=True)
    assert made.scale == 0.125
    assert made.spectrum.curvature[0] == 1.0
    for text in (
        "multiplied by k = 0.125",
        "a target L of the measured loss is k L here",
        "a learning rate lr found here is k^(1 - p) lr there",
        "eps is eps / k",
    ):
        assert text in made.report


@pytest.mark.parametrize(
    ("here", "there"),
    [
        # What the report says: k^(1 - p) lr, and for Adam the same rate with eps / k.
        (nqm.SGD(0.5, momentum=0.5), nqm.SGD(0.5 * 0.125, momentum=0.5)),
        (
            nqm.SGD(0.5, preconditioner_power=0.5),
            nqm.SGD(0.5 * 0.125**0.5, preconditioner_power=0.5),
        ),
        (nqm.Adam(0.01, eps=1e-3), nqm.Adam(0.01, eps=1e-3 / 0.125)),
    ],
)
def test_the_rescaled_problem_has_the_same_steps_at_the_translated_rate_and_target(here, there):
    measured = nqm.spectrum_from_density(NODES, WEIGHTS, 100)
    scaled = nqm.spectrum_from_density(NODES, WEIGHTS, 100, rescale=True)
    target = 0.2 * measured.spectrum.initial_risk
    steps = nqm.steps_to_target(
        nqm.NoisyQuadratic(measured.spectrum, 64), there, target=target
    ).steps
    assert steps is not None
    assert steps > 1
    again = nqm.steps_to_target(
        nqm.NoisyQuadratic(scaled.spectrum, 64), here, target=scaled.scale * target
    ).steps
    assert again == steps


@repeatable
@given(
    st.lists(
        st.lists(
            st.tuples(st.just(0.0) | logarithmic(1e-3, 1e3).flatmap(
                lambda h: st.sampled_from([h, -h])), logarithmic(1e-3, 1.0)),
            min_size=1, max_size=5,
        ),
        min_size=1, max_size=4,
    ),
    st.integers(1, 10**9),
)  # fmt: skip
def test_kept_and_lost_modes_add_up_to_the_dimension(runs, dim):
    nodes = [[h for h, _ in run] for run in runs]
    totals = [sum(w for _, w in run) for run in runs]
    weights = [[w / total for _, w in run] for run, total in zip(runs, totals, strict=True)]
    if not any(h > 0.0 for run in nodes for h in run):
        with pytest.raises(ValueError, match=r"^nodes: must have one above 0 with a weight"):
            nqm.spectrum_from_density(nodes, weights, dim)
        return
    made = nqm.spectrum_from_density(nodes, weights, dim)
    kept = np.sum(made.spectrum.multiplicity)
    assert kept + made.lost_modes == pytest.approx(dim, rel=1e-12)
    assert made.lost_mass == pytest.approx(made.lost_modes / dim, rel=1e-12)
    assert np.all(np.diff(made.spectrum.curvature) <= 0.0), "the largest curvature is not first"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 0}, "dim=0: must be an integer of at least 1"),
        ({"dim": 2.5}, "dim=2.5: must be an integer"),
        ({"dim": 10**400}, "must be an integer of at least 1 and at most 9007199254740992"),
        ({"rescale": "yes"}, "rescale='yes': must be True or False"),
        ({"nodes": None}, "nodes: must be a list of numbers, or a list of them for"),
        ({"nodes": 3.0}, "nodes: must be a list of numbers"),
        ({"nodes": []}, "nodes has shape (0,): must be a list of at least one number"),
        ({"nodes": [[], [1.0]]}, "nodes[0] has shape (0,)"),
        ({"nodes": "ab"}, "nodes: must be a list of numbers, it is of type <U1"),
        ({"nodes": [["1"], [2.0]]}, "nodes[0]: must be a list of numbers, it is of type <U1"),
        ({"nodes": [[1.0, [2.0]], [1.0]]}, "nodes: must be a list of numbers, or a list of"),
        ({"nodes": [1.0, 2.0, 3.0]}, "weights: must have as many runs as nodes, 1, not 2"),
        ({"nodes": [[1.0, np.nan, 1.0], [1.0] * 3]}, "nodes[0][1]=nan: must be finite"),
        ({"nodes": [[1.0, 2.0, 1j], [1.0] * 3]}, "nodes[0][2]=0+1j: must be real"),
        ({"nodes": [[-1.0, 0.0, -2.0], [0.0] * 3]}, "the largest is 0"),
        (
            {"weights": [[0.5, 0.5], [0.4, 0.5, 0.1]]},
            "weights[0]: must have a value for each of 3 nodes, not 2",
        ),
        ({"weights": [np.eye(3), np.eye(3)]}, "weights[0] has shape (3, 3)"),
        ({"weights": [[0.5, 0.6, -0.1], [1, 0, 0]]}, "weights[0][2]=-0.1: must be at least 0"),
        ({"weights": [[0, 0, 0], [1, 0, 0]]}, "weights[0]: sum to 0: must sum to 1 within 1%"),
        ({"weights": [[1, 0, 0], [0.5, 0, 0]]}, "weights[1]: sum to 0.5: must sum to 1 within 1%"),
        ({"weights": [[1e308] * 3, [1, 0, 0]]}, "weights[0]: sum to inf"),
        ({"weights": [[np.inf, 0, 0], [1, 0, 0]]}, "weights[0][0]=inf: must be finite"),
        ({"noise": [[1.0, 1.0, -1.0], [0, 0, 0]]}, "noise[0][2]=-1: must be at least 0"),
        ({"noise": -1.0}, "noise[0]=-1: must be at least 0"),
        ({"noise": [1.0, 2.0]}, "noise: must have as many runs as nodes, 2, not 1"),
        ({"noise": "x"}, "noise: must be a list of numbers, it is of type <U1"),
        (
            {"nodes": [[1e-200] * 3] * 2, "rescale": True},
            "curvature=1e-200: the largest must be at least 1e-150 to be rescaled to 1",
        ),
    ],
)
def test_bad_densities_are_refused_by_name(changes, message):
    arguments = {"nodes": NODES, "weights": WEIGHTS, "dim": 100} | changes
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as refusal:
        nqm.spectrum_from_density(**arguments)
    assert message in str(refusal.value)
