"""A loop's signature, which only `ksym.loops.view` counts."""

import functools
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.loops.scan import scan_node
from ksym.loops.view import ScanView, parted


@given(st.lists(st.integers()), st.data())
def test_parts_have_their_sizes_and_are_all_there(items, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(items)), max_size=4)))
    counts = [b - a for a, b in zip([0, *cuts], cuts, strict=False)]
    parts = parted(items, *counts)
    assert [len(part) for part in parts[:-1]] == counts
    assert list(chain(*parts)) == items


@st.composite
def loops(draw):
    """Draw the node of a loop, and its operands by what they are."""
    sequences = [ksym.placeholder((4, 2)) for _ in range(draw(st.integers(0, 3)))]
    states = [ksym.placeholder((2,)) for _ in range(draw(st.integers(0, 3)))]
    closed = [ksym.placeholder((2,)) for _ in range(draw(st.integers(1, 3)))]
    outputs = draw(st.integers(0 if states else 1, 2))

    def body(*arguments):
        total = functools.reduce(ksym.add, [*arguments, *closed])
        carried = arguments[len(sequences) :]
        return [total * (i + 2.0) for i in range(outputs)], [ksym.tanh(total + s) for s in carried]

    made = ksym.scan(body, sequences, states, steps=4, reverse=draw(st.booleans()))
    node = (*made.outputs, *made.states)[0].node
    return node, sequences, states, closed, outputs


@given(loops(), st.data())
def test_a_view_names_the_parts_of_a_node(drawn, data):
    node, sequences, states, closed, outputs = drawn
    used = [t for t in node.outputs if data.draw(st.booleans())]
    loop = ScanView.of(node, node.inputs, used)
    assert loop.length == 4
    assert list(loop.sequences) == sequences
    assert list(loop.initial) == states
    if sequences or states:  # else all is computed outside
        assert set(loop.closed) == set(closed)
    assert (*loop.elements, *loop.before, *loop.rest) == node.attributes["body"].inputs
    assert tuple(loop.roots) == node.attributes["body"].outputs
    assert (len(loop.new), len(loop.outputs)) == (len(states), outputs)
    results = loop.results(node.outputs)
    assert loop.kept == tuple(t in used for t in results.histories)
    assert [t.shape for t in results.finals] == [(2,)] * len(states)
    assert [t.shape for t in results.stacked] == [(4, 2)] * outputs
    assert [t.shape for t in results.histories] == [(4, 2)] * len(states)


@given(loops())
def test_a_node_made_of_the_view_of_a_node_is_like_it(drawn):
    node = drawn[0]
    made = scan_node.made(ScanView.of(node))
    twin = (*made.finals, *made.stacked)[0].node
    assert twin is not node
    assert twin.inputs == node.inputs
    assert [t.spec for t in twin.outputs] == [t.spec for t in node.outputs]
    body, attributes = twin.attributes["body"], dict(node.attributes)
    assert dict(twin.attributes) == {**attributes, "body": body}
    assert (body.inputs, body.outputs) == (attributes["body"].inputs, attributes["body"].outputs)


def test_a_loop_with_some_of_its_states_computes_the_same_ones():
    a, b = ksym.placeholder((2,)), ksym.placeholder((2,))
    made = ksym.scan(lambda s, t: (s, (s * 2.0, t + 1.0)), states=[a, b], steps=3)
    loop = ScanView.of(made.states[1].node)
    second = scan_node.made(replace(loop.with_states([1]), outputs=()))
    found = ksym.function([b], second.finals[0])(np.ones(2, "float32"))
    np.testing.assert_array_equal(found, [4.0, 4.0])


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_that_computes_nothing_gives_nothing(every, reverse):
    x = ksym.placeholder((3,))
    found = ksym.scan(lambda e: ((), ()), x, checkpoint_every=every, reverse=reverse)
    assert found == ([], [], [])
