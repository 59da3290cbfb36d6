import gc
import sys
import weakref

import numpy as np
import pytest

import ksym
from ksym import graph, ops
from ksym.errors import ArgumentError, DTypeError, GraphError, ShapeError
from ksym.graph import FrozenArray
from ksym.testing import assert_same_graph


def line():
    return sys._getframe(1).f_lineno


def test_shape_and_dtype_are_known_at_creation():
    x = ksym.placeholder((None, 3))
    y = ksym.relu(x @ np.ones((3, 2), "float32"))
    assert y.spec == ((None, 2), "float32")
    assert ksym.sum(y).shape == ()
    assert (y > 0).dtype == "bool"
    assert ksym.zeros((0, 3)).shape == (0, 3)


def test_a_node_remembers_where_it_was_made():
    x = ksym.placeholder((2,))
    y, here = ksym.exp(x), line()
    assert y.node.origin.filename == __file__
    assert y.node.origin.line == here
    assert y.node.origin.function == "test_a_node_remembers_where_it_was_made"


def test_gradients_remember_what_they_are_the_gradient_of():
    x = ksym.placeholder((2,))
    y, here = ksym.exp(x), line()
    g = ksym.gradients(ksym.sum(y), x)
    assert g.node.origin.line == here
    assert g.node.origin.gradient
    assert not y.node.origin.gradient


def test_what_goes_wrong_at_the_call_names_the_operator_the_user_called():
    x, y = ksym.placeholder((None,)), ksym.placeholder((None,))
    larger, here = ksym.fmax(x, y), line()
    f = ksym.function([x, y], larger)
    with pytest.raises(ShapeError, match=rf"^fmax \(where\): (.|\n)*made at: .*:{here} in"):
        f(np.ones(2), np.ones(3))
    # Of a composition of compositions, the outermost; while the graph is built, the same name.
    f = ksym.function([x, y], ksym.dot(x, y))
    with pytest.raises(ShapeError, match=r"^dot \("):
        f(np.ones(2), np.ones(3))
    with pytest.raises(ShapeError, match=r"^fmax: "):
        ksym.fmax(ksym.ones(2), ksym.ones(3))
    assert larger.node.origin.scope == ""


def test_name_scopes_nest():
    with ksym.name_scope("outer"), ksym.name_scope("inner"):
        x = ksym.placeholder(())
        w = ksym.Variable(1.0, name="w")
    assert x.node.origin.scope == "outer/inner"
    assert w.name.startswith("outer/inner/w")


def test_arithmetic_builds_nodes_and_equality_does_not():
    x = ksym.placeholder((2,))
    assert (x == x) is True
    with pytest.warns(ksym.KsymWarning):
        assert (x == 1) is False
    assert len({x, x, ksym.placeholder((2,))}) == 2
    for y in (x + 1, 1 - x, np.float32(2) * x, np.ones(2) / x, -x, abs(x), x**2, x % 2, x // 2):
        assert isinstance(y, ksym.Tensor)
        assert y.dtype == "float32"


def test_numpy_arrays_on_the_left_leave_the_operation_to_the_tensor():
    x = ksym.placeholder((3,))
    assert (np.arange(3.0) * x).shape == (3,)
    assert (np.array(2.0) - x).shape == (3,)


def test_a_symbol_has_no_value():
    x = ksym.placeholder((None,))
    for use in (bool, np.asarray, list):
        with pytest.raises(GraphError, match=r"symbolic|not known"):
            use(x)


def test_iteration_over_a_static_axis():
    rows = list(ksym.constant([[1.0, 2.0], [3.0, 4.0]]))
    assert [r.shape for r in rows] == [(2,), (2,)]


def test_shapes_are_computed_while_the_graph_is_built():
    x = ksym.placeholder((None, 4, 5))
    flat = ksym.reshape(x, ksym.stack([ksym.shape_of(x)[0], ksym.shape_of(x)[1] * 5]))
    assert flat.shape == (None, 20)
    assert ksym.reshape(x, (-1, ksym.prod(ksym.shape_of(x)[1:]))).shape == (None, 20)


def test_topological_order_puts_operands_first():
    x = ksym.placeholder((2,))
    y = ksym.exp(x) + ksym.log(x) * x
    order = graph.topological_order([y])
    position = {node: i for i, node in enumerate(order)}
    assert all(position[t.node] < position[n] for n in order for t in n.inputs)
    assert len(order) == len(set(order))


def test_substitution_rebuilds_what_depends_and_keeps_the_rest():
    x, y, z = (ksym.placeholder((2,)) for _ in range(3))
    shared = ksym.exp(y)
    (new,) = ksym.substitute([(x + shared) * 2.0], {x: z})
    assert new.node.inputs[0].node.inputs == (z, shared)
    assert ksym.substitute([shared], {x: z}) == [shared]
    assert ksym.substitute(shared, {x: z}) is shared
    assert_same_graph([ksym.substitute((x + shared) * 2.0, {x: z})], [new])


def test_substitutions_happen_at_once():
    x, y = ksym.placeholder(()), ksym.placeholder(())
    (swapped,) = ksym.substitute([x - y], {x: y, y: x})
    assert swapped.node.inputs == (y, x)


def test_substitution_keeps_origins_and_checks_types():
    x = ksym.placeholder((2,))
    y, here = ksym.exp(x), line()
    (new,) = ksym.substitute([y], {x: ksym.placeholder((2,))})
    assert new.node.origin.line == here
    with pytest.raises(GraphError):
        ksym.substitute([y], {x: ksym.placeholder((2,), "float64")})


def test_networkx_view():
    x = ksym.placeholder((2,), name="x")
    y = ksym.exp(x) + x
    view = ksym.to_networkx(y)
    assert sorted(d["operator"] for _, d in view.nodes(data=True)) == ["add", "exp", "placeholder"]
    assert view.number_of_edges() == 3
    assert view.nodes[y.node.number]["specs"] == ["float32 (2,)"]
    assert __file__ in view.nodes[y.node.number]["origin"]


def test_errors_name_operator_operands_place_and_remedy():
    x = ksym.placeholder((None, 3), name="x")
    with pytest.raises(ShapeError) as caught:
        x @ np.ones((4, 2), "float32")
    text = str(caught.value)
    assert text.startswith("matmul: the inner dimensions differ, 3 and 4")
    assert "float32 (?, 3), float32 (4, 2)" in text
    assert f"{__file__}:" in text
    assert "to do: " in text


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda x: x + np.ones((2, 3, 7)), ShapeError),
        (lambda x: ksym.concatenate([x, x[:, :2]], axis=0), ShapeError),
        (lambda x: ksym.reshape(x, (7, 7)), ShapeError),
        (lambda x: ksym.sum(x, axis=4), ShapeError),
        (lambda x: ksym.transpose(x, (0, 0)), ShapeError),
        (lambda x: x[5], ShapeError),
        (lambda x: x[0, 0, 0], ShapeError),
        (lambda x: x[1.5], DTypeError),
        (lambda x: ksym.take(x, x), DTypeError),
        (lambda x: ksym.squeeze(x, 0), ShapeError),
        (lambda x: ksym.convolution(x, x), ShapeError),
        (lambda x: ksym.max(ksym.zeros((0, 2)), axis=0), ShapeError),
        (lambda x: ksym.cast(x, "int16"), DTypeError),
        (lambda x: (x > 0) - (x > 1), DTypeError),
        (lambda x: ksym.cast(x, "uint8") + 300, DTypeError),
        (lambda x: x + np.array([object()]), DTypeError),
        (lambda x: ksym.random_uniform((2,), "int32"), DTypeError),
        (lambda x: ksym.stack([x, x[:, :1]]), ShapeError),
    ],
)
def test_bad_operands_are_refused_when_the_graph_is_built(build, error):
    with pytest.raises(error) as caught:
        build(ksym.placeholder((2, 3)))
    assert caught.value.origin is not None
    assert caught.value.origin.filename == __file__


def test_frozen_arrays_compare_by_bytes():
    assert FrozenArray(np.array([np.nan])) == FrozenArray(np.array([np.nan]))
    assert FrozenArray(np.array(0.0)) != FrozenArray(np.array(-0.0))
    assert FrozenArray(np.zeros(2)) != FrozenArray(np.zeros(2, "float32"))
    assert len({FrozenArray(np.zeros(2)), FrozenArray(np.zeros(2))}) == 1


def test_a_frozen_array_keeps_its_value():
    value = np.zeros(2)
    c = ksym.constant(value)
    value[:] = 1
    assert ksym.evaluate(c).tolist() == [0, 0]


def test_attributes_are_hashable():
    x = ksym.placeholder((1, 2, 4, 4))
    w = ksym.placeholder((3, 2, 2, 2))
    y = ksym.convolution(x, w, strides=[1, 1], padding=[[0, 1], [1, 0]])
    hash(tuple(y.node.attributes.items()))


def test_a_graph_is_freed_when_nothing_refers_to_it():
    w = ksym.Variable(np.ones((2, 2)))
    x = ksym.placeholder((None, 2))
    f = ksym.function([x], ksym.sum(ksym.tanh(x @ w)), updates=[w.assign_add(1.0)])
    f(np.ones((3, 2)))
    watched = [weakref.ref(thing) for thing in (w, x.node, f)]
    del w, x, f
    gc.collect()
    assert [ref() for ref in watched] == [None, None, None]


def test_a_deep_graph_is_walked_rewritten_and_freed_without_recursion(shallow_stack):
    x = ksym.placeholder((2,))
    y = x
    for _ in range(20_000):
        y = ops.copy(y)
    assert len(graph.topological_order([y])) == 20_001
    (z,) = ksym.substitute([y], {x: ksym.placeholder((2,))})
    assert z is not y
    assert ksym.to_networkx(y).number_of_nodes() == 20_001
    assert "copy" in repr(y)
    watched = weakref.ref(y.node)
    del y, z
    gc.collect()
    assert watched() is None


X = ksym.placeholder((2,))
WRONG = {"number": 3, "text": "x", "none": None, "array": np.ones(2), "list": [X, 3]}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize(
    "call",
    [
        lambda wrong: ksym.substitute(wrong, {X: X}),
        lambda wrong: ksym.substitute(X, wrong),
        lambda wrong: ksym.substitute(X, {X: wrong}),
        ksym.to_networkx,
        lambda wrong: ksym.explain_gradient(wrong, X),
        lambda wrong: ksym.explain_gradient(X, wrong),
        ksym.random_streams,
        lambda wrong: ksym.jacobian(wrong, X),
        lambda wrong: ksym.jacobian(X, wrong),
        lambda wrong: ksym.jvp(wrong, X, X),
        lambda wrong: ksym.vjp(X, X, wrong),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(call, wrong):
    with pytest.raises(ArgumentError, match=r"(?s)no (tensor|mapping).*to do"):
        call(wrong)
