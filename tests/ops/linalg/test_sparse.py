"""Products with sparse matrices of SciPy's."""

import numpy as np
import pytest
import scipy.sparse

import ksym
from ksym.errors import ArgumentError, DTypeError, ShapeError
from ksym.testing import verify_gradient

DENSE = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 4, 0]], "float64")
FORMATS = ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_products_of_all_formats_and_both_orders(form, kind):
    a = getattr(scipy.sparse, f"{form}_{kind}")(DENSE)
    x = ksym.placeholder((None, 2), name="x")
    left, right = ksym.sparse_dot(a, x), ksym.transpose(x) @ a.T
    value = np.arange(8.0).reshape(4, 2)
    f = ksym.function(x, [left, ksym.dot(a, x), ksym.matmul(a, x), right])
    for found, expected in zip(f(value), [DENSE @ value] * 3 + [value.T @ DENSE.T], strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == "float32"
    assert left.shape == (3, 2)


def test_vectors_duplicates_and_dtypes():
    twice = scipy.sparse.coo_matrix(([1.0, 2.0], ([0, 0], [1, 1])), (2, 3))
    v = ksym.placeholder((3,), "float64")
    np.testing.assert_array_equal(ksym.sparse_dot(twice, v).eval({v: [1, 2, 3]}), [6, 0])
    u = ksym.placeholder((2,), "int64")
    product = ksym.dot(u, twice.astype("int64"))
    assert (product.dtype, product.shape) == ("int64", (3,))
    np.testing.assert_array_equal(product.eval({u: [5, 7]}), [0, 15, 0])
    assert twice.nnz == 2, "the user's matrix stays as it is"


def test_gradients_of_both_orders_are_sparse_products():
    a = scipy.sparse.csr_matrix(DENSE)
    w = ksym.Variable(np.ones((4, 2), "float32"))
    loss = ksym.sum(ksym.square(ksym.sparse_dot(a, w)))
    np.testing.assert_allclose(
        ksym.gradients(loss, w).eval(), 2.0 * DENSE.T @ (DENSE @ np.ones((4, 2)))
    )
    verify_gradient(lambda x: x @ a, [np.random.default_rng(0).normal(size=(2, 3))])


def test_it_trains_and_is_saved(tmp_path):
    a = scipy.sparse.csr_matrix(DENSE)
    w = ksym.Variable(np.ones((4, 1), "float32"), name="w")
    predict = ksym.function([], ksym.sparse_dot(a, w))
    ksym.save(predict, tmp_path / "f")
    np.testing.assert_array_equal(ksym.load(tmp_path / "f")(), predict())
    loss = ksym.mean(ksym.square(ksym.sparse_dot(a, w)))
    step = ksym.function([], loss, updates=[w.assign_sub(0.1 * ksym.gradients(loss, w))])
    assert step() > step() > step()


def test_what_is_no_product_is_refused():
    a = scipy.sparse.csr_matrix(DENSE)
    x = ksym.placeholder((4, 2))
    for wrong in ((x, x), (a, a)):
        with pytest.raises(ArgumentError, match=r"(?s)takes one sparse matrix.*to do"):
            ksym.sparse_dot(*wrong)
    with pytest.raises(ShapeError, match="has 4 columns, the operand 3 rows"):
        ksym.sparse_dot(a, ksym.placeholder((3, 2)))
    with pytest.raises(ShapeError, match="by a vector or a matrix"):
        ksym.sparse_dot(a, ksym.placeholder((4, 2, 2)))
    with pytest.raises(DTypeError, match=r"(?s)cast both to one of int32"):
        ksym.sparse_dot(a, ksym.placeholder((4, 2), "float16"))
    with pytest.raises(DTypeError, match=r"(?s)sparse matrix of SciPy's.*ksym.sparse_dot"):
        x + a
    with pytest.raises(DTypeError, match=r"(?s)sparse matrix of SciPy's.*toarray"):
        ksym.function(x, x * 2.0)(scipy.sparse.csr_matrix(np.ones((4, 2))))
