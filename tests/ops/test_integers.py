"""Integers, and positions, are exact where MXNet computes them in floats."""

import numpy as np
import pytest

import ksym
from ksym.errors import DTypeError

WAYS = [{}, {"flags": "fuse_loops=0"}, {"mode": "interpret"}]
FAR = [
    2**53 + 1,
    -(2**53) - 1,
    2**62 + 3,
    2**63 - 1,
    -(2**63),
    2**32,
    2**32 + 1,
    -(2**32) - 2,
    0,
    3,
]

ways = pytest.mark.parametrize("way", WAYS, ids=str)


def compute(build, *arrays, way):
    tensors = [ksym.placeholder(a.shape, a.dtype) for a in arrays]
    return ksym.function(tensors, build(*tensors), **way)(*arrays)


@ways
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_functions_of_one_integer_are_exact(dtype, way):
    limits = np.iinfo(dtype)
    numbers = [n for n in (*FAR, 46341, -181, 13) if limits.min <= n <= limits.max]
    for x in (np.array([*numbers, limits.min, limits.max], dtype), np.array(numbers[0], dtype)):
        for name in ("abs", "square", "sign", "negative"):
            found = compute(getattr(ksym, name), x, way=way)
            np.testing.assert_array_equal(found, getattr(np, name)(x), err_msg=name)


@ways
def test_the_constant_of_padding_is_exact(way):
    for constant in (2**53 + 1, -(2**63), 2**63 - 1, 5):
        for x in (np.array(FAR), np.array(FAR).reshape(2, 5), np.array(FAR).reshape(1, 1, 2, 5)):
            padding = [(0, 0)] * (x.ndim - 1) + [(1, 2)]
            found = compute(
                lambda t, p=padding, c=constant: ksym.pad(t, p, constant_values=c), x, way=way
            )
            np.testing.assert_array_equal(found, np.pad(x, padding, constant_values=constant))
    with pytest.raises(DTypeError, match="fractions"):
        ksym.pad(ksym.placeholder((2,), "int32"), [(1, 1)], constant_values=0.5)


@ways
@pytest.mark.parametrize("depth", [1, 4])
def test_indices_far_outside_are_in_no_class(depth, way):
    for indices in (np.array(FAR), np.array([127, -1, 0, 3], "int8"), np.array([255, 2], "uint8")):
        hits = indices[:, None] == np.arange(depth)
        for dtype in ("float32", "int64", "bool", "uint8"):
            found = compute(lambda i, d=dtype: ksym.one_hot(i, depth, d), indices, way=way)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, hits)
        found = compute(lambda i: ksym.bincount(i, length=depth), indices, way=way)
        np.testing.assert_array_equal(found, hits.sum(0))


@ways
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_indices_wrap_by_integer_division_in_gradients_too(dtype, way):
    limits = np.iinfo(dtype)
    indices = np.array([n for n in (*FAR, -7, 9) if limits.min <= n <= limits.max], dtype)
    side, weights = 7, np.arange(1.0, len(indices) + 1)
    wrapped = np.array([int(i) % side for i in indices])
    x = np.arange(float(side))
    added = np.zeros(side)
    np.add.at(added, wrapped, weights)
    replaced = x.copy()
    replaced[wrapped] = weights
    for build, expected in (
        (lambda t, i: ksym.take(t, i), x[wrapped]),
        (lambda t, i: t[i], x[wrapped]),
        (lambda t, i: ksym.gradients(ksym.sum(ksym.take(t, i) * weights), t), added),
        (lambda t, i: ksym.gradients(ksym.sum(t[i] * weights), t), added),
        (lambda t, i: ksym.index_add(t, i, weights), x + added),
        (lambda t, i: ksym.index_update(t, i, weights), replaced),
        (lambda t, i: ksym.scatter_nd(i[:, None], t[0] + weights, (side,)), added),
        (lambda t, i: ksym.gather_nd(t, i[:, None]), x[wrapped]),
        (lambda t, i: ksym.take_along_axis(t, i, 0), x[wrapped]),
    ):
        np.testing.assert_array_equal(compute(build, x, indices, way=way), expected)


def test_the_meaning_of_take_wraps_at_once():
    found = ksym.take.numpy(np.arange(7), np.array([2**62, -(2**62)]), axis=0)
    assert found.tolist() == [2**62 % 7, -(2**62) % 7]


@ways
@pytest.mark.parametrize(
    ("dtype", "side"), [("float16", 3000), ("float16", 70000), ("float32", 2**24 + 4)]
)
def test_positions_of_extremes_are_not_rounded(dtype, side, way):
    for position in (side - 1, side - 2, 2049):
        x = np.zeros((1, side), dtype)
        x[0, position] = 1
        for build in (
            ksym.argmax,
            lambda t: ksym.argmin(-t),
            lambda t: ksym.argmax(t, 1)[0],
            lambda t: ksym.argmin(-ksym.transpose(t), 0, keepdims=True)[0, 0],
        ):
            assert compute(build, x, way=way) == position


@ways
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_nan_is_sorted_behind_all_numbers(dtype, way, rng):
    x = rng.integers(0, 4, (3, 12)).astype(dtype)
    x[rng.random(x.shape) < 0.3] = np.nan
    x[0, 2], x[1, 1], x[2, 5] = np.inf, -np.inf, -0.0
    for axis in (0, 1):
        found = compute(lambda t, a=axis: ksym.argsort(t, a), x, way=way)
        np.testing.assert_array_equal(found, np.argsort(x, axis, kind="stable"))
        found = compute(lambda t, a=axis: ksym.sort(t, a), x, way=way)
        np.testing.assert_array_equal(found, np.sort(x, axis))
        found = compute(lambda t, a=axis: ksym.argsort(t, a, descending=True), x, way=way)
        np.testing.assert_array_equal(found, ksym.argsort.numpy(x, axis, True))
    largest, _ = ksym.top_k(ksym.constant(x), 2)
    np.testing.assert_array_equal(ksym.evaluate(largest), np.flip(np.sort(x, -1), -1)[:, :2])


@ways
@pytest.mark.parametrize("side", ["left", "right"])
def test_nan_is_searched_behind_all_numbers(side, way):
    v = np.array([np.nan, -np.inf, np.inf, 2.0])
    for a in ([1.0, 2.0, 3.0], [1.0, np.inf, np.nan, np.nan], [np.nan], []):
        a = np.array(a)
        found = compute(lambda x, y: ksym.searchsorted(x, y, side), a, v, way=way)
        np.testing.assert_array_equal(found, np.searchsorted(a, v, side))
