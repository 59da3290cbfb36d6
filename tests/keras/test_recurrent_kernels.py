"""Which of Keras's recurrent layers run on kernels, and that these give what loops give."""

import contextlib

import numpy as np
import pytest

from ksym.graph import topological_order
from ksym.loops.recognition import kept_as_loops

keras = pytest.importorskip("keras")
layers = keras.layers
K = keras.backend

UNITS = {"lstm": layers.LSTM, "gru": layers.GRU, "simple_rnn": layers.SimpleRNN}


def operators(model):
    found = [node.operator.name for node in topological_order(model.outputs)]
    return [name for name in found if name in {*UNITS, "scan"}]


def layer(kind, **options):
    if kind == "gru":
        options.setdefault("reset_after", True)
    return UNITS[kind](4, **options)


def plain(kind, **options):
    """A model of one layer over (samples, time, 3)."""
    inputs = layers.Input((None, 3))
    outputs = layer(kind, **options)(inputs)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return keras.Model(inputs, outputs)


def masked(kind):
    inputs = layers.Input((None, 3))
    return keras.Model(inputs, layer(kind)(layers.Masking()(inputs)))


def with_initial_states(kind):
    inputs = layers.Input((None, 3))
    start = layers.Dense(4)(layers.GlobalAveragePooling1D()(inputs))
    count = 2 if kind == "lstm" else 1
    return keras.Model(inputs, layer(kind)(inputs, initial_state=[start] * count))


def stacked(kind):
    inputs = layers.Input((None, 3))
    inside = layer(kind, return_sequences=True)(inputs)
    return keras.Model(inputs, layer(kind, go_backwards=True)(inside))


def bidirectional(kind):
    inputs = layers.Input((None, 3))
    return keras.Model(inputs, layers.Bidirectional(layer(kind))(inputs))


def shared(kind):
    inputs = layers.Input((None, 3))
    twice = layer(kind)
    return keras.Model(inputs, layers.add([twice(inputs), twice(layers.Dense(3)(inputs))]))


def time_distributed(kind):
    inputs = layers.Input((2, 3))
    again = layers.Lambda(lambda x: K.stack([x, 2 * x], 1))(inputs)
    return keras.Model(inputs, layers.TimeDistributed(layer(kind))(again))


def of_a_known_length(kind):
    return keras.Sequential([layer(kind, input_shape=(2, 3))])


def of_cells(kind):
    cell = {"lstm": layers.LSTMCell, "simple_rnn": layers.SimpleRNNCell, "gru": layers.GRUCell}[
        kind
    ]
    options = {"reset_after": True} if kind == "gru" else {}
    return keras.Sequential([layers.RNN(cell(4, **options), input_shape=(None, 3))])


def two_cells(kind):
    cells = [layers.SimpleRNNCell(4), layers.SimpleRNNCell(4)]
    return keras.Sequential([layers.RNN(cells, input_shape=(None, 3))])


ON_KERNELS = {
    "defaults": plain,
    "of a known length": of_a_known_length,
    "return_sequences": lambda k: plain(k, return_sequences=True),
    "return_state": lambda k: plain(k, return_state=True, return_sequences=True),
    "go_backwards": lambda k: plain(k, go_backwards=True, return_sequences=True),
    "use_bias": lambda k: plain(k, use_bias=False),
    "dropout": lambda k: plain(k, dropout=0.4),
    "with initial states": with_initial_states,
    "stacked": stacked,
    "bidirectional": bidirectional,
    "shared": shared,
    "time distributed": time_distributed,
    "RNN over a cell": of_cells,
}

AS_LOOPS = {
    "masked": masked,
    "recurrent_dropout": lambda k: plain(k, recurrent_dropout=0.4),
    "activation": lambda k: plain(k, activation="sigmoid"),
    "no activation": lambda k: plain(k, activation=None),
    "cells above each other": two_cells,
}

OWN_OPTIONS = {
    "implementation 1": ("lstm", {"implementation": 1}, "lstm"),
    "no unit_forget_bias": ("lstm", {"unit_forget_bias": False}, "lstm"),
    "neither": ("lstm", {"implementation": 1, "use_bias": False}, "lstm"),
    "hard_sigmoid": ("lstm", {"recurrent_activation": "hard_sigmoid"}, "scan"),
    "masks for each gate": ("lstm", {"implementation": 1, "dropout": 0.4}, "scan"),
    "implementation 1 of gru": ("gru", {"implementation": 1}, "gru"),
    "neither of gru": ("gru", {"implementation": 1, "use_bias": False}, "gru"),
    "reset before the product": ("gru", {"reset_after": False}, "scan"),
    "relu": ("simple_rnn", {"activation": "relu"}, "simple_rnn"),
}


def weights_for(model):
    rng = np.random.default_rng(1)
    return [rng.normal(size=w.shape) * 0.5 for w in model.get_weights()]


def compare(make, expected):
    """Train and predict with a model as it is and as loops, from equal weights and seeds."""
    rng = np.random.default_rng(0)
    x, results = rng.normal(size=(6, 2, 3)), []
    for scope in (contextlib.nullcontext(), kept_as_loops()):
        np.random.seed(5)
        with scope:
            model = make()
            model.compile(keras.optimizers.SGD(0.1), "mse")
        names = operators(model)
        assert set(names) == ({expected} if not results else {"scan"})
        model.set_weights(weights_for(model))
        y = [0.5 + 0 * p for p in _listed(model.predict(x))]
        losses = [np.ravel(model.train_on_batch(x, y)) for _ in range(4)]
        results.append([*losses, *_listed(model.predict(x)), *model.get_weights()])
    for kernel, loop in zip(*results, strict=True):
        np.testing.assert_allclose(kernel, loop, rtol=2e-5, atol=2e-6)


def _listed(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("case", ON_KERNELS)
def test_on_kernels(kind, case):
    compare(lambda: ON_KERNELS[case](kind), kind)


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("case", AS_LOOPS)
def test_as_loops(kind, case):
    assert set(operators(AS_LOOPS[case](kind))) == {"scan"}


@pytest.mark.parametrize("case", OWN_OPTIONS)
def test_options_of_some_layers(case):
    kind, options, expected = OWN_OPTIONS[case]
    compare(lambda: plain(kind, **options), expected)


@pytest.mark.parametrize("kind", UNITS)
def test_stateful_layers(kind):
    x, results = np.random.default_rng(0).normal(size=(2, 6, 3)), []
    for scope in (contextlib.nullcontext(), kept_as_loops()):
        with scope:
            model = keras.Sequential([layer(kind, batch_input_shape=(2, 3, 3), stateful=True)])
        model.set_weights(weights_for(model))
        results.append([model.predict(x[:, i : i + 3], batch_size=2) for i in (0, 3, 0)])
        assert set(operators(model)) == ({kind} if len(results) == 1 else {"scan"})
    for kernel, loop in zip(*results, strict=True):
        np.testing.assert_allclose(kernel, loop, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", UNITS)
def test_lengths_that_change(kind):
    results = []
    for scope in (contextlib.nullcontext(), kept_as_loops()):
        with scope:
            model = plain(kind, return_state=True)
        model.set_weights(weights_for(model))
        f = K.function(model.inputs, model.outputs)
        results.append([f([np.ones((2, length, 3))]) for length in (3, 1, 4)])
    for kernel, loop in zip(*results, strict=True):
        for a, b in zip(kernel, loop, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", UNITS)
def test_a_penalty_on_the_gradient_is_trained(kind):
    """Gradients of second order, which have no kernel."""
    x, results = np.random.default_rng(0).normal(size=(4, 3, 3)), []
    for scope in (contextlib.nullcontext(), kept_as_loops()):
        with scope:
            model = plain(kind)
            (slope,) = K.gradients(K.sum(K.square(model.outputs[0])), model.inputs)
            penalty = K.sum(K.square(slope))
            gradients = K.gradients(penalty, model.trainable_weights)
        model.set_weights(weights_for(model))
        results.append(K.function(model.inputs, [penalty, *gradients])([x]))
    for kernel, loop in zip(*results, strict=True):
        np.testing.assert_allclose(kernel, loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", UNITS)
def test_half_precision(kind):
    x, results = np.random.default_rng(0).normal(size=(4, 3, 3)), []
    K.set_floatx("float16")
    try:
        for scope in (contextlib.nullcontext(), kept_as_loops()):
            with scope:
                model = plain(kind)
            model.set_weights(weights_for(model))
            results.append(model.predict(x))
    finally:
        K.set_floatx("float32")
    assert results[0].dtype == "float16"
    np.testing.assert_allclose(*results, rtol=1e-2, atol=2e-3)
