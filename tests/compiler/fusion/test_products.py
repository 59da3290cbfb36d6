"""Products of matrices among loops, by blocks and by BLAS."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import ksym
from ksym import ops
from ksym.compiler.costs import DEFAULT
from ksym.compiler.fusion.products import product_of
from ksym.runtime import calls, loading
from ksym.runtime.arrays import DeviceArray

pytestmark = pytest.mark.host_access


def call_of(tensor, values):
    """The call for a product of placeholders, and the array of its result."""
    arrays = {operand: DeviceArray.of(value) for operand, value in values.items()}
    arrays[tensor] = DeviceArray.of(np.full(tensor.shape, np.nan, tensor.dtype))
    return calls.product_call(product_of(tensor.node), arrays, DEFAULT), arrays[tensor]


@pytest.fixture(params=[64, 32])
def width(request, monkeypatch):
    """Vectors of either width; those of 64 bytes are two of 32 where the processor has none."""
    monkeypatch.setattr(calls, "_width", lambda: request.param)
    return request.param


@given(
    rows=st.integers(1, 40),
    columns=st.integers(DEFAULT.blocked_columns, 75),
    inner=st.integers(1, 70) | st.integers(250, 600),
    transpose_a=st.booleans(),
    transpose_b=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
    width=st.sampled_from([64, 32]),
    seed=st.integers(0, 100),
)
def test_products_by_blocks_are_products(
    rows, columns, inner, transpose_a, transpose_b, dtype, width, seed
):
    rng = np.random.default_rng(seed)
    left = (inner, rows) if transpose_a else (rows, inner)
    right = (columns, inner) if transpose_b else (inner, columns)
    a, b = ksym.placeholder(left, dtype), ksym.placeholder(right, dtype)
    x, y = rng.normal(size=left).astype(dtype), rng.normal(size=right).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "_width", lambda: width)
        product = ops.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
        call, result = call_of(product, {a: x, b: y})
    calls.Tape([call]).run()
    expected = (x.T if transpose_a else x) @ (y.T if transpose_b else y)
    close = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(result.read(), expected, rtol=close, atol=close)


def test_sums_are_as_exact_as_their_length_allows(width, rng):
    x, y = rng.normal(size=(9, 50)), rng.normal(size=(50, 20))
    a, b = ksym.placeholder(x.shape, "float64"), ksym.placeholder(y.shape, "float64")
    call, result = call_of(a @ b, {a: x, b: y})
    calls.Tape([call]).run()
    exact = x.astype("longdouble") @ y.astype("longdouble")
    bound = 50 * np.finfo("float64").eps * (np.abs(x) @ np.abs(y))
    assert (np.abs(result.read() - exact) <= bound).all()


def test_infinities_and_nan_stay_in_their_rows_and_columns(width):
    x, y = np.ones((11, 5), "float32"), np.ones((5, 37), "float32")
    x[3, 2], x[10, 4], y[1, 36] = np.nan, np.inf, -np.inf
    a, b = ksym.placeholder(x.shape, "float32"), ksym.placeholder(y.shape, "float32")
    turned = ksym.placeholder(y.T.shape, "float32")
    for product in (a @ b, ops.matmul(a, turned, transpose_b=True)):
        values = {a: x, b: y, turned: np.ascontiguousarray(y.T)}
        call, result = call_of(product, values)
        calls.Tape([call]).run()
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(result.read(), x @ y)


@pytest.mark.parametrize("new", [False, True])
def test_who_computes_which(new, monkeypatch):
    monkeypatch.setattr(calls, "has_avx512", lambda: new)
    team = loading.library().omp_get_max_threads()
    for left, right, threads in (
        ((8, 16), (16, 16), 1),
        ((32, 128), (128, 1), 0),
        ((2000, 300), (300, 32 * team), team if new else 0),
    ):
        assert calls._threads(left[0], right[1], left[1], "float32", DEFAULT) == threads


def test_a_team_shares_the_columns(monkeypatch, rng):
    monkeypatch.setattr(calls, "_threads", lambda *_: 3)
    x, y = rng.normal(size=(50, 300)), rng.normal(size=(300, 150))
    a, b = ksym.placeholder(x.shape, "float64"), ksym.placeholder(y.shape, "float64")
    call, result = call_of(a @ b, {a: x, b: y})
    calls.Tape([call]).run()
    np.testing.assert_allclose(result.read(), x @ y, rtol=1e-10, atol=1e-10)
