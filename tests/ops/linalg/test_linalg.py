"""Linear algebra: what the property tests cannot see of factors and stacks."""

import numpy as np
import pytest

import ksym
from ksym.errors import ShapeError
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
    # Of a stack of vectors NumPy 2 makes a matrix.
    expected = (
        np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == a.ndim - 1 else np.linalg.solve(a, b)
    )
    np.testing.assert_allclose(ksym.evaluate(ksym.solve(a, b)), expected, rtol=1e-9, atol=1e-12)


MATRICES = [(5, 3), (3, 5), (4, 4), (2, 7, 2), (0, 3), (3, 0), (0, 2, 4), (2, 0, 3)]


def assert_orthonormal(columns):
    found = np.swapaxes(columns, -1, -2) @ columns
    np.testing.assert_allclose(
        found, np.broadcast_to(np.eye(found.shape[-1]), found.shape), atol=1e-12
    )


@pytest.mark.parametrize("shape", MATRICES)
def test_svd_rebuilds_the_matrix(shape, rng):
    a = rng.standard_normal(shape)
    u, values, vh = ksym.function([], ksym.svd(a))()
    np.testing.assert_allclose((u * values[..., None, :]) @ vh, a, atol=1e-12)
    np.testing.assert_allclose(values, np.linalg.svd(a, compute_uv=False), atol=1e-12)
    assert_orthonormal(u)
    assert_orthonormal(np.swapaxes(vh, -1, -2))
    assert (np.abs(u).max(-2, initial=0.0) == u.max(-2, initial=0.0)).all()


@pytest.mark.parametrize("shape", MATRICES)
def test_qr_is_that_of_numpy(shape, rng):
    a = rng.standard_normal(shape)
    for found, expected in zip(ksym.function([], ksym.qr(a))(), np.linalg.qr(a), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("build", [ksym.svd, ksym.qr])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2)])
def test_a_factor_does_not_need_the_others(build, shape, rng):
    a = ksym.placeholder(shape, "float64")
    factors, matrix = build(a), rng.standard_normal(shape)
    together = ksym.function([a], factors)(matrix)
    for factor, expected in zip(factors, together, strict=True):
        np.testing.assert_array_equal(ksym.function([a], factor)(matrix), expected)


def test_values_of_svd_have_gradients_where_they_are_equal():
    a = ksym.placeholder((2, 2), "float64")
    (g,) = ksym.gradients(ksym.sum(ksym.svd(a, compute_uv=False)), [a])
    np.testing.assert_allclose(ksym.function([a], g)(np.eye(2)), np.eye(2), atol=1e-12)


def test_the_gradient_of_an_unknown_shape_is_that_of_the_known_one(rng):
    a = rng.standard_normal((3, 5))
    for build in (ksym.svd, ksym.qr, ksym.pinv):
        found = []
        for shape in ((None, None), (3, None), (3, 5)):
            x = ksym.placeholder(shape, "float64")
            outputs = build(x)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            loss = ksym.sum(ksym.stack([ksym.sum(y * y * y) for y in outputs]))
            found.append(ksym.function([x], ksym.gradients(loss, [x])[0])(a))
        np.testing.assert_allclose(found[0], found[2], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[1], found[2], rtol=1e-9, atol=1e-12)


def test_a_matrix_is_approximated_by_its_largest_singular_values(rng):
    # A function of vectors that depends neither on their signs nor on those left out.
    def nearest(a):
        u, values, vh = ksym.svd(a)
        return ksym.matmul(u[:, :2] * values[:2], vh[:2])

    verify_gradient(nearest, [rng.standard_normal((4, 3))])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 4), (3, 6), (2, 4, 4)])
def test_pinv_of_matrices_without_full_rank(shape, dtype, rng):
    a = rng.standard_normal((*shape[:-1], 2)) @ rng.standard_normal((*shape[:-2], 2, shape[-1]))
    a = a.astype(dtype)
    found = ksym.function([], ksym.pinv(a))()
    expected = np.linalg.pinv(a.astype("float64"), 1e-4)
    np.testing.assert_allclose(
        found, expected, rtol=1e-3 if dtype == "float32" else 1e-9, atol=1e-6
    )


def test_the_gradient_of_pinv_among_matrices_of_one_rank(rng):
    def build(left, right):
        return ksym.pinv(ksym.matmul(left, right))

    verify_gradient(build, [rng.standard_normal((4, 2)), rng.standard_normal((2, 3))])


def test_pinv_leaves_out_small_singular_values():
    found = ksym.function([], ksym.pinv(np.diag([4.0, 2.0, 0.5]), rcond=0.2))()
    np.testing.assert_allclose(found, np.diag([0.25, 0.5, 0.0]), atol=1e-12)


@pytest.mark.parametrize("build", [ksym.svd, ksym.qr, ksym.pinv])
def test_factors_of_what_is_no_matrix_are_refused(build):
    with pytest.raises(ksym.ShapeError, match="a matrix has two axes or more, not 1"):
        build(ksym.placeholder((3,)))


@pytest.mark.parametrize("side", [1, None])
def test_a_vector_is_not_transposed(side):
    vector, matrix = ksym.placeholder((side,)), ksym.placeholder((1, 1))
    with pytest.raises(ksym.ShapeError, match=r"^matmul: a vector has no two axes"):
        ksym.matmul(vector, matrix, transpose_a=True)
    with pytest.raises(ksym.ShapeError, match=r"^matmul: a vector has no two axes"):
        ksym.matmul(matrix, vector, transpose_b=True)


def test_full_matrices_of_svd_are_refused():
    with pytest.raises(ksym.ShapeError, match="not unique"):
        ksym.svd(np.eye(2), full_matrices=True)


def test_powers_of_matrices_are_counted_in_whole_numbers():
    with pytest.raises(ksym.ShapeError, match="whole number"):
        ksym.matrix_power(np.eye(2), 0.5)


@pytest.mark.parametrize(
    ("product", "mended"),
    [
        (lambda a, b: ksym.dot(a, b), lambda a, b: ksym.dot(a, b.T)),
        (lambda a, b: ksym.tensordot(a, b, 1), lambda a, b: ksym.tensordot(a, b, ((1,), (1,)))),
        (lambda a, b: ksym.einsum("ij,jk->ik", a, b), lambda a, b: ksym.einsum("ij,kj->ik", a, b)),
    ],
    ids=["dot", "tensordot", "einsum"],
)
def test_axes_of_different_sizes_are_named_and_the_remedy_works(product, mended):
    a, b = ksym.placeholder((3, 5)), ksym.placeholder((4, 5))
    with pytest.raises(ShapeError) as caught:
        product(a, b)
    message = str(caught.value)
    assert "axis 1 of operand 0, of size 5, is paired" in message
    assert "with axis 0 of operand 1, of size 4" in message
    assert "to do: transpose or reshape one operand, or pair other axes" in message
    x, y = np.ones((3, 5)), np.arange(20.0).reshape(4, 5)
    np.testing.assert_allclose(ksym.function([a, b], mended(a, b))(x, y), x @ y.T)
