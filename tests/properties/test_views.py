"""Views: the elements of a node, read where those of its operand lie."""

import numpy as np
import pytest
from drawing import HypothesisDraw, build
from hypothesis import given
from hypothesis import strategies as st

from ksym.compiler.fusion.kernel import is_view, look_through
from ksym.graph import OPERATORS
from ksym.testing import evaluate_numpy

VIEWING = sorted(name for name, operator in OPERATORS.items() if operator.viewing)


@pytest.mark.parametrize("name", VIEWING)
@given(data=st.data())
def test_the_elements_of_a_view_are_those_of_its_operand(name, data):
    draw = HypothesisDraw(data)
    sample = OPERATORS[name].sample(draw)
    if name == "slice":  # most of those drawn have another step than one, and are no views
        bounds = [slice(b.start, b.stop) for b in sample.attributes["bounds"]]
        sample.attributes["bounds"] = bounds
    inputs, values, outputs = build(name, sample)
    if not is_view(outputs[0].node):
        return
    found = outputs[0]
    # Views of views, too.
    if found.rank and data.draw(st.booleans()):
        found = OPERATORS["transpose"](found)
    if data.draw(st.booleans()):
        found = OPERATORS["expand_dims"](found, 0)
    views, source = set(), found
    while is_view(source.node):
        views.add(source.node)
        source = source.node.inputs[0]
    if found.node not in views:
        return
    fed = dict(zip(inputs, values, strict=True))
    (expected, array) = evaluate_numpy([found, source], fed)
    view, shape = look_through(found, views)
    assert view.tensor is source
    assert shape == expected.shape
    flat = np.ascontiguousarray(array).reshape(-1)
    strides = [stride * flat.itemsize for stride in view.strides]
    seen = np.lib.stride_tricks.as_strided(flat[view.offset :], shape, strides)
    np.testing.assert_array_equal(seen, expected)
