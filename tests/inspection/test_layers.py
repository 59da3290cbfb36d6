import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import ksym
from ksym.inspection.layers import Statistics

keras = pytest.importorskip("keras")
layers = keras.layers

X = np.random.default_rng(0).standard_normal((12, 4)).astype("float32")
Y = np.eye(2)[np.arange(12) % 2]


def classifier():
    model = keras.Sequential(
        [
            layers.Dense(5, activation="relu", input_shape=(4,), name="hidden"),
            layers.BatchNormalization(name="normal"),
            layers.Dropout(0.5, name="noise"),
            layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.5), "categorical_crossentropy")
    return model


@given(
    arrays.arrays(
        "float32",
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    )
)
def test_the_histogram_holds_each_finite_element_once(array):
    found = Statistics.of(array, 7)
    assert found.counts.sum() + found.bad == found.size == array.size
    assert len(found.edges) == 8
    assert found.low <= found.high
    assert len(found.bars()) == 7


def test_activations_gradients_and_updates_are_those_of_the_step():
    model = classifier()
    found = ksym.inspect(model, (X, Y))
    assert [layer.name for layer in found.layers] == ["hidden", "normal", "noise", "head"]
    before = model.get_layer("head").get_weights()
    head = found["head"]
    kernel = head.weights[0]
    assert kernel.value.rms == pytest.approx(np.sqrt(np.mean(before[0] ** 2)), rel=1e-6)
    # Plain gradient descent: the update is the gradient times the learning rate.
    assert kernel.update.rms == pytest.approx(0.5 * kernel.gradient.rms, rel=1e-4)
    assert kernel.step == pytest.approx(kernel.update.rms / kernel.value.rms)
    # The same dropout as in the step itself, whose loss and weights then are those that were seen.
    assert model.train_on_batch(X, Y) == pytest.approx(found.loss, rel=1e-6)
    change = model.get_layer("head").get_weights()[0] - before[0]
    assert kernel.update.rms == pytest.approx(np.sqrt(np.mean(change**2)), rel=1e-3)


def test_nothing_changes():
    model = classifier()
    model.train_on_batch(X, Y)
    weights, state = model.get_weights(), model.optimizer.get_weights()
    ksym.inspect(model, (X, Y, np.ones(12)))
    ksym.inspect(model, X)
    for a, b in zip(
        [*weights, *state], [*model.get_weights(), *model.optimizer.get_weights()], strict=True
    ):
        assert np.array_equal(a, b)


def test_without_targets_there_are_activations_as_in_prediction():
    model = classifier()
    found = ksym.inspect(model, X)
    assert found.loss is None
    assert found["head"].gradient is None
    assert found["head"].weights[0].update is None
    assert found["head"].activations.mean == pytest.approx(model.predict(X).mean(), rel=1e-5)
    assert "head (Dense)" in str(found)


def test_dead_units_and_values_that_are_not_finite_are_counted():
    model = classifier()
    hidden = model.get_layer("hidden")
    kernel, bias = hidden.get_weights()
    bias[:3] = -1e6
    hidden.set_weights([kernel, bias])
    found = ksym.inspect(model, (X, Y))
    assert found["hidden"].activations.dead >= 3 / 5
    assert "of units dead" in str(found)
    hidden.set_weights([kernel * np.nan, bias])
    found = ksym.inspect(model, X)
    assert found["hidden"].weights[0].value.bad == kernel.size
    assert "not finite" in str(found)


def test_shared_layers_branches_and_nested_models_are_seen():
    a, b = keras.Input((4,)), keras.Input((4,))
    shared = layers.Dense(3, name="shared")
    inner = keras.Sequential([layers.Dense(2, input_shape=(6,))], name="inner")
    merged = layers.concatenate([shared(a), shared(b)], name="both")
    frozen = layers.Dense(2, trainable=False, name="frozen")
    model = keras.Model([a, b], [inner(merged), frozen(merged)])
    model.compile("adam", "mse")
    found = ksym.inspect(model, ([X, X], [Y, Y]))
    assert found["shared"].activations.size == 2 * 12 * 3
    assert found["inner"].gradient is not None
    assert found["frozen"].weights[0].update is None
    assert found["frozen"].activations is not None
    shared(keras.Input((4,)))  # a use outside of the model is none of its own
    assert ksym.inspect(model, [X, X])["shared"].activations.size == 2 * 12 * 3
    with pytest.raises(KeyError, match="shared"):
        found["other"]


def test_models_by_inheritance_are_seen():
    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(2, name="head")

        def call(self, x):
            return self.head(x)

    model = Model()
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    found = ksym.inspect(model, (X, Y))
    assert found["head"].activations.size == 12 * 2
    assert found["head"].weights[0].update is not None


def test_mistakes_say_what_to_do():
    with pytest.raises(ksym.GraphError, match="no Keras model"):
        ksym.inspect(ksym.placeholder(()), X)
    with pytest.raises(ksym.GraphError, match="not built"):
        ksym.inspect(keras.Sequential([layers.Dense(2)]), X)
    model = keras.Sequential([layers.Dense(2, input_shape=(4,))])
    with pytest.raises(ksym.GraphError, match=r"compile\("):
        ksym.inspect(model, (X, Y))
    assert ksym.inspect(model, X).loss is None
    with pytest.raises(ksym.InputError, match="4 parts"):
        ksym.inspect(classifier(), (X, Y, None, None))
