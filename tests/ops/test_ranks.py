"""Tensors of more axes than MXNet's kernels take: five for most of them."""

import numpy as np
import pytest

import ksym
from ksym.compiler.passes.merge_axes import merge_axes
from ksym.graph import topological_order
from ksym.ops import ranks
from ksym.testing import verify_gradient

FULL = (2, 2, 3, 1, 2, 3, 2, 2)
COMB, GAPS = (2, 1, 3, 1, 2, 1, 2, 1), (1, 2, 1, 3, 1, 2, 1, 2)  # they stretch each other
WHOLE = (2, 2, 3, 3, 2, 2, 2, 2)

STORIES = {
    "add": ([COMB, GAPS], lambda x, y: x + y, None),
    "divide": ([COMB, GAPS], lambda x, y: x / y, None),
    "floor_divide": ([COMB, GAPS], lambda x, y: x // y, None),
    "alike": ([FULL, (3, 1, 1)], lambda x, y: x * y, None),
    "arctan2": ([COMB, GAPS], ksym.arctan2, np.arctan2),
    "where": (
        [COMB, GAPS, COMB],
        lambda x, y, z: ksym.where(x > 1, y, z),
        lambda x, y, z: np.where(x > 1, y, z),
    ),
    "broadcast_to": (
        [COMB],
        lambda x: ksym.broadcast_to(x, WHOLE),
        lambda x: np.broadcast_to(x, WHOLE),
    ),
    "sum": ([FULL], lambda x: ksym.sum(x, (0, 2, 4, 6)), lambda x: np.sum(x, (0, 2, 4, 6))),
    "max": ([FULL], lambda x: ksym.max(x, (0, 2, 4, 6)), lambda x: np.max(x, (0, 2, 4, 6))),
    "prod": (
        [FULL],
        lambda x: ksym.prod(x, (0, 2, 5, 7), keepdims=True),
        lambda x: np.prod(x, (0, 2, 5, 7), keepdims=True),
    ),
    "var": ([FULL], lambda x: ksym.var(x, (1, 2, 4, 7)), lambda x: np.var(x, (1, 2, 4, 7))),
    "reversed axes": ([FULL], ksym.transpose, np.transpose),
    "shuffled axes": (
        [FULL],
        lambda x: ksym.transpose(x, (3, 1, 7, 5, 0, 2, 6, 4)),
        lambda x: np.transpose(x, (3, 1, 7, 5, 0, 2, 6, 4)),
    ),
    "flip": ([FULL], lambda x: ksym.flip(x, (0, 2, 5, 7)), lambda x: np.flip(x, (0, 2, 5, 7))),
    "roll": (
        [FULL],
        lambda x: ksym.roll(x, (1, 1, -1), (0, 2, 5)),
        lambda x: np.roll(x, (1, 1, -1), (0, 2, 5)),
    ),
    "slice": ([FULL], lambda x: x[::-1, 1:, ::2, 0, ..., :1, ::-1], None),
    "pad": ([COMB], lambda x: ksym.pad(x, [(1, 0)] * 8), lambda x: np.pad(x, [(1, 0)] * 8)),
    "tile": ([COMB], lambda x: ksym.tile(x, (2, 1) * 4), lambda x: np.tile(x, (2, 1) * 4)),
    "concatenate": (
        [FULL, FULL],
        lambda x, y: ksym.concatenate([x, y], 3),
        lambda x, y: np.concatenate([x, y], 3),
    ),
    "take": ([FULL], lambda x: ksym.take(x, [1, 0, 1], 4), lambda x: np.take(x, [1, 0, 1], 4)),
    "cumprod": ([FULL], lambda x: ksym.cumprod(x, 4), lambda x: np.cumprod(x, 4)),
    "sort": ([FULL], lambda x: ksym.sort(x, 2), lambda x: np.sort(x, 2)),
    "matmul": ([(*COMB[:6], 2, 3), (*GAPS[:6], 3, 2)], lambda x, y: x @ y, None),
    "one matrix for all": ([FULL, (2, 2)], lambda x, y: x @ y, None),
    "tensordot": (
        [FULL, FULL],
        lambda x, y: ksym.tensordot(x, y, ((0, 2, 4, 5, 7), (0, 2, 4, 5, 7))),
        lambda x, y: np.tensordot(x, y, ((0, 2, 4, 5, 7), (0, 2, 4, 5, 7))),
    ),
}


def arrays(sides):
    """Distinct numbers from 0.5 to 2.5 in a random order."""
    rng = np.random.default_rng(0)
    return [rng.permutation(np.linspace(0.5, 2.5, np.prod(s, dtype=int))).reshape(s) for s in sides]


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_values_are_numpys(story, mode):
    sides, build, numpy = STORIES[story]
    inputs = [ksym.placeholder(s, "float64") for s in sides]
    values = arrays(sides)
    found = ksym.function(inputs, build(*inputs), mode=mode)(*values)
    np.testing.assert_allclose(found, (numpy or build)(*values), rtol=1e-12)


@pytest.mark.parametrize("story", [s for s in STORIES if s != "floor_divide"])  # it jumps
def test_gradients(story):
    sides, build, _ = STORIES[story]
    verify_gradient(build, arrays(sides))


def test_stacks_of_matrices():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(*COMB[:6], 3, 3)) + 4 * np.eye(3)
    b = rng.normal(size=(*GAPS[:6], 3, 2))
    x, y = ksym.placeholder(a.shape, "float64"), ksym.placeholder(b.shape, "float64")
    outputs = [ksym.solve(x, y), ksym.inv(x), ksym.det(x), *ksym.slogdet(x)]
    expected = [np.linalg.solve(a, b), np.linalg.inv(a), np.linalg.det(a), *np.linalg.slogdet(a)]
    for found, meant in zip(ksym.function([x, y], outputs)(a, b), expected, strict=True):
        np.testing.assert_allclose(found, meant, rtol=1e-10)
    q, r = ksym.qr(x)
    np.testing.assert_allclose(ksym.evaluate(q @ r, {x: a}), a, rtol=1e-10, atol=1e-12)


def test_as_many_axes_as_numpy_has():
    shape = (2, 1) * 6 + (2,) * 2 + (1,) * 18
    a = np.arange(256.0).reshape(shape)
    order = np.random.default_rng(0).permutation(32)
    x = ksym.placeholder(shape, "float64")
    some = tuple(range(0, 32, 3))
    outputs = [
        ksym.transpose(x, order),
        ksym.transpose(x) + x,
        ksym.flip(x, range(32)),
        ksym.max(x, some),
        ksym.sum(x, some, keepdims=True),
        x[(slice(None, None, -1),) * 32],
    ]
    expected = [
        np.transpose(a, order),
        a.T + a,
        np.flip(a),
        np.max(a, some),
        np.sum(a, some, keepdims=True),
        np.flip(a),
    ]
    for found, meant in zip(ksym.function([x], outputs)(a), expected, strict=True):
        np.testing.assert_array_equal(found, meant)


def test_sixteen_axes_that_all_move():
    a = np.arange(2.0**16).reshape((2,) * 16)
    x = ksym.placeholder(a.shape, "float64")
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(16)
        np.testing.assert_array_equal(
            ksym.evaluate(ksym.transpose(x, order), {x: a}), np.transpose(a, order)
        )


def test_no_elements():
    x, y = ksym.placeholder((2, 0, *COMB)), ksym.placeholder((2, 1, *GAPS))
    outputs = [x + y, ksym.sum(x, (1, 3, 5, 7)), ksym.transpose(x), ksym.prod(x, (1, 4))]
    a, b = np.ones((2, 0, *COMB), "float32"), np.ones((2, 1, *GAPS), "float32")
    expected = [a + b, a.sum((1, 3, 5, 7)), a.T, a.prod((1, 4))]
    for found, meant in zip(ksym.function([x, y], outputs)(a, b), expected, strict=True):
        np.testing.assert_array_equal(found, meant)


def test_a_variable_is_trained():
    w, x = ksym.Variable(np.zeros(COMB)), ksym.placeholder(GAPS, "float64")
    loss = ksym.mean(ksym.square(w + x - 1.0))
    step = ksym.function([x], loss, updates=[w.assign_sub(ksym.gradients(loss, w) * 20.0)])
    first, *_, last = (step(np.zeros(GAPS)) for _ in range(20))
    assert first == 1.0
    assert last < 1e-3


def test_graphs_of_few_axes_stay_as_they_are():
    x = ksym.placeholder((2, 3, 2, 2, 2))
    outputs = [ksym.sum(ksym.transpose(x) * 2.0, (0, 2))]
    assert merge_axes(outputs) == outputs


def test_no_node_computes_on_many_axes_of_its_own():
    x, y = ksym.placeholder(COMB), ksym.placeholder(GAPS)
    moved = ksym.transpose(x + y) * 2.0
    (found,) = merge_axes([ksym.sum(ksym.flip(moved, (0, 3)), (1, 4))])
    wide = [
        node.operator.name
        for node in topological_order([found])
        if any(tensor.rank > ranks.MOST_PERMUTED for tensor in node.outputs)
    ]
    # Only the leaves: shapes that are undone at once are not taken on.
    assert wide == ["placeholder", "placeholder"]
