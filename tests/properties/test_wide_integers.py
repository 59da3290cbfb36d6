"""Every declared operator on integers of all sizes: exact in all ways of computing it."""

import numpy as np
import pytest
from drawing import HypothesisDraw, build, meaning
from hypothesis import given, settings
from hypothesis import strategies as st

import ksym
from ksym.graph import OPERATORS
from ksym.testing import evaluate_numpy

NAMES = sorted(
    name
    for name, operator in OPERATORS.items()
    if name not in ("placeholder", "variable") and operator.pure
)

WAYS = (
    {},
    {"flags": "fuse_loops=0"},
    {"mode": "interpret"},
)


class WideDraw(HypothesisDraw):
    """Draws integers from all of their dtype where a sample leaves the range to what floats take.

    Ranges of integers (of indices, exponents and the like) stay: they are what the operator means.
    All integers of a sample are of one dtype: NumPy lets int8 and uint8 meet in int16.
    """

    def __init__(self, data):
        super().__init__(data)
        self._integer = super().dtype("integer")

    def dtype(self, *kinds):
        return self._integer if "integer" in kinds else super().dtype(*kinds)

    def array(self, shape, low=-2.0, high=2.0, *, dtype=None, apart=0.0, kinks=()):
        if dtype is None or np.dtype(dtype).kind not in "iu" or not isinstance(low, float):
            return super().array(shape, low, high, dtype=dtype, apart=apart, kinks=kinks)
        limits = np.iinfo(dtype)
        rng = np.random.default_rng(self._draw(st.integers(0, 2**32 - 1)))
        drawn = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        return np.asarray(drawn >> rng.integers(0, limits.bits - 1, shape).astype(dtype), dtype)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=settings.default.max_examples // 2)
@given(data=st.data())
def test_integers_are_exact(name, data):
    operator = OPERATORS[name]
    with np.errstate(all="ignore"):
        sample = operator.sample(WideDraw(data))
    if not any(array.dtype.kind in "iu" for array in sample.operands):
        return
    inputs, values, outputs = build(name, sample)
    wanted = meaning(operator, sample)
    if wanted is None:
        wanted = evaluate_numpy(outputs, dict(zip(inputs, values, strict=True)))
    for way in WAYS:
        found = ksym.function(inputs, outputs, **way)(*values)
        for result, expected in zip(found, wanted, strict=True):
            if result.dtype.kind != "f":
                np.testing.assert_array_equal(result, np.asarray(expected), err_msg=str(way))
