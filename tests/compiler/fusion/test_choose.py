"""Which nodes become loops."""

import costed
import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.codegen.nnvm import lower
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.choose import fuse_loops
from ksym.compiler.fusion.decompose import fused_graph
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.partition import partition
from ksym.compiler.specialize import specialize
from ksym.graph import topological_order
from ksym.ops.nn.convolution import FAR


def regions(*outputs):
    return [sorted(node.operator.name for node in region) for region in fuse_loops(outputs)]


def parts(*outputs):
    """The parts in order: the operators of a loop, "product" or "native"."""
    named = {Kernel: lambda loop: [step.operator.name for step in loop.instructions]}
    named |= {Product: lambda product: "product", type(None): lambda work: "native"}
    return [named[type(p.work)](p.work) for p in partition(outputs, fuse_loops(outputs))]


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


def test_what_is_small_does_not_divide_a_native_graph():
    x = ksym.placeholder((4, 4))
    y = ksym.cumsum(x, 0)
    assert regions(ksym.cumsum(ksym.tanh(y + 1.0) @ y, 0)) == []


def test_what_saves_much_divides_it(x):
    y = ksym.cumsum(x, 0)
    gate = ksym.sigmoid(y) * ksym.tanh(y) + ksym.exp(y) * y - ksym.square(y)
    gate = ksym.cumsum(gate, 0)
    assert [p if p == "native" else "loop" for p in parts(gate)] == ["native", "loop", "native"]


def test_products_among_loops_are_calls_of_blas(x):
    w = ksym.placeholder((128, 128))
    y = ksym.tanh(x @ w + 1.0) @ w
    assert parts(y) == ["product", ["add", "tanh"], "product"]


def test_products_with_something_native_on_both_sides_stay_there(x):
    w = ksym.placeholder((128, 128))
    assert parts(ksym.cumsum(ksym.cumsum(x, 0) @ w, 0)) == ["native"]


def test_something_native_at_the_end_alone_is_not_in_the_way(x):
    w = ksym.placeholder((128, 128))
    assert parts(ksym.argmax(ksym.relu(x @ w), -1)) == ["product", ["relu"], "native"]


def test_blas_reads_where_the_elements_lie(x):
    w = ksym.placeholder((128, 384))
    stack = ksym.placeholder((256, 1, 128))
    products = [x @ w[:, 128:256], ops.reshape(stack, (256, 128)) @ w, stack @ w[:, :128]]
    assert parts(*products) == ["product"] * 3
    (strided, *_) = (part.work.b for part in partition(products, fuse_loops(products)))
    assert (strided.tensor, strided.offset, strided.stride, strided.columns) == (w, 128, 384, 128)


def test_blas_does_not_read_what_lies_otherwise():
    w = ksym.placeholder((4, 6))
    column = ops.reshape(w[:, 1:2], (1, 4))
    x = ksym.placeholder((4, 3))
    copied: list[str] = []
    assert parts(column @ x) == [copied, "product"]
    values = np.arange(24.0).reshape(4, 6), np.ones((4, 3))
    found = ksym.function([w, x], column @ x)(*values)
    np.testing.assert_array_equal(found, values[0][:, 1:2].T @ values[1])


def test_views_are_copied_where_their_elements_are_asked_for(rng):
    x, w = ksym.placeholder((3, 4, 5)), ksym.placeholder((5, 2))
    outputs = [
        ops.transpose(x, (1, 0, 2)),
        ops.transpose(x, (1, 0, 2)) @ w,
        ops.reshape(x[1:, :, :2], (2, 8)),
        ops.squeeze(x[:, 1:2], (1,)),
    ]
    value = rng.normal(size=(3, 4, 5)), rng.normal(size=(5, 2))
    native = ksym.function([x, w], outputs)
    stepwise = ksym.function([x, w], outputs, mode="interpret")
    for found, expected in zip(native(*value), stepwise(*value), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_native_graph_is_not_divided_by_what_it_need_not_wait_for():
    # The mask is ready before anything native begins.
    mask = ksym.exp(ksym.tanh(ops.standard_uniform((4, 64, 64))) * 2.0)
    stack = ksym.cumsum(ksym.placeholder((4, 64, 64)), 1)
    assert [p if p == "native" else "loop" for p in parts(stack @ mask)] == ["loop", "native"]


def test_a_softmax_is_written_out_where_loops_do_all_of_it(x):
    w = ksym.placeholder((128, 128))
    tensors, regions = fused_graph([ops.softmax(x @ w)], True)
    assert not any(node.operator is ops.softmax for node in topological_order(tensors))
    assert all(part.work is not None for part in partition(tensors, regions))


def test_a_softmax_amid_a_native_graph_is_one_kernel():
    before = ksym.cumsum(ksym.placeholder((8, 16)), 0)
    (y,), regions = fused_graph([ksym.cumsum(ops.softmax(before), 0)], True)
    assert not regions
    assert y.node.inputs[0].node.operator is ops.softmax


def test_what_only_a_later_loop_reads_is_computed_there(x):
    early = ksym.exp(x) + 1.0
    y = ksym.cumsum(x, 0)
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
    views = [write.view for write in part.work.writes]
    assert [(v.offset, v.strides) for v in views] == [(0, (256, 1)), (128, (256, 1))]


def test_no_loop_depends_on_itself():
    # What is concatenated, worked on and sliced could come back into the loop it came from.
    x = ksym.placeholder((256, 1))
    column = ksym.tanh(x) * 2.0
    wide = ksym.exp(ops.concatenate([column, column + 1.0], axis=1)) * 3.0
    back = wide[:, :1] * column + ksym.tanh(wide[:, 1:])
    value = np.linspace(-1, 1, 256).reshape(256, 1)
    native = costed.function(Costs(kernel=0.0, native_graph=0.0), [x], back)(value)
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
    assert all(len(region) <= DEFAULT.instructions for region in loops)
    assert sum(map(len, loops)) == 300


def test_more_is_not_compiled_than_what_is_sensible(x):
    y = x
    for number in range(150):
        y = ksym.tanh(y) + float(number)
    assert sum(map(len, fuse_loops([y], Costs(instructions_in_all=100)))) == 64
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


def test_a_gradient_kernel_stays_with_what_it_repeats():
    x = ksym.placeholder((8, 4, 32, 32))
    y = ops.max_pool(x, 2)
    z = ksym.mean(y, (2, 3))
    loss = ksym.sum(ksym.exp(ksym.tanh(z) * z) + ksym.square(z) * ksym.log1p(ksym.exp(z)))
    outputs = specialize([loss, *ksym.gradients(loss, [x])], {})
    planned = partition(outputs, fuse_loops(outputs))
    native = [part for part in planned if part.work is None]
    where = [
        {n.operator.name for n in topological_order(part.outputs, until=part.inputs)}
        for part in native
    ]
    (together,) = [names for names in where if "max_pool_gradient" in names]
    assert "max_pool" in together


def test_kernels_come_between_a_normalisation_of_matrices_and_its_gradient():
    x, w, gamma = map(ksym.placeholder, ((2048, 64), (64, 256), (64,)))
    y = ksym.relu(ops.batch_norm(x, gamma, gamma)[0] @ w + 1.0)
    loss = ksym.sum(ksym.tanh(y))
    outputs = specialize([loss, *ksym.gradients(loss, [x, w])], {})
    assert any("relu_gradient" in names for names in regions(*outputs))
    dear = fuse_loops(outputs, Costs(repeated_element=1.0))
    assert not any("relu_gradient" in {n.operator.name for n in region} for region in dear)


def test_no_kernels_come_between_a_normalisation_in_blocks_and_its_gradient():
    x, w, gamma = map(ksym.placeholder, ((64, 16, 16, 16), (16, 16, 3, 3), (16,)))
    y = ops.batch_norm(ops.convolution(x, w), gamma, gamma)[0]
    loss = ksym.sum(ksym.tanh(y) * ksym.exp(y))
    outputs = specialize([loss, *ksym.gradients(loss, [x, w])], {})
    assert not any({"tanh", "exp"} & set(names) for names in regions(*outputs))


def test_a_kernel_may_come_between_a_convolution_and_its_gradient():
    x, w = ksym.placeholder((8, 16, 400)), ksym.placeholder((16, 16, 3))
    z = ksym.max(ops.convolution(x, w, padding="same"), 2)
    loss = ksym.sum(ksym.exp(ksym.tanh(z) * z) + ksym.square(z) * ksym.log1p(ksym.exp(z)))
    outputs = specialize([loss, *ksym.gradients(loss, [x, w])], {})
    planned = partition(outputs, fuse_loops(outputs))
    native = [lower(part.outputs, part.inputs) for part in planned if part.work is None]
    strides = [
        node["attrs"]["stride"]
        for graph in native
        for node in graph.nodes
        if node["op"] == "Convolution"
    ]
    # MXNet computes a convolution wherever a gradient is: there one with a single position.
    assert sorted(strides) == ["(1,)", f"({FAR},)"]


def test_a_mask_is_made_in_a_loop_where_its_product_stays_native():
    x, w = ksym.placeholder((8, 64, 24, 24)), ksym.placeholder((64, 64, 3, 3))
    y = ksym.max_pool(ksym.convolution(x, w, padding="same"), 2)
    drawn = ksym.placeholder((8, 64 * 12 * 12), "int32")
    mask = ksym.cast(drawn > 5, "float32") * 2.0
    loss = ksym.sum(ksym.cumsum(ops.reshape(y, (8, -1)) * mask, 1))
    outputs = [loss, *ksym.gradients(loss, [x, w])]
    assert ["cast", "greater", "multiply"] in regions(*specialize(outputs, {}))


def deep(depth):
    y = ksym.placeholder((4, 8))
    for number in range(depth):
        w, b = ksym.placeholder((8, 8), name=f"w{number}"), ksym.placeholder((8,))
        y = ksym.tanh(y @ w + b)
    return y


def test_kernels_of_one_structure_count_once():
    """A network of any depth has no more code than one layer, so it is in kernels as a whole."""
    limited = Costs(instructions_in_all=3)
    for depth in (1, 50):
        regions = fuse_loops([deep(depth)], limited)
        assert sorted(map(len, regions)) == [1] * depth + [2] * depth
    wide = ksym.exp(ksym.tanh(ksym.placeholder((64, 64)) + 1.0))
    assert sorted(map(len, fuse_loops([deep(50), wide], limited))) == [3]


def test_kernels_with_other_constants_count_each():
    y, last = ksym.placeholder((4, 8)), ksym.placeholder((8, 8))
    for number in range(20):
        y = ksym.tanh(y * float(number + 2)) @ last
    assert [len(region) for region in fuse_loops([y], Costs(instructions_in_all=6))] == [2] * 3
