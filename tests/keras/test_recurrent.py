"""Keras's recurrent layers and `K.rnn` against NumPy."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers
K = keras.backend


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def numpy_rnn(step, x, states, backwards=False, mask=None, zero=False):
    """What `K.rnn` is to compute: the last output, all outputs, and the last states."""
    order = range(x.shape[1])
    previous, outputs = None, []
    for t in reversed(order) if backwards else order:
        output, new = step(x[:, t], states)
        shown = output
        if mask is not None:
            kept = mask[:, t].reshape(-1, *[1] * (output.ndim - 1)).astype(bool)
            before = np.zeros_like(output) if previous is None else previous
            output = np.where(kept, output, before)
            shown = np.where(kept, shown, 0) if zero else output
            new = [np.where(kept, n, s) for n, s in zip(new, states, strict=True)]
        previous, states = output, new
        outputs.append(shown)
    return previous, np.stack(outputs, 1), states


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("masked", [None, "keep", "zero"])
@pytest.mark.parametrize("inner", [(3,), (2, 3)], ids=str)
def test_rnn(backwards, unroll, masked, inner):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 5, *inner))
    w, c = rng.normal(size=inner), rng.normal(size=inner)
    states = [rng.normal(size=(4, *inner)), rng.normal(size=(4, *inner))]
    mask = None if masked is None else rng.random((4, 5)) > 0.4

    def step(m):
        def apply(e, s):
            h, total = s[0], s[1]
            h = m.tanh(e * w + h * c)
            return h * total, [h, total + e]

        return apply

    last, outputs, final = K.rnn(
        lambda e, s: step(K)(e, s),
        K.variable(x),
        [K.variable(s) for s in states],
        go_backwards=backwards,
        mask=None if mask is None else K.variable(mask),
        constants=[K.variable(c)],
        unroll=unroll,
        zero_output_for_mask=masked == "zero",
    )
    expected = numpy_rnn(step(np), x, states, backwards, mask, masked == "zero")
    np.testing.assert_allclose(K.eval(last), expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(K.eval(outputs), expected[1], rtol=1e-4, atol=1e-5)
    for a, b in zip(final, expected[2], strict=True):
        np.testing.assert_allclose(K.eval(a), b, rtol=1e-4, atol=1e-5)


def test_rnn_takes_any_batch_and_length_and_hands_constants_on():
    x, c = K.placeholder((None, None, 2)), K.placeholder((2,))
    start = K.zeros_like(x[:, 0])
    last, outputs, _ = K.rnn(
        lambda e, s: (e * s[1] + s[0], [e * s[1] + s[0]]), x, [start], constants=[c]
    )
    f = K.function([x, c], [last, outputs])
    for samples, length in [(2, 3), (1, 7), (5, 1)]:
        value = np.random.normal(size=(samples, length, 2))
        last, outputs = f([value, np.array([2.0, -1.0])])
        expected = np.cumsum(value * [2.0, -1.0], 1)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(last, expected[:, -1], rtol=1e-4, atol=1e-5)


def simple(weights):
    kernel, recurrent, bias = weights

    def step(x, states):
        h = np.tanh(x @ kernel + states[0] @ recurrent + bias)
        return h, [h]

    return step


def lstm(weights):
    kernel, recurrent, bias = weights

    def step(x, states):
        h, c = states
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, [h, c]

    return step


def gru(weights):
    """The kind whose reset gate acts before the product."""
    kernel, recurrent, bias = weights
    units = len(recurrent)

    def step(x, states):
        (h,) = states
        xz, xr, xh = np.split(x @ kernel + bias, 3, -1)
        z = sigmoid(xz + h @ recurrent[:, :units])
        r = sigmoid(xr + h @ recurrent[:, units : 2 * units])
        new = np.tanh(xh + (r * h) @ recurrent[:, 2 * units :])
        h = z * h + (1 - z) * new
        return h, [h]

    return step


STANDARD = {"SimpleRNN": (simple, 1), "LSTM": (lstm, 2), "GRU": (gru, 1)}


def make(name, units, **options):
    if name != "SimpleRNN":
        options.setdefault("recurrent_activation", "sigmoid")
    if name == "GRU":
        options.setdefault("reset_after", False)
    options.setdefault("bias_initializer", "ones")
    return getattr(layers, name)(units, **options)


@pytest.mark.parametrize("name", STANDARD)
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_standard_layers(name, backwards, masked):
    oracle, count = STANDARD[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 3))
    if masked:
        x[0, 2:] = x[1, :2] = x[3] = 0
    inputs = layers.Input((None, 3))
    inside = layers.Masking()(inputs) if masked else inputs
    layer = make(name, 5, return_sequences=True, return_state=True, go_backwards=backwards)
    model = keras.Model(inputs, layer(inside))
    outputs, *states = model.predict(x)
    mask = np.any(x != 0, -1) if masked else None
    step = oracle(layer.get_weights())
    _, expected, final = numpy_rnn(step, x, [np.zeros((4, 5))] * count, backwards, mask)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(states, final, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STANDARD)
def test_unrolled_and_both_implementations_agree_in_values_and_training(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 5, 3)), rng.normal(size=(8, 4))
    found, weights = [], None
    for options in ({}, {"unroll": True}, {"implementation": 1}, {"implementation": 2}):
        if name == "SimpleRNN" and "implementation" in options:
            continue
        model = keras.Sequential([make(name, 4, input_shape=(5, 3), **options)])
        weights = weights or model.get_weights()
        model.set_weights(weights)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses = [model.train_on_batch(x, y) for _ in range(5)]
        assert losses[-1] < losses[0]
        found.append([*losses, model.predict(x)])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STANDARD)
def test_stateful_layers_go_on_where_they_stopped(name):
    x = np.random.normal(size=(2, 6, 3))
    whole = keras.Sequential([make(name, 4, batch_input_shape=(2, 6, 3))])
    parts = keras.Sequential([make(name, 4, batch_input_shape=(2, 3, 3), stateful=True)])
    parts.set_weights(whole.get_weights())
    parts.predict(x[:, :3], batch_size=2)
    second = parts.predict(x[:, 3:], batch_size=2)
    np.testing.assert_allclose(second, whole.predict(x), rtol=1e-5, atol=1e-6)
    parts.reset_states()
    first = parts.predict(x[:, :3], batch_size=2)
    parts.reset_states()
    np.testing.assert_allclose(parts.predict(x[:, :3], batch_size=2), first)
    parts.layers[0].reset_states([np.ones((2, 4))] * STANDARD[name][1])
    assert not np.allclose(parts.predict(x[:, :3], batch_size=2), first)


@pytest.mark.parametrize("mode", ["sum", "mul", "concat", "ave", None])
def test_bidirectional(mode):
    x = np.random.normal(size=(3, 5, 2))
    layer = layers.Bidirectional(make("LSTM", 4, return_sequences=True), merge_mode=mode)
    inputs = layers.Input((None, 2))
    model = keras.Model(inputs, layer(inputs))
    forward, backward = (
        numpy_rnn(lstm(w), x, [np.zeros((3, 4))] * 2, b)[1]
        for w, b in [(layer.get_weights()[:3], False), (layer.get_weights()[3:], True)]
    )
    backward = backward[:, ::-1]
    expected = {
        "sum": forward + backward,
        "mul": forward * backward,
        "concat": np.concatenate([forward, backward], -1),
        "ave": (forward + backward) / 2,
        None: [forward, backward],
    }[mode]
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)


def test_conv_lstm_with_a_kernel_of_one_is_an_lstm_at_each_place():
    x = np.random.normal(size=(2, 4, 3, 3, 2))
    inputs = layers.Input((None, 3, 3, 2))
    layer = layers.ConvLSTM2D(3, 1, recurrent_activation="sigmoid", return_sequences=True)
    model = keras.Model(inputs, layer(inputs))
    kernel, recurrent, bias = layer.get_weights()
    step = lstm([kernel[0, 0], recurrent[0, 0], bias])
    _, expected, _ = numpy_rnn(step, x, [np.zeros((2, 3, 3, 3))] * 2)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)
    model.compile("adam", "mse")
    losses = [model.train_on_batch(x, np.tanh(x[..., :1] + x)[..., [0, 1, 0]]) for _ in range(10)]
    assert losses[-1] < losses[0]


class Leaky(layers.Layer):
    """A user's own cell, with a constant."""

    def __init__(self, units, **options):
        self.units = self.state_size = units
        super().__init__(**options)

    def build(self, shape):
        shape = shape[0] if isinstance(shape, list) else shape
        self.kernel = self.add_weight("kernel", (shape[-1], self.units), initializer="uniform")
        self.leak = self.add_weight("leak", (self.units,), initializer="ones")
        self.built = True

    def call(self, inputs, states, constants=None):
        h = K.sigmoid(self.leak) * states[0] + K.dot(inputs, self.kernel)
        return (h if constants is None else h * constants[0]), [h]

    def get_config(self):
        return {"units": self.units, **super().get_config()}


def test_a_users_own_cell_with_constants_trains_and_is_saved(tmp_path):
    rng = np.random.default_rng(0)
    x, c, y = rng.normal(size=(16, 7, 3)), rng.normal(size=(16, 4)), rng.normal(size=(16, 4))
    inputs, constant = layers.Input((None, 3)), layers.Input((4,))
    rnn = layers.RNN(Leaky(4))
    model = keras.Model([inputs, constant], rnn(inputs, constants=constant))

    def step(e, s):
        kernel, leak = rnn.get_weights()
        h = sigmoid(leak) * s[0] + e @ kernel
        return h * c, [h]

    expected = numpy_rnn(step, x, [np.zeros((16, 4))])[0]
    np.testing.assert_allclose(model.predict([x, c]), expected, rtol=1e-4, atol=1e-5)
    model.compile("adam", "mse")
    losses = [model.train_on_batch([x, c], y) for _ in range(30)]
    assert losses[-1] < losses[0]
    path = str(tmp_path / "model.h5")
    model.save(path)
    loaded = keras.models.load_model(path, custom_objects={"Leaky": Leaky})
    np.testing.assert_allclose(loaded.predict([x, c]), model.predict([x, c]), rtol=1e-6)
    assert loaded.train_on_batch([x, c], y) == pytest.approx(
        model.train_on_batch([x, c], y), rel=1e-5
    )


def test_stacked_cells_are_layers_one_after_another():
    x = np.random.normal(size=(3, 5, 2))
    cells = [
        layers.LSTMCell(4, recurrent_activation="sigmoid"),
        layers.GRUCell(3, recurrent_activation="sigmoid", reset_after=False),
    ]
    model = keras.Sequential([layers.RNN(cells, return_sequences=True, input_shape=(None, 2))])
    weights = model.get_weights()
    _, middle, _ = numpy_rnn(lstm(weights[:3]), x, [np.zeros((3, 4))] * 2)
    _, expected, _ = numpy_rnn(gru(weights[3:]), middle, [np.zeros((3, 3))])
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_no_steps_at_all(static, masked):
    x = K.placeholder((2, 0 if static else None, 3))
    mask = K.placeholder((2, 0 if static else None)) if masked else None
    state = K.placeholder((2, 3))

    def step(e, states):
        new = states[0] + e
        return new * 2.0, [new]

    results = K.rnn(step, x, [state], mask=mask)
    f = K.function([t for t in (x, mask, state) if t is not None], [*results[:2], *results[2]])
    nothing = [np.zeros((2, 0, 3)), *([np.zeros((2, 0))] if masked else [])]
    last, outputs, end = f([*nothing, np.ones((2, 3))])
    assert last.tolist() == np.zeros((2, 3)).tolist()
    assert outputs.shape == (2, 0, 3)
    assert end.tolist() == np.ones((2, 3)).tolist()


def test_padding_and_a_mask_make_one_graph_of_several_lengths():
    model = keras.Sequential([layers.Masking(input_shape=(None, 3)), layers.GRU(4)])
    samples = [np.random.rand(length, 3) + 0.1 for length in (5, 2, 7, 1)]
    padded = keras.preprocessing.sequence.pad_sequences(
        samples, maxlen=8, dtype="float32", padding="post"
    )
    together = model.predict(padded, batch_size=1)
    predict = model.predict_function.compiled
    assert predict.cache_info().kept == 1
    for sample, found in zip(samples, together, strict=True):
        np.testing.assert_allclose(model.predict(sample[None])[0], found, rtol=1e-5, atol=1e-6)
    assert predict.cache_info().kept == 1 + len(samples)
