"""Joins are exact whichever kernel does them, and whatever layout their operands lie in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.compiler.codegen.nnvm import lower

NATIVE = {"fuse_loops": False}


def joined(arrays, axis, mode="native"):
    """Compute a join and the gradients of a weighted sum of it."""
    inputs = [ksym.placeholder(array.shape, array.dtype.name) for array in arrays]
    result = ksym.concatenate(inputs, axis)
    weights = np.arange(np.prod(result.shape)).reshape(result.shape).astype(result.dtype)
    gradients = ksym.gradients(ksym.sum(result * weights), inputs)
    flags = NATIVE if mode == "native" else None
    found = ksym.function(inputs, [result, *gradients], mode=mode, flags=flags)(*arrays)
    return found[0], found[1:], weights


@given(data=st.data())
def test_joins_are_bit_equal_to_numpys(data):
    rank = data.draw(st.integers(1, 4))
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 8, 40]), min_size=rank, max_size=rank))
    axis = data.draw(st.integers(0, rank - 1))
    sides = data.draw(st.lists(st.sampled_from([0, 1, 5, 130]), min_size=1, max_size=12))
    dtype = data.draw(st.sampled_from(["float32"] * 3 + ["float64", "float16"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    arrays = [
        rng.normal(size=(*shape[:axis], side, *shape[axis + 1 :])).astype(dtype) for side in sides
    ]
    mode = data.draw(st.sampled_from(["native", "interpret"]))
    found, gradients, weights = joined(arrays, axis, mode)
    np.testing.assert_array_equal(found, np.concatenate(arrays, axis))
    parts = np.split(weights, np.cumsum(sides)[:-1], axis)
    for gradient, part in zip(gradients, parts, strict=True):
        np.testing.assert_array_equal(gradient, part)


def operators_of(shape, axis, dtype="float32", count=3):
    inputs = [ksym.placeholder(shape, dtype) for _ in range(count)]
    return {node["op"] for node in lower([ksym.concatenate(inputs, axis)]).nodes}


@pytest.mark.parametrize(
    ("shape", "axis", "dtype", "as_rows"),
    [
        ((20, 32, 128), 2, "float32", True),
        ((64, 16, 16, 8), 2, "float32", True),
        ((1000,), 0, "float32", True),
        ((20, 32, 128), 1, "float32", False),  # long runs
        ((20, 32, 128), 0, "float32", False),
        ((8, 8), 1, "float32", False),  # few
        ((20, 32, 128), 2, "float64", False),  # no kernel of oneDNN's
        ((20, 32, 128), 2, "int32", False),
    ],
)
def test_short_runs_of_float32_are_joined_as_rows(shape, axis, dtype, as_rows):
    assert ("Concat" in operators_of(shape, axis, dtype)) == as_rows
    assert ("_npi_concatenate" in operators_of(shape, axis, dtype)) != as_rows


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize(
    "made",
    [
        lambda x, w: ksym.convolution(x, w, padding="same"),
        lambda x, w: ksym.relu(ksym.convolution(x, w, padding="same")),
        lambda x, w: ksym.max_pool(ksym.convolution(x, w, padding="same"), (2, 2)),
        lambda x, w: ksym.average_pool(x, (2, 2)),
    ],
    ids=["convolution", "relu", "max_pool", "average_pool"],
)
def test_joins_behind_layouts_of_onednns_own(rng, made, axis):
    x, w = ksym.placeholder((2, 16, 8, 8)), ksym.placeholder((16, 16, 3, 3))
    parts = [made(x, w), made(x * 2.0, w)]
    result = ksym.concatenate(parts, axis)
    weights = rng.normal(size=result.shape).astype("float32")
    wanted = ksym.function([x, w], parts, flags=NATIVE)
    gradients = ksym.gradients(ksym.sum(result * weights), [x, w], disconnected="zero")
    found = ksym.function([x, w], [result, *gradients], flags=NATIVE)
    values = [rng.normal(size=slot.shape).astype("float32") for slot in (x, w)]
    got = found(*values)
    np.testing.assert_array_equal(got[0], np.concatenate(wanted(*values), axis))
    # The same gradients without any join: each part is weighted alone.
    cut = np.split(weights, 2, axis)
    alone = ksym.sum(parts[0] * cut[0]) + ksym.sum(parts[1] * cut[1])
    apart = ksym.gradients(alone, [x, w], disconnected="zero")
    expected = ksym.function([x, w], apart, flags=NATIVE)(*values)
    for gradient, other in zip(got[1:], expected, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "part", [np.s_[:, :12], np.s_[:, 8:], np.s_[:, :, 1:], np.s_[1:], np.s_[1:, 1:9, 2:]]
)
def test_joins_of_parts_of_convolutions(rng, part, axis):
    x, w = ksym.placeholder((2, 16, 8, 8)), ksym.placeholder((16, 16, 3, 3))
    y = ksym.convolution(x, w, padding="same")
    joined = ksym.concatenate([y[part], ksym.zeros_like(y[part])], axis)
    values = [rng.normal(size=slot.shape).astype("float32") for slot in (x, w)]
    for options in ({"flags": NATIVE}, {"mode": "interpret"}):
        whole, found = ksym.function([x, w], [y, joined], **options)(*values)
        expected = np.concatenate([whole[part], np.zeros_like(whole[part])], axis)
        np.testing.assert_array_equal(found, expected)
