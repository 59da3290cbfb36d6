"""Compiled loops compute what their steps mean."""

import numpy as np
import pytest
from one_loop import flushed, run

import ksym
from ksym import ops
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import describe
from ksym.graph import topological_order
from ksym.runtime import calls
from ksym.runtime.arrays import DeviceArray

pytestmark = pytest.mark.host_access

SPECIAL = [0.0, -0.0, 1.0, -1.0, 88.6, -103.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 1e-40]
BINARY = [ops.add, ops.subtract, ops.multiply, ops.true_divide, ops.maximum, ops.minimum]
RELATIONS = [
    ops.equal,
    ops.not_equal,
    ops.less,
    ops.less_equal,
    ops.greater,
    ops.greater_equal,
]


def numbers(dtype):
    rng = np.random.default_rng(0)
    scales = (1e-3, 1.0, 10.0, 100.0)
    drawn = [rng.normal(size=500) * scale for scale in scales]
    return np.concatenate([*drawn, SPECIAL]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operator", [*BINARY, *RELATIONS], ids=lambda operator: operator.name)
def test_arithmetic_is_numpys_to_the_last_bit(operator, dtype):
    x, y = (a.ravel() for a in np.meshgrid(numbers(dtype)[-40:], numbers(dtype)[-40:]))
    a, b = ksym.placeholder(x.shape, dtype), ksym.placeholder(x.shape, dtype)
    (found,) = run([operator(a, b)], {a: x, b: y})
    with np.errstate(all="ignore"):
        # Of two zeros that a processor sees, it may choose the one that was subnormal.
        np.testing.assert_array_equal(flushed(found), operator.numpy(flushed(x), flushed(y)))


def test_choices_and_logic(rng):
    x = ksym.placeholder((4, 6))
    row, flags = ksym.placeholder((6,)), ksym.placeholder((4, 1), "bool")
    inside = ksym.logical_and(x > row, ksym.logical_not(flags))
    outputs = [
        inside,
        ksym.where(inside, ops.relu_gradient(x, x), ksym.clip(x, row, 0.75)),
        ksym.cast(ksym.logical_xor(inside, x > 0.0), "float64"),
        ksym.cast(x, "bool"),
    ]
    values = {
        x: rng.normal(size=(4, 6)).astype("float32"),
        row: rng.normal(size=6).astype("float32"),
        flags: rng.random((4, 1)) > 0.5,
    }
    stepwise = ksym.function(list(values), outputs, mode="interpret")(*values.values())
    for found, expected in zip(run(outputs, values), stepwise, strict=True):
        np.testing.assert_array_equal(found, expected)


SHAPES = [
    [(), ()],
    [(3,), ()],
    [(2, 1, 4), (3, 1)],
    [(5, 1), (1, 7)],
    [(2, 3, 4, 5), (3, 1, 5)],
    [(2, 3, 4, 5), (4, 1)],
    [(1, 3, 1), (2, 1, 1)],
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_operands_are_broadcast(shapes, rng):
    tensors = [ksym.placeholder(shape, "float64") for shape in shapes]
    arrays = [rng.normal(size=shape) for shape in shapes]
    (found,) = run([tensors[0] * tensors[1]], dict(zip(tensors, arrays, strict=True)))
    np.testing.assert_array_equal(found, arrays[0] * arrays[1])


@pytest.mark.parametrize("shape", [(3, 50), (1000,), (7, 1, 3)])
def test_threads_share_the_work(shape, rng):
    x = ksym.placeholder(shape)
    value = rng.normal(size=shape).astype("float32")
    (found,) = run([ksym.square(x) + x], {x: value}, Costs(shared_instructions=0))
    np.testing.assert_array_equal(found, value * value + value)


def test_equal_structures_share_code():
    codes = set()
    for shape in ((8, 10), (15, 6), (100,)):
        x, y = ksym.placeholder(shape), ksym.placeholder(shape)
        result = x * y + x
        nodes = {node for node in topological_order([result]) if node.inputs}
        arrays = {tensor: DeviceArray.empty(tensor.spec) for tensor in (x, y, result)}
        made = calls.kernel_calls(describe(nodes, [result]), arrays, DEFAULT)
        codes.update(call.code for call in made)
    assert len(codes) == 1
