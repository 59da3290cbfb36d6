"""Costs: each one changes what is compiled."""

from dataclasses import fields

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.compiler.compile import compile_graph
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.fusion.kernel import describe
from ksym.compiler.loops.sample import recurrence
from ksym.compiler.mode import mode_of
from ksym.compiler.plan import FrozenGraph, Target
from ksym.graph import topological_order
from ksym.runtime import calls, loading
from ksym.runtime.arrays import DeviceArray


def chain():
    return [ksym.tanh(ksym.placeholder((4, 4)) * 2.0 + 1.0)]


def amid_a_native_graph():
    y = ksym.cumsum(ksym.placeholder((4, 4)), 0)
    return [ksym.cumsum(ksym.tanh(y * 2.0 + 1.0), 0)]


def constants():
    return [ksym.placeholder((3,)) * ksym.exp(ops.constant(np.ones(3, "float32")))]


def folded(size, of):
    """A graph with a part that depends on constants only, which are too large for `fold`."""
    w = ops.constant(np.ones(size, "float32"))
    return [ksym.cumsum(ksym.placeholder((2, 128)) @ of(w), 0)]


def odd_convolution():
    x, w = ksym.placeholder((4, 20, 16, 16)), ksym.placeholder((12, 20, 3, 3))
    y = ops.convolution(x, w)
    return ksym.gradients(ksym.sum(ksym.square(y)), [x, w])


def normalized_matrix():
    """A graph with loops between a normalisation and its gradient."""
    x, w = ksym.placeholder((256, 128)), ksym.placeholder((128,))
    y = ksym.cumsum(ksym.tanh(ksym.batch_norm(ksym.cumsum(x, 0), w, w)[0] * 2.0), 0)
    return ksym.gradients(ksym.sum(y), [x])


PLANS = {
    "native_operator": (amid_a_native_graph, 100.0),
    "native_element": (amid_a_native_graph, 10.0),
    "kernel": (chain, 100.0),
    "instruction": (chain, 1.0),
    "stream": (chain, 1.0),
    "repeated_element": (normalized_matrix, 10.0),
    "native_graph": (amid_a_native_graph, 1.0),
    "instructions": (chain, 2),
    "instructions_in_all": (chain, 2),
    "fusing_rounds": (chain, 0),
    "called_elements": (lambda: [ksym.placeholder((4,)) ** ksym.placeholder((4,))], 3),
    "summands": (lambda: [ksym.sum(ksym.placeholder((4,)) * 2.0)], 3),
    "loop_memory": (recurrence, 0),
    "unrolled_nodes": (recurrence, 0),
    "folded_elements": (constants, 2),
    "native_flop": (lambda: folded((128, 128), lambda w: ksym.tanh(w) @ w), 1e-9),
    "kept_time": (lambda: folded((128, 128), lambda w: ksym.tanh(w) @ w), 1e6),
    "kept_elements": (lambda: folded(128, lambda w: ksym.sin(ksym.tanh(w[:, None] * w))), 2),
    "padded_work": (odd_convolution, 1e12),
    "block_of_channels": (odd_convolution, 8),
    "few_channels": (odd_convolution, 100),
    "simplifying_rounds": (lambda: [ksym.exp(ksym.placeholder((2,)) * 1.0)], 0),
}
"""For each field that the compiler reads a graph, and a value by which its plan is another."""

WITHOUT_KERNELS = {"unrolled_nodes"}
"""Those that are read where kernels cannot be compiled."""

AT_BINDING = {"shared_instructions", "small_product", "blocked_columns", "unoptimised_elements"}
"""Those that are read when a plan is bound."""


def plan(tensors, costs, kernels=True):
    graph = FrozenGraph(tensors, (), mode_of("native"), Target(kernels, costs))
    return compile_graph(graph, {})


def test_each_cost_is_tested():
    assert {field.name for field in fields(Costs)} == PLANS.keys() | AT_BINDING


@pytest.mark.parametrize("name", PLANS)
def test_a_cost_changes_the_plan(name):
    build, value = PLANS[name]
    tensors = build()
    assert value != getattr(DEFAULT, name)
    kernels = name not in WITHOUT_KERNELS
    before, after = (
        str(plan(tensors, costs, kernels)) for costs in (DEFAULT, Costs(**{name: value}))
    )
    assert before != after


@pytest.mark.parametrize("loop", ["scan", "while", "cond"])
def test_costs_reach_the_bodies_of_loops_and_branches(loop):
    x = ksym.placeholder((4,))
    build = {
        "scan": lambda: ksym.scan(lambda e, s: (s, s * ksym.exp(e * s)), x, 1.0).states,
        "while": lambda: ksym.while_loop(lambda s: s[0] < 9.0, lambda s: ksym.exp(s * 2.0), x),
        "cond": lambda: ksym.cond(x[0] > 0.0, lambda: ksym.exp(x * 2.0), lambda: x),
    }
    inside = {
        "scan": lambda work: work.body,
        "while": lambda work: work.body(),
        "cond": lambda work: work.branch(True),
    }
    costs = Costs(kernel=1e9)
    (work,) = (
        part.work for part in plan([build[loop]()], costs).parts if hasattr(part.work, "node")
    )
    body = inside[loop](work)
    assert body.target.costs is costs
    assert {type(part.work).__name__ for part in body.parts} == {"NativeGraph"}


@pytest.fixture
def two_threads():
    library = loading.library()
    before = library.omp_get_max_threads()
    library.omp_set_num_threads(2)
    yield
    library.omp_set_num_threads(before)


def bound(costs):
    """The call of a kernel over three elements."""
    x = ksym.placeholder((3,))
    y = ksym.square(x) + x
    arrays = {tensor: DeviceArray.empty(tensor.spec) for tensor in (x, y)}
    nodes = {node for node in topological_order([y]) if node.inputs}
    (call,) = calls.kernel_calls(describe(nodes, [y]), arrays, costs)
    return call


@pytest.mark.host_access
def test_costs_say_when_threads_are_woken(two_threads):
    assert not bound(DEFAULT).inner
    assert bound(Costs(shared_instructions=6)).inner
    assert not bound(Costs(shared_instructions=7)).inner


@pytest.mark.host_access
def test_costs_say_what_code_is_optimised():
    assert bound(DEFAULT).code == bound(Costs(unoptimised_elements=3)).code
    assert bound(DEFAULT).code != bound(Costs(unoptimised_elements=2)).code


def test_costs_say_who_computes_products(monkeypatch):
    monkeypatch.setattr(calls, "has_avx512", lambda: False)

    def threads(costs):
        return calls._threads(8, 16, 16, "float32", costs)

    assert threads(DEFAULT) == 1
    assert threads(Costs(small_product=0)) == 0
    assert threads(Costs(blocked_columns=17)) == 0
