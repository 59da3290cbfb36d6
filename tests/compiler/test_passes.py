"""Each pass, by the graphs it makes."""

import numpy as np
import pytest

import ksym
from ksym import compiler, ops
from ksym.compiler.passes.bias import fuse_bias
from ksym.compiler.passes.fold import fold
from ksym.compiler.passes.joins import concatenate_slice_gradients
from ksym.compiler.passes.merge import merge
from ksym.compiler.passes.scale import scale_factors
from ksym.compiler.passes.simplify import simplify
from ksym.compiler.passes.transpositions import push_transpositions
from ksym.compiler.specialize import specialize
from ksym.errors import ShapeError
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


# --- specialize ---------------------------------------------------------------------------------


def test_specialisation_makes_every_shape_known():
    a = ksym.placeholder((None, 4))
    y = ksym.reshape(a, (ksym.shape_of(a)[0], 2, -1)) * 2.0
    b = ksym.placeholder((5, 4))
    (z,) = specialize([y], {a: b})
    assert z.shape == (5, 2, 2)
    assert_same_graph([z], [ksym.reshape(b, (5, 2, -1)) * 2.0])


def test_what_is_computed_from_shapes_becomes_constant():
    a = ksym.placeholder((None, 4))
    count = ksym.cast(ksym.prod(ksym.shape_of(a)), "float32")
    (z,) = specialize([ksym.sum(a) / count], {a: ksym.placeholder((5, 4))})
    assert "shape_of" not in names([z])
    assert "prod" not in names([z])


def test_a_static_condition_leaves_one_branch(x):
    phase = ksym.placeholder((), "bool", static=True)
    y = ksym.where(phase, ksym.exp(x), ksym.log(x))
    (z,) = simplify(specialize([y], {phase: ksym.constant(True)}))
    assert_same_graph([z], [ksym.exp(x)])


def test_compositions_are_expanded(x):
    (z,) = specialize([ksym.cumprod(x, axis=1)], {x: x})
    assert "cumprod" not in names([z])
    (z,) = specialize([ops.sum_to(x, (3,))], {x: x})
    assert_same_graph([z], [ksym.reshape(ksym.sum(x, 0, keepdims=True), (3,))])


def test_sizes_that_turn_out_wrong_are_refused():
    a, b = ksym.placeholder((None,)), ksym.placeholder((None,))
    with pytest.raises(ShapeError, match="broadcast"):
        specialize([a + b], {a: ksym.placeholder((2,)), b: ksym.placeholder((3,))})


# --- fold, simplify, merge ----------------------------------------------------------------------


def test_constants_are_computed_at_once(x):
    c = ksym.constant(2.0) * 3.0 + 1.0
    assert_same_graph(fold([x * c]), [x * 7.0])


def test_large_constants_and_random_numbers_are_left_to_the_call(x):
    large = ksym.broadcast_to(ksym.constant(1.0), (100, 100))
    assert fold([large]) == [large]
    random = ksym.ops.standard_uniform((2,))
    assert fold([random]) == [random]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (lambda x: x + 0.0, lambda x: x),
        (lambda x: 0.0 + x, lambda x: x),
        (lambda x: x - 0.0, lambda x: x),
        (lambda x: x * 1.0, lambda x: x),
        (lambda x: x / 1.0, lambda x: x),
        (lambda x: x**1.0, lambda x: x),
        (lambda x: x**2.0, ksym.square),
        (lambda x: x**0.5, ksym.sqrt),
        (lambda x: ksym.identity(ksym.stop_gradient(x)), lambda x: x),
        (lambda x: ksym.cast(ksym.cast(x, "float64"), "float32"), lambda x: x),
        (lambda x: ksym.reshape(ksym.reshape(x, (6,)), (3, 2)), lambda x: ksym.reshape(x, (3, 2))),
        (lambda x: ksym.reshape(x, (2, 3)), lambda x: x),
        (lambda x: ksym.transpose(ksym.transpose(x)), lambda x: x),
        (lambda x: ksym.sum(ksym.sum(x, 0), 0), lambda x: ksym.sum(x, (0, 1))),
        (
            lambda x: ksym.matmul(ksym.transpose(x), x),
            lambda x: ksym.matmul(x, x, transpose_a=True),
        ),
        (lambda x: x[:], lambda x: x),
        (lambda x: ksym.broadcast_to(x, (2, 3)), lambda x: x),
        (lambda x: ksym.pad(x, [(0, 0), (0, 0)]), lambda x: x),
        (lambda x: ksym.concatenate([x], 0), lambda x: x),
        (lambda x: ksym.where(np.array(False), x, x * 2.0), lambda x: x * 2.0),
    ],
)
def test_identities(x, before, after):
    assert_same_graph(simplify(fold([before(x)])), [after(x)])


@pytest.mark.parametrize(
    "keep",
    [
        lambda x: x * 0.0,  # NaN and infinity would vanish
        lambda x: x - x,
        lambda x: x / x,
        lambda x: ksym.cast(ksym.cast(x, "int32"), "float32"),
        lambda x: x + np.zeros((2, 1, 1), "float32"),  # it stretches
        lambda x: ksym.reshape(x, (3, 2)),
    ],
)
def test_what_is_not_an_identity_stays(x, keep):
    y = keep(x)
    assert names(simplify([y])) == names([y])


def test_a_gradient_of_zero_vanishes_with_all_that_carries_it(x):
    w = ksym.placeholder((3, 2))
    on = ksym.placeholder((), "bool", static=True)
    y = ksym.where(on, ksym.tanh(x @ w), 0.0)
    g = ksym.gradients(ksym.sum(y), w)
    (off,) = simplify(specialize([g], {on: ksym.constant(False)}))
    assert_same_graph([off], [ksym.zeros((3, 2))])
    (taken,) = simplify(specialize([g], {on: ksym.constant(True)}))
    assert "matmul" in names([taken])


def test_equal_nodes_are_merged(x):
    y = ksym.exp(x) + ksym.exp(x) * ksym.constant(2.0) + ksym.exp(x) * ksym.constant(2.0)
    assert names(merge([y])).count("exp") == 1
    assert names(merge([y])).count("multiply") == 1


def test_what_looks_equal_but_is_not_stays_apart():
    a, b = ksym.placeholder((2,)), ksym.placeholder((2,))
    (z,) = merge([ksym.exp(a) + ksym.exp(b)])
    assert names([z]).count("exp") == 2
    u, v = ksym.random_uniform((2,)), ksym.random_uniform((2,))
    (z,) = merge([u + v])
    assert sum(n.operator is ops.standard_uniform for n in topological_order([z])) == 2


# --- push_transpositions --------------------------------------------------------------------------

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


def test_transpositions_meet_through_elementwise_operators():
    a = ksym.placeholder((2, 3, 4, 5))
    bias = ksym.placeholder((3,))
    y = ksym.relu(ksym.transpose(a, TO_LAST) + bias) * 2.0
    found = push_transpositions([ksym.transpose(y, TO_FIRST)])
    expected = ksym.relu(a + ksym.reshape(bias, (1, 3, 1, 1))) * 2.0
    assert_same_graph(found, [expected])


def test_reductions_take_the_axes_as_they_come():
    a = ksym.placeholder((2, 3, 4, 5))
    last = ksym.transpose(a, TO_LAST)
    assert_same_graph(push_transpositions([ksym.sum(last, (0, 1, 2))]), [ksym.sum(a, (0, 2, 3))])
    assert_same_graph(push_transpositions([ksym.max(last, (1, 2))]), [ksym.max(a, (2, 3))])
    (kept,) = push_transpositions([ksym.sum(last, 3)])
    assert_same_graph([kept], [ksym.sum(a, 1)])


def test_softmax_concatenation_and_padding_follow():
    a = ksym.placeholder((2, 3, 4, 5))
    last = ksym.transpose(a, TO_LAST)
    y = ksym.concatenate([ksym.softmax(last, -1), last], axis=1)
    y = ksym.pad(y, [(0, 0), (1, 1), (0, 0), (0, 2)])
    expected = ksym.pad(
        ksym.concatenate([ksym.softmax(a, 1), a], axis=2), [(0, 0), (0, 2), (1, 1), (0, 0)]
    )
    assert_same_graph(push_transpositions([ksym.transpose(y, TO_FIRST)]), [expected])


def test_a_reshape_needs_the_order():
    a = ksym.placeholder((2, 3, 4, 5))
    y = ksym.reshape(ksym.exp(ksym.transpose(a, TO_LAST)), (2, -1))
    expected = ksym.reshape(ksym.transpose(ksym.exp(a), TO_LAST), (2, -1))
    assert_same_graph(push_transpositions([y]), [expected])


def test_a_full_operand_in_the_other_order_stops_it():
    a, b = ksym.placeholder((2, 3, 4, 5)), ksym.placeholder((2, 4, 5, 3))
    y = ksym.transpose(a, TO_LAST) * b
    assert_same_graph(push_transpositions([y]), [y])


def test_channels_last_layers_leave_two_transpositions_of_the_data():
    a = ksym.placeholder((2, 8, 8, 3))
    w, v = ksym.placeholder((4, 3, 3, 3)), ksym.placeholder((4, 4, 3, 3))
    y = a
    for kernel in (w, v):
        y = ksym.convolution(ksym.transpose(y, TO_FIRST), kernel, padding="same")
        y = ksym.relu(ksym.transpose(y, TO_LAST) + ksym.placeholder((4,)))
    (z,) = compiler.optimize([y])
    assert names([z]).count("transpose") == 2


# --- fuse_bias ----------------------------------------------------------------------------------


def test_a_convolution_takes_over_its_bias():
    a, w = ksym.placeholder((2, 3, 8, 8)), ksym.placeholder((4, 3, 3, 3))
    bias = ksym.placeholder((4,))
    y = ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1))
    found = simplify(fuse_bias([y]))
    assert_same_graph(found, [ksym.convolution(a, w, bias)])


def test_a_result_that_is_needed_without_bias_keeps_it_apart():
    a, w = ksym.placeholder((2, 3, 8, 8)), ksym.placeholder((4, 3, 3, 3))
    y = ksym.convolution(a, w)
    z = y + ksym.reshape(ksym.placeholder((4,)), (4, 1, 1))
    assert names(fuse_bias([z, y])) == names([z, y])
    elsewhere = y + ksym.placeholder((6,))  # not one number for each channel
    assert names(fuse_bias([elsewhere])) == names([elsewhere])


def test_the_gradient_sums_its_bias_itself():
    a, w, bias = (ksym.placeholder(s, "float64") for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    y = ksym.tanh(ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1)))
    y = ksym.convolution(
        y, ksym.placeholder((2, 4, 2, 2), "float64", default=np.ones((2, 4, 2, 2)))
    )
    derived = ksym.gradients(ksym.sum(ksym.square(y)), [a, w, bias])
    f = ksym.function([a, w, bias], derived)
    plain = ksym.function([a, w, bias], derived, mode="interpret")
    values = [np.random.default_rng(i).normal(size=t.shape) for i, t in enumerate((a, w, bias))]
    for found, expected in zip(f(*values), plain(*values), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    used = [n.operator.name for n in f.last_graph()]
    assert "sum" not in used
    assert used.count("convolution_gradient") == 2


def test_the_gradient_has_the_bias_of_its_convolution():
    a, w, bias = (ksym.placeholder(s) for s in ((2, 3, 5, 5), (4, 3, 3, 3), (4,)))
    y = ksym.relu(ksym.convolution(a, w) + ksym.reshape(bias, (4, 1, 1)))
    f = ksym.function([a, w, bias], ksym.gradients(ksym.sum(y), [a, w, bias]))
    f(np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones(4))
    nodes = {node.operator.name: node for node in f.last_graph()}
    forward, backward = nodes["convolution"], nodes["convolution_gradient"]
    assert backward.inputs[1:] == forward.inputs  # so natively it needs no forward node but this


# --- scale_factors --------------------------------------------------------------------------------


def test_the_smaller_factor_of_a_product_is_scaled(x):
    y, rate = ksym.placeholder((2, 40)), ksym.placeholder(())
    product = ksym.matmul(x, y, transpose_a=True)
    expected = ksym.matmul(rate * x, y, transpose_a=True)
    assert_same_graph(scale_factors([rate * product]), [expected])


def test_a_product_that_is_needed_unscaled_or_is_small_stays(x):
    y, rate = ksym.placeholder((2, 40)), ksym.placeholder(())
    product = ksym.matmul(x, y, transpose_a=True)
    both = [rate * product, product]
    assert names(scale_factors(both)) == names(both)
    small = [rate * (x @ ksym.placeholder((3, 1)))]
    assert names(scale_factors(small)) == names(small)


def test_a_scaled_subtrahend_is_added(x):
    rate = ksym.placeholder(())
    y = ksym.placeholder((2, 3))
    assert_same_graph(simplify([x - rate * y]), [x + (-rate) * y])


def test_rewritten_nodes_keep_their_origin(x):
    y = ksym.exp(x + 0.0)
    place = y.node.origin
    (z,) = compiler.optimize([y])
    assert z.node.origin == place


# --- joining slices -----------------------------------------------------------------------------


def _gradient_of_parts(x, bounds):
    loss = sum(ksym.sum(ksym.exp(x[:, a:b]) * (a + 1.0)) for a, b in bounds)
    return specialize([ksym.gradients(loss, x)], {})


@pytest.mark.parametrize(
    ("bounds", "joined"),
    [
        ([(0, 1), (1, 3)], True),
        ([(2, 3), (0, 1), (1, 2)], True),
        ([(0, 2), (1, 3)], False),  # they overlap
        ([(0, 1), (2, 3)], False),  # something lies between
    ],
)
def test_gradients_of_slices_that_fill_a_tensor_are_joined(x, bounds, joined):
    before = merge(_gradient_of_parts(x, bounds))
    after = concatenate_slice_gradients(before)
    assert ("concatenate" in names(after)) == joined
    assert ("slice_gradient" in names(after)) != joined
    value = np.arange(6.0).reshape(2, 3)
    expected = ksym.function([x], before, mode="interpret")(value)
    np.testing.assert_allclose(ksym.function([x], after, mode="interpret")(value), expected)
