import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksym import shapes
from ksym.errors import ShapeError
from ksym.shapes import UNKNOWN

sides = st.integers(0, 4)
shape = st.lists(sides, max_size=4).map(tuple)


@given(st.lists(shape, min_size=1, max_size=3))
def test_broadcast_is_numpys_where_everything_is_known(operands):
    try:
        expected = np.broadcast_shapes(*operands)
    except ValueError:
        with pytest.raises(ShapeError):
            shapes.broadcast(*operands)
    else:
        assert shapes.broadcast(*operands) == expected


@given(shape, shape, st.data())
def test_broadcast_of_half_known_shapes_holds_for_every_completion(first, second, data):
    try:
        expected = np.broadcast_shapes(first, second)
    except ValueError:
        return
    hidden = tuple(
        tuple(None if data.draw(st.booleans()) else side for side in operand)
        for operand in (first, second)
    )
    assert shapes.compatible(shapes.broadcast(*hidden), expected)


def test_an_unknown_size_that_meets_a_known_one_is_known():
    assert shapes.broadcast((None, 3), (5, 1)) == (5, 3)
    assert shapes.broadcast((None, 3), (1, 3)) == (None, 3)


@given(shape, st.data())
def test_reshape_is_numpys(operand, data):
    total = int(np.prod(operand))
    target = data.draw(st.lists(st.integers(-1, 6), max_size=3))
    try:
        expected = np.empty(operand).reshape(target).shape
    except ValueError:
        with pytest.raises(ShapeError):
            shapes.reshape(operand, target)
    else:
        if not (total == 0 and -1 in target):  # NumPy resolves some of those, TensorFlow others
            assert shapes.reshape(operand, target) == expected


def test_reshape_infers_what_it_can():
    assert shapes.reshape((None, 4), (-1, 2)) == (None, 2)
    assert shapes.reshape((6, 4), (None, 8)) == (3, 8)


@pytest.mark.parametrize("axis", [2, -3, 1.5, "x"])
def test_an_axis_that_is_not_there_is_refused(axis):
    with pytest.raises(ShapeError):
        shapes.axis(axis, 2)


def test_naming_an_axis_twice_is_refused():
    with pytest.raises(ShapeError, match="twice"):
        shapes.axes((0, -2), 2)


@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_windows_take_as_many_positions_as_there_are(length, window, stride, dilation, same):
    padding = "same" if same else "valid"
    before, after = shapes.window_padding(length, window, stride, dilation, padding)
    extent = (window - 1) * dilation + 1
    starts = range(-before, length + after - extent + 1, stride)
    assert shapes.window_output(length, window, stride, dilation, padding) == len(starts)
    assert 0 <= after - before <= 1


def test_unknown_absorbs_arithmetic_and_has_no_truth_value():
    assert np.prod([UNKNOWN, 3]) is UNKNOWN
    assert 2 * UNKNOWN + 1 is UNKNOWN
    with pytest.raises(TypeError):
        bool(UNKNOWN)


def test_a_shape_is_integers():
    assert shapes.normalize(3) == (3,)
    assert shapes.normalize([None, np.int64(2)]) == (None, 2)
    with pytest.raises(ShapeError):
        shapes.normalize((2.5,))
    with pytest.raises(ShapeError):
        shapes.normalize((-1,))
