"""Random graphs of all operators, loops and branches: compiled they are what they are interpreted.

`make test-fuzz` draws them for an hour.
"""

import counting
import numpy as np
from evaluating import UnclearError, difference, evaluate
from hypothesis import given, note
from hypothesis import strategies as st
from programs import Graph, operators_of

import ksym
from ksym import dtypes
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.mode import names
from ksym.errors import KsymError
from ksym.function import SPECIALIZATIONS, Function
from ksym.graph import OPERATORS

COSTS = {
    "default": DEFAULT,
    "all in kernels": Costs(kernel=-1e9, native_graph=-1e9, unoptimised_elements=0),
}


def function(inputs, outputs, costs=DEFAULT, mode="native", flags=None):
    return Function(inputs, outputs, None, None, None, mode, SPECIALIZATIONS, flags, costs)


def drawn_outputs(graph):
    """Return some of a graph's tensors, and gradients of their sum."""
    known = graph.known
    count = graph.draw.integer(1, min(3, len(known)))
    outputs = [known[-1].tensor, *(graph.draw.choose(known).tensor for _ in range(count - 1))]
    floats = [t for t in outputs if dtypes.is_float(t.dtype)]
    leaves = [t for t in graph.inputs if dtypes.is_float(t.dtype)]
    if not floats or not leaves or graph.draw.choose((True, False)):
        return outputs
    loss = sum(ksym.sum(ksym.cast(t, "float64")) for t in floats)
    return outputs + ksym.gradients(loss, leaves, disconnected="zero")


def run(f, values):
    """Return the results of a call, or the error that refuses it."""
    try:
        return f(*values), None
    except KsymError as error:
        return None, error


@given(data=st.data())
def test_compiled_as_interpreted(data):
    graph = Graph(data)
    graph.grow()
    counting.add(programs=1, refused=graph.refused)
    if not graph.known:
        return
    try:
        outputs = drawn_outputs(graph)
    except KsymError:
        counting.add(refused=1)
        return
    off = [name for name in names() if graph.draw.choose((False, False, False, True))]
    flags = dict.fromkeys(off, False) if graph.draw.choose((False, True)) else None
    costs = graph.draw.choose(sorted(COSTS))
    inputs, values = graph.inputs, graph.values
    try:
        check(inputs, values, outputs, flags, COSTS[costs])
    except BaseException:
        note(ksym.debugprint(outputs, limit=200, file="str"))
        note(f"flags {flags}, costs {costs}")
        for tensor, value in zip(inputs, values, strict=True):
            note(f"{tensor.name} {tensor.shape} = np.{value!r}, {value.dtype} {value.shape}")
        raise


def check(inputs, values, outputs, flags, costs):
    """Compare a compiled graph with itself node by node."""
    stepwise, refusal = run(function(inputs, outputs, mode="interpret"), values)
    compiled = function(inputs, outputs, costs, flags=flags)
    found, error = run(compiled, values)
    counting.add(calls=3)
    if refusal is not None:
        counting.add(refused=1)
        return
    if error is not None:
        raise error
    counting.cover(operators_of(outputs))
    again, _ = run(compiled, values)
    for first, second in zip(found, again, strict=True):
        np.testing.assert_array_equal(first, second, "a second call differs")
    compare(outputs, dict(zip(inputs, values, strict=True)), found, stepwise)


def compare(outputs, feeds, found, stepwise):
    factor = max(OPERATORS[name].conditioning.factor for name in operators_of(outputs))
    rng = np.random.default_rng(0)
    for count in (4, 40):  # what roundings of forty runs do not explain is a difference
        try:
            runs = [evaluate(outputs, feeds, rng) for _ in range(count)]
        except UnclearError:
            counting.add(undefined=1)
            return
        different = difference(found, stepwise, runs, factor)
        if different is None:
            return
    raise AssertionError(f"compiled and interpreted differ: {different}")


FUZZED = test_compiled_as_interpreted
