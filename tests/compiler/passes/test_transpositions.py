"""Transpositions of channels-last layers meet and cancel."""

import ksym
from ksym import compiler
from ksym.compiler.passes.transpositions import push_transpositions
from ksym.graph import topological_order
from ksym.testing import assert_same_graph


def names(outputs):
    return [n.operator.name for n in topological_order(outputs) if n.inputs]


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


def test_an_operand_with_sides_of_one_follows_by_a_reshape():
    a, gate = ksym.placeholder((2, 3, 4, 5)), ksym.placeholder((2, 1, 1, 3))
    y = ksym.transpose(a, TO_LAST) * gate
    expected = a * ksym.reshape(gate, (2, 3, 1, 1))
    assert_same_graph(push_transpositions([ksym.transpose(y, TO_FIRST)]), [expected])


def test_a_broadcast_operand_follows_before_it_is_broadcast():
    a, mean = ksym.placeholder((2, 3, 4, 5)), ksym.placeholder((2, 1, 1, 3))
    y = ksym.transpose(a, TO_LAST) + ksym.broadcast_to(mean, (2, 4, 5, 3))
    expected = a + ksym.broadcast_to(ksym.reshape(mean, (2, 3, 1, 1)), (2, 3, 4, 5))
    assert_same_graph(push_transpositions([ksym.transpose(y, TO_FIRST)]), [expected])


def test_a_comparison_with_a_broadcast_operand_stays_in_order():
    a, most = ksym.placeholder((2, 3, 4, 5)), ksym.placeholder((2, 1, 1, 3))
    y = ksym.equal(ksym.transpose(a, TO_LAST), ksym.broadcast_to(most, (2, 4, 5, 3)))
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
