"""The guard: what is not finite is refused, and the first node that made it is named."""

import re

import numpy as np
import pytest
from drawing import grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import NonFiniteError
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.calls import Tape, finite_call


def guarded(inputs, outputs, updates=None, **options):
    return ksym.function(inputs, outputs, updates, flags="nan=1", **options)


def refused(function, *arguments):
    with pytest.raises(NonFiniteError) as caught:
        function(*arguments)
    return caught.value


@pytest.fixture
def x():
    return ksym.placeholder((None, 3), name="x")


@given(st.data())
def test_finite_results_are_those_without_the_guard(data):
    x, w = ksym.placeholder((3, 3)), ksym.Variable(np.full((3, 3), 0.5, "float32"))
    outputs = grow(data, x, w)
    value = np.random.default_rng(0).standard_normal((3, 3)).astype("float32")
    expected = ksym.function([x], outputs, on_unused_input="ignore")(value)
    function = guarded([x], outputs, on_unused_input="ignore")
    if all(np.isfinite(e).all() for e in expected):
        for found, e in zip(function(value), expected, strict=True):
            assert found.tobytes() == e.tobytes()
    else:
        refused(function, value)


@pytest.mark.host_access
@given(st.data(), st.sampled_from(["float16", "float32", "float64"]))
def test_one_element_is_found_wherever_it_is(data, dtype):
    size = data.draw(st.integers(1, 70))
    value = np.full(size, np.finfo(dtype).max, dtype)
    value[::2] = np.finfo(dtype).smallest_subnormal
    array, found = DeviceArray.of(value), np.zeros((), "int64")
    tape = Tape([finite_call(array, found)])
    tape.run()
    assert found == 0
    value[data.draw(st.integers(0, size - 1))] = data.draw(
        st.sampled_from([np.nan, -np.nan, np.inf, -np.inf])
    )
    array.write(value)
    tape.run()
    assert found == 1


@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_the_node_its_operands_and_the_place_are_named(x, mode):
    with ksym.name_scope("head"):
        y = ksym.log(ksym.abs(x))
    error = refused(guarded([x], ksym.mean(y), mode=mode), [[1, 2, 0], [4, 5, 0.5]])
    assert error.operator == "log"
    assert error.operands == ("float32 (2, 3) from 0 to 5",)
    assert error.origin.line == y.node.origin.line
    assert error.origin.scope == "head"
    assert "-inf at (0, 2), 1 of 6 elements" in str(error)
    assert "it reaches output 0" in str(error)
    assert isinstance(error, FloatingPointError)


def test_what_the_remedy_says_is_right(x):
    safe = ksym.log(ksym.maximum(x, 1e-7))
    assert np.isfinite(guarded([x], safe)(np.zeros((2, 3)))).all()
    v = ksym.Variable(np.zeros(3, "float32"))
    norm = ksym.sqrt(ksym.sum(ksym.square(v)))
    error = refused(guarded([], norm, [(v, v - ksym.gradients(norm, v))]))
    assert error.origin.gradient
    assert "1e-12" in error.remedy
    norm = ksym.sqrt(ksym.maximum(ksym.sum(ksym.square(v)), 1e-12))
    guarded([], norm, [(v, v - ksym.gradients(norm, v))])()


def test_a_gradient_through_what_where_does_not_choose_is_found(x):
    y = ksym.where(x > 0.0, ksym.sqrt(x), 0.0)
    f = guarded([x], [y, ksym.gradients(ksym.sum(y), x)])
    f(np.ones((1, 3)))
    error = refused(f, np.zeros((1, 3)))
    assert error.origin.gradient
    assert "output 1" in str(error)


def test_infinities_that_reach_no_result_are_nobodys_fault(x):
    y = ksym.where(x > 0.0, ksym.log(x), 0.0) + ksym.exp(-(1.0 / x))
    assert np.isfinite(guarded([x], y)(np.array([[0.0, 1.0, 2.0]]))).all()


def test_infinities_that_are_given_are_meant_and_nans_made_of_them_are_not(x):
    masked = ksym.where(x > 0.0, x, -np.inf)
    f = guarded([x], [ksym.softmax(masked, -1), masked])
    assert f([[1, 0, 2]])[1].tolist() == [[1.0, -np.inf, 2.0]]
    error = refused(f, [[-1, -1, -1]])
    assert error.operator == "softmax"
    assert "infinities" in error.remedy
    best = ksym.Variable(np.float32(np.inf))
    f = guarded([x], best, [best.assign(ksym.minimum(best, ksym.sum(x)))])
    assert f([[1, 2, 3]]) == np.inf
    assert best.get_value() == 6.0


def test_a_nan_that_is_given_is_named_and_one_that_is_replaced_is_not(x):
    w = ksym.Variable(np.ones((3, 2), "float32"), name="kernel")
    f = guarded([x], x @ w)
    assert "the input x holds nan at (1, 2)" in str(refused(f, [[1, 2, 3], [4, 5, np.nan]]))
    w.set_value(np.full((3, 2), np.nan))
    assert f"the variable {w.name} holds nan" in str(refused(f, np.ones((1, 3))))
    known = ksym.where(ksym.isnan(x), 0.0, x)
    assert guarded([x], known)([[1, np.nan, 3]]).tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize("flags", ["nan=1", "nan=1,fuse_loops=0", "nan=1,check=1"])
def test_no_variable_changes_and_the_next_call_is_as_ever(x, flags):
    w, count = ksym.Variable(np.ones(3, "float32")), ksym.Variable(0)
    f = ksym.function([x], [], [(w, ksym.exp(w * ksym.sum(x))), count.assign_add(1)], flags=flags)
    f(np.full((1, 3), 0.1))
    before = w.get_value()
    error = refused(f, np.full((1, 3), 100.0))
    assert error.operator == "exp"
    assert f"the update of {w.name}" in str(error)
    assert w.get_value().tobytes() == before.tobytes()
    assert count.get_value() == 1
    f(np.full((1, 3), 0.1))
    assert count.get_value() == 2


def test_a_step_of_a_scan_is_named(x):
    def step(element, state):
        state = ksym.exp(state) + element
        return state, state

    found = ksym.scan(step, x, np.zeros(3, "float32")).outputs
    for outputs in (found, ksym.gradients(ksym.sum(found), x)):
        error = refused(guarded([x], outputs), np.ones((6, 3)))
        assert error.operator == "exp"
        assert error.origin.function == "step"
        assert "in step 3 of 6 of the loop made at" in str(error)


def test_a_loop_from_the_last_to_the_first_counts_its_elements(x):
    found = ksym.scan(lambda e, s: (ksym.log(e), s), x, 0.0, reverse=True).outputs
    error = refused(guarded([x], found), [[1, 1, 1], [0, 0, 0], [2, 2, 2], [3, 3, 3]])
    assert "in step 1 of 4" in str(error)


def test_a_step_of_a_while_loop_inside_of_a_branch_is_named():
    n = ksym.placeholder((), "int64", name="n")

    def grown():
        return ksym.while_loop(
            lambda i, a: i < n, lambda i, a: (i + 1, a * 1e3), (0, ksym.constant(1.0))
        )[1]

    f = guarded([n], ksym.cond(n > 3, grown, lambda: ksym.constant(0.0)))
    assert f(3) == 0.0
    assert f(12) > 1e35
    error = refused(f, 20)
    assert error.operator == "multiply"
    inner, outer, *_ = error.details
    assert "in step 12 of the loop" in inner
    assert "in the branch 'then'" in outer


def test_numbers_are_drawn_again_outside_and_inside_of_loops(x):
    stream = ksym.RandomStream(3)
    noise = ksym.random_uniform((4,), stream=stream)
    first = ksym.function([], noise)()
    stream = ksym.RandomStream(3)
    noise = ksym.random_uniform((4,), stream=stream)
    # Not finite at the second number only: other numbers would give another place.
    error = refused(guarded([], 1.0 / (noise - first[1])))
    assert "at (1,), 1 of 4 elements" in str(error)

    drawn = ksym.RandomStream(7)
    numbers = [drawn.draw("uniform", (), "float32") for _ in range(20)]
    stream = ksym.RandomStream(7)

    def step(i, state):
        return i + 1, state + ksym.log(ksym.random_uniform((), stream=stream) - numbers[5])

    loop = ksym.while_loop(lambda i, state: i < 20, step, (0, ksym.constant(0.0)))
    error = refused(guarded([], loop[1]))
    # A logarithm of a number that is smaller is NaN, and of the sixth number infinite.
    expected = next(i for i, number in enumerate(numbers) if number <= numbers[5])
    assert f"in step {expected} of the loop" in str(error)


def test_results_whose_size_depends_on_data_are_guarded(x):
    f = guarded([x], ksym.log(ksym.boolean_mask(x, x > -1.0)) * 2.0)
    assert f([[1, 2, -3]]).shape == (2,)
    error = refused(f, [[1, 0, -3]])
    assert error.operator == "log"
    assert error.operands == ("float32 (2,) from 0 to 1",)


def test_other_dtypes_and_empty_results_are_no_floats(x):
    w = ksym.Variable(2)
    f = guarded([x], [ksym.shape_of(x), x > 0.0, x[:0]], [w.assign_add(1)])
    assert f(np.ones((2, 3)))[0].tolist() == [2, 3]
    half = ksym.cast(x, "float16") * 1e4
    assert refused(guarded([x], half), [[1, 2, 8]]).operator == "multiply"
    assert guarded([x], ksym.cast(x, "float64") * 1e40)(np.ones((1, 3)))[0, 0] == 1e40


def test_layers_of_keras_are_named(monkeypatch):
    keras = pytest.importorskip("keras")
    monkeypatch.setenv("KSYM_FLAGS", "nan=1")
    model = keras.Sequential(
        [
            keras.layers.Dense(4, input_shape=(3,), name="first"),
            keras.layers.Lambda(lambda x: keras.backend.log(x), name="logarithm"),
        ]
    )
    model.compile(keras.optimizers.Adam(), "mse")
    weights = model.get_weights()
    error = refused(model.train_on_batch, -np.ones((5, 3)), np.ones((5, 4)))
    assert error.operator == "log"
    assert error.origin.scope.startswith("logarithm")
    assert re.search(r"test_guard.py:\d+ in ", str(error))
    for a, b in zip(weights, model.get_weights(), strict=True):
        assert np.array_equal(a, b)


def test_the_flag_is_read_as_others_are(monkeypatch, x):
    monkeypatch.setenv("KSYM_FLAGS", "nan=1")
    refused(ksym.function([x], ksym.log(x)), np.zeros((1, 3)))
    f = ksym.function([x], ksym.log(x), flags={"nan": False})
    assert np.isinf(f(np.zeros((1, 3)))).all()
