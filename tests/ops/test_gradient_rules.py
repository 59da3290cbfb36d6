"""Functions whose gradient is a rule of the user's: anywhere, to any order, pickled and saved."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import ArgumentError, GradientError, GraphError
from ksym.testing import verify_gradient

MODES = pytest.mark.parametrize("mode", ["native", "interpret"])


def through(x, y, g):
    return g


def tripled(x, y, g):
    return 3.0 * g * x


rounded = ksym.custom_gradient(ksym.round, through)


@MODES
def test_the_value_is_the_functions_and_the_gradient_the_rules(mode):
    x = ksym.placeholder((None,))
    y = rounded(2.0 * x)
    f = ksym.function(x, [y, ksym.gradients(ksym.sum(y * y), x)], mode=mode)
    value, slope = f([0.3, 1.4])
    assert value.tolist() == [1.0, 3.0]
    assert slope.tolist() == [4.0, 12.0]  # of y * y by y, times 2


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=5))
def test_the_rule_of_calculus_gives_the_gradient_of_any_order(values):
    """With the true derivative as the rule nothing changes."""
    own = ksym.custom_gradient(
        lambda x: ksym.tanh(x), lambda x, y, g: g * (1.0 - ksym.tanh(x) ** 2)
    )
    x = ksym.placeholder((None,), "float64")
    verify_gradient(lambda t: own(t) * t, [np.array(values)])
    orders = []
    for function in (own, ksym.tanh):
        loss = ksym.sum(function(x))
        first = ksym.gradients(loss, x)
        orders.append([first, ksym.gradients(first, x)])
    found = ksym.function(x, orders[0] + orders[1])(values)
    np.testing.assert_allclose(found[:2], found[2:], rtol=1e-9, atol=1e-12)


def test_the_rule_gets_arguments_result_and_gradient_in_this_order():
    seen = []

    def rule(a, b, y, g):
        seen.append((a, b, y.shape, g.shape))
        return None, g * a

    a, b = ksym.placeholder((3,)), ksym.placeholder((3,))
    y = ksym.custom_gradient(lambda a, b: a * b, rule)(a, b)
    by_a, by_b = ksym.gradients(y, [a, b], disconnected="none")
    assert by_a is None
    assert seen[0] == (a, b, (3,), (3,))
    assert ksym.function([a, b], by_b, on_unused_input="ignore")([1, 2, 3], [0, 0, 0]).tolist() == [
        1.0,
        2.0,
        3.0,
    ]


@MODES
def test_in_loops_and_branches(mode):
    x = ksym.placeholder((None,))
    own = ksym.custom_gradient(ksym.square, tripled)

    def step(element, total):
        total = total + own(element)
        return total, total

    scanned = ksym.scan(step, x, 0.0).outputs[-1]
    repeated = ksym.while_loop(lambda i, s: i < 2, lambda i, s: (i + 1, s + own(x[0])), (0, 0.0))[1]
    chosen = ksym.cond(x[0] > 0.0, lambda: own(x[1]), lambda: x[1])
    slopes = [ksym.gradients(y, x) for y in (scanned, repeated, chosen)]
    found = ksym.function(x, slopes, mode=mode)([1.0, 2.0])
    np.testing.assert_allclose(found, [[3.0, 6.0], [6.0, 0.0], [0.0, 6.0]])


def test_what_a_rule_in_a_loop_needs_is_an_argument():
    x, scale = ksym.placeholder((None,)), ksym.Variable(5.0, name="scale")
    own = ksym.custom_gradient(lambda x, s: ksym.copy(x), lambda x, s, y, g: (g * s, None))
    loss = ksym.scan(lambda e, s: (own(e, scale) + s,) * 2, x, 0.0).outputs[-1]
    first = ksym.gradients(loss, x)
    f = ksym.function(x, [first, ksym.gradients(first, scale)])
    slope, by_scale = f([1.0, 2.0])
    assert slope.tolist() == [5.0, 5.0]
    assert by_scale == 2.0
    hidden = ksym.custom_gradient(ksym.copy, lambda x, y, g: g * scale)
    with pytest.raises(GradientError, match=r"(?s)reads scale.*make scale.* an argument"):
        ksym.gradients(hidden(x), x)


def test_a_rule_costs_nothing_when_a_function_runs():
    x = ksym.placeholder((4,))
    plain, ruled = ksym.function(x, ksym.exp(x) * 2.0), ksym.function(x, rounded(ksym.exp(x)) * 2.0)
    for f in (plain, ruled):
        f(np.ones(4))
    assert "with_gradient" not in [node.operator.name for node in ruled.last_graph()]


def test_functions_are_pickled_copied_and_saved(tmp_path):
    x = ksym.placeholder((2,))
    y = ksym.custom_gradient(ksym.square, tripled)(x)
    f = ksym.function(x, [y, ksym.gradients(y, x)])
    expected = [[1.0, 4.0], [3.0, 6.0]]
    x2, y2 = pickle.loads(pickle.dumps((x, y)))
    later = ksym.function(x2, [y2, ksym.gradients(y2, x2)])
    ksym.save(f, tmp_path / "f")
    for g in (later, pickle.loads(pickle.dumps(f)), copy.deepcopy(f), ksym.load(tmp_path / "f")):
        np.testing.assert_allclose(g([1.0, 2.0]), expected)


def test_a_rule_without_a_name_is_saved_and_says_why_it_is_not_pickled(tmp_path):
    x = ksym.placeholder((2,))
    f = ksym.function(x, ksym.custom_gradient(ksym.square, lambda x, y, g: g)(x))
    with pytest.raises(GraphError, match=r"(?s)cannot be pickled.*to do: define it by def"):
        pickle.dumps(f)
    ksym.save(f, tmp_path / "f")
    assert ksym.load(tmp_path / "f")([1.0, 2.0]).tolist() == [1.0, 4.0]
    assert copy.deepcopy(f)([1.0, 2.0]).tolist() == [1.0, 4.0]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda x, y, g: [g, g], r"2 gradient\(s\) for 1"),
        (lambda x, y, g: ksym.sum(g), r"shape \(\) for argument 0 of shape \(3,\)"),
        (lambda x, y, g: [], r"0 gradient\(s\) for 1"),
        (lambda x, y, g: "g", "str"),
    ],
)
def test_what_a_rule_may_not_return(rule, message):
    x = ksym.placeholder((3,))
    y = ksym.custom_gradient(ksym.square, rule)(x)
    with pytest.raises(ksym.KsymError, match=message) as caught:
        ksym.gradients(y, x)
    assert "test_gradient_rules.py" in str(caught.value)


def test_what_makes_no_function():
    for bad in ((3, through), (ksym.square, None)):
        with pytest.raises(ArgumentError, match="takes two functions"):
            ksym.custom_gradient(*bad)
    for returned in ([], 3.0, [3.0]):
        with pytest.raises(ArgumentError, match="not a tensor"):
            ksym.custom_gradient(lambda x, r=returned: r, through)(ksym.placeholder(()))


def test_a_rule_of_another_number_of_values_is_refused_at_the_call():
    x = ksym.placeholder((3,))
    for rule in (lambda x, g: g, lambda a, b, y, g: g):
        with pytest.raises(
            ArgumentError,
            match=r"(?s)custom_gradient: .*called with 3 values.*made at: .*to do: write it",
        ):
            ksym.custom_gradient(ksym.square, rule)(x)
    any_number = ksym.custom_gradient(ksym.square, lambda *values: values[-1])
    assert ksym.gradients(any_number(x), x).eval({x: np.ones(3)}).tolist() == [1.0, 1.0, 1.0]


def parts(x, w):
    return x * w, ksym.sum(x)


def part_rule(x, w, y, total, by_y, by_total):
    return by_y * w + by_total, ksym.sum(by_y * x)


@MODES
def test_several_results_have_one_rule(mode, tmp_path):
    x, w = ksym.placeholder((None,)), ksym.placeholder(())
    loss = []
    for function in (ksym.custom_gradient(parts, part_rule), parts):
        y, total = function(x, w)
        whole, half = ksym.sum(y**2) * total, ksym.sum(y**2)  # nothing arrives at the other one
        first = [
            g for z in (whole, half, total) for g in ksym.gradients(z, [x, w], disconnected="zero")
        ]
        loss.append([y, total, *first, ksym.gradients(ksym.sum(first[0]), w)])
    given = [1.0, -2.0, 3.0], 0.5
    found = ksym.function([x, w], loss[0], mode=mode)
    np.testing.assert_allclose(
        np.hstack(found(*given)), np.hstack(ksym.function([x, w], loss[1], mode=mode)(*given))
    )
    ksym.save(found, tmp_path / "f")
    for again in (ksym.load(tmp_path / "f"), pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(np.hstack(again(*given)), np.hstack(found(*given)))
    assert isinstance(ksym.custom_gradient(lambda x: [x], through)(x), tuple)
    with pytest.raises(ArgumentError, match=r"(?s)called with 6 values: 2.*2 results.*\*results"):
        ksym.custom_gradient(parts, through)(x, w)


def test_another_tensor_that_the_function_uses_gets_no_gradient():
    x, w = ksym.placeholder((3,)), ksym.Variable(2.0)
    y = ksym.custom_gradient(lambda x: x * w, through)(x)
    with pytest.raises(GradientError):
        ksym.gradients(y, w)


@MODES
def test_gradients_are_clipped(mode):
    x = ksym.placeholder((None,))
    y = ksym.clip_gradient(x, -1.0, 2.0) * [0.5, 3.0, -4.0]
    f = ksym.function(x, [y, ksym.gradients(y, x)], mode=mode)
    value, slope = f([1.0, 1.0, 1.0])
    assert value.tolist() == [0.5, 3.0, -4.0]
    assert slope.tolist() == [0.5, 2.0, -1.0]
    for bounds in ((1.0, -1.0), ("a", 1.0), (float("nan"), 1.0)):
        with pytest.raises(ArgumentError, match="smaller one first"):
            ksym.clip_gradient(x, *bounds)
