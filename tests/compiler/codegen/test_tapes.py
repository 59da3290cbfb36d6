"""What consists of loops and products is one call, and means what it means node by node."""

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.ops.given import is_leaf

pytestmark = pytest.mark.host_access


def check(inputs, outputs, values, tape=True):
    """Compare a graph, which is a tape or not, with the node by node result, twice."""
    native = ksym.function(inputs, outputs)
    stepwise = ksym.function(inputs, outputs, mode="interpret")
    for scale in (1, -1):
        scaled = [np.asarray(v) * scale for v in values]
        pairs = zip(native(*scaled), stepwise(*scaled), strict=True)
        for found, expected in pairs:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert native.last_plan().is_compiled == tape
    _, program = native._programs.last
    assert (program.calls is not None) == tape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shapes", [((4, 3), (3, 5)), ((1, 1), (1, 1)), ((2, 1, 3, 4), (4, 5))])
@pytest.mark.parametrize("across", [(False, False), (True, False), (False, True), (True, True)])
def test_products(shapes, across, dtype, rng):
    left, right = shapes
    if across[0] and len(left) > 2:
        left = left[-2:]
    left = (*left[:-2], left[-1], left[-2]) if across[0] else left
    right = right[::-1] if across[1] else right
    a, b = ksym.placeholder(left, dtype), ksym.placeholder(right, dtype)
    values = [rng.normal(size=left), rng.normal(size=right)]
    check([a, b], [ops.matmul(a, b, transpose_a=across[0], transpose_b=across[1])], values)


def test_products_of_parts_of_arrays(rng):
    w, x = ksym.placeholder((6, 12)), ksym.placeholder((3, 2, 6))
    rows = ops.reshape(x, (6, 6))
    outputs = [
        x @ w[:, 4:8],
        rows @ w[:, :1],
        ops.matmul(rows, w[2:4, :6], transpose_b=True),
        ops.matmul(rows[1:5], w[:4, 8:], transpose_a=True),
        x[:, 0] @ w,
    ]
    check([w, x], outputs, [rng.normal(size=(6, 12)), rng.normal(size=(3, 2, 6))])


def test_a_training_step_of_a_classifier(rng):
    ksym.seed(0)
    x, labels = ksym.placeholder((8, 5)), ksym.placeholder((8, 3))
    w, bias = ksym.Variable(rng.normal(size=(5, 3))), ksym.Variable(np.zeros(3))
    steps = ksym.Variable(np.int64(0))
    y = ops.softmax(x @ w + bias)
    loss = -ksym.mean(ksym.sum(labels * ksym.log(y), -1))
    rate = 0.1 * ksym.power(0.9, ksym.cast(steps, "float32"))
    updates = [
        v.assign_sub(rate * g)
        for v, g in zip([w, bias], ksym.gradients(loss, [w, bias]), strict=True)
    ]
    step = ksym.function([x, labels], [loss, y], [*updates, steps.assign_add(1)])
    value, target = rng.normal(size=(8, 5)), np.eye(3)[rng.integers(0, 3, 8)]
    losses = [float(step(value, target)[0]) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert steps.get_value() == 5
    assert step.last_plan().is_compiled


def test_leaves_are_copied():
    x = ksym.placeholder((3,))
    a, b = ksym.Variable(np.ones(3)), ksym.Variable(np.zeros(3))
    swap = ksym.function([x], [x, a, ksym.constant([1.0, 2.0])], [(a, b), (b, a)])
    first = swap([1, 2, 3])
    second = swap([4, 5, 6])
    assert [v.tolist() for v in first] == [[1, 2, 3], [1, 1, 1], [1, 2]]
    assert [v.tolist() for v in second] == [[4, 5, 6], [0, 0, 0], [1, 2]]


def test_integers(rng):
    x, y = ksym.placeholder((3, 4), "int32"), ksym.placeholder((4,), "int64")
    wide = ksym.cast(x, "int64")
    outputs = [
        wide * y - y,
        ksym.maximum(wide, y),
        ksym.square(x),
        -x,
        ksym.where(wide > y, wide, y),
        ksym.cast(x, "float32") * 0.5,
        ksym.cast(ksym.cast(y, "float32") * 1.5, "int32"),
        ksym.cast(wide < y, "int64"),
    ]
    values = rng.integers(-2000, 2000, (3, 4)), rng.integers(-2000, 2000, 4)
    check([x, y], outputs, values)


def test_integers_wrap():
    x = ksym.placeholder((1,), "int32")
    check([x], [x * x + 1], [np.array([2**31 - 1])])


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), None])
@pytest.mark.parametrize("reduction", [ksym.sum, ksym.max], ids=["sum", "max"])
def test_reductions(reduction, axis, keepdims, rng):
    x = ksym.placeholder((3, 4, 5))
    value = rng.normal(size=(3, 4, 5))
    outputs = [reduction(y, axis, keepdims=keepdims) for y in (ksym.exp(x), x)]
    check([x], outputs, [value])


def test_a_maximum_over_nan_is_nan():
    x = ksym.placeholder((2, 3))
    largest = ksym.function([x], ksym.max(x + 1.0, 1))
    found = largest([[1.0, np.nan, 3.0], [-np.inf, -np.inf, -np.inf]])
    np.testing.assert_array_equal(found, [np.nan, -np.inf])


def test_powers_of_a_few_numbers(rng):
    x, y = ksym.placeholder((10,)), ksym.placeholder((1,))
    check([x, y], [ksym.power(ksym.abs(x), y)], [rng.normal(size=10), [2.5]])


LOOPS = {
    "outputs": lambda x, w, s: ksym.scan(lambda e, h: (h + e, ksym.tanh(e + h @ w)), x, s),
    "backwards": lambda x, w, s: ksym.scan(
        lambda e, h: (h * e, ksym.tanh(e + h @ w)), x, s, reverse=True
    ),
    "one output twice": lambda x, w, s: ksym.scan(
        lambda e, h: ([h * e, h * e], ksym.tanh(e + h @ w)), x, s
    ),
    "the state itself, and the element": lambda x, w, s: ksym.scan(
        lambda e, h: ([h, e], ksym.tanh(e + h @ w)), x, s
    ),
    "the new state": lambda x, w, s: ksym.scan(_repeated, x, s),
    "sums": lambda x, w, s: ksym.scan(lambda e, h: (ksym.sum(h * e, 0), h * 0.5 + e), x, s),
    "a loop inside": lambda x, w, s: ksym.scan(
        lambda e, h: (h, ksym.scan(lambda i, k: (k, ksym.tanh(k @ w + i)), e, h[0]).states + h),
        x,
        s,
    ),
}


def _repeated(e, h):
    new = ksym.tanh(e + h * 0.5)
    return new, new


@pytest.mark.parametrize("name", LOOPS)
def test_loops(name, rng):
    x, w, s = ksym.placeholder((5, 3, 4)), ksym.placeholder((4, 4)), ksym.placeholder((3, 4))
    found = LOOPS[name](x, w, s)
    outputs = found.outputs if isinstance(found.outputs, list | tuple) else [found.outputs]
    results = [*outputs, found.states]
    loss = sum(ksym.sum(ksym.square(r)) for r in results)
    values = [rng.normal(size=t.shape) for t in (x, w, s)]
    check([x, w, s], results, values)
    gradients = [g for g in ksym.gradients(loss, [x, s]) if not is_leaf(g.node)]
    native = ksym.function([x, w, s], gradients)
    stepwise = ksym.function([x, w, s], gradients, mode="interpret")
    for a, b in zip(native(*values), stepwise(*values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_a_loop_with_something_native_inside(rng):
    x = ksym.placeholder((5, 3, 4))
    found = ksym.scan(lambda e, h: (ksym.cumsum(h * e, 0), h * 0.5 + e), x, ksym.zeros((3, 4)))
    check([x], [found.outputs, found.states], [rng.normal(size=(5, 3, 4))], tape=False)


def test_random_numbers_are_drawn_once_for_all_that_reads_them():
    ksym.seed(1)
    drawn = ops.standard_uniform((4, 4))
    draw = ksym.function([], [drawn, drawn * 2.0, ksym.cumsum(drawn, 0), drawn @ drawn])
    for _ in range(2):
        plain, double, summed, product = draw()
        np.testing.assert_array_equal(double, plain * 2)
        np.testing.assert_allclose(summed, np.cumsum(plain, 0), rtol=1e-6)
        np.testing.assert_allclose(product, plain @ plain, rtol=1e-5)
