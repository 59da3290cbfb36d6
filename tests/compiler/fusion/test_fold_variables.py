"""Which values are kept until a variable changes, and which are not."""

import numpy as np

import ksym
from ksym import ops
from ksym.compiler import optimize
from ksym.compiler.compile import compile_graph
from ksym.compiler.fusion.fold_variables import fold_variables
from ksym.compiler.mode import mode_of
from ksym.compiler.plan import FrozenGraph, Target
from ksym.compiler.specialize import specialize


def weights(*shape):
    return ksym.Variable(
        np.linspace(-1.0, 1.0, int(np.prod(shape)), dtype="float32").reshape(shape)
    )


def convolved(x, w):
    return ops.convolution(x, ksym.transpose(w, (3, 2, 0, 1)))


def kept(outputs, updated=()):
    return list(fold_variables(optimize(specialize(outputs, {})), updated)[1].values())


def image():
    return ksym.placeholder((1, 64, 8, 8))


def test_the_last_node_that_depends_on_variables_only_is_kept():
    w, scale = weights(3, 3, 64, 64), weights(64)
    y = convolved(image(), w * ksym.exp(scale))
    (outputs, values) = fold_variables(specialize([y], {}))
    ((leaf, tensor),) = values.items()
    assert tensor.node.operator is ops.transpose
    assert [t.node.operator.name for t in outputs[0].node.inputs] == ["placeholder", "folded"]
    assert outputs[0].node.inputs[1] is leaf
    assert leaf.spec == tensor.spec


def test_nothing_is_kept_of_a_variable_that_the_function_updates():
    w, frozen = weights(3, 3, 64, 64), weights(3, 3, 64, 64)
    y = convolved(image(), w) + convolved(image(), frozen)
    assert len(kept([y])) == 2
    assert len(kept([y], updated=[w])) == 1
    assert kept([y], updated=[w, frozen]) == []


def test_what_draws_or_prints_is_not_kept():
    w = weights(3, 3, 64, 64)
    assert kept([convolved(image(), w * ksym.random_normal(w.shape))]) == []
    assert kept([convolved(image(), ksym.print_value(w, "w"))]) == []


def test_a_value_that_is_cheap_to_compute_again_is_not_kept():
    w = weights(512, 512)
    x = ksym.placeholder((4, 512))
    assert kept([x @ ksym.transpose(w)]) == []  # read where it lies
    assert kept([ksym.tanh(ksym.placeholder((512, 512)) + w * 0.5)]) == []  # at memory's speed


def test_a_large_value_of_small_variables_is_not_kept():
    v = weights(600)
    table = ksym.reshape(v, (600, 1)) * v  # 360,000 elements of 600
    assert kept([ksym.cumsum(ksym.placeholder((600, 600)) @ ksym.cumsum(table, 0), 0)]) == []


def test_values_take_no_more_memory_than_their_variables():
    w = weights(3, 3, 64, 64)
    x = ksym.placeholder((1, 64, 8, 8))
    y = sum(convolved(x, ksym.exp(w * float(k))) for k in range(1, 5))
    assert len(kept([y])) == 1


def test_a_function_without_anything_else_computes_its_value():
    w = weights(3, 3, 64, 64)
    assert kept([ksym.transpose(ksym.exp(w), (3, 2, 0, 1))]) == []


def test_bodies_of_loops_keep_nothing():
    """Whoever runs a body does not look for variables that have changed."""
    w = weights(3, 3, 64, 64)
    x = ksym.placeholder((1, 64, 8, 8))
    y = ksym.cond(ksym.sum(x) > 0.0, lambda: convolved(x, w), lambda: convolved(x, w * 2.0))
    plan = compile_graph(FrozenGraph([y], (), mode_of("native"), Target(True)), {})
    assert plan.folded is None
    (part,) = (part for part in plan.parts if part.nodes[0].operator.name == "cond")
    assert part.work.branch(True).folded is None


def test_the_plan_says_what_is_kept():
    w = weights(3, 3, 64, 64)
    y = convolved(image(), w)
    plan = compile_graph(FrozenGraph([y], (), mode_of("native"), Target(True)), {})
    assert "kept until a variable changes:" in str(plan)
    assert plan.whole[0].node.inputs[1].node.operator is ops.transpose
