"""Functions of the user's on arrays, as operators."""

import copy
import pickle

import numpy as np
import pytest

import ksym

X = ksym.placeholder((None,), name="x")


@ksym.as_op(lambda x: x)
def descending(x):
    return np.sort(x)[::-1]


@ksym.as_op(lambda x: (x, ksym.Spec((None,), "int64")))
def halves(x):
    return x / 2, np.flatnonzero(x > 0)


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_function_on_arrays_stands_in_a_graph_and_has_several_results(mode):
    half, positive = halves(descending(X))
    f = ksym.function(X, [half + 1.0, ksym.sum(positive), positive], mode=mode)
    for given in ([1, -4, 3], [2]):
        x = np.sort(given)[::-1]
        first, total, places = f(given)
        np.testing.assert_array_equal(first, x / 2 + 1.0)
        np.testing.assert_array_equal(places, np.flatnonzero(x > 0))
        assert total == places.sum()


def test_it_runs_in_loops_and_branches():
    rows = ksym.stack([X, 2.0 * X])
    sums = ksym.scan(lambda row, s: (descending(row) + s, s + 1.0), rows, 0.0).outputs
    np.testing.assert_array_equal(sums.eval({X: [1, 2]}), [[2, 1], [5, 3]])
    chosen = ksym.cond(X[0] > 0.0, lambda: descending(X), lambda: X)
    np.testing.assert_array_equal(chosen.eval({X: [1, 2]}), [2, 1])
    np.testing.assert_array_equal(chosen.eval({X: [-1, 2]}), [-1, 2])


def test_the_user_gives_it_a_gradient():
    squares = ksym.as_op(lambda x: x)(np.square)
    known = ksym.custom_gradient(squares, lambda x, y, g: 2.0 * x * g)
    np.testing.assert_array_equal(
        ksym.gradients(ksym.sum(known(X) * X), X).eval({X: [1, 2]}), [3, 12]
    )
    unknown = ksym.sum(squares(X) * X)
    with pytest.raises(ksym.GradientError, match=r"(?s)gradient of square.*custom_gradient"):
        ksym.gradients(unknown, X)
    kept = ksym.sum(ksym.stop_gradient(squares(X)) * X)
    np.testing.assert_array_equal(ksym.gradients(kept, X).eval({X: [1, 2]}), [1, 4])


def test_pickled_by_name_it_is_the_same_function():
    f = ksym.function(X, descending(X))
    for again in (pickle.loads(pickle.dumps(f)), copy.deepcopy(f)):
        np.testing.assert_array_equal(again([1, 3, 2]), [3, 2, 1])
    local = ksym.function(X, ksym.as_op(lambda x: x)(lambda x: x)(X))
    with pytest.raises(ksym.GraphError, match=r"(?s)cannot be pickled.*top level of a module"):
        pickle.dumps(local)


def test_it_leaves_the_process_in_no_file(tmp_path):
    f = ksym.function(X, descending(X))
    for leave in (ksym.save, ksym.export_onnx, ksym.export_mxnet):
        with pytest.raises(ksym.GraphError, match="call_python"):
            leave(f, tmp_path / "f")
    assert not list(tmp_path.iterdir())


def failing(x):
    raise ZeroDivisionError("nothing to divide by")


def changing(x):
    x[0] = 0.0


@pytest.mark.parametrize(
    ("results", "function", "error", "match"),
    [
        (lambda x: x, failing, ksym.ExecutionError, "failing fails: ZeroDivisionError: nothing"),
        (lambda x: x, changing, ksym.ExecutionError, "(?s)read-only.*copy what it changes"),
        (lambda x: x, lambda x: x[:1], ksym.ShapeError, r"has shape \(1,\), .* told \(2,\)"),
        (ksym.Spec((), "int32"), lambda x: 1.5, ksym.DTypeError, "no fractions"),
        (ksym.Spec((), "int32"), lambda x: "two", ksym.DTypeError, "(?s)str.*convert it"),
        (lambda x: (x, x), lambda x: x, ksym.ExecutionError, "returns ndarray, not 2 results"),
        (lambda x: (x, x), lambda x: (x,), ksym.ExecutionError, "returns 1, not 2 results"),
    ],
)
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_call_that_fails_names_the_function_and_changes_nothing(
    results, function, error, match, mode
):
    y = ksym.as_op(results)(function)(X)
    counter = ksym.Variable(0.0)
    f = ksym.function(X, y, updates=[counter.assign_add(1.0)], mode=mode)
    with pytest.raises(error, match=match) as caught:
        f([1, 2])
    assert "test_python_functions.py" in str(caught.value)
    assert counter.get_value() == 0.0


@pytest.mark.parametrize(
    "wrong",
    ["float32", ((3,), "float32"), (), None, ksym.Spec((), "int99"), ksym.Spec("a", "bool")],
)
def test_a_description_that_is_none_is_refused_at_once(wrong):
    with pytest.raises(ksym.KsymError):
        ksym.as_op(wrong)


def test_a_description_that_fails_for_the_operands_says_how_it_is_called():
    with pytest.raises(ksym.ArgumentError, match=r"2 operand\(s\).*TypeError"):
        descending(X, X)
    with pytest.raises(ksym.ArgumentError, match="described by 3"):
        ksym.as_op(lambda x: 3)(np.negative)(X)
    with pytest.raises(ksym.ArgumentError, match=r"(?s)not of <Tensor.*above a function"):
        ksym.as_op(np.negative)(X)
