"""What Keras's users get wrong, and that the message says what, in which layer, and where."""

import warnings

import numpy as np
import pytest

from ksym.errors import DTypeError, GraphError, InputError, ShapeError

keras = pytest.importorskip("keras")
layers = keras.layers
K = keras.backend
HERE = "test_bad_input.py"


def classifier(loss="sparse_categorical_crossentropy"):
    model = keras.Sequential(
        [layers.Dense(4, input_shape=(6,)), layers.Dense(3, activation="softmax", name="classes")]
    )
    model.compile("sgd", loss)
    return model


def fails(error, call, *words):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    notes = " ".join(getattr(caught.value, "__notes__", ()))
    for word in words:
        assert word in text + notes
    return text


@pytest.mark.parametrize("shape", [(4, 5), (4, 6, 1), (6,)], ids=str)
def test_an_input_of_the_wrong_shape(shape):
    fails(ValueError, lambda: classifier().predict(np.zeros(shape)), "expected", "dense")


@pytest.mark.parametrize("label", [3, 7, -1, np.nan])
def test_labels_outside_of_the_classes(label):
    model = classifier()
    before = model.get_weights()
    y = np.array([0.0, label])
    fails(
        InputError,
        lambda: model.train_on_batch(np.zeros((2, 6)), y),
        "classes_target",
        "3 classes: 0 to 2",
        HERE,
    )
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    model.train_on_batch(np.zeros((2, 6)), np.array([0, 2]))


def test_words_outside_of_an_embedding():
    model = keras.Sequential([layers.Embedding(10, 4, input_length=3, name="words")])
    model.predict(np.array([[0, 5, 9]]))
    fails(InputError, lambda: model.predict(np.array([[1, 2, 10]])), "words", "holds 10", HERE)


def test_only_what_a_function_uses_is_expected_of_its_inputs():
    words = layers.Input((3,))
    small = keras.Model(words, layers.Embedding(5, 2)(words))
    large = keras.Model(words, layers.Embedding(50, 2)(words))
    large.predict(np.array([[1, 2, 49]]))
    fails(InputError, lambda: small.predict(np.array([[1, 2, 49]])), "0 to 4")


def test_shapes_that_do_not_fit_inside_a_layer():
    layer = layers.Lambda(lambda x: x + K.zeros((5,)), name="shifted")
    fails(ShapeError, lambda: layer(layers.Input((6,))), "(5,)", "shifted", HERE)


def test_a_window_larger_than_the_image():
    layer = layers.Conv2D(4, 5, name="wide")
    fails(ShapeError, lambda: layer(layers.Input((3, 3, 1))), "(5, 5)", "wide", HERE)
    image = layers.Input((None, None, 1))
    model = keras.Model(image, layer(image))
    fails(ShapeError, lambda: model.predict(np.zeros((1, 3, 3, 1))), "(5, 5)", "wide", HERE)


@pytest.mark.parametrize(
    "function",
    [K.round, lambda x: K.cast(K.argmax(x, 0), "float32")],
    ids=["round", "argmax"],
)
def test_a_loss_that_cannot_be_differentiated(function):
    x = layers.Input((6,))
    y = layers.Lambda(function, name="cutting")(layers.Dense(3, name="before")(x))
    model = keras.Model(x, y)
    model.compile("sgd", lambda t, p: K.mean(p))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="`None` for gradient"):
            model.train_on_batch(np.zeros((2, 6)), np.zeros((2, 3)))
    said = "\n".join(str(w.message) for w in caught)
    for word in ("before/kernel", "before/bias", "cut at", "cutting", HERE):
        assert word in said


def test_gradients_of_what_a_loss_does_not_use_are_none_without_a_word():
    x, y = K.variable(1.0), K.variable(2.0)
    assert K.gradients(x * 2.0, [y]) == [None]


@pytest.mark.parametrize("value", [np.array([[1] * 6, None], dtype=object), np.array([["a"] * 6])])
def test_arrays_that_are_not_numeric(value):
    x = K.placeholder((None, 6), name="numbers")
    fails(DTypeError, lambda: K.function([x], [x * 2.0])([value]), "numbers")


def test_batches_of_python_objects_name_the_layer_they_are_for():
    model = keras.Sequential([layers.Dense(3, input_shape=(6,), name="classes")])
    model.compile("sgd", "mse")
    missing = np.array([[1, 2, 3, 4, 5, None]] * 2, dtype=object)
    fails(DTypeError, lambda: model.predict(missing), "classes_input", "Python objects")
    words = np.array([["a", "b", "c"]] * 2, dtype=object)
    fails(DTypeError, lambda: model.train_on_batch(np.zeros((2, 6)), words), "classes_target")
    fails(DTypeError, lambda: model.predict(np.array([["a"] * 6])), "classes_input")


def test_a_batch_of_another_size_than_a_stateful_layer_has():
    states = layers.LSTM(2, stateful=True, batch_input_shape=(4, 3, 2), name="kept")
    model = keras.Sequential([states])
    fails(InputError, lambda: model.predict(np.zeros((3, 3, 2))), "kept_input", "(4, 3, 2)", HERE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Add(name="joined")([layers.Input((3,)), layers.Input((4,))]),
        lambda: layers.Concatenate(name="joined")([layers.Input((3, 2)), layers.Input((4, 2))]),
        lambda: layers.Conv2D(3, 3, name="joined")(layers.Input((6,))),
        lambda: layers.Reshape((4, 5), name="joined")(layers.Input((6,))),
        lambda: layers.Lambda(lambda x: K.dot(x, K.zeros((5, 2))), name="joined")(
            layers.Input((6,))
        ),
    ],
    ids=["add", "concatenate", "rank", "reshape", "dot"],
)
def test_layers_that_do_not_fit_together(make):
    fails(ValueError, make, "joined", HERE)


@pytest.mark.parametrize(
    ("loss", "error", "said"),
    [
        (lambda t, p: np.median(np.interp(t - p, [0, 1], [0, 1])), GraphError, "is symbolic"),
        (lambda t, p: None, DTypeError, "NoneType"),
        (lambda t, p: 1.0, ValueError, "`None` for gradient"),
    ],
    ids=["numpy", "none", "number"],
)
def test_losses_that_are_no_tensors(loss, error, said):
    def train():
        model = keras.Sequential([layers.Dense(3, input_shape=(6,))])
        model.compile("sgd", loss)
        model.train_on_batch(np.zeros((2, 6)), np.zeros((2, 3)))

    fails(error, train, said, HERE)


@pytest.mark.parametrize("result", [3.0, None, np.zeros(3)], ids=str)
def test_a_layer_that_returns_no_tensor(result):
    layer = layers.Lambda(lambda x: result, name="constant_number")
    fails(GraphError, lambda: layer(layers.Input((6,))), "constant_number", "no tensor", HERE)


def test_numpys_functions_on_tensors_name_the_layer():
    layer = layers.Lambda(lambda x: np.interp(x, [0, 1], [0, 1]), name="between")
    fails(TypeError, lambda: layer(layers.Input((6,))), "numpy.interp", "between", HERE)


def test_numpys_functions_that_ksym_has_are_layers_and_losses():
    model = keras.Sequential([layers.Lambda(lambda x: np.sin(x), input_shape=(6,))])
    model.add(layers.Dense(3))
    model.compile("sgd", lambda t, p: np.mean((t - p) ** 2, axis=-1))
    x, y = np.linspace(0, 1, 12).reshape(2, 6), np.ones((2, 3))
    expected = np.mean((model.predict(x) - 1) ** 2)
    np.testing.assert_allclose(model.train_on_batch(x, y), expected, rtol=1e-5)


def test_a_comparison_by_identity_is_no_condition_of_a_switch():
    x = layers.Input((6,))
    for condition in (False, np.bool_(True)):
        fails(DTypeError, lambda c=condition: K.switch(c, x, x), "ksym.equal", HERE)


def test_a_function_takes_lists():
    x = layers.Input((6,))
    fails(TypeError, lambda: K.function(x, [x]), "list or tuple")
    fails(TypeError, lambda: K.function([x], x), "list or tuple")


def test_a_tensor_as_a_condition_of_python():
    layer = layers.Lambda(lambda x: x if x > 0 else -x, name="chosen")
    fails(GraphError, lambda: layer(layers.Input((6,))), "truth value", "chosen", HERE)


def test_a_placeholder_that_nothing_is_fed_to():
    extra = K.placeholder((2,), name="extra")
    x = layers.Input((2,))
    model = keras.Model(x, layers.Lambda(lambda t: t + extra)(x))
    fails(GraphError, lambda: model.predict(np.zeros((1, 2))), "extra", "not an input", HERE)
    fails(GraphError, lambda: K.eval(extra * 2.0), "extra", HERE)


def test_tensors_of_another_library():
    class Foreign:
        shape = (2,)

    fails(DTypeError, lambda: K.placeholder((2,)) + Foreign(), "Foreign", "neither", HERE)
    fails(ValueError, lambda: layers.Dense(3)(Foreign()), "symbolic tensor")
    fails(ValueError, lambda: layers.Dense(3)(np.zeros((2, 3))), "symbolic tensor")


def test_models_of_disconnected_or_bare_tensors():
    x, other = layers.Input((2,)), layers.Input((2,))
    fails(ValueError, lambda: keras.Model(x, layers.Dense(2)(other)), "Graph disconnected")
    fails(ValueError, lambda: keras.Model(x, x * 2.0), "Keras `Layer`")


def test_values_of_the_wrong_shape_for_a_variable():
    v = K.variable(np.zeros((2, 3)), name="weights")
    fails(ShapeError, lambda: K.set_value(v, np.zeros((3, 2))), "weights", "(3, 2)", HERE)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("set_session", "there is one session"),
        ("tf", "not Keras on TensorFlow"),
        ("tensorflow_backend", "not Keras on TensorFlow"),
        ("get_graph", "to_networkx"),
        ("einsum", r"ksym\.einsum"),
        ("pattern_broadcast", "stretched"),
        ("image_dim_format", "did you mean image_data_format"),
    ],
)
def test_names_that_are_not_there_say_what_is(name, said):
    assert not hasattr(K, name)
    with pytest.raises(AttributeError, match=said):
        getattr(K, name)


@pytest.mark.parametrize("name", ["graph", "list_devices", "close"])
def test_what_a_session_lacks_says_what_there_is(name):
    assert not hasattr(K.get_session(), name)
    with pytest.raises(AttributeError, match=rf"no '{name}': it has run"):
        getattr(K.get_session(), name)


def test_what_a_session_cannot_compute_or_be_given():
    run = K.get_session().run
    x = K.placeholder((2,), name="x")
    fails(InputError, lambda: run(x * 2.0, {"x": [1, 2]}), "'x'", "no tensor")
    fails(TypeError, lambda: run("x"), "str")
    fails(GraphError, lambda: run(x * 2.0), "placeholder x", HERE)
