"""Recurrent layers on native kernels: weights that change, the smallest shapes, mistakes."""

import numpy as np
import pytest

import ksym
from ksym.compiler import optimize
from ksym.compiler.partition import partition
from ksym.compiler.specialize import specialize
from ksym.loops.cells import CELLS, as_scan

LAYERS = {
    "rnn_tanh": lambda *a: ksym.simple_rnn(*a),
    "rnn_relu": lambda *a: ksym.simple_rnn(*a, activation="relu"),
    "lstm": ksym.lstm,
    "gru": ksym.gru,
}


def draw(mode, steps, batch, features, units, dtype="float32"):
    cell, rng = CELLS[mode], np.random.default_rng(0)
    columns = cell.gates * units
    shapes = [(steps, batch, features), *[(batch, units)] * cell.states]
    shapes += [(features, columns), (units, columns), *[(columns,)] * cell.biases]
    return [rng.uniform(-0.1, 0.4, shape).astype(dtype) for shape in shapes]


def trained(build, values, places):
    """The losses of some steps of gradient descent on the weights, and the weights after them."""
    inputs = [ksym.placeholder(v.shape, v.dtype.name) for v in values[:places]]
    weights = [ksym.Variable(v) for v in values[places:]]
    outputs = build([*inputs, *weights])
    loss = sum(ksym.mean(ksym.square(t)) for t in outputs)
    updates = [
        w.assign_sub(0.1 * g) for w, g in zip(weights, ksym.gradients(loss, weights), strict=True)
    ]
    step = ksym.function(inputs, loss, updates=updates)
    losses = [float(step(*values[:places])) for _ in range(6)]
    return losses, [w.get_value() for w in weights]


@pytest.mark.parametrize(
    "sizes", [(5, 3, 4, 6), (1, 1, 1, 1), (7, 1, 3, 1), (3, 40, 9, 33)], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", LAYERS)
def test_a_kernel_sees_weights_that_change_at_every_step(mode, dtype, sizes):
    values, cell = draw(mode, *sizes, dtype), CELLS[mode]
    places = 1 + cell.states
    by_kernel = trained(lambda operands: LAYERS[mode](*operands), values, places)
    by_loop = trained(lambda operands: as_scan(cell, operands), values, places)
    assert by_kernel[0][-1] < by_kernel[0][0]
    bound = 2e-5 if dtype == "float32" else 1e-11
    np.testing.assert_allclose(by_kernel[0], by_loop[0], rtol=bound)
    for a, b in zip(by_kernel[1], by_loop[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


@pytest.mark.parametrize("which", ["sequence", "first states", "both"])
@pytest.mark.parametrize("mode", LAYERS)
def test_gradients_by_the_inputs_alone_are_those_by_all_operands(mode, which):
    # MXNet's kernels leave out half of their work where no weights are asked for.
    values, cell = draw(mode, 4, 2, 3, 5, "float64"), CELLS[mode]
    operands = [ksym.placeholder(v.shape, "float64") for v in values]
    wrt = {"sequence": operands[:1], "first states": operands[1 : 1 + cell.states]}
    wrt["both"] = operands[: 1 + cell.states]
    loss = sum(ksym.sum(ksym.square(t)) for t in LAYERS[mode](*operands))
    some = ksym.function(operands, ksym.gradients(loss, wrt[which]))(*values)
    every = ksym.function(operands, ksym.gradients(loss, operands))(*values)
    for gradient, tensor in zip(some, wrt[which], strict=True):
        np.testing.assert_allclose(gradient, every[operands.index(tensor)], rtol=1e-12)


def parts(tensors):
    return [part.work for part in partition(tensors)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("mode", LAYERS)
def test_a_step_of_training_is_one_native_graph(mode, dtype):
    inputs = [ksym.placeholder(v.shape, dtype) for v in draw(mode, 4, 2, 3, 5)]
    outputs = LAYERS[mode](*inputs)
    outputs = [*outputs, *ksym.gradients(outputs, inputs)]
    planned = parts(optimize(specialize(outputs, {})))
    # MXNet's kernel for relu makes zeros of NaN.
    assert (planned == [None]) == (mode != "rnn_relu")


@pytest.mark.parametrize("empty", range(4), ids=["steps", "batch", "features", "units"])
@pytest.mark.parametrize("mode", LAYERS)
def test_what_is_empty(mode, empty):
    sizes = [3, 2, 4, 5]
    sizes[empty] = 0
    values = draw(mode, *sizes)
    inputs = [ksym.placeholder(v.shape, "float32") for v in values]
    outputs = LAYERS[mode](*inputs)
    found = ksym.function(inputs, [*outputs, *ksym.gradients(outputs, inputs)])(*values)
    expected = outputs[0].node.operator.numpy(*values, cell=mode)
    for a, b in zip(found, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    for gradient, value in zip(found[len(outputs) :], values, strict=True):
        assert gradient.shape == value.shape
    if empty == 0:
        np.testing.assert_array_equal(found[1], values[1])


def test_biases_may_be_left_out():
    values = draw("gru", 3, 2, 4, 5)
    x, h, w, u, b, d = (ksym.placeholder(v.shape) for v in values)
    zeros = np.zeros(15, "float32")
    cases = [ksym.gru(x, h, w, u)[0], ksym.gru(x, h, w, u, b)[0], ksym.gru(x, h, w, u, None, d)[0]]
    found = ksym.function([x, h, w, u, b, d], cases)(*values)
    for result, biases in zip(found, [(zeros, zeros), (b, zeros), (zeros, d)], strict=True):
        whole = ksym.function([x, h, w, u, b, d], ksym.gru(x, h, w, u, *biases)[0])(*values)
        np.testing.assert_allclose(result, whole, rtol=1e-6)


def test_mistakes():
    x, h, w, u, b = (ksym.placeholder(v.shape) for v in draw("rnn_tanh", 3, 2, 4, 5))
    with pytest.raises(ksym.GraphError, match="sigmoid"):
        ksym.simple_rnn(x, h, w, u, b, activation="sigmoid")
    with pytest.raises(ksym.ShapeError, match=r"the kernel has shape \(5, 5\), not \(4, 5\)"):
        ksym.simple_rnn(x, h, u, u, b)
    with pytest.raises(ksym.ShapeError, match="ranks"):
        ksym.simple_rnn(x[0], h, w, u, b)
    with pytest.raises(ksym.ShapeError, match="the kernel"):
        ksym.lstm(x, h, h, w, u)
    with pytest.raises(ksym.DTypeError, match="floats"):
        ksym.simple_rnn(*(ksym.cast(t, "int32") for t in (x, h, w, u)))
