"""Values that are kept until a variable changes are right, however it changes."""

import gc
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ksym
from ksym import ops
from ksym.runtime import folded

SHAPE = (3, 3, 64, 64)


@pytest.fixture
def w():
    return ksym.Variable(
        np.linspace(-1.0, 1.0, int(np.prod(SHAPE)), dtype="float32").reshape(SHAPE)
    )


def convolved(x, w):
    return ops.convolution(x, ksym.transpose(w, (3, 2, 0, 1)))


def image(batch=1):
    return np.linspace(0.0, 1.0, batch * 64 * 16, dtype="float32").reshape(batch, 64, 4, 4)


def predictor(w, **options):
    x = ksym.placeholder((None, 64, 4, 4))
    return ksym.function([x], convolved(x, w), **options)


def values_of(function):
    """The values that the last program of a function keeps."""
    return function._programs.last[1]._folded


def counted(monkeypatch):
    """Return a list that grows with each time that values are computed."""
    times = []
    bound = folded.FoldedValues.__init__

    def counting(self, what, bind):
        def binding(plan, arrays):
            program = bind(plan, arrays)
            run = program.run

            def counted_run():
                times.append(1)
                run()

            program.run = counted_run
            return program

        bound(self, what, binding)

    monkeypatch.setattr(folded.FoldedValues, "__init__", counting)
    return times


CHANGES = (
    "set",
    "set together",
    "own update",
    "another's update",
    "kernel update",
    "none",
    "fails",
)


@settings(max_examples=15)
@given(changes=st.lists(st.sampled_from(CHANGES), max_size=6), batches=st.integers(1, 2))
def test_values_are_right_after_any_changes(changes, batches):
    start = np.linspace(-1.0, 1.0, int(np.prod(SHAPE)), dtype="float32").reshape(SHAPE)
    w, other = ksym.Variable(start), ksym.Variable(1.0)
    x = ksym.placeholder((None, 64, 4, 4))
    y = convolved(x, w * other)
    predict = ksym.function([x], y)
    expected = ksym.function([x], y, flags={"fold_variables": False})
    own = ksym.function([x], y, updates=[other.assign_add(1.0)])
    by_kernel = ksym.function([], updates=[w.assign(w * 1.5 + 0.25)])
    by_copy = ksym.function([], updates=[w.assign(ksym.flip(w, 0))])
    fail = ksym.function(
        [x], y, updates=[w.assign(w + ksym.check_value(x, ksym.sum(x) < 0.0)[0, 0, 0, 0])]
    )
    for number, change in enumerate(changes):
        if change == "set":
            w.set_value(start + number)
        elif change == "set together":
            ksym.set_values([(other, number), (w, start * number)])
        elif change == "own update":
            own(image())
        elif change == "another's update":
            by_copy()
        elif change == "kernel update":
            by_kernel()
        elif change == "fails":
            with pytest.raises(ksym.errors.KsymError):
                fail(image())
        for batch in range(1, batches + 1):
            np.testing.assert_array_equal(predict(image(batch)), expected(image(batch)))
    predict(image()), expected(image())
    assert values_of(predict) is not None
    assert values_of(expected) is None


def test_values_are_computed_once_for_each_change(w, monkeypatch):
    times = counted(monkeypatch)
    predict = predictor(w)
    for _ in range(3):
        predict(image())
    assert len(times) == 1
    w.set_value(np.ones(SHAPE))
    for _ in range(3):
        predict(image())
    assert len(times) == 2


def test_shapes_and_functions_share_values(w):
    first, second = predictor(w), predictor(w)
    first(image())
    values = values_of(first)
    first(image(2))
    second(image())
    assert values_of(first) is values_of(second) is values
    other = predictor(ksym.Variable(w.get_value()))
    other(image())
    assert values_of(other) is not values


def test_values_are_freed_with_their_functions(w):
    gc.collect()
    before = len(folded._shared)
    predict = predictor(w)
    predict(image())
    assert len(folded._shared) == before + 1
    del predict
    gc.collect()
    assert len(folded._shared) == before


def test_values_of_constants_only_are_computed_once(w, monkeypatch):
    times = counted(monkeypatch)
    x = ksym.placeholder((None, 64, 4, 4))
    y = convolved(x, ksym.constant(w.get_value()))
    f = ksym.function([x], y)
    np.testing.assert_array_equal(f(image()), predictor(w)(image()))
    f(image())
    assert len(times) == 2


def test_large_values_do_not_keep_the_program_that_computes_them(w, monkeypatch):
    predict = predictor(w)
    predict(image())
    assert values_of(predict)._program is not None
    monkeypatch.setattr(folded, "BOUND_BYTES", 0)
    w.set_value(np.ones(SHAPE))
    predict(image())
    assert values_of(predict)._program is None
    np.testing.assert_array_equal(predict(image()), predictor(w, flags="fold_variables=0")(image()))


def test_an_interrupted_computation_is_done_again(w, monkeypatch):
    predict = predictor(w)
    predict(image())
    w.set_value(np.ones(SHAPE))
    values = values_of(predict)
    (array,) = values.arrays

    def interrupted(source):
        raise KeyboardInterrupt

    monkeypatch.setattr(array, "copy_from", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(image())
    monkeypatch.undo()
    np.testing.assert_array_equal(predict(image()), predictor(w, flags="fold_variables=0")(image()))


def test_an_error_in_what_is_kept_names_its_operator():
    w = ksym.Variable(np.zeros((64, 64)), "float64")
    x = ksym.placeholder((None, 64), "float64")
    f = ksym.function([x], ksym.cumsum(x @ ksym.inv(w), 0))
    for _ in range(2):
        with pytest.raises(ksym.errors.KsymError, match="inv"):
            f(np.ones((2, 64)))
    w.set_value(np.eye(64) * 2)
    np.testing.assert_allclose(f(np.ones((1, 64))), np.full((1, 64), 0.5))


def test_checking_and_guarding_know_the_values(w):
    expected = predictor(w, flags="fold_variables=0")(image())
    for flags in ("check=1", "nan=1"):
        predict = predictor(w, flags=flags)
        np.testing.assert_array_equal(predict(image()), expected)
        assert values_of(predict) is not None
    w.set_value(np.full(SHAPE, np.nan))
    with pytest.raises(ksym.errors.NonFiniteError):
        predict(image())


def test_profiles_show_the_values(w):
    predict = predictor(w, profile=True)
    np.testing.assert_array_equal(predict(image()), predictor(w)(image()))
    assert "values of variables only" in str(predict.profile)


def test_the_graph_that_ran_shows_how_they_are_computed(w):
    predict = predictor(w)
    predict(image())
    assert "transpose" in [node.operator.name for node in predict.last_graph()]


def test_frozen_layers_keep_their_values_while_others_are_trained(w):
    top = ksym.Variable(np.ones((64,), "float32"))
    x = ksym.placeholder((None, 64, 4, 4))

    def step(flags):
        loss = ksym.sum(convolved(x, w) * ksym.reshape(top, (1, 64, 1, 1)))
        (slope,) = ksym.gradients(loss, [top])
        return ksym.function([x], loss, updates=[top.assign_sub(slope * 1e-3)], flags=flags)

    found = []
    for flags in ({}, {"fold_variables": False}):
        top.set_value(np.ones(64))
        f = step(flags)
        found.append([float(f(image())) for _ in range(3)])
    assert found[0] == found[1]
    assert values_of(f) is None


def test_threads_see_each_change_whole(w):
    predict = predictor(w)
    bases = [np.full(SHAPE, float(k), "float32") for k in range(4)]
    allowed = []
    for base in bases:
        w.set_value(base)
        allowed.append(predict(image()).tobytes())
    wrong = []

    def calling():
        found = (predict(image()).tobytes() for _ in range(50))
        wrong.extend(result for result in found if result not in allowed)

    threads = [threading.Thread(target=calling) for _ in range(3)]
    for thread in threads:
        thread.start()
    for k in range(100):
        w.set_value(bases[k % 4])
    for thread in threads:
        thread.join()
    assert not wrong
    w.set_value(bases[1])
    assert predict(image()).tobytes() == allowed[1]


def test_a_forked_process_has_values_of_its_own(w):
    predict = predictor(w)
    before = predict(image())
    child = os.fork()
    if not child:
        w.set_value(np.zeros(SHAPE))
        os._exit(0 if not predict(image()).any() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(predict(image()), before)
