"""Functions of values and of traced tensors: the same body, and the same results and dtypes."""

import warnings

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_ksym.src import dtypes
from keras_ksym.src.step import Step

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 3, 4)).astype("float32")
POSITIVE = np.abs(A) + 0.1
SQUARE = A @ A.T + 3.0 * np.eye(3, dtype="float32")
IDS = np.array([2, 0, 1])

CASES = {
    "add": lambda: (ops.add, A, B),
    "divide": lambda: (ops.divide, A, 3),
    "power": lambda: (ops.power, POSITIVE, B),
    "matmul": lambda: (lambda a, b: ops.matmul(a, ops.transpose(b)), A, B),
    "einsum": lambda: (lambda a, b: ops.einsum("ij,kj->ik", a, b), A, B),
    "softmax": lambda: (ops.softmax, A),
    "logsumexp": lambda: (lambda a: ops.logsumexp(a, axis=1), A),
    "gelu": lambda: (ops.gelu, A),
    "mean": lambda: (lambda a: ops.mean(a, axis=0, keepdims=True), A),
    "var": lambda: (ops.var, A),
    "median": lambda: (ops.median, A),
    "sort": lambda: (ops.sort, A),
    "argmax": lambda: (lambda a: ops.argmax(a, axis=-1), A),
    "top_k": lambda: (lambda a: ops.top_k(a, 2), A),
    "cumsum": lambda: (ops.cumsum, A),
    "where": lambda: (lambda a, b: ops.where(a > 0, a, b), A, B),
    "take": lambda: (lambda a, i: ops.take(a, i, axis=0), A, IDS),
    "one_hot": lambda: (lambda i: ops.one_hot(i, 4), IDS),
    "get_item": lambda: (lambda a: ops.add(a[1:, ::2], a[..., None][0, 1]), A),
    "scatter_update": lambda: (ops.scatter_update, A, [[0, 1], [2, 2]], [5.0, 6.0]),
    "concatenate": lambda: (lambda a, b: ops.concatenate([a, b], 1), A, B),
    "stack": lambda: (lambda a, b: ops.stack([a, b]), A, B),
    "split": lambda: (lambda a: ops.split(a, 2, axis=1), A),
    "pad": lambda: (lambda a: ops.pad(a, ((1, 0), (0, 2)), constant_values=7), A),
    "cholesky": lambda: (ops.cholesky, SQUARE),
    "solve": lambda: (ops.solve, SQUARE, A),
    "svd": lambda: (lambda a: ops.svd(a)[1], A),
    "norm": lambda: (ops.norm, A),
    "segment_sum": lambda: (lambda a, i: ops.segment_sum(a, i, 4), A, IDS),
    "fft": lambda: (lambda a, b: ops.fft((a, b)), A, B),
    "erfinv": lambda: (lambda a: ops.erfinv(ops.tanh(a)), A),
    "conv": lambda: (ops.conv, RNG.random((1, 5, 5, 2)), RNG.random((3, 3, 2, 4))),
    "resize": lambda: (lambda x: ops.image.resize(x, (4, 4)), RNG.random((1, 3, 3, 2))),
    "cond": lambda: (lambda a: ops.cond(ops.sum(a) > 0, lambda: a, lambda: -a), A),
    "scan": lambda: (lambda a: ops.scan(lambda c, x: (c + x, c * x), a[0], a), A),
    "while_loop": lambda: (
        lambda a: ops.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * a), (0, a)),
        A,
    ),
    "vectorized_map": lambda: (lambda a: ops.vectorized_map(ops.sum, a), A),
    "ctc": lambda: (
        ops.ctc_loss,
        np.array([[1, 2]]),
        RNG.random((1, 4, 3)).astype("float32"),
        np.array([2]),
        np.array([4]),
    ),
}


def computed_in_a_step(function, *values):
    """What a function gives when it is traced into a step, with its arrays as data."""
    places = [i for i, value in enumerate(values) if isinstance(value, np.ndarray)]

    def body(data):
        given = dict(zip(places, data, strict=True))
        return function(*(given.get(i, value) for i, value in enumerate(values)))

    return Step(body, list, eager=False)(tuple(values[i] for i in places))


def leaves(found):
    return [np.asarray(leaf) for leaf in keras.tree.flatten(found)]


@pytest.mark.parametrize("name", CASES)
def test_values_and_traced_tensors_give_the_same(name):
    function, *values = CASES[name]()
    eager = leaves(function(*values))
    again = leaves(function(*values))  # the first call is interpreted, the second compiled
    traced = leaves(computed_in_a_step(function, *values))
    assert len(eager) == len(traced)
    for a, b, c in zip(eager, again, traced, strict=True):
        assert a.dtype == b.dtype == c.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(a, c, rtol=2e-5, atol=1e-6)


ALL = [*("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")]
ALL += dtypes.FLOATS


def numpy_of(name):
    return dtypes.numpy_dtype(name)


@pytest.mark.parametrize("a", ALL)
def test_a_sum_has_the_dtype_of_keras_rule_for_all_pairs(a):
    for b in [*ALL, bool, int, float]:
        x = np.ones(2, numpy_of(a))
        y = np.ones(2, numpy_of(b)) if isinstance(b, str) else b(1)
        expected = keras.backend.result_type(a, b)
        for found in (ops.add(x, y), computed_in_a_step(ops.add, x, y)):
            assert found.dtype == numpy_of(expected), (a, b)


WRAPPED = ["uint8", "uint16", "uint32", "int8", "int16", "int32"]


@pytest.mark.parametrize("dtype", WRAPPED)
@given(data=st.data())
def test_integers_wrap_around_as_numpys_do(dtype, data):
    limits = np.iinfo(dtype)
    numbers = st.lists(st.integers(limits.min, limits.max), min_size=3, max_size=3)
    x, y = (np.array(data.draw(numbers), dtype) for _ in range(2))
    with np.errstate(over="ignore"):
        for function, expected in (
            (ops.add, x + y),
            (ops.subtract, x - y),
            (ops.multiply, x * y),
            (ops.bitwise_and, x & y),
            (ops.maximum, np.maximum(x, y)),
        ):
            for found in (function(x, y), computed_in_a_step(function, x, y)):
                assert found.dtype == np.dtype(dtype)
                np.testing.assert_array_equal(found, expected)


@given(st.lists(st.floats(-1e4, 1e4), min_size=2, max_size=2))
def test_bfloat16_is_rounded_after_each_function(numbers):
    x = np.array(numbers, ml_dtypes.bfloat16)
    wide = x.astype("float32")
    for function, expected in ((ops.multiply, wide * wide), (ops.add, wide + wide)):
        for found in (function(x, x), computed_in_a_step(function, x, x)):
            assert found.dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(found, expected.astype(ml_dtypes.bfloat16))


def test_a_variable_of_each_dtype_keeps_its_values():
    for name in ALL:
        value = np.array([0, 1], numpy_of(name))
        variable = keras.Variable(value, dtype=name, trainable=False)
        assert variable.dtype == name
        np.testing.assert_array_equal(np.asarray(variable), value)
        variable.assign(value[::-1])
        np.testing.assert_array_equal(variable.numpy(), value[::-1])


def test_results_are_arrays_that_numpy_takes():
    found = ops.exp(keras.Variable([1.0, 2.0]))
    assert isinstance(found, np.ndarray)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(ops.sum(found)) == pytest.approx(float(np.exp([1.0, 2.0]).sum()))
    result = found + ops.ones(2)
    np.testing.assert_allclose(result, np.exp([1.0, 2.0]) + 1.0, rtol=1e-6)
