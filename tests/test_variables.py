import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import DTypeError, GraphError, ShapeError
from ksym.variables import _Names


def test_values_are_copies():
    start = np.zeros(2, "float32")
    w = ksym.Variable(start)
    start[:] = 7
    assert w.get_value().tolist() == [0, 0]
    w.get_value()[:] = 5
    assert w.get_value().tolist() == [0, 0]
    w.set_value([1, 2])
    assert w.get_value().tolist() == [1, 2]
    assert w.get_value().dtype == "float32"


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int32", "int64", "float16", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_every_dtype_and_shape_goes_to_the_device_and_back(dtype, shape):
    value = np.ones(shape, dtype)
    w = ksym.Variable(np.zeros(shape, dtype))
    ksym.evaluate(w.assign(value))
    found = w.get_value()
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, value)
    w.set_value(np.zeros(shape))
    assert not w.get_value().any()


@pytest.mark.parametrize("mode", ["native", "interpret"])
@pytest.mark.parametrize("flags", ["", "fuse_updates=0", "fuse_loops=0,fuse_updates=0"])
@pytest.mark.parametrize(
    ("shape", "given"),
    [((6,), (2,)), ((2,), (6,)), ((1,), (1000,)), ((6,), (0,)), ((0,), (3,)), ((2, 3), (2, 1))],
)
def test_a_new_value_of_another_shape_is_refused_at_the_call(mode, flags, shape, given):
    w, count = ksym.Variable(np.ones(shape)), ksym.Variable(0)
    x = ksym.placeholder([None] * len(given), "float64")
    updates = [count.assign_add(1), w.assign(x * 2)]
    f = ksym.function([x], [], updates=updates, mode=mode, flags=flags)
    for _ in range(2):
        with pytest.raises(ShapeError) as error:
            f(np.ones(given))
        assert f"the new value has shape {given}, the variable {w.name!r} {shape}" in str(
            error.value
        )
        assert "test_variables.py" in str(error.value)
        np.testing.assert_array_equal(w.get_value(), np.ones(shape))
        assert count.get_value() == 0
    f(np.ones(shape))  # the remedy
    np.testing.assert_array_equal(w.get_value(), np.full(shape, 2.0))
    assert count.get_value() == 1


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_new_value_whose_size_depends_on_data_is_refused_where_it_does_not_fit(mode):
    w, x = ksym.Variable([1.0, 1.0]), ksym.placeholder((None,))
    kept = ksym.boolean_mask(x, x > 0)
    f = ksym.function([x], kept, updates=[w.assign(kept * 3.0)], mode=mode)
    assert f([5, -1, 7]).tolist() == [5, 7]
    for value in ([1, 2, 3], [1, -1], []):
        with pytest.raises(ShapeError, match=r"the variable 'variable(_\d+)?' \(2,\)"):
            f(value)
    assert w.get_value().tolist() == [15, 21]


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_branches_whose_sizes_turn_out_different_are_refused(mode):
    x = ksym.placeholder((3,))
    y = ksym.cond(x[0] > 0, lambda: x * 2.0, lambda: ksym.boolean_mask(x, x < 0))
    w = ksym.Variable([0.0, 0.0, 0.0])
    f = ksym.function([x], y + 1.0, updates=[w.assign(y)], mode=mode)
    assert f([1, 2, 3]).tolist() == [3, 5, 7]
    assert f([-1, -2, -3]).tolist() == [0, -1, -2]
    with pytest.raises(ShapeError, match="the branch taken gives"):
        f([-1, 2, -3])
    assert w.get_value().tolist() == [-1, -2, -3]


def test_one_variable_in_many_functions_is_one_array():
    w = ksym.Variable(1.0)
    double = ksym.function([], [], updates=[w.assign(w * 2.0)])
    read = ksym.function([], w + 0.0)
    double()
    assert read() == 2
    w.set_value(10)
    double()
    assert read() == 20


def test_updates_by_name():
    w = ksym.Variable(np.array([1.0, 2.0]))
    ksym.evaluate(w.assign_add(1))
    ksym.evaluate(w.assign_sub([0.5, 0.25]))
    assert w.get_value().tolist() == [1.5, 2.75]
    counter = ksym.Variable(0, dtype="int64")
    ksym.evaluate(counter.assign_add(1))
    assert counter.get_value() == 1
    assert counter.get_value().dtype == "int64"


def test_a_number_fills_a_variable():
    w = ksym.Variable([1.0, 2.0])
    ksym.evaluate(w.assign(0))
    assert w.get_value().tolist() == [0, 0]


def test_names_are_unique():
    names = [ksym.Variable(0.0, name="twice").name for _ in range(3)]
    assert len(set(names)) == 3


@given(st.lists(st.sampled_from(["a", "a_1", "a_2", "a_1_1", "a_01", "a_", "a_0", "_1", ""])))
def test_names_are_unique_whatever_they_are_made_of(wanted):
    names, given_out = _Names(), []
    for name in wanted:
        found = names.unique(name)
        assert found not in given_out
        if name not in given_out:
            assert found == name
        given_out.append(found)


def test_names_do_not_pile_up():
    names = _Names()
    assert [names.unique("v") for _ in range(1000)][-1] == "v_999"
    assert len(names._next) == 1
    assert names.unique("v_500") == "v_500_1"
    assert names.unique("v_1000") == "v_1000"
    assert names.unique("v") == "v_1001"


def test_what_cannot_be_a_value_is_refused():
    w = ksym.Variable([1.0, 2.0])
    with pytest.raises(ShapeError, match="shape"):
        w.set_value([1.0])
    with pytest.raises(DTypeError):
        w.set_value(np.array([None, 1]))
    with pytest.raises(ShapeError):
        w.assign(np.ones(3))
    with pytest.raises(DTypeError, match="symbolic"):
        ksym.Variable(w * 2.0)
    with pytest.raises(GraphError, match="not a variable"):
        ksym.Update(ksym.placeholder(()), 1.0)
    assert w.get_value().tolist() == [1, 2]


def test_a_variable_is_pickled_with_its_value():
    w = ksym.Variable([1.0, 2.0], name="w", trainable=False)
    again = pickle.loads(pickle.dumps(w))
    assert again.get_value().tolist() == [1, 2]
    assert again.trainable is False


def test_a_shape_taken_for_a_value_is_warned_of():
    with pytest.warns(ksym.KsymWarning, match=r"np\.zeros\(\(3, 4\)\)") as caught:
        assert ksym.Variable((3, 4)).shape == (2,)
    assert caught[0].filename == __file__
    assert ksym.Variable([3, 4]).shape == (2,)
    assert ksym.Variable((3.0, 4.0)).shape == (2,)
