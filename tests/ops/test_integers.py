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
