"""The models and batches of the benchmarks, each written once, with the peer's `keras` given."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from contest.networks import BREADTH
from contest.workload import Batch, Model, Workload, classified, compiled, tokens


def tiny(keras: ModuleType) -> Model:
    """A classifier of 64 features with 32 hidden units: all overhead."""
    layers = keras.layers
    x = layers.Input((64,))
    y = layers.Dense(32, activation="relu")(x)
    y = layers.Dense(10, activation="softmax")(y)
    return compiled(keras, x, y, keras.optimizers.Adam(0.001), "categorical_crossentropy")


def mlp(keras: ModuleType) -> Model:
    """Keras's examples/mnist_mlp.py."""
    layers = keras.layers
    x = layers.Input((784,))
    y = layers.Dense(512, activation="relu")(x)
    y = layers.Dropout(0.2)(y)
    y = layers.Dense(512, activation="relu")(y)
    y = layers.Dropout(0.2)(y)
    y = layers.Dense(10, activation="softmax")(y)
    return compiled(keras, x, y, keras.optimizers.RMSprop(0.001), "categorical_crossentropy")


def cnn(keras: ModuleType) -> Model:
    """Keras's examples/mnist_cnn.py, with Adam."""
    layers = keras.layers
    x = layers.Input((28, 28, 1))
    y = layers.Conv2D(32, (3, 3), activation="relu")(x)
    y = layers.Conv2D(64, (3, 3), activation="relu")(y)
    y = layers.MaxPooling2D((2, 2))(y)
    y = layers.Dropout(0.25)(y)
    y = layers.Flatten()(y)
    y = layers.Dense(128, activation="relu")(y)
    y = layers.Dropout(0.5)(y)
    y = layers.Dense(10, activation="softmax")(y)
    return compiled(keras, x, y, keras.optimizers.Adam(0.001), "categorical_crossentropy")


def resnet(keras: ModuleType) -> Model:
    """ResNet-20 of Keras's examples/cifar10_resnet.py (version 1)."""
    layers = keras.layers

    def convolution(x: Any, filters: int, size: int = 3, strides: int = 1) -> Any:
        return layers.Conv2D(
            filters,
            (size, size),
            strides=(strides, strides),
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.l2(1e-4),
        )(x)

    def unit(x: Any, filters: int, strides: int = 1) -> Any:
        y = layers.BatchNormalization()(convolution(x, filters, strides=strides))
        return layers.Activation("relu")(y)

    x = layers.Input((32, 32, 3))
    y = unit(x, 16)
    for stack, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stack > 0 and block == 0 else 1
            z = convolution(unit(y, filters, strides), filters)
            z = layers.BatchNormalization()(z)
            if strides == 2:
                y = convolution(y, filters, size=1, strides=2)
            y = layers.Activation("relu")(layers.add([y, z]))
    y = layers.Flatten()(layers.AveragePooling2D((8, 8))(y))
    y = layers.Dense(10, activation="softmax", kernel_initializer="he_normal")(y)
    return compiled(keras, x, y, keras.optimizers.Adam(0.001), "categorical_crossentropy")


def photos(keras: ModuleType) -> Model:
    """The small network of the Keras blog's "image classification using very little data"."""
    layers = keras.layers
    x = layers.Input((150, 150, 3))
    y = x
    for filters in (32, 32, 64):
        y = layers.Conv2D(filters, (3, 3), activation="relu")(y)
        y = layers.MaxPooling2D((2, 2))(y)
    y = layers.Dense(64, activation="relu")(layers.Flatten()(y))
    y = layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(y))
    return compiled(keras, x, y, keras.optimizers.RMSprop(0.001), "binary_crossentropy")


def embedding(keras: ModuleType) -> Model:
    """Keras's examples/imdb_lstm.py without its dropout."""
    layers = keras.layers
    x = layers.Input((80,), dtype="int32")
    y = layers.Embedding(20_000, 128)(x)
    y = layers.LSTM(128)(y)
    y = layers.Dense(1, activation="sigmoid")(y)
    return compiled(keras, x, y, keras.optimizers.Adam(0.001), "binary_crossentropy")


def text(keras: ModuleType) -> Model:
    """Keras's examples/lstm_text_generation.py."""
    layers = keras.layers
    x = layers.Input((40, 57))
    y = layers.LSTM(128)(x)
    y = layers.Dense(57, activation="softmax")(y)
    return compiled(keras, x, y, keras.optimizers.RMSprop(0.01), "categorical_crossentropy")


def _characters(rng: np.random.Generator) -> Batch:
    one_hot = np.eye(57, dtype="float32")
    return one_hot[rng.integers(0, 57, (128, 40))], one_hot[rng.integers(0, 57, 128)]


def minimal_gated_unit(keras: ModuleType, units: int) -> Any:
    """A cell as a user writes it (Zhou et al. 2016), in the backend functions of this Keras."""
    if hasattr(keras, "ops"):
        matmul, sigmoid, tanh = keras.ops.matmul, keras.ops.sigmoid, keras.ops.tanh
    else:
        backend = keras.backend
        matmul, sigmoid, tanh = backend.dot, backend.sigmoid, backend.tanh

    class MinimalGatedUnit(keras.layers.Layer):
        def __init__(self, units: int, **options: Any) -> None:
            super().__init__(**options)
            self.units = self.state_size = self.output_size = units

        def build(self, input_shape: Any) -> None:
            def weight(name: str, rows: int) -> Any:
                shape = (rows, self.units)
                return self.add_weight(name=name, shape=shape, initializer="glorot_uniform")

            features = input_shape[-1]
            self.gate, self.gate_state = weight("gate", features), weight("gate_state", self.units)
            self.new, self.new_state = weight("new", features), weight("new_state", self.units)
            self.built = True

        def call(self, inputs: Any, states: Any) -> Any:
            state = states[0]
            gate = sigmoid(matmul(inputs, self.gate) + matmul(state, self.gate_state))
            new = tanh(matmul(inputs, self.new) + matmul(gate * state, self.new_state))
            state = (1.0 - gate) * state + gate * new
            return state, [state]

    return MinimalGatedUnit(units)


TITLES = {
    "cell": "a user's own cell (128)",
    "gru": "GRU(128)",
    "gru-default": "GRU(128) as Keras makes it by default, reset_after=False",
    "lstm": "LSTM(128)",
    "lstm-masked": "LSTM(128) on sequences of all lengths, masked",
}


def _recurrent(kind: str, length: int, features: int = 32, size: int = 32) -> Workload:
    """A recurrent layer of 128 units on `length` steps of features, in batches of a size."""

    def build(keras: ModuleType) -> Model:
        layers = keras.layers
        x = layers.Input((length, features))
        if kind == "cell":
            y = layers.RNN(minimal_gated_unit(keras, 128))(x)
        elif kind == "gru":
            y = layers.GRU(128, reset_after=True)(x)  # the default is not the same in all
        elif kind == "gru-default":
            y = layers.GRU(128, reset_after=False)(x)
        elif kind == "lstm-masked":
            y = layers.LSTM(128)(layers.Masking()(x))
        else:
            y = layers.LSTM(128)(x)
        return compiled(keras, x, layers.Dense(1)(y), keras.optimizers.RMSprop(0.001), "mse")

    def batch(rng: np.random.Generator) -> Batch:
        x = rng.random((size, length, features), dtype="float32")
        if kind == "lstm-masked":
            lengths = rng.integers(1, length, (size, 1), endpoint=True)
            x[np.arange(length) >= lengths] = 0.0
        return x, rng.random((size, 1), dtype="float32")

    title = f"{TITLES[kind]}, {length:,} steps of {features:,}, RMSprop, batch {size}"
    return Workload(title, build, batch)


LENGTHS = (20, 80, 400, 2_000)
SIX = {
    "tiny": Workload("MLP 64-32-10, Adam, batch 32", tiny, classified((32, 64), 10)),
    "mlp": Workload(
        "MLP 784-512-512-10, dropout, RMSprop, batch 128", mlp, classified((128, 784), 10)
    ),
    "cnn": Workload(
        "MNIST CNN, Adam, batch 128, channels last", cnn, classified((128, 28, 28, 1), 10)
    ),
    "resnet": Workload(
        "ResNet-20, Adam, batch 32, channels last", resnet, classified((32, 32, 32, 3), 10)
    ),
    "lstm": Workload(
        "Embedding + LSTM(128), 80 steps, Adam, batch 32", embedding, tokens((32, 80), 20_000, 1)
    ),
    "text": Workload(
        "text generation, LSTM(128), 40 steps of 57, RMSprop, batch 128", text, _characters
    ),
}
RECURRENT = {
    f"{kind}-{length}": _recurrent(kind, length)
    for kind in ("lstm", "gru", "cell")
    for length in LENGTHS
}
SHOWN = {
    "photos": Workload(
        "Convolutions and poolings on 150 x 150, RMSprop, batch 16, channels last",
        photos,
        lambda rng: (
            rng.random((16, 150, 150, 3), dtype="float32"),
            rng.integers(0, 2, (16, 1)).astype("float32"),
        ),
    ),
    "gru-default-20": _recurrent("gru-default", 20),
    "lstm-masked-20": _recurrent("lstm-masked", 20),
    "cell-frames": _recurrent("cell", 50, features=2048, size=4),
}
"""Networks on which passes of the compiler show that the others have no use for."""
WORKLOADS = SIX | RECURRENT | SHOWN | BREADTH
