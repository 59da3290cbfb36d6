"""Linear algebra: what the property tests cannot see of factors and stacks."""

import numpy as np
import pytest

import ksym
from ksym.testing import verify_gradient


def symmetric(rng, *shape):
    a = rng.standard_normal(shape)
    return a + np.swapaxes(a, -1, -2)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (2, 3, 3), (0, 2, 2), (2, 0, 0)])
def test_eigh_gives_orthogonal_vectors_that_rebuild_the_matrix(shape, rng):
    a = symmetric(rng, *shape)
    values, vectors = ksym.function([], ksym.eigh(a))()
    across = np.swapaxes(vectors, -1, -2)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose((vectors * values[..., None, :]) @ across, a, atol=1e-12)
    np.testing.assert_allclose(
        across @ vectors, np.broadcast_to(np.eye(shape[-1]), shape), atol=1e-12
    )


def test_the_vectors_of_eigh_do_not_need_its_values(rng):
    a = ksym.placeholder((3, 3), "float64")
    values, vectors = ksym.eigh(a)
    matrix = symmetric(rng, 3, 3)
    alone = ksym.function([a], vectors)(matrix)
    np.testing.assert_array_equal(alone, ksym.function([a], [values, vectors])(matrix)[1])


def test_values_of_eigh_have_gradients_where_they_are_equal():
    a = ksym.placeholder((2, 2), "float64")
    (g,) = ksym.gradients(ksym.sum(ksym.eigh(a)[0]), [a])
    np.testing.assert_allclose(ksym.function([a], g)(np.eye(2)), np.eye(2), atol=1e-12)


def test_gradients_of_functions_that_do_not_depend_on_signs(rng):
    def projector(a):
        _, v = ksym.eigh(a)
        return ksym.matmul(v[:, :2], v[:, :2], transpose_b=True)

    verify_gradient(projector, [symmetric(rng, 3, 3)])


@pytest.mark.parametrize(
    ("left", "right"),
    [((3, 3), (3,)), ((2, 3, 3), (2, 3)), ((3, 3), (2, 3, 2)), ((2, 1, 3, 3), (1, 4, 3, 1))],
)
def test_solve_takes_vectors_and_broadcasts_stacks(left, right, rng):
    a, b = rng.standard_normal(left) + 3 * np.eye(3), rng.standard_normal(right)
    expected = np.linalg.solve(a, b)
    np.testing.assert_allclose(ksym.evaluate(ksym.solve(a, b)), expected, rtol=1e-9, atol=1e-12)
