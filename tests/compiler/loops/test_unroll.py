"""Short loops are written out where kernels cannot be compiled."""

import numpy as np
import pytest

import ksym
from ksym.compiler.compile import compile_graph
from ksym.compiler.costs import Costs
from ksym.compiler.loops.unroll import unroll
from ksym.compiler.mode import mode_of
from ksym.compiler.plan import FrozenGraph, Target
from ksym.compiler.specialize import specialize
from ksym.loops.recognition import kept_as_loops


def operators(outputs):
    return [node.operator.name for node in ksym.graph.topological_order(outputs)]


def loops():
    """Loops in both directions, with outputs, histories and gradients, and one in another."""
    x, w = ksym.placeholder((4, 2, 3)), ksym.placeholder((3, 3))
    h = ksym.constant(np.ones((2, 3), "float32"))
    with kept_as_loops():
        forward = ksym.scan(lambda e, s: (ksym.exp(s) * e, ksym.tanh(e + s @ w)), x, h)
        backward = ksym.scan(lambda e, s: (s, s * e), x, h, reverse=True)
        count = ksym.scan(lambda s: ((), s + 1.0), states=0.0, steps=3).states

        def outer(e, s):
            inner = ksym.scan(lambda r, t: ((), t + r * e[0]), x[:2], s).states
            return ksym.sum(inner), inner * 0.5

        nested = ksym.scan(outer, x, h)
    results = [forward.outputs, forward.states, backward.outputs, backward.states, count]
    results += [nested.outputs, nested.states]
    loss = sum(ksym.sum(ksym.square(t)) for t in results)
    return [x, w], [*results, *ksym.gradients(loss, [x, w])]


def test_values_are_those_of_the_loops(rng):
    inputs, outputs = loops()
    values = [rng.normal(size=t.shape).astype("float32") * 0.5 for t in inputs]
    written = unroll(specialize(outputs, {}))
    assert "scan" in operators(outputs)
    assert "scan" not in operators(written)
    assert [t.spec for t in written] == [t.spec for t in outputs]
    for mode in ("native", "interpret"):
        found = ksym.function(inputs, written, mode=mode)(*values)
        expected = ksym.function(inputs, outputs, mode=mode)(*values)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_a_loop_for_a_gpu_is_one_native_graph():
    _, outputs = loops()

    def works(kernels, flags=None, costs=Costs()):  # noqa: B008 - immutable
        graph = FrozenGraph(outputs, (), mode_of("native", flags), Target(kernels, costs))
        return {type(part.work).__name__ for part in compile_graph(graph, {}).parts}

    assert works(kernels=False) == {"NativeGraph"}
    assert "ScanWork" in works(kernels=False, flags="unroll=0")
    assert "ScanWork" in works(kernels=False, costs=Costs(unrolled_nodes=10))
    assert "ScanWork" in works(kernels=True)


@pytest.mark.parametrize(
    "body",
    [
        lambda e, s: ((), s + e * ksym.cast(ksym.random_permutation(2), "float32")),
        lambda e, s: ((), ksym.print_value(s + e)),
        lambda e, s: ((), ksym.cond(ksym.sum(e) > 0.0, lambda: s + e, lambda: s)),
    ],
    ids=["drawing", "printing", "branching"],
)
def test_what_is_not_native_work_stays_a_loop(body):
    x = ksym.placeholder((3, 2))
    states = ksym.scan(body, x, ksym.zeros((2,))).states
    before = specialize([states], {})
    assert operators(unroll(before)) == operators(before)


def test_loops_that_are_large_or_to_save_memory_stay():
    x = ksym.placeholder((4, 10, 10))
    states = ksym.scan(lambda e, s: ((), ksym.tanh(s) + e), x, ksym.zeros((10, 10))).states
    assert "scan" not in operators(unroll([states], Costs(loop_memory=4 * 2 * 400)))
    assert "scan" in operators(unroll([states], Costs(loop_memory=4 * 2 * 400 - 1)))
    blocks = ksym.scan(
        *(lambda e, s: ((), ksym.tanh(s) + e), x, ksym.zeros((10, 10))), checkpoint_every=2
    ).states
    gradient = specialize([ksym.gradients(ksym.sum(blocks), x)], {})
    assert "scan" in operators(unroll(gradient))


def test_loops_share_what_may_be_written_out():
    x = ksym.placeholder((10,))
    sums = [ksym.scan(lambda e, s: ((), ksym.exp(s) + e), x, float(i)).states for i in range(3)]
    sizes = [
        operators(unroll(sums, Costs(unrolled_nodes=n))).count("scan") for n in (0, 30, 70, 99)
    ]
    assert sizes == [3, 2, 1, 0]
