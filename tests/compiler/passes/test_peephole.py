"""Peephole rules see operands as they are by now, and readers as they were."""

import pytest

import ksym
from ksym import ops
from ksym.compiler.passes.peephole import apply_rules, peephole
from ksym.testing import assert_same_graph


@peephole(ops.exp)
def exp_of_log(site):
    inner = site.inputs[0].node
    return inner.inputs[0] if inner.operator is ops.log and site.is_only_use(0) else None


@peephole(ops.square)
def square_of_negative(site):
    inner = site.inputs[0].node
    return ops.square(inner.inputs[0]) if inner.operator is ops.negative else None


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def test_a_rule_sees_what_others_made_of_an_operand(x):
    # The operand of the outer exp is a new node, which nothing of the old graph reads.
    y = ops.exp(ops.log(ops.square(-x)))
    assert_same_graph(apply_rules([y], exp_of_log, square_of_negative), [ops.square(x)])
    nested = ops.exp(ops.log(ops.exp(ops.log(x))))
    assert apply_rules([nested], exp_of_log) == [x]
    behind = ops.exp(ops.log(ops.sin(ops.square(-x))))
    found = apply_rules([behind], exp_of_log, square_of_negative)
    assert_same_graph(found, [ops.sin(ops.square(x))])


@pytest.mark.parametrize("kind", ["operand of another node", "output"])
def test_an_operand_that_others_read_is_not_only_used_here(x, kind):
    inner = ops.log(ops.square(-x))
    outputs = [ops.exp(inner), ops.sin(inner) if kind == "operand of another node" else inner]
    # Also where it has been replaced by then.
    found = apply_rules(outputs, exp_of_log, square_of_negative)
    assert found[0].node.operator is ops.exp


def test_an_operand_that_is_read_twice_is_not_used_once(x):
    seen = []

    @peephole(ops.multiply)
    def look(site):
        seen.append((site.is_only_use(0), site.readers.nodes(site.node.inputs[0])))

    y = ops.sin(x)
    product = y * y
    assert apply_rules([product], look) == [product]
    assert seen == [(False, {product.node})]


def test_a_graph_without_such_a_node_is_left(x):
    y = ops.sin(x)
    assert apply_rules([y], exp_of_log) == [y]
