"""What users and clients of Keras rely on, as TensorFlow's backend has it."""

import json
import pickle

import numpy as np
import pytest

import ksym

keras = pytest.importorskip("keras")
K = keras.backend
layers = keras.layers


# --- values of rank 0 ----------------------------------------------------------------------------


def scalars():
    v = K.variable(1.5)
    x = K.placeholder(())
    return {
        "a variable": (K.eval(v), np.float32(1.5)),
        "a tensor": (K.eval(v * 2), np.float32(3)),
        "a condition": (K.eval(v > 1), np.bool_(True)),
        "a position": (K.eval(K.argmax(K.constant([1, 2]))), np.int64(1)),
        "an update": (K.eval(K.update_add(v, 1)), np.float32(2.5)),
        "get_value": (K.get_value(v), np.float32(2.5)),
        "get_value of a tensor": (K.get_value(v + 1), np.float32(3.5)),
        "batch_get_value": (K.batch_get_value([v])[0], np.float32(2.5)),
        "batch_get_value of tensors": (K.batch_get_value([v + 1])[0], np.float32(3.5)),
        "a function": (K.function([x], [x + 1])([2])[0], np.float32(3)),
        "a function's update": (K.function([x], [K.update(v, x)])([2])[0], np.float32(2)),
        "float64": (K.eval(K.constant(2, "float64")), np.float64(2)),
        "float16": (K.eval(K.constant(2, "float16")), np.float16(2)),
        "a session": (K.get_session().run(x, {x: 1}), np.float32(1)),
        "a session's dict": (K.get_session().run({"x": x}, {x: 1})["x"], np.float32(1)),
        "no tensor": (K.eval(2.0), np.float64(2)),
    }


@pytest.mark.parametrize("name", scalars())
def test_values_of_rank_0_are_scalars_of_numpy(name):
    got, expected = scalars()[name]
    assert type(got) is type(expected)
    assert got == expected


def test_a_history_can_be_rounded():
    model = keras.Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["acc"])
    x, y = np.ones((10, 3)), np.zeros(10)
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert set(history) == {"loss", "acc", "val_loss", "val_acc"}
    values = [v[0] for v in history.values()]
    values += [*model.train_on_batch(x, y), *model.test_on_batch(x, y), *model.evaluate(x, y)]
    for value in values:
        assert isinstance(value, float | np.floating)
        assert abs(round(value, 3) - value) <= 0.0005001


def test_values_with_axes_stay_arrays():
    (value,) = K.function([], [K.ones((1,))])([])
    assert type(value) is np.ndarray
    assert isinstance(ksym.evaluate(ksym.constant(1.0)), np.ndarray)  # ksym itself has no scalars


# --- declared shapes -----------------------------------------------------------------------------


def test_a_declared_shape_of_another_rank_is_what_readers_of_the_layer_see():
    """The loss of keras-rl's DQN agents, computed in a layer, for targets (samples, 1)."""
    states, wanted, mask = layers.Input((4,)), layers.Input((3,)), layers.Input((3,))
    values = layers.Dense(3)(states)
    loss = layers.Lambda(lambda x: K.sum(K.square(x[0] - x[1]) * x[2], axis=-1), output_shape=(1,))(
        [values, wanted, mask]
    )
    assert K.int_shape(loss) == loss._keras_shape == (None, 1)
    assert K.ndim(loss) == len(loss.shape) == 1
    model = keras.Model([states, wanted, mask], [loss, values])
    assert model.output_shape == [(None, 1), (None, 3)]
    nothing = lambda target, predicted: K.zeros_like(predicted)  # noqa: E731
    model.compile("sgd", [lambda target, predicted: predicted, nothing])
    x = [np.ones((5, 4)), np.zeros((5, 3)), np.ones((5, 3))]
    expected = (model.predict(x)[1] ** 2).sum(-1)
    got = model.train_on_batch(x, [np.zeros(5), np.zeros((5, 3))])
    np.testing.assert_allclose(got, [expected.mean(), expected.mean(), 0], rtol=1e-5)
    assert model([states, wanted, mask])[0]._keras_shape == (None, 1)


def test_compute_output_shape_declares_and_keras_s_default_does_not():
    class Sum(layers.Layer):
        def call(self, x):
            return K.sum(x, -1)

    class Column(Sum):
        def compute_output_shape(self, shape):
            return (shape[0], 1)

    class Listed(Sum):
        def compute_output_shape(self, shape):
            return [shape[0], 1.0]

    x = layers.Input((3,))
    assert K.int_shape(Sum()(x)) == (None,)
    assert K.int_shape(Column()(x)) == (None, 1)
    assert K.int_shape(Listed()(x)) == (None,)  # for Keras these are two shapes
    # Of the same rank it fills in what is not inferred, and nothing else.
    assert K.int_shape(Column()(layers.Input((7, 3)))) == (None, 7)


def test_a_lambda_s_shape_is_inferred_wherever_keras_asks_for_it(recwarn):
    total = layers.Lambda(lambda x: K.sum(x, -1))
    assert K.int_shape(total(layers.Input((5, 3)))) == (None, 5)
    assert total.compute_output_shape((None, 5, 3)) == (None, 5)
    x = layers.Input((5, 3, 2))
    assert K.int_shape(layers.TimeDistributed(layers.Lambda(lambda x: K.sum(x, -1)))(x)) == (
        None,
        5,
        3,
    )
    assert not [w for w in recwarn if "Theano" in str(w.message)]


def test_inferring_uses_up_no_random_numbers():
    def after(function):
        np.random.seed(3)
        layers.Lambda(function)(layers.Input((3,)))
        return np.random.randint(10**6)

    once = after(lambda x: x * 2 + np.random.randint(5))
    np.random.seed(3)
    np.random.randint(5)
    assert once == np.random.randint(10**6)


def test_functions_of_the_backend_compute_with_what_is_inferred():
    x = K.placeholder((None, 4))
    x._keras_shape = (None, 2, 2)
    assert K.int_shape(x) == (None, 2, 2)
    np.testing.assert_array_equal(K.eval(K.batch_flatten(K.ones((2, 4)))), np.ones((2, 4)))
    (value,) = K.function([x], [K.batch_dot(x, x, axes=1)])([np.ones((3, 4))])
    np.testing.assert_array_equal(value, np.full((3, 1), 4))
    assert K.batch_flatten(x).shape == (None, 4)


# --- casts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")], ids=str)
def test_a_cast_to_the_same_dtype_returns_the_tensor(dtype):
    x = layers.Input((3,))
    assert K.cast(x, dtype) is x
    assert hasattr(K.cast(x, x.dtype), "_keras_history")
    assert K.cast(x, "float64") is not x
    with pytest.raises(ksym.KsymError):
        K.cast(x, "int16")


# --- functions without some values ---------------------------------------------------------------


@pytest.mark.parametrize("values", [[2.0], [2.0, None], [2.0, None, None], (2.0,)], ids=str)
def test_inputs_that_no_result_needs_may_be_left_out(values):
    x, y, z = (K.placeholder(()) for _ in range(3))
    total = K.variable(1.0)
    function = K.function([x, y, z], [x * 2], [K.update_add(total, x)])
    assert function(values) == [4]
    assert function(values) == [4]
    assert K.get_value(total) == 5
    assert function([1, 1, 1]) == [2]


def test_the_learning_phase_and_computed_inputs_may_be_left_out():
    x = K.placeholder(())
    y = x + 1
    function = K.function([x, y, K.learning_phase()], [K.in_train_phase(y * 10, y)])
    assert function([2.0]) == [3]
    assert function([2.0, None, 1]) == [30]
    assert function([None, 7.0]) == [7]


@pytest.mark.parametrize("values", [[2.0], [None, 3.0], [2.0, None], []], ids=str)
def test_inputs_that_are_needed_are_named(values):
    x, y = K.placeholder((), name="first"), K.placeholder((), name="second")
    function = K.function([x, y], [x * y])
    missing = "first" if not values or values[0] is None else "second"
    with pytest.raises(ksym.InputError, match=rf"without a value for its input {missing}"):
        function(values)


def test_too_many_values_are_refused():
    with pytest.raises(ksym.InputError, match="takes 1 argument"):
        K.function([K.placeholder(())], [K.ones(())])([1, None])


# --- whole floats --------------------------------------------------------------------------------

SHAPES = {
    "reshape": lambda: (K.reshape(K.zeros((2, 3)), (6 / 2, 2)), (3, 2)),
    "reshape, NumPy": lambda: (K.reshape(K.zeros((4,)), np.array([4]) / 2 * [1, 1]), (2, 2)),
    "reshape, unknown": lambda: (K.reshape(K.placeholder((None, 4)), (-1, 2.0, 2.0)), (None, 2, 2)),
    "zeros": lambda: (K.zeros((2.0, 3)), (2, 3)),
    "ones": lambda: (K.ones(np.float64(2)), (2,)),
    "placeholder": lambda: (K.placeholder((None, 2.0)), (None, 2)),
    "constant": lambda: (K.constant(1, shape=(2.0, 2)), (2, 2)),
    "eye": lambda: (K.eye(3.0), (3, 3)),
    "tile": lambda: (K.tile(K.zeros((2, 2)), [2.0, 1.0]), (4, 2)),
    "tile, one": lambda: (K.tile(K.zeros((2,)), 2.0), (4,)),
    "repeat": lambda: (K.repeat(K.zeros((2, 3)), 4.0), (2, 4, 3)),
    "repeat_elements": lambda: (K.repeat_elements(K.zeros((2, 3)), 2.0, 1), (2, 6)),
    "random_normal": lambda: (K.random_normal((2.0, 3)), (2, 3)),
    "random_uniform": lambda: (K.random_uniform([2.0, 3]), (2, 3)),
    "random_binomial": lambda: (K.random_binomial((2.0, 3)), (2, 3)),
    "truncated_normal": lambda: (K.truncated_normal((2.0, 3)), (2, 3)),
    "random_normal_variable": lambda: (K.random_normal_variable((2.0, 3), 0, 1), (2, 3)),
    "random_uniform_variable": lambda: (K.random_uniform_variable((2.0, 3), 0, 1), (2, 3)),
    "one_hot": lambda: (K.one_hot(K.constant([1], "int32"), 3.0), (1, 3)),
    "slice": lambda: (K.slice(K.zeros((3, 4)), (0.0, 1), (2.0, -1.0)), (2, 3)),
    "dropout": lambda: (K.dropout(K.ones((2, 3)), 0.5, (2.0, 1)), (2, 3)),
    "padding": lambda: (K.temporal_padding(K.zeros((1, 2, 1)), (1.0, 2.0)), (1, 5, 1)),
    "resize": lambda: (
        K.resize_images(K.zeros((1, 2, 2, 1)), 2.0, 4 / 2, "channels_last"),
        (1, 4, 4, 1),
    ),
    "resize, bilinear": lambda: (
        K.resize_images(K.zeros((1, 2, 2, 1)), 2.0, 1.0, "channels_last", "bilinear"),
        (1, 4, 2, 1),
    ),
    "dense": lambda: (layers.Dense(8 / 2)(layers.Input((6 / 2,))), (None, 4)),
    "reshape, layer": lambda: (layers.Reshape((2.0, 2))(layers.Input((4,))), (None, 2, 2)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_whole_floats_are_sizes(name):
    tensor, expected = SHAPES[name]()
    assert tensor.shape == K.int_shape(tensor) == expected
    assert all(type(side) is int for side in K.int_shape(tensor) if side is not None)


@pytest.mark.parametrize(
    "make", [K.zeros, K.placeholder, K.random_normal, lambda s: K.reshape(K.zeros((5,)), s)]
)
def test_other_floats_are_not(make):
    with pytest.raises(ksym.KsymError, match=r"2\.5"):
        make((2.5, 2))


# --- lists that hold tensors ---------------------------------------------------------------------


def test_numbers_in_lists_take_the_tensors_dtype():
    n = K.shape(K.zeros((3,)))[0]
    a = K.constant(2.0)
    assert K.dtype(K.concatenate([[1], [n]], 0)) == K.dtype(n)
    np.testing.assert_array_equal(K.eval(K.concatenate([[1], [n]], 0)), [1, 3])
    assert K.dtype(K.max([a, 3], -1)) == "float32"
    assert K.eval(K.max([a, 3], -1)) == 3
    np.testing.assert_array_equal(K.eval(K.ones((2,)) + [a, 1]), [3, 2])  # noqa: RUF005
    np.testing.assert_array_equal(K.eval([a, 1] * K.ones((2,))), [2, 1])
    np.testing.assert_array_equal(K.eval(K.ones((2, 2)) * [[a, 1], [0, a]]), [[2, 1], [0, 2]])
    np.testing.assert_array_equal(K.eval(K.cast([a, 1], "int32")), [2, 1])
    np.testing.assert_array_equal(K.get_value(K.variable([a, 5.0])), [2, 5])
    np.testing.assert_array_equal(ksym.evaluate(ksym.sum([[a, 1], [1, a]], 1)), [3, 3])
    np.testing.assert_array_equal(ksym.evaluate(ksym.where([a > 1, a > 2], 1, [a, a])), [1, 2])


# --- attributes of TensorFlow's tensors ----------------------------------------------------------


def test_shapes_and_dtypes_have_the_names_of_tensorflow_s():
    x = K.placeholder((None, 4), name="given")
    for tensor in (x, x * 2, K.reshape(x, (-1, 4)), x + np.ones(4)):
        assert tensor.shape.as_list() == tensor.get_shape().as_list() == [None, 4]
        assert tensor.shape == (None, 4)
        assert tensor.shape.ndims == tensor.get_shape().ndims == 2
        assert tensor.get_shape()[1].value == tensor.get_shape()[-1] == 4
        assert not tensor.shape.is_fully_defined()
        assert tensor.dtype == tensor.dtype.name == tensor.dtype.base_dtype.name == "float32"
        assert tensor.dtype.as_numpy_dtype is np.float32
        assert tensor.dtype.is_floating
        assert not tensor.dtype.is_integer
        assert not tensor.dtype.is_bool
        assert type(K.dtype(tensor)) is type(tensor.dtype.name) is str
        assert tensor.op.name == tensor.name
    assert K.zeros((2, 3)).shape.num_elements() == 6
    assert x.op.name == "given"
    assert (x * 2).op.type == "multiply"
    assert (x * 2).op.inputs[0] is x
    y = x[:, : K.shape(x)[1]]
    y.set_shape((None, 4))
    assert K.int_shape(y) == (None, 4)


def test_tensors_and_variables_evaluate_themselves():
    x, v = K.placeholder((2,)), K.variable(3.0)
    assert v.eval() == (v + 1).eval() - 1 == 3
    assert v.eval(session=K.get_session()) == 3
    np.testing.assert_array_equal((x * v).eval(feed_dict={x: [1, 2]}), [3, 6])
    np.testing.assert_array_equal((x * v).eval({x: [1, 2]}, K.get_session()), [3, 6])


def test_shapes_and_dtypes_are_still_tuples_and_text():
    x = K.placeholder((2, 3))
    assert json.dumps([x.shape, x.dtype]) == '[[2, 3], "float32"]'
    shape, dtype = pickle.loads(pickle.dumps((x.shape, x.dtype)))
    assert (type(shape), type(dtype)) == (tuple, str)
    assert np.zeros(x.shape, x.dtype).shape == x.shape
    assert (1, *x.shape) == (1,) + x.shape == (1, 2, 3)  # noqa: RUF005
    assert str(x.spec) == "float32 (2, 3)"
    assert hash(x.shape) == hash((2, 3))
    assert {x.dtype: 1}["float32"] == 1
