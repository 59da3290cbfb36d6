"""Which nodes become loops."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler import fuse
from ksym.compiler.fuse import fuse_loops
from ksym.compiler.loops import Loop
from ksym.compiler.plan import partition
from ksym.graph import topological_order


def regions(*outputs):
    return [sorted(node.operator.name for node in region) for region in fuse_loops(outputs)]


def parts(*outputs):
    """The parts in order: the operators of a loop, or "native"."""
    return [
        [step.operator.name for step in part.work.steps]
        if isinstance(part.work, Loop)
        else "native"
        for part in partition(outputs, fuse_loops(outputs))
    ]


@pytest.fixture
def x():
    return ksym.placeholder((256, 128))


def test_a_chain_is_one_loop(x):
    assert parts(ksym.tanh(x * 2.0 + 1.0)) == [["multiply", "add", "tanh"]]


def test_biases_and_columns_are_broadcast_in_the_loop(x):
    row, column = ksym.placeholder((128,)), ksym.placeholder((256, 1))
    y = x * column + row
    (part,) = partition([y], fuse_loops([y]))
    assert [view.strides for view in part.work.reads] == [(128, 1), (1, 0), (0, 1)]


def test_what_is_small_stays_native():
    x = ksym.placeholder((4, 4))
    w = ksym.placeholder((4, 4))
    assert regions(ksym.tanh(x @ w + 1.0) @ w) == []


def test_products_are_native_and_what_lies_between_them_is_a_loop(x):
    w = ksym.placeholder((128, 128))
    y = x @ w
    gate = ksym.sigmoid(y) * ksym.tanh(y) + ksym.exp(y) * y - ksym.square(y)
    assert [p if p == "native" else "loop" for p in parts(gate @ w)] == ["native", "loop", "native"]


def test_what_only_a_later_loop_reads_is_computed_there(x):
    w = ksym.placeholder((128, 128))
    early = ksym.exp(x) + 1.0
    y = x @ w
    late = ksym.tanh(y) * early + ksym.square(y) * y
    (first, second) = parts(late)
    assert first == "native"
    assert {"exp", "tanh"} <= set(second)


def test_slices_are_seen_where_they_lie(x):
    y = ksym.placeholder((256, 256))
    result = ksym.tanh(y[:, :128]) * ksym.sigmoid(y[:, 128:]) + x
    (part,) = partition([result], fuse_loops([result]))
    assert [view.offset for view in part.work.reads if view.tensor is y] == [0, 128]


def test_concatenations_are_written_in_place(x):
    result = ops.concatenate([ksym.tanh(x) * 2.0, ksym.exp(x) + x], axis=1)
    (part,) = partition([result], fuse_loops([result]))
    assert part.outputs == (result,)
    assert [(v.offset, v.strides) for _, v in part.work.writes] == [(0, (256, 1)), (128, (256, 1))]


def test_no_loop_depends_on_itself(monkeypatch):
    # What is concatenated, worked on and sliced could come back into the loop it came from.
    monkeypatch.setattr(fuse, "LOOP", 0.0)
    monkeypatch.setattr(fuse, "NATIVE_GRAPH", 0.0)
    x = ksym.placeholder((256, 1))
    column = ksym.tanh(x) * 2.0
    wide = ksym.exp(ops.concatenate([column, column + 1.0], axis=1)) * 3.0
    back = wide[:, :1] * column + ksym.tanh(wide[:, 1:])
    value = np.linspace(-1, 1, 256).reshape(256, 1)
    native = ksym.function([x], back)(value)
    stepwise = ksym.function([x], back, mode="interpret")(value)
    np.testing.assert_allclose(native, stepwise, rtol=1e-5, atol=1e-5)


def test_convolutions_keep_their_layout():
    x, w = ksym.placeholder((8, 16, 32, 32)), ksym.placeholder((16, 16, 3, 3))
    y = ksym.relu(ops.convolution(x, w, padding="same", data_format="channels_first"))
    assert regions(ops.convolution(y, w, padding="same", data_format="channels_first")) == []


def test_a_long_chain_is_several_loops(x):
    y = x
    for _ in range(150):
        y = ksym.tanh(y) + 1.0
    loops = fuse_loops([y])
    assert all(len(region) <= fuse.STEPS for region in loops)
    assert sum(map(len, loops)) == 300


def test_more_is_not_compiled_than_what_is_sensible(x, monkeypatch):
    monkeypatch.setattr(fuse, "STEPS_IN_ALL", 100)
    y = x
    for _ in range(150):
        y = ksym.tanh(y) + 1.0
    assert sum(map(len, fuse_loops([y]))) == 64
    assert len(topological_order([y])) > 300


def test_sums_are_made_along_the_way(x, rng):
    y = ksym.exp(x) * 2.0
    outputs = [ksym.sum(y, 0), ksym.sum(y, 1, keepdims=True), y - ksym.square(x)]
    assert [len(part) for part in parts(*outputs)] == [4]
    value = rng.normal(size=(256, 128)).astype("float32")
    stepwise = ksym.function([x], outputs, mode="interpret")(value)
    summing = ksym.function([x], outputs)
    for _ in range(2):
        for found, expected in zip(summing(value), stepwise, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
