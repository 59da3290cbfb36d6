"""Updates that a variable brings along, as Theano's shared variables do."""

import copy
import pickle

import numpy as np
import pytest

import ksym


def counter(value=0, step=1):
    made = ksym.Variable(value)
    made.default_update = made + step
    return made


def test_each_function_that_reads_the_variable_carries_it_out():
    calls = counter()
    read, twice, other = (
        ksym.function([], calls),
        ksym.function([], calls * 2),
        ksym.function([], ksym.constant(7)),
    )
    assert [int(f()) for f in (read, read, twice, other, read)] == [0, 1, 4, 7, 3]
    assert calls.get_value() == 4


def test_an_update_that_is_given_takes_its_place():
    calls = counter()
    ksym.function([], [], updates={calls: calls + 10})()
    assert calls.get_value() == 10


@pytest.mark.parametrize("form", [True, "list"])
def test_functions_leave_it_out_if_told(form):
    first, second = counter(), counter()
    f = ksym.function([], first + second, no_default_updates=form if form is True else [first])
    f()
    assert first.get_value() == 0
    assert second.get_value() == (0 if form is True else 1)


def test_what_a_default_update_reads_is_updated_too():
    a, b = counter(), ksym.Variable(100)
    b.default_update = b + a
    f = ksym.function([], b)
    assert [int(f()) for _ in range(3)] == [100, 100, 101]
    assert a.get_value() == 3


def test_updates_read_and_givens_replace_the_variables_of_default_updates():
    w, calls, x = ksym.Variable(0.0), counter(0.0), ksym.placeholder((), name="x")
    f = ksym.function([x], [], updates=[(w, calls + x)])
    f(5)
    assert (float(w.get_value()), float(calls.get_value())) == (5.0, 1.0)
    ksym.function([], calls, givens={calls: 3.0})()  # it is not read any more
    assert calls.get_value() == 1.0
    step = ksym.Variable(1.0)
    calls.default_update = calls + step
    ksym.function([], calls, givens={step: 10.0})()
    assert calls.get_value() == 11.0


def test_inputs_that_only_a_default_update_reads_are_used():
    x, total = ksym.placeholder((), name="x"), ksym.Variable(0.0)
    total.default_update = total + x
    f = ksym.function([x], total, on_unused_input="raise")
    f(2.0)
    assert total.get_value() == 2.0
    with pytest.raises(ksym.GraphError, match="placeholder x, which is not an input"):
        ksym.function([], total)


def test_looking_changes_nothing():
    calls = counter()
    assert ksym.evaluate(calls + 1) == ksym.evaluate([calls, calls])[0] + 1 == 1
    ksym.debugprint(calls + 1, stage="compiled", file="str")
    assert calls.get_value() == 0
    ksym.evaluate(calls.assign_add(5))
    assert calls.get_value() == 5


def test_it_counts_when_the_function_is_made_and_ends_with_none():
    calls = counter()
    f = ksym.function([], calls)
    calls.default_update = None
    assert calls.default_update is None
    g = ksym.function([], calls)
    assert [int(h()) for h in (f, f, g, g)] == [0, 1, 2, 2]


@pytest.mark.parametrize("again", [lambda v: pickle.loads(pickle.dumps(v)), copy.deepcopy])
def test_copies_have_one_of_their_own(again, tmp_path):
    calls = counter()
    both = again((calls, ksym.function([], calls)))
    for one, read in (both, (again(calls), None)):
        read = read or ksym.function([], one)
        assert [int(read()) for _ in range(3)] == [0, 1, 2]
        ksym.function([], one)()
        assert one.get_value() == 4
    assert calls.get_value() == 0
    product = again(calls * 2)  # the update of a variable inside of a graph
    assert [int(ksym.function([], product)()) for _ in range(2)] == [0, 2]


def test_a_saved_function_goes_on_with_it(tmp_path):
    calls = counter()
    ksym.save(ksym.function([], calls), tmp_path / "f")
    read = ksym.load(tmp_path / "f")
    assert [int(read()) for _ in range(2)] == [0, 1]


def test_a_call_that_fails_leaves_all_as_it_was():
    calls, x = counter(), ksym.placeholder((None,))
    f = ksym.function(x, ksym.check_value(calls, ksym.all(x > 0.0)))
    with pytest.raises(ksym.ExecutionError):
        f([-1])
    assert calls.get_value() == 0


def test_what_the_variable_cannot_have_is_refused_where_it_is_set():
    w = ksym.Variable(np.zeros(3, "int32"), name="w")
    with pytest.raises(ksym.DTypeError, match="not stored in the variable"):
        w.default_update = w * 0.5
    with pytest.raises(ksym.ShapeError, match="the new value has shape"):
        w.default_update = np.zeros(2, "int32")
    assert w.default_update is None
    with pytest.raises(ksym.ArgumentError, match="no_default_updates has 3"):
        ksym.function([], w, no_default_updates=3)
