"""Train twenty small models by Keras 3, and write what came of it to a file.

``python models.py BACKEND FILE``: run by `agreement.py` in an environment for each backend.  The
weights and the data are the same for all backends: neither depends on Keras's random numbers.
"""

import os
import sys
import zlib

if __name__ == "__main__" and sys.argv[1] == "ksym":
    import keras_ksym  # noqa: F401 - before Keras
else:
    os.environ.setdefault("KERAS_BACKEND", sys.argv[1])

import keras
import numpy as np
from keras import layers

STEPS = 10

MODELS = {}


def model(make):
    """Add a model: a function that returns it, the shape of its inputs, and its last layer's."""
    MODELS[make.__name__] = make
    return make


def draw(shape, seed):
    return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype("float32")


def labels(rows, count):
    return np.random.default_rng(1).integers(0, count, rows)


def sequential(shape, *hidden):
    return keras.Sequential([layers.Input(shape), *hidden])


def classify(net, x, count, optimizer="adam"):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return net, x, labels(len(x[0] if isinstance(x, list) else x), count), loss, optimizer


@model
def mlp():
    net = sequential((20,), layers.Dense(32, "relu"), layers.Dense(5))
    return classify(net, draw((64, 20), 0), 5)


@model
def softmax():
    net = sequential((20,), layers.Dense(32, "tanh"), layers.Dense(5, "softmax"))
    x = draw((64, 20), 0)
    return net, x, labels(64, 5), "sparse_categorical_crossentropy", "sgd"


@model
def binary():
    net = sequential((20,), layers.Dense(32, "gelu"), layers.Dense(1, "sigmoid"))
    y = labels(64, 2)[:, None].astype("float32")
    return net, draw((64, 20), 0), y, "binary_crossentropy", "rmsprop"


@model
def regression():
    hidden = layers.Dense(32, "elu", kernel_regularizer="l2")
    net = sequential((20,), hidden, layers.Dense(1))
    optimizer = keras.optimizers.AdamW(1e-2, clipnorm=1.0)
    return net, draw((64, 20), 0), draw((64, 1), 1), "mse", optimizer


@model
def convolutional():
    net = sequential(
        (12, 12, 3),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(8, 3, padding="same", strides=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(4),
    )
    return classify(net, draw((32, 12, 12, 3), 0), 4)


@model
def normalized():
    net = sequential(
        (12, 12, 3),
        layers.Conv2D(8, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.AveragePooling2D(2),
        layers.Flatten(),
        layers.Dense(4),
    )
    return classify(net, draw((32, 12, 12, 3), 0), 4, keras.optimizers.SGD(1e-2, momentum=0.9))


@model
def separable():
    net = sequential(
        (12, 12, 4),
        layers.SeparableConv2D(8, 3, activation="relu"),
        layers.DepthwiseConv2D(3),
        layers.Flatten(),
        layers.Dense(4),
    )
    return classify(net, draw((16, 12, 12, 4), 0), 4)


@model
def transposed():
    net = sequential((6, 6, 4), layers.Conv2DTranspose(3, 3, strides=2, padding="same"))
    return net, draw((16, 6, 6, 4), 0), draw((16, 12, 12, 3), 1), "mse", "adam"


@model
def causal():
    net = sequential(
        (20, 4),
        layers.Conv1D(8, 3, padding="causal", activation="relu"),
        layers.GlobalMaxPooling1D(),
        layers.Dense(3),
    )
    return classify(net, draw((16, 20, 4), 0), 3)


@model
def volumes():
    net = sequential(
        (6, 6, 6, 2), layers.Conv3D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)
    )
    return classify(net, draw((8, 6, 6, 6, 2), 0), 3)


@model
def lstm():
    return classify(sequential((10, 6), layers.LSTM(8), layers.Dense(3)), draw((16, 10, 6), 0), 3)


@model
def gru():
    net = sequential((10, 6), layers.GRU(8, return_sequences=True), layers.GRU(8), layers.Dense(3))
    return classify(net, draw((16, 10, 6), 0), 3)


@model
def bidirectional():
    net = sequential((10, 6), layers.Bidirectional(layers.LSTM(8)), layers.Dense(3))
    return classify(net, draw((16, 10, 6), 0), 3)


@model
def cells():
    net = sequential((10, 6), layers.RNN(layers.LSTMCell(8)), layers.Dense(3))
    return classify(net, draw((16, 10, 6), 0), 3)


@model
def masked():
    net = sequential(
        (10,), layers.Embedding(20, 8, mask_zero=True), layers.LSTM(8), layers.Dense(3)
    )
    return classify(net, np.random.default_rng(0).integers(0, 20, (16, 10)), 3)


@model
def attention():
    inputs = layers.Input((10, 16))
    hidden = layers.MultiHeadAttention(2, 8)(inputs, inputs)
    hidden = layers.LayerNormalization()(hidden + inputs)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    return classify(keras.Model(inputs, layers.Dense(3)(hidden)), draw((16, 10, 16), 0), 3)


@model
def residual():
    inputs = layers.Input((8, 8, 4))
    hidden = inputs
    for _ in range(2):
        branch = layers.Conv2D(4, 3, padding="same", use_bias=False)(hidden)
        branch = layers.BatchNormalization()(branch)
        hidden = layers.Activation("relu")(layers.add([branch, hidden]))
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D()(hidden))
    return classify(keras.Model(inputs, outputs), draw((16, 8, 8, 4), 0), 3)


@model
def groups():
    net = sequential(
        (8, 8, 4),
        layers.Conv2D(8, 3),
        layers.GroupNormalization(4),
        layers.Activation("swish"),
        layers.Flatten(),
        layers.Dense(3),
    )
    return classify(net, draw((16, 8, 8, 4), 0), 3, "adamax")


@model
def convolutional_lstm():
    net = sequential((4, 6, 6, 2), layers.ConvLSTM2D(3, 3), layers.Flatten(), layers.Dense(3))
    return classify(net, draw((8, 4, 6, 6, 2), 0), 3, "nadam")


@model
def two_inputs():
    a, b = layers.Input((5,), name="a"), layers.Input((7,), name="b")
    hidden = layers.concatenate([layers.Dense(8, "relu")(a), layers.Dense(8)(b)])
    net = keras.Model([a, b], layers.Dense(3)(hidden))
    return classify(net, [draw((16, 5), 0), draw((16, 7), 1)], 3, "lion")


def set_weights(net):
    """Give each weight values that depend on its place and shape only."""
    for place, weight in enumerate(net.weights):
        kind = weight.path.rsplit("/", 1)[-1]
        if kind == "seed_generator_state":
            continue
        value = draw(weight.shape, place + zlib.crc32(kind.encode()) % 1000) * 0.3
        weight.assign(1.0 + value / 3.0 if kind in ("moving_variance", "gamma") else value)


def train(make):
    """Return the losses of some steps, the weights after them, and the outputs."""
    net, x, y, loss, optimizer = make()
    set_weights(net)
    net.compile(optimizer, loss)
    losses = [np.float64(net.train_on_batch(x, y)) for _ in range(STEPS)]
    weights = [w.ravel() for w in net.get_weights()]
    found = net.predict(x, batch_size=7, verbose=0)
    return np.array(losses), np.concatenate(weights), found.ravel()


def main():
    found = {}
    for name, make in MODELS.items():
        for kind, values in zip(("losses", "weights", "outputs"), train(make), strict=True):
            found[f"{name} {kind}"] = values
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
