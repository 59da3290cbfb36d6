"""What passes take out of loops: what is left inside, that nothing else changes, and its price."""

import costed
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksym
from ksym.compiler.costs import Costs
from ksym.graph import topological_order
from ksym.testing import verify_gradient


@pytest.fixture(autouse=True, scope="module")
def not_unrolled():
    """Loops stay loops also where kernels cannot be compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KSYM_FLAGS", "unroll=0")
        yield


def loops(function):
    """The operators inside each loop that ran at the last call."""
    return [
        [n.operator.name for n in topological_order(node.attributes["body"].outputs) if n.inputs]
        for node in function.last_graph()
        if node.operator.name == "scan"
    ]


def products(function):
    return [inside.count("matmul") for inside in loops(function)]


def recurrent(x, h, u, w, b):
    def body(e, s):
        new = ksym.tanh(e @ w + s @ u + b) * 0.5  # no standard cell, for which there is a kernel
        return new, new

    return ksym.scan(body, x, h)


SHAPES = {"x": (5, 2, 3), "h": (2, 4), "u": (4, 4), "w": (3, 4), "b": (4,)}


def values(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in SHAPES.values()]


@pytest.fixture
def inputs():
    return [ksym.placeholder(shape) for shape in SHAPES.values()]


def test_products_of_elements_are_one_product_before_the_loop(inputs):
    f = ksym.function(inputs, recurrent(*inputs).states)
    f(*values())
    assert products(f) == [1]


def test_a_loop_without_states_is_no_loop(inputs):
    x, _, _, w, b = inputs
    y = ksym.map_fn(lambda e: ksym.softmax(ksym.tanh(e @ w + b)), x)
    f = ksym.function([x, w, b], [y, *ksym.gradients(ksym.sum(y * y), [x, w, b])])
    v = values()
    found = f(v[0], v[3], v[4])
    assert loops(f) == []
    e = np.exp(np.tanh(v[0] @ v[3] + v[4]))
    np.testing.assert_allclose(found[0], e / e.sum(-1, keepdims=True), rtol=1e-5)


def test_gradients_of_weights_are_products_after_the_loop(inputs):
    scanned = recurrent(*inputs)
    loss = ksym.sum(scanned.outputs**2) + ksym.sum(scanned.states)
    f = ksym.function(inputs, ksym.gradients(loss, inputs))
    f(*values())
    # A product by the states in the forward loop, and one back through it: no more.
    assert products(f) == [1, 1]
    # What the forward loop has computed, the backward one does not compute again.
    assert "tanh" not in loops(f)[1]


def test_a_step_that_stacks_more_than_it_is_spared_keeps_its_sums():
    many, few = ksym.placeholder((5, 64, 2)), ksym.Variable(np.ones((2, 2)), "float32")
    h = ksym.zeros((64, 2))
    loss = ksym.sum(recurrent(many, h, few, few, ksym.zeros((2,))).states)
    f = ksym.function([many], ksym.gradients(loss, few))
    f(np.ones((5, 64, 2)))
    assert products(f)[1] > 1


@pytest.mark.parametrize("lengths", [(3, 5), (5, 3), (4, 4), (0, 3)], ids=str)
def test_what_two_loops_compute_alike_at_all_steps_is_computed_before_both(lengths):
    x, y, w = (ksym.placeholder(shape) for shape in ((None, 2), (None, 2), (2, 2)))

    def body(e, s, k):  # k stays as it is, which shows when the loop is compiled
        return ksym.tanh(e + s + (k @ k)[0]), (ksym.tanh(s + e), k)

    one = ksym.scan(body, x, [ksym.zeros((2,)), w])
    two = ksym.scan(body, y, [one.states[0], w])
    outputs = [one.outputs, two.outputs, two.states[0]]
    point = [np.random.rand(n, 2) for n in (*lengths, 2)]
    f = ksym.function([x, y, w], outputs)
    stepwise = ksym.function([x, y, w], outputs, mode="interpret")
    for found, expected in zip(f(*point), stepwise(*point), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    if all(lengths):
        assert products(f) == [0, 0]


def test_outputs_computed_from_states_are_computed_after_the_loop(inputs):
    x, h, u, w, _ = inputs
    readout = ksym.placeholder((4, 2))

    def body(e, s):
        new = ksym.tanh(e @ w + s @ u)
        return [new, new @ readout], new

    first, second = ksym.scan(body, x, h).outputs
    f = ksym.function([x, h, u, w, readout], [first, second])
    states, outputs = f(*values()[:4], np.eye(4)[:, :2])
    assert products(f) == [1]
    np.testing.assert_allclose(outputs, states[..., :2], rtol=1e-6)


def test_sums_become_sums(inputs):
    x = inputs[0]
    f = ksym.function([x], ksym.foldl(lambda a, e: a + e * 2.0, x, ksym.ones((2, 3))))
    value = values()[0]
    np.testing.assert_allclose(f(value), 1 + 2 * value.sum(0), rtol=1e-5)
    assert loops(f) == []


def test_a_sum_whose_course_is_asked_for_stays_a_state(inputs):
    x = inputs[0]
    found = ksym.scan(lambda e, a: (a, a + e * 2.0), x, ksym.ones((2, 3)))
    f = ksym.function([x], [found.outputs, found.states])
    value = values()[0]
    course, end = f(value)
    np.testing.assert_allclose(course[2], 1 + 2 * value[:2].sum(0), rtol=1e-5)
    np.testing.assert_allclose(end, 1 + 2 * value.sum(0), rtol=1e-5)
    assert len(loops(f)) == 1


def test_memory_has_a_bound(inputs):
    scanned = recurrent(*inputs)
    gradients = ksym.gradients(ksym.sum(scanned.states), inputs)
    f = costed.function(Costs(loop_memory=0), inputs, gradients)
    native = f(*values())
    # x @ w and h @ u in both, the products back through them, and those of the weights.
    assert products(f) == [2, 6]
    g = ksym.function(inputs, gradients, mode="interpret")
    for a, b in zip(native, g(*values()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_random_numbers_and_loops_inside_stay_inside(inputs):
    x, _, _, w, _ = inputs

    def body(e, s):
        inner = ksym.scan(lambda r, t: (t, t + r @ w), e, ksym.random_normal((4,)))
        return inner.outputs, s + ksym.sum(inner.states)

    found = ksym.scan(body, x, 0.0)
    loss = ksym.sum(found.outputs**2) + found.states
    f = ksym.function([x, w], [loss, *ksym.gradients(loss, [x, w])])
    first, second = (f(values()[0], values()[3])[0] for _ in range(2))
    assert first != second


MASK = np.array([[True], [False]])


@st.composite
def cells(draw):
    return {
        "reverse": draw(st.booleans()),
        "through": draw(st.sampled_from([ksym.tanh, ksym.sigmoid, ksym.softplus, ksym.copy])),
        "read": draw(st.sampled_from(["product", "sum", "slice", "transpose", "mix"])),
        "shared": draw(st.booleans()),
        "last": draw(st.booleans()),
        "seed": draw(st.integers(0, 1000)),
    }


def drawn(cell):
    def graph(x, h, u, w, b):
        def body(e, s, total):
            z = e @ w + (s @ u if cell["shared"] else ksym.matmul(s, u, transpose_b=True))
            new = cell["through"](z + b)
            shown = {
                "product": lambda: new @ u + e @ w,
                "sum": lambda: ksym.sum(new * s, axis=0, keepdims=True),
                "slice": lambda: ksym.concatenate([new[:, 1:], e], 1),
                "transpose": lambda: ksym.transpose(new) @ e,
                "mix": lambda: ksym.where(MASK, e[:, :1] * b, ksym.reshape(new, (2, 4))),
            }[cell["read"]]()
            return shown, (new, total + ksym.matmul(s, e, transpose_a=True))

        start = ksym.zeros((4, 3), x.dtype)
        found = ksym.scan(body, x, [h, start], reverse=cell["reverse"])
        return found.states if cell["last"] else [found.outputs, *found.states]

    return graph


@given(cells())
def test_passes_change_nothing_but_the_loops(cell):
    inputs = [ksym.placeholder(shape, "float64") for shape in SHAPES.values()]
    results = drawn(cell)(*inputs)
    loss = sum(ksym.sum(ksym.sin(r)) for r in results)
    tensors = [*results, *ksym.gradients(loss, inputs)]
    point = values(cell["seed"], "float64")
    # Without compiled loops, whose functions round in other ways: states may grow here.
    native = ksym.function(inputs, tensors, flags="fuse_loops=0")(*point)
    stepwise = ksym.function(inputs, tensors, mode="interpret")(*point)
    for a, b in zip(native, stepwise, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@settings(max_examples=8)
@given(cells())
def test_gradients_of_two_orders(cell):
    verify_gradient(drawn(cell), values(cell["seed"], "float64"))
