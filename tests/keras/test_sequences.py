"""Models of sequences in unmodified Keras: wrappers, encoders and decoders, attention, masks."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers
K = keras.backend


def falls(model, x, y, steps=40, share=0.7):
    losses = [model.train_on_batch(x, y) for _ in range(steps)]
    assert losses[-1] < share * losses[0], losses
    return losses


def reloaded(model, tmp_path):
    model.save(str(tmp_path / "model.h5"))
    return keras.models.load_model(str(tmp_path / "model.h5"))


@pytest.mark.parametrize("shape", [(None, None, 3), (4, 5, 3), (None, 5, 3)], ids=str)
def test_time_distributed(shape):
    x = np.random.normal(size=(4, 5, 3))
    dense = layers.Dense(2)
    inputs = layers.Input(batch_shape=shape)
    model = keras.Model(inputs, layers.TimeDistributed(dense)(inputs))
    w, b = dense.get_weights()
    np.testing.assert_allclose(model.predict(x, batch_size=4), x @ w + b, rtol=1e-4, atol=1e-5)
    model.compile("adam", "mse")
    model.train_on_batch(x, x[..., :2])


@pytest.mark.parametrize("shape", [(None, 5, 3), (4, 5, 3)], ids=str)
def test_dropout_in_time_distributed_follows_the_phase(shape):
    inputs = layers.Input(batch_shape=shape)
    model = keras.Model(inputs, layers.TimeDistributed(layers.Dropout(0.5))(inputs))
    assert model.outputs[0]._uses_learning_phase
    x = np.ones((4, 5, 3))
    assert model.predict(x, batch_size=4).tolist() == x.tolist()
    f = K.function([inputs, K.learning_phase()], model.outputs)
    (trained,) = f([x, 1])
    assert set(np.unique(trained)) == {0, 2}
    assert len({step.tobytes() for step in trained.swapaxes(0, 1)}) > 1


def test_convolutions_at_each_time_step_before_an_lstm():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 4, 8, 8, 1))
    y = x.mean((2, 3, 4)).sum(1, keepdims=True)
    model = keras.Sequential(
        [
            layers.TimeDistributed(layers.Conv2D(4, 3), input_shape=(4, 8, 8, 1)),
            layers.TimeDistributed(layers.GlobalAveragePooling2D()),
            layers.LSTM(8),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")
    falls(model, x, y)


def test_an_encoder_gives_a_decoder_its_initial_state(tmp_path):
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 5, (16, 6)), rng.integers(0, 5, (16, 4))
    source, target = np.eye(5)[source], np.eye(5)[target]
    encoder_inputs, decoder_inputs = layers.Input((None, 5)), layers.Input((None, 5))
    _, h, c = layers.LSTM(12, return_state=True)(encoder_inputs)
    decoder = layers.LSTM(12, return_sequences=True, return_state=True)
    decoded, _, _ = decoder(decoder_inputs, initial_state=[h, c])
    head = layers.Dense(5, activation="softmax")
    model = keras.Model([encoder_inputs, decoder_inputs], head(decoded))
    model.compile(keras.optimizers.Adam(0.03), "categorical_crossentropy")
    given = np.concatenate([np.zeros((16, 1, 5)), target[:, :-1]], 1)
    falls(model, [source, given], target, 60)
    whole = model.predict([source, given])
    loaded = reloaded(model, tmp_path)
    np.testing.assert_allclose(loaded.predict([source, given]), whole, rtol=1e-5, atol=1e-6)
    # Step by step, with the same layers in models of their own.
    encoder = keras.Model(encoder_inputs, [h, c])
    state_inputs = [layers.Input((12,)), layers.Input((12,))]
    stepped, *states = decoder(decoder_inputs, initial_state=state_inputs)
    one = keras.Model([decoder_inputs, *state_inputs], [head(stepped), *states])
    state = encoder.predict(source)
    for t in range(4):
        output, *state = one.predict([given[:, t : t + 1], *state])
        np.testing.assert_allclose(output[:, 0], whole[:, t], rtol=1e-4, atol=1e-5)


class Attention(layers.Layer):
    """Scaled products of a query with what an encoder said, masked."""

    supports_masking = True

    def call(self, inputs, mask=None):
        query, memory = inputs
        scores = K.batch_dot(query, memory, axes=(2, 2)) / 2.0
        if mask is not None and mask[1] is not None:
            scores = scores - 1e9 * (1.0 - K.expand_dims(K.cast(mask[1], K.floatx()), 1))
        return K.batch_dot(K.softmax(scores), memory)

    def compute_output_shape(self, shapes):
        return shapes[0]

    def compute_mask(self, inputs, mask=None):
        return mask[0]


def test_attention_over_a_masked_embedding():
    rng = np.random.default_rng(0)
    tokens, y = rng.integers(1, 9, (16, 7)), rng.normal(size=(16, 1))
    tokens[::2, 4:] = 0
    inputs = layers.Input((None,), dtype="int32")
    embedded = layers.Embedding(9, 4, mask_zero=True)(inputs)
    memory = layers.GRU(4, return_sequences=True)(embedded)
    query = layers.LSTM(4, return_sequences=True, go_backwards=True)(embedded)
    attended = Attention()([query, memory])
    model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(4)(attended)))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    falls(model, tokens, y, 60)
    f = K.function([inputs], [attended])
    memory = K.function([inputs], [memory])([tokens])[0]
    query = K.function([inputs], [query])([tokens])[0]
    scores = np.einsum("nqd,nkd->nqk", query, memory) / 2 - 1e9 * (tokens == 0)[:, None]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    np.testing.assert_allclose(f([tokens])[0], weights @ memory, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_padding_changes_nothing_behind_a_masked_embedding(name, tmp_path):
    tokens = np.random.default_rng(0).integers(1, 9, (6, 5))
    model = keras.Sequential(
        [
            layers.Embedding(9, 4, mask_zero=True),
            layers.Bidirectional(getattr(layers, name)(5)),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    short = model.predict(tokens)
    for count in (1, 6):
        padded = np.pad(tokens, ((0, 0), (0, count)))
        np.testing.assert_allclose(model.predict(padded), short, rtol=1e-5, atol=1e-6)
    loaded = reloaded(model, tmp_path)
    np.testing.assert_allclose(loaded.predict(tokens), short, rtol=1e-6)


def test_dropout_of_inputs_and_states_is_the_same_at_all_steps_and_new_at_each_call():
    inputs = layers.Input((4, 3))
    layer = layers.SimpleRNN(
        3,
        dropout=0.5,
        activation="linear",
        kernel_initializer="identity",
        recurrent_initializer="zeros",
        return_sequences=True,
    )
    outputs = layer(inputs)
    f = K.function([inputs, K.learning_phase()], [outputs])
    drawn = [f([np.ones((20, 4, 3)), 1])[0] for _ in range(2)]
    for value in drawn:
        assert set(np.unique(value)) == {0, 2}
        assert all(np.array_equal(value[:, 0], value[:, t]) for t in range(4))
    assert not np.array_equal(*drawn)
    assert np.unique(f([np.ones((20, 4, 3)), 0])[0]) == [1]


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2, "recurrent_dropout": 0.2}], ids=str)
@pytest.mark.parametrize("name", ["SimpleRNN", "LSTM", "GRU"])
def test_training_learns_to_add_and_takes_batches_of_any_length(name, options):
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [getattr(layers, name)(16, input_shape=(None, 1), **options), layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(0.02), "mse")

    def batch(length):
        x = rng.normal(size=(64, length, 1)) * 0.5
        return x, x.sum(1)

    # Measured without dropout, whose noise stays in the loss of a training step.
    before = model.evaluate(*batch(5), verbose=0)
    for step in range(100):
        model.train_on_batch(*batch(3 + step % 4))
    assert model.evaluate(*batch(5), verbose=0) < 0.4 * before


def test_gradients_of_an_lstm_layer_are_those_of_differences():
    rng = np.random.default_rng(0)
    K.set_floatx("float64")
    try:
        inputs = layers.Input((4, 2))
        layer = layers.LSTM(3)
        loss = K.sum(K.square(layer(inputs)))
        f = K.function([inputs], [loss, *K.gradients(loss, layer.weights)])
        x = rng.normal(size=(2, 4, 2))
        gradients = f([x])[1:]
        for position, (weight, gradient) in enumerate(zip(layer.weights, gradients, strict=True)):
            before = K.get_value(weight)
            direction = rng.normal(size=before.shape)
            values = []
            for distance in (1e-5, -1e-5):
                K.set_value(weight, before + distance * direction)
                values.append(f([x])[0])
            K.set_value(weight, before)
            quotient = (values[0] - values[1]) / 2e-5
            np.testing.assert_allclose(
                quotient, np.sum(gradient * direction), rtol=1e-5, err_msg=str(position)
            )
    finally:
        K.set_floatx("float32")
