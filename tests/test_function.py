import sys
import threading

import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.errors import DTypeError, ExecutionError, GraphError, InputError, ShapeError


def test_outputs_keep_the_form_they_are_asked_in():
    x = ksym.placeholder(())
    assert ksym.function([x], x + 1)(1) == 2
    assert ksym.function([x], [x + 1])(1) == [2]
    assert ksym.function([x], [])(1) == []
    assert ksym.function([x])(1) == []


def test_outputs_and_updates_see_the_values_from_before_the_call():
    a, b = ksym.Variable(1.0), ksym.Variable(2.0)
    swap = ksym.function([], [a, b, a + b], updates=[(a, b), (b, a)])
    assert swap() == [1, 2, 3]
    assert (a.get_value(), b.get_value()) == (2, 1)
    assert swap() == [2, 1, 3]


def test_updates_as_a_mapping_and_as_pairs():
    a, b = ksym.Variable(1.0), ksym.Variable(2.0)
    ksym.function([], updates={a: a + 1})()
    ksym.function([], updates=[(b, 5)])()
    assert (a.get_value(), b.get_value()) == (2, 5)


def test_one_variable_cannot_get_two_values():
    a = ksym.Variable(1.0)
    with pytest.raises(GraphError, match="two values"):
        ksym.function([], updates=[(a, 1.0), (a, 2.0)])
    with pytest.raises(GraphError, match="not an update"):
        ksym.function([], updates=[3])


def test_results_are_not_overwritten_by_the_next_call():
    x = ksym.placeholder((2,))
    f = ksym.function([x], [x, x * 2.0])
    first = f([1, 2])
    f([3, 4])
    assert [r.tolist() for r in first] == [[1, 2], [2, 4]]


def test_an_input_as_an_output_and_as_a_new_value():
    x, w = ksym.placeholder((2,)), ksym.Variable([0.0, 0.0])
    f = ksym.function([x], [x, x], updates=[(w, x)])
    f([1, 2])
    f([3, 4])
    assert w.get_value().tolist() == [3, 4]


def test_everything_else_is_one_native_graph():
    x, y = ksym.placeholder((None, 3)), ksym.placeholder((None, 1))
    w = ksym.Variable(np.zeros((3, 1), "float32"))
    loss = ksym.mean(ksym.square(x @ w - y))
    update = w.assign_sub(0.1 * ksym.gradients(loss, w))
    step = ksym.function([x, y], loss, updates=[update], flags="fuse_loops=0")
    step(np.ones((4, 3)), np.ones((4, 1)))
    (part,) = step.last_plan().parts
    assert len(part.outputs) == 2  # the loss and the new value


def test_training_by_hand_finds_the_solution(rng):
    x, y = ksym.placeholder((None, 3), "float64"), ksym.placeholder((None,), "float64")
    w, b = ksym.Variable(np.zeros(3)), ksym.Variable(np.float64(0))
    loss = ksym.mean(ksym.square(x @ w + b - y))
    gw, gb = ksym.gradients(loss, [w, b])
    step = ksym.function([x, y], loss, updates=[(w, w - 0.1 * gw), (b, b - 0.1 * gb)])
    data = rng.normal(size=(50, 3))
    target = data @ [1.0, -2.0, 3.0] + 0.5
    losses = [float(step(data, target)) for _ in range(300)]
    assert losses[-1] < 1e-8 < losses[0]
    np.testing.assert_allclose(w.get_value(), [1, -2, 3], atol=1e-4)
    np.testing.assert_allclose(b.get_value(), 0.5, atol=1e-4)


def test_one_function_serves_many_shapes_and_keeps_a_bounded_number():
    x = ksym.placeholder((None, None))
    f = ksym.function([x], ksym.sum(x, axis=0), specializations=3)
    for rows in (1, 2, 3, 1, 4, 5, 1):
        assert f(np.ones((rows, 2))).tolist() == [rows, rows]
    info = f.cache_info()
    assert info.kept == info.limit == 3
    assert info.hits == 2
    assert info.misses == 5


def test_specialisations_share_the_variables():
    x, w = ksym.placeholder((None,)), ksym.Variable(0.0)
    f = ksym.function([x], [], updates=[w.assign_add(ksym.sum(x))])
    f([1.0])
    f([1.0, 1.0])
    f([1.0])
    assert w.get_value() == 4


def test_givens_replace_tensors():
    x, y = ksym.placeholder((None,)), ksym.placeholder((None,))
    z = x * 2.0
    assert ksym.function([y], z, givens={x: y + 1.0})([1.0]).tolist() == [4]
    assert ksym.function([], z, givens=[(x, [5.0])])().tolist() == [10]


def test_any_tensor_can_be_an_input():
    x = ksym.placeholder((None,))
    hidden = ksym.exp(x)
    f = ksym.function([hidden], hidden + 1.0)
    assert f([1.0, 2.0]).tolist() == [2, 3]


def test_a_placeholder_with_a_default_need_not_be_given():
    x = ksym.placeholder((), default=3.0)
    assert ksym.function([], x * 2.0)() == 6
    assert ksym.function([x], x * 2.0)(1.0) == 2


def test_unused_inputs_are_ignored():
    x, y = ksym.placeholder(()), ksym.placeholder((None,))
    assert ksym.function([x, y], x + 1.0)(1.0, [1, 2, 3]) == 2


def test_a_function_of_nothing():
    assert ksym.evaluate(ksym.constant([1.0, 2.0])).tolist() == [1, 2]
    assert ksym.evaluate(ksym.sum(ksym.ones((2, 3)))) == 6


def test_scalars_empty_arrays_and_booleans():
    x = ksym.placeholder((None, 2))
    f = ksym.function([x], [ksym.sum(x), ksym.all(x > 0), ksym.relu(x), ksym.mean(x, axis=1)])
    total, positive, same, rows = f(np.zeros((0, 2)))
    assert total == 0
    assert total.shape == ()
    assert positive.dtype == bool
    assert bool(positive) is True
    assert same.shape == (0, 2)
    assert rows.shape == (0,)


@pytest.mark.parametrize("value", [1, 1.0, [1.0], (1.0,), np.float64(1), np.array([1], "int8")])
def test_arguments_of_any_numeric_kind_are_converted(value):
    x = ksym.placeholder(np.shape(value))
    assert ksym.function([x], x)(value).dtype == "float32"


def test_arguments_that_do_not_fit_are_named():
    x = ksym.placeholder((None, 3), name="features")
    n = ksym.placeholder((None,), "int32", name="labels")
    w = ksym.Variable(1.0)
    f = ksym.function([x, n], [x, n], updates=[w.assign_add(1)], name="train")
    good = np.ones((2, 3)), [1, 2]
    with pytest.raises(InputError, match=r"train takes 2 argument\(s\), 1 were given"):
        f(good[0])
    with pytest.raises(InputError, match=r"features.*train has shape \(2, 4\).*\(\?, 3\)"):
        f(np.ones((2, 4)), good[1])
    with pytest.raises(InputError, match="labels"):
        f(good[0], [[1, 2]])
    with pytest.raises(DTypeError, match="features"):
        f(np.array([["a", "b", "c"]]), good[1])
    with pytest.raises(DTypeError, match="fractions"):
        f(good[0], [1.5, 2])
    with pytest.raises(InputError, match="symbolic"):
        f(x, good[1])
    assert w.get_value() == 1
    f(good[0], [1.0, 2.0])  # whole numbers may come as floats
    assert w.get_value() == 2


def test_what_is_missing_is_named():
    x = ksym.placeholder((2,), name="forgotten")
    with pytest.raises(GraphError, match="forgotten") as caught:
        ksym.function([], x * 2.0, name="predict")
    assert caught.value.origin.filename == __file__
    with pytest.raises(GraphError, match="repeated"):
        ksym.function([x, x], x)
    with pytest.raises(GraphError, match="not a tensor"):
        ksym.function([3], x)
    with pytest.raises(GraphError, match="mode"):
        ksym.function([x], x, mode="fast")


def test_shapes_that_clash_only_at_the_call_are_named_and_change_nothing():
    x, y = ksym.placeholder((None,)), ksym.placeholder((None,))
    w = ksym.Variable(1.0)
    here = sys._getframe().f_lineno + 1
    total = x + y
    f = ksym.function([x, y], total, updates=[w.assign_add(1)])
    with pytest.raises(ShapeError) as caught:
        f([1, 2], [1, 2, 3])
    assert caught.value.operator == "add"
    assert caught.value.origin.line == here
    assert w.get_value() == 1
    f([1, 2], [3, 4])
    assert w.get_value() == 2


def test_a_window_larger_than_its_input_is_refused_as_soon_as_sizes_are_known():
    w = ksym.constant(np.ones((1, 1, 3, 3), "float32"))
    with pytest.raises(ShapeError, match="does not fit") as caught:
        ksym.convolution(ksym.placeholder((1, 1, 2, 2)), w)
    assert caught.value.origin.filename == __file__
    x = ksym.placeholder((1, 1, None, 3))
    y = ksym.convolution(x, w)
    with pytest.raises(ShapeError, match="does not fit") as caught:
        ksym.function([x], y)(np.ones((1, 1, 2, 3)))
    assert caught.value.origin.filename == __file__


def test_a_shape_that_depends_on_data_is_computed_and_a_rank_that_does_is_refused():
    n = ksym.placeholder((), "int64")
    assert ksym.function([n], ksym.zeros([n]))(3).tolist() == [0, 0, 0]
    sides = ksym.placeholder((None,), "int64")
    with pytest.raises(GraphError, match="rank"):
        ksym.zeros(sides)


def test_a_failure_inside_mxnet_names_the_operator_and_changes_nothing():
    x = ksym.placeholder((2, 2))
    w = ksym.Variable(1.0)
    here = sys._getframe().f_lineno + 1
    y = ksym.cholesky(x)
    f = ksym.function([x], y, updates=[w.assign_add(1)])
    with pytest.raises(ExecutionError) as caught:
        f(-np.eye(2))
    assert caught.value.operator == "cholesky"
    assert caught.value.origin.line == here
    assert w.get_value() == 1


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_both_modes_give_the_same(mode, rng):
    x = ksym.placeholder((None, 4))
    w = ksym.Variable(np.full((4, 2), 0.5, "float32"))
    loss = ksym.sum(ksym.softmax(x @ w) * x[:, :2])
    f = ksym.function([x], loss, updates=[w.assign_sub(ksym.gradients(loss, w))], mode=mode)
    data = np.arange(12.0).reshape(3, 4)
    first = f(data)
    np.testing.assert_allclose(first, np.sum(0.5 * data[:, :2]), rtol=1e-6)
    assert w.get_value().shape == (4, 2)


def test_random_numbers_are_new_at_every_call_and_repeat_with_the_seed():
    def draw():
        u = ksym.random_uniform((3, 2), stream=5)
        f = ksym.function([], u)
        return f(), f()

    first, second = draw()
    again, _ = draw()
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    assert ((first >= 0) & (first < 1)).all()


def test_one_random_node_is_drawn_once_per_call():
    u = ksym.random_normal((4,))
    a, b = ksym.function([], [u, u * 2.0])()
    np.testing.assert_allclose(2 * a, b)


def test_ksym_seed_decides_unseeded_streams():
    def draw():
        ksym.seed(3)
        return ksym.evaluate(ksym.random_uniform((4,)))

    np.testing.assert_array_equal(draw(), draw())


def test_interpretation_and_compilation_draw_the_same():
    def draw(mode):
        u = ksym.random_truncated_normal((100,), stream=9)
        return ksym.function([], u, mode=mode)()

    np.testing.assert_array_equal(draw("native"), draw("interpret"))
    assert np.abs(draw("native")).max() <= 2


def test_dropout_scales_what_it_keeps():
    x = ksym.placeholder((1000,))
    y = ksym.function([x], ksym.dropout(x, 0.25, stream=1))(np.ones(1000))
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1 / 0.75, rtol=1e-6)
    assert 0.7 < kept.mean() < 0.8


def test_calls_from_many_threads_take_turns():
    x, w = ksym.placeholder((None,)), ksym.Variable(0.0)
    f = ksym.function([x], x * 2.0, updates=[w.assign_add(1)])
    wrong = []

    def work(number):
        wrong.extend(number for _ in range(50) if f([number, number])[0] != 2 * number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert w.get_value() == 200


def test_a_deep_chain_compiles_without_recursion(shallow_stack):
    x = ksym.placeholder((2,))
    y = x
    for i in range(5_000):
        y = ops.tanh(y) if i % 2 else y * 1.001
    f = ksym.function([x], [y, ksym.gradients(y, x)])
    value, slope = f([0.1, 0.2])
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


def test_a_graph_that_cannot_be_bound_drops_no_other(monkeypatch):
    x = ksym.placeholder((None,))
    f = ksym.function([x], ksym.sort(x))
    f([1.0, 2.0])
    error = ksym.errors.ExecutionError("MXNet refuses the graph")
    error.breaks = True

    def refuse(values, known):
        raise error

    monkeypatch.setattr(f, "_prepared", refuse)
    with pytest.raises(ksym.errors.ExecutionError):
        f([1.0, 2.0, 3.0])
    assert f.cache_info().kept == 1


def test_outputs_may_have_names_and_a_single_input_no_list():
    x = ksym.placeholder((2,))
    f = ksym.function(x, {"double": x * 2.0, "sum": ksym.sum(x)})
    found = f([1, 2])
    assert list(found) == ["double", "sum"]
    assert found["double"].tolist() == [2, 4]
    assert found["sum"] == 3
    assert ksym.function(x, {})([1, 2]) == {}


def test_an_update_is_no_output():
    w = ksym.Variable(1.0)
    for outputs in (w.assign_add(1.0), [w, w.assign_add(1.0)], {"w": w.assign_add(1.0)}):
        with pytest.raises(GraphError, match=r"updates=\[update\]"):
            ksym.function([], outputs)


def test_what_leaks_from_a_loop_is_named():
    x = ksym.placeholder((3,))
    leaked = []

    def body(e, s):
        leaked[:] = [e * 2.0, s]
        return s + e, s + e

    ksym.scan(body, x, 0.0)
    for output, what in zip(leaked, ("an element", "a state"), strict=True):
        with pytest.raises(GraphError, match=f"{what} that `scan` gave") as caught:
            ksym.function([x], output, on_unused_input="ignore")
        assert "return from the body" in str(caught.value)
    ksym.while_loop(lambda s: s < 3.0, lambda s: leaked.append(s) or s + 1.0, 0.0)
    with pytest.raises(GraphError, match="`while_loop` gave"):
        ksym.function([], leaked[-1])


def test_inputs_and_givens_that_nothing_depends_on_are_warned_of():
    x, y = ksym.placeholder((2,), name="x"), ksym.placeholder((2,), name="y")
    with pytest.warns(ksym.KsymWarning, match=r"input 1 of function, y") as caught:
        ksym.function([x, y], x * 2.0)
    assert caught[0].filename == __file__
    ksym.function([x, y], x * 2.0, on_unused_input="ignore")
    with pytest.raises(GraphError, match="leave it out"):
        ksym.function([x, y], x * 2.0, on_unused_input="raise")
    with pytest.raises(GraphError, match="on_unused_input"):
        ksym.function([x], x, on_unused_input="what")
    with pytest.warns(ksym.KsymWarning, match="the given for .* has no effect"):
        ksym.function([x], x[-1], givens={x[-1]: 0.0})
    w = ksym.Variable(1.0)
    with pytest.warns(ksym.KsymWarning, match="in stop_gradients has no effect"):
        ksym.gradients(ksym.sum(x[-1] * w), w, stop_gradients=[x[-1]])
