"""Printing and checking while a graph runs: each value once, in the order of the program."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym import print_value

MODES = pytest.mark.parametrize("mode", ["native", "interpret"])


@pytest.fixture
def printed(capsys):
    def lines():
        return capsys.readouterr().out.splitlines()

    return lines


@MODES
def test_the_message_and_the_value_are_printed_at_each_call(printed, mode):
    x = ksym.placeholder((None,))
    f = ksym.function([x], print_value(x * 2.0, "twice:") + 1.0, mode=mode)
    assert printed() == []
    assert f([1, 2]).tolist() == [3.0, 5.0]
    f([3])
    assert printed() == ["twice: [2. 4.]", "twice: [6.]"]


@MODES
def test_the_order_is_that_in_which_they_were_made(printed, mode):
    x = ksym.placeholder((None,))
    shown = [print_value(x + float(i), f"{i}") for i in range(6)]
    shown.append(print_value(ksym.exp(shown[0]), "6"))
    results = [s * 2.0 for s in shown]
    order = [3, 6, 0, 5, 1, 4, 2]
    ksym.function([x], [results[i] for i in order], mode=mode)([1.0])
    assert [line.split()[0] for line in printed()] == ["0", "1", "2", "3", "4", "5", "6"]


@MODES
def test_loops_print_step_by_step_and_between_what_is_around_them(printed, mode):
    x = ksym.placeholder((None,))

    def step(element, total):
        element = print_value(element, "element")
        total = total + element
        return print_value(total, "total"), total

    first = print_value(ksym.sum(x), "first")
    outputs = ksym.scan(step, x, 0.0).outputs
    last = print_value(ksym.max(x), "last")
    # What is made last is needed first.
    result = ksym.exp(last) * 0.0 + ksym.sum(outputs) + first
    assert ksym.function([x], result, mode=mode)([1, 2]) == 7.0
    assert printed() == [
        *("first 3.0", "element 1.0", "total 1.0", "element 2.0", "total 3.0", "last 2.0"),
    ]


@MODES
def test_conditions_and_branches_print_what_is_computed(printed, mode):
    def body(i):
        return ksym.cond(
            i > 0, lambda: print_value(i, "positive") + 1, lambda: print_value(i, "zero") + 1
        )

    loop = ksym.while_loop(lambda i: print_value(i, "test") < 2, body, 0)
    assert ksym.function([], loop, mode=mode)() == 2
    assert printed() == ["test 0", "zero 0", "test 1", "positive 1", "test 2"]


@pytest.mark.parametrize("unit", ["scan", "while", "cond", "none"])
def test_the_gradient_flows_through_and_is_silent(printed, unit):
    def build(x, show):
        if unit == "scan":
            return ksym.scan(lambda e, s: (show(ksym.tanh(s * e)),) * 2, x, 0.5).outputs
        if unit == "while":
            step = lambda i, s: (i + 1, show(ksym.tanh(s * x[0])))  # noqa: E731
            return ksym.while_loop(lambda i, s: i < 3, step, (0, ksym.constant(0.5)))[1]
        if unit == "cond":
            return ksym.cond(x[0] > 0.0, lambda: show(ksym.tanh(x)), lambda: x)
        return show(ksym.tanh(x))

    x = ksym.placeholder((3,))
    values = []
    for show in (lambda t: t, print_value):
        y = ksym.sum(build(x, show))
        g = ksym.gradients(y, x)
        second = ksym.gradients(ksym.sum(g * g), x)
        values.append(ksym.function([x], [y, g, second])([0.5, 0.3, 0.2]))
    assert len(printed()) == (3 if unit in ("scan", "while") else 1)
    for a, b in zip(*values, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_nothing_is_printed_while_graphs_are_built_and_compiled(printed):
    f = ksym.function([], print_value(ksym.constant([1, 2]), "constant") + 1)
    ksym.debugprint(f, stage="compiled", file="str")
    assert printed() == []
    f()
    f()
    assert printed() == ["constant [1 2]"] * 2


def test_equal_ones_print_both_and_an_outer_tensor_in_each_step(printed):
    x = ksym.placeholder((2,))
    both = print_value(x, "x") + print_value(x, "x")
    ksym.function([x], both)([1, 2])
    assert printed() == ["x [1. 2.]"] * 2
    outputs = ksym.map_fn(lambda e: e * print_value(both, "outer"), x)
    ksym.function([x], outputs)([1, 2])
    assert printed()[2:] == ["outer [2. 4.]"] * 2


def test_one_that_no_result_needs_is_not_printed(printed):
    x = ksym.placeholder((2,))
    print_value(x, "unused")
    ksym.function([x], x + 1.0)([1, 2])
    assert printed() == []


def test_what_givens_turn_round_is_still_computed(printed):
    x = ksym.placeholder((2,))
    first = print_value(x, "first")
    second = print_value(x * 2.0, "second")
    y = ksym.placeholder((2,))
    ksym.function([y], first + second, givens={x: print_value(y, "third")})([1, 2])
    assert printed() == ["third [1. 2.]", "first [1. 2.]", "second [2. 4.]"]


@given(st.permutations(range(5)), st.integers(0, 2**5 - 1))
def test_any_chain_of_prints_keeps_its_order(order, joined):
    x = ksym.placeholder((2,))
    shown, last = [], x
    for i in range(5):
        made = print_value((last if joined >> i & 1 else x) * 1.5, str(i))
        shown.append(made)
        last = ksym.tanh(made)
    f = ksym.function([x], [shown[i] - 1.0 for i in order])
    with contextlib.redirect_stdout(io.StringIO()) as out:
        f([1, 2])
    assert [line[0] for line in out.getvalue().splitlines()] == list("01234")


def test_a_message_that_is_no_text_is_refused():
    with pytest.raises(ksym.ArgumentError, match="print_value"):
        print_value(ksym.placeholder(()), 3)


def test_the_guard_does_not_print_again(printed):
    x = ksym.placeholder((2,))
    f = ksym.function([x], ksym.log(print_value(x, "x")), flags="nan=1")
    with pytest.raises(ksym.NonFiniteError):
        f([0, 1])
    assert printed() == ["x [0. 1.]"]


# --- checks --------------------------------------------------------------------------------------


@MODES
def test_a_call_fails_where_a_condition_is_false(mode):
    x, total = ksym.placeholder((None,)), ksym.Variable(0.0)
    root = ksym.sqrt(ksym.check_value(x, x >= 0.0, "x is not negative"))
    f = ksym.function([x], root, updates=[total.assign_add(ksym.sum(root))], mode=mode)
    assert f([4, 9]).tolist() == [2.0, 3.0]
    with pytest.raises(
        ksym.ExecutionError, match=r"(?s)x is not negative.*1 of 3, first at \(1,\)"
    ):
        f([4, -1, 9])
    assert total.get_value() == 5.0
    assert f([4]).tolist() == [2.0]


@MODES
def test_the_step_of_a_loop_is_checked_and_the_gradient_is_silent(mode):
    x = ksym.placeholder((None,))

    def step(element, total):
        total = ksym.check_value(total + element, total < 3.0, "the total is small")
        return total, total

    total = ksym.scan(step, x, 0.0).outputs[-1]
    f = ksym.function([x], [total, ksym.gradients(total, x)], mode=mode)
    assert [r.tolist() for r in f([1, 2])] == [3.0, [1.0, 1.0]]
    with pytest.raises(ksym.ExecutionError, match="the total is small"):
        f([1, 2, 3])


def test_a_condition_that_is_known_fails_at_the_call_only():
    x = ksym.placeholder(())
    f = ksym.function([x], ksym.check_value(x, ksym.constant(False)))
    with pytest.raises(ksym.ExecutionError, match="the condition is false"):
        f(1.0)


def test_what_is_no_condition_is_refused():
    x = ksym.placeholder((2,))
    with pytest.raises(ksym.DTypeError, match="compare, as in"):
        ksym.check_value(x, x)
    with pytest.raises(ksym.ArgumentError, match="not a text"):
        ksym.check_value(x, x > 0, 3)
