"""Integers, and positions, are exact where MXNet computes them in floats."""

import numpy as np
import pytest

import ksym

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
