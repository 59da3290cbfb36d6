"""Decompositions: which operators become several that kernels compute."""

import numpy as np
import pytest

import ksym
from ksym.ops import placeholder


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((40, 50, 20), None),
        ((40, 50, 20), (0, 1)),
        ((300, 200, 3), (0, 1)),
        ((3, 400, 300), (1, 2)),
        ((40_000,), 0),
        ((2_000_000,), None),
        ((3, 40_000), 1),
        ((40_000, 3), None),
        ((20_000, 20_000 // 2_000), (0,)),
    ],
)
@pytest.mark.parametrize("keepdims", [False, True])
def test_a_long_sum_is_a_sum_of_blocks_in_kernels(shape, axis, keepdims):
    x = placeholder(shape)
    f = ksym.function([x], ksym.sum(ksym.square(x), axis=axis, keepdims=keepdims))
    value = np.random.default_rng(0).standard_normal(shape, dtype="float32")
    expected = np.square(value.astype("float64")).sum(axis=axis, keepdims=keepdims)
    np.testing.assert_allclose(f(value), expected, rtol=3e-6)
    assert "native graph" not in str(f.last_plan())


@pytest.mark.parametrize("side", [40_009, 16_411])  # primes
def test_a_long_sum_that_no_blocks_divide_is_native(side):
    x = placeholder((side,))
    f = ksym.function([x], ksym.sum(x * 2.0))
    value = np.random.default_rng(0).standard_normal(side, dtype="float32")
    assert f(value) == pytest.approx(2 * value.astype("float64").sum(), rel=1e-5, abs=1e-3)
    assert "native graph" in str(f.last_plan())


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 640), 1),
        ((4, 64), None),
        ((2, 3, 8, 16), (2, 3)),
        ((2, 3, 4, 32), (0, 2, 3)),
        ((5, 63), 1),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("name", ["max", "min"])
def test_an_extremum_of_neighbours_is_that_of_extrema_side_by_side(shape, axis, dtype, name, rng):
    x = placeholder(shape, dtype)
    f = ksym.function([x], getattr(ksym, name)(x, axis))
    value = (rng.standard_normal(shape) * 100).astype(dtype)
    np.testing.assert_array_equal(f(value), getattr(np, name)(value, axis))
    if dtype != "int32":
        for special in (np.inf, -np.inf, np.nan):
            value.flat[rng.integers(value.size)] = special
            np.testing.assert_array_equal(f(value), getattr(np, name)(value, axis))


def test_the_maximum_of_a_convolution_over_time_is_in_a_kernel():
    x, w = placeholder((4, 16, 100)), placeholder((16, 16, 5))
    z = ksym.max(ksym.relu(ksym.convolution(x, w)), 2)
    f = ksym.function([x, w], [z, *ksym.gradients(ksym.sum(z * z), [x, w])])
    f(np.zeros((4, 16, 100), "float32"), np.zeros((16, 16, 5), "float32"))
    natives = [line for line in str(f.last_plan()).split("\n") if "native graph:" in line]
    assert not any(" max" in line for line in natives)
