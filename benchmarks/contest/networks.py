"""The breadth suite: networks of many kinds at small sizes, for which nothing in ksym was tuned.

They are small so that a step takes some ten milliseconds on one thread; their proportions, layers
and the order of these are those of the networks they are named after.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from contest.workload import Batch, Draw, Model, Workload, classified, compiled, tokens

Network = Callable[[Any], tuple[Any, Any]]
"""Given `keras.layers`, it returns the input, or a list of inputs, and the output."""


def _normalised(layers: Any, y: Any, activation: Any = None) -> Any:
    """Return a batch normalisation of a tensor, and the activation's layer of that."""
    y = layers.BatchNormalization()(y)
    return y if activation is None else activation(y)


def _relu(layers: Any) -> Any:
    return layers.Activation("relu")


def _classes(layers: Any, y: Any, classes: int = 10) -> Any:
    return layers.Dense(classes, activation="softmax")(y)


def mobilenet(layers: Any) -> tuple[Any, Any]:
    """Depthwise and 1 x 1 convolutions with ReLU6 (Howard et al. 2017)."""
    options = {"padding": "same", "use_bias": False}
    x = layers.Input((64, 64, 3))
    y = _normalised(layers, layers.Conv2D(16, 3, strides=2, **options)(x), layers.ReLU(6.0))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        y = layers.DepthwiseConv2D(3, strides=strides, **options)(y)
        y = _normalised(layers, y, layers.ReLU(6.0))
        y = _normalised(layers, layers.Conv2D(filters, 1, **options)(y), layers.ReLU(6.0))
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def xception(layers: Any) -> tuple[Any, Any]:
    """Separable convolutions, overlapping max pooling, skips of 1 x 1 (Chollet 2017)."""
    options = {"padding": "same", "use_bias": False}
    x = layers.Input((48, 48, 3))
    y = layers.Conv2D(16, 3, strides=2, use_bias=False)(x)
    y = _normalised(layers, y, _relu(layers))
    for filters in (32, 64):
        skip = _normalised(layers, layers.Conv2D(filters, 1, strides=2, **options)(y))
        y = layers.SeparableConv2D(filters, 3, **options)(y)
        y = _normalised(layers, y, _relu(layers))
        y = _normalised(layers, layers.SeparableConv2D(filters, 3, **options)(y))
        y = layers.add([layers.MaxPooling2D(3, strides=2, padding="same")(y), skip])
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def bottleneck(layers: Any) -> tuple[Any, Any]:
    """Residual blocks of 1 x 1, 3 x 3 and 1 x 1 behind a stem with pooling (He et al. 2016)."""

    def unit(y: Any, filters: int, size: int, strides: int = 1, activation: bool = True) -> Any:
        y = layers.Conv2D(filters, size, strides=strides, padding="same")(y)
        return _normalised(layers, y, _relu(layers) if activation else None)

    x = layers.Input((64, 64, 3))
    y = unit(layers.ZeroPadding2D(3)(x), 16, 7, 2)
    y = layers.MaxPooling2D(3, strides=2)(layers.ZeroPadding2D(1)(y))
    for stack, filters in enumerate((16, 32)):
        for block in range(2):
            strides = 2 if stack > 0 and block == 0 else 1
            z = unit(unit(y, filters, 1, strides), filters, 3)
            z = unit(z, 4 * filters, 1, activation=False)
            if block == 0:
                y = unit(y, 4 * filters, 1, strides, activation=False)
            y = _relu(layers)(layers.add([y, z]))
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def densenet(layers: Any) -> tuple[Any, Any]:
    """Convolutions that read the joined results of all before them (Huang et al. 2017)."""
    x = layers.Input((32, 32, 3))
    y = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    for block in range(2):
        for _ in range(4):
            z = _normalised(layers, y, _relu(layers))
            z = layers.Conv2D(12, 3, padding="same", use_bias=False)(z)
            y = layers.concatenate([y, z])
        y = _normalised(layers, y, _relu(layers))
        if block == 0:
            y = layers.AveragePooling2D()(layers.Conv2D(32, 1, use_bias=False)(y))
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def inception(layers: Any) -> tuple[Any, Any]:
    """Branches of several windows and an average pooling, joined (Szegedy et al. 2015)."""

    def unit(y: Any, filters: int, *size: int) -> Any:
        y = layers.Conv2D(filters, size, padding="same", use_bias=False)(y)
        return _normalised(layers, y, _relu(layers))

    x = layers.Input((32, 32, 3))
    y = unit(x, 32, 3, 3)
    for _ in range(2):
        pooled = layers.AveragePooling2D(3, strides=1, padding="same")(y)
        y = layers.concatenate(
            [
                unit(y, 16, 1, 1),
                unit(unit(y, 12, 1, 1), 16, 5, 5),
                unit(unit(unit(y, 16, 1, 1), 24, 1, 3), 24, 3, 1),
                unit(pooled, 8, 1, 1),
            ]
        )
        y = layers.MaxPooling2D(3, strides=2)(y)
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def vgg(layers: Any) -> tuple[Any, Any]:
    """Pairs of convolutions and a pooling, dense layers at the end (Simonyan et al. 2015)."""
    x = y = layers.Input((32, 32, 3))
    for filters in (16, 32, 64):
        for _ in range(2):
            y = layers.Conv2D(filters, 3, padding="same", activation="relu")(y)
        y = layers.MaxPooling2D()(y)
    y = layers.Dense(256, activation="relu")(layers.Flatten()(y))
    return x, _classes(layers, layers.Dropout(0.5)(y))


def squeeze(layers: Any) -> tuple[Any, Any]:
    """Residual blocks whose channels are scaled by a gate (Hu et al. 2018)."""
    x = layers.Input((32, 32, 3))
    y = layers.Conv2D(32, 3, padding="same")(x)
    for _ in range(3):
        z = layers.Conv2D(32, 3, padding="same", use_bias=False)(y)
        z = _normalised(layers, z, _relu(layers))
        gate = layers.Dense(4, activation="relu")(layers.GlobalAveragePooling2D()(z))
        gate = layers.Reshape((1, 1, 32))(layers.Dense(32, activation="sigmoid")(gate))
        y = layers.add([y, layers.multiply([z, gate])])
    return x, _classes(layers, layers.GlobalAveragePooling2D()(y))


def lenet(layers: Any) -> tuple[Any, Any]:
    """Few channels, no multiple of 8, tanh and average pooling (LeCun et al. 1998)."""
    x = layers.Input((28, 28, 1))
    y = layers.Conv2D(6, 5, padding="same", activation="tanh")(x)
    y = layers.AveragePooling2D()(y)
    y = layers.Conv2D(20, 5, activation="tanh")(y)
    y = layers.Flatten()(layers.AveragePooling2D()(y))
    return x, _classes(layers, layers.Dense(84, activation="tanh")(y))


def unet(layers: Any) -> tuple[Any, Any]:
    """Down by pooling and up by repetition, with skips (Ronneberger et al. 2015)."""
    x = y = layers.Input((64, 64, 1))
    skips = []
    for filters in (8, 16, 32):
        y = layers.Conv2D(filters, 3, padding="same", activation="relu")(y)
        skips.append(y)
        y = layers.MaxPooling2D()(y)
    y = layers.Conv2D(64, 3, padding="same", activation="relu")(y)
    for filters, skip in zip((32, 16, 8), skips[::-1], strict=True):
        y = layers.concatenate([layers.UpSampling2D()(y), skip])
        y = layers.Conv2D(filters, 3, padding="same", activation="relu")(y)
    return x, layers.Conv2D(1, 1, activation="sigmoid")(y)


def autoencoder(layers: Any) -> tuple[Any, Any]:
    """The convolutional autoencoder of the Keras blog, with 12 channels."""
    x = y = layers.Input((32, 32, 3))
    for filters in (12, 12):
        y = layers.Conv2D(filters, 3, activation="relu", padding="same")(y)
        y = layers.MaxPooling2D(2, padding="same")(y)
    for filters in (12, 12):
        y = layers.Conv2D(filters, 3, activation="relu", padding="same")(y)
        y = layers.UpSampling2D(2)(y)
    return x, layers.Conv2D(3, 3, activation="sigmoid", padding="same")(y)


def segmentation(layers: Any) -> tuple[Any, Any]:
    """Strided and dilated convolutions, and bilinear enlargement (after Chen et al. 2017)."""
    x = y = layers.Input((64, 64, 3))
    for filters in (16, 32):
        y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(y)
        y = _normalised(layers, y, _relu(layers))
    y = layers.concatenate(
        [
            layers.Conv2D(16, 3, dilation_rate=rate, padding="same", activation="relu")(y)
            for rate in (1, 2, 4)
        ]
    )
    y = layers.UpSampling2D(4, interpolation="bilinear")(layers.Conv2D(16, 1)(y))
    return x, layers.Conv2D(1, 1, activation="sigmoid")(y)


def generator(layers: Any) -> tuple[Any, Any]:
    """Transposed convolutions with batch normalisation (Radford et al. 2016)."""
    x = layers.Input((100,))
    y = layers.Reshape((4, 4, 64))(layers.Dense(4 * 4 * 64)(x))
    for filters in (64, 32, 16):
        y = layers.Conv2DTranspose(filters, 4, strides=2, padding="same", use_bias=False)(y)
        y = _normalised(layers, y, _relu(layers))
    return x, layers.Conv2D(3, 3, padding="same", activation="tanh")(y)


def discriminator(layers: Any) -> tuple[Any, Any]:
    """Strided convolutions, leaky rectifiers and dropout (Radford et al. 2016)."""
    x = y = layers.Input((32, 32, 3))
    for filters in (32, 64, 64):
        y = layers.Conv2D(filters, 3, strides=2, padding="same")(y)
        y = layers.Dropout(0.3)(layers.LeakyReLU(0.2)(y))
    return x, layers.Dense(1, activation="sigmoid")(layers.Flatten()(y))


def volumes(layers: Any) -> tuple[Any, Any]:
    """Convolutions and poolings of volumes."""
    x = y = layers.Input((16, 16, 16, 1))
    for filters in (8, 16):
        y = layers.Conv3D(filters, 3, padding="same", activation="relu")(y)
        y = layers.MaxPooling3D()(y)
    return x, _classes(layers, layers.Dense(64, activation="relu")(layers.Flatten()(y)))


def wavenet(layers: Any) -> tuple[Any, Any]:
    """Gated causal convolutions of growing dilation (van den Oord et al. 2016)."""
    x = layers.Input((256, 16))
    y, skips = layers.Conv1D(32, 1)(x), []
    for rate in (1, 2, 4, 8, 16):
        options = {"dilation_rate": rate, "padding": "causal"}
        new = layers.Conv1D(32, 2, activation="tanh", **options)(y)
        gate = layers.Conv1D(32, 2, activation="sigmoid", **options)(y)
        skips.append(layers.Conv1D(32, 1)(layers.multiply([new, gate])))
        y = layers.add([y, skips[-1]])
    y = layers.Activation("relu")(layers.add(skips))
    return x, _classes(layers, layers.GlobalAveragePooling1D()(y))


def text_cnn(layers: Any) -> tuple[Any, Any]:
    """Windows of three sizes over words, and their maxima (Kim 2014)."""
    x = layers.Input((100,), dtype="int32")
    words = layers.Embedding(5_000, 64)(x)
    y = layers.concatenate(
        [
            layers.GlobalMaxPooling1D()(layers.Conv1D(48, size, activation="relu")(words))
            for size in (3, 4, 5)
        ]
    )
    return x, layers.Dense(1, activation="sigmoid")(layers.Dropout(0.5)(y))


def fast_text(layers: Any) -> tuple[Any, Any]:
    """A mean of rows of a large vocabulary, of Keras's examples/imdb_fasttext.py."""
    x = layers.Input((100,), dtype="int32")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(50_000, 50)(x))
    return x, layers.Dense(1, activation="sigmoid")(y)


def cnn_lstm(layers: Any) -> tuple[Any, Any]:
    """Keras's examples/imdb_cnn_lstm.py."""
    x = layers.Input((100,), dtype="int32")
    y = layers.Dropout(0.25)(layers.Embedding(5_000, 64)(x))
    y = layers.Conv1D(64, 5, activation="relu")(y)
    y = layers.LSTM(70)(layers.MaxPooling1D(4)(y))
    return x, layers.Dense(1, activation="sigmoid")(y)


def lstm_stack(layers: Any) -> tuple[Any, Any]:
    """Two LSTM layers, the first of which returns its sequence."""
    x = layers.Input((40, 32))
    y = layers.LSTM(64, return_sequences=True)(x)
    return x, _classes(layers, layers.LSTM(64)(y))


def masked_lstm(layers: Any) -> tuple[Any, Any]:
    """Words of sentences of all lengths, whose ends are masked."""
    x = layers.Input((60,), dtype="int32")
    y = layers.LSTM(64)(layers.Embedding(5_000, 64, mask_zero=True)(x))
    return x, layers.Dense(1, activation="sigmoid")(y)


def bidirectional(layers: Any) -> tuple[Any, Any]:
    """An LSTM in both directions, a result for each step."""
    x = layers.Input((40, 32))
    y = layers.Bidirectional(layers.LSTM(48, return_sequences=True))(x)
    return x, layers.TimeDistributed(layers.Dense(10, activation="softmax"))(y)


def gru(layers: Any) -> tuple[Any, Any]:
    """Keras 2's default GRU, whose reset gate acts before the product."""
    x = layers.Input((60, 32))
    y = layers.GRU(96, reset_after=False, recurrent_activation="hard_sigmoid")(x)
    return x, _classes(layers, y)


def conv_lstm(layers: Any) -> tuple[Any, Any]:
    """Keras's examples/conv_lstm.py, one layer."""
    x = layers.Input((8, 20, 20, 3))
    y = layers.BatchNormalization()(layers.ConvLSTM2D(16, 3, padding="same")(x))
    return x, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(y)


def sequence_to_sequence(layers: Any) -> tuple[Any, Any]:
    """An encoder and a decoder of numbers' digits, of Keras's examples/addition_rnn.py."""
    x = layers.Input((7, 12))
    y = layers.RepeatVector(4)(layers.LSTM(128)(x))
    y = layers.LSTM(128, return_sequences=True)(y)
    return x, layers.TimeDistributed(layers.Dense(12, activation="softmax"))(y)


def transformer(layers: Any) -> tuple[Any, Any]:
    """A block of attention with one head, and two dense layers (Vaswani et al. 2017)."""
    x = layers.Input((64, 64))
    query, key, value = (layers.Dense(64)(x) for _ in range(3))
    scores = layers.Lambda(lambda t: t * 0.125)(layers.dot([query, key], axes=2))
    y = layers.dot([layers.Softmax()(scores), value], axes=(2, 1))
    y = _normalised(layers, layers.add([x, layers.Dense(64)(y)]))
    z = layers.Dense(64)(layers.Dense(256, activation="relu")(y))
    y = _normalised(layers, layers.add([y, z]))
    return x, _classes(layers, layers.GlobalAveragePooling1D()(y))


def deep(layers: Any) -> tuple[Any, Any]:
    """Sixty narrow dense layers with elu."""
    x = y = layers.Input((64,))
    for _ in range(60):
        y = layers.Dense(64, activation="elu")(y)
    return x, _classes(layers, y)


def wide(layers: Any) -> tuple[Any, Any]:
    """Dense layers of two million weights each."""
    x = layers.Input((1024,))
    y = layers.Dense(2048, activation="relu")(x)
    y = layers.Dense(1024, activation="relu")(layers.Dropout(0.5)(y))
    return x, _classes(layers, y, 100)


def tabular(layers: Any) -> tuple[Any, Any]:
    """Embedded categories beside numbers, with selu and normalisation (Guo et al. 2016)."""
    kinds = [layers.Input((1,), dtype="int32") for _ in range(6)]
    numbers = layers.Input((20,))
    parts = [layers.Flatten()(layers.Embedding(1_000, 16)(kind)) for kind in kinds]
    y = layers.concatenate([*parts, layers.BatchNormalization()(numbers)])
    for units in (200, 100):
        y = layers.BatchNormalization()(layers.Dense(units, activation="selu")(y))
        y = layers.Dropout(0.2)(y)
    return [*kinds, numbers], layers.Dense(1, activation="sigmoid")(y)


def _values(shape: tuple[int, ...], target: tuple[int, ...]) -> Draw:
    """Return what draws inputs and targets between 0 and 1."""

    def batch(rng: np.random.Generator) -> Batch:
        return rng.random(shape, dtype="float32"), rng.random(target, dtype="float32")

    return batch


def _labels(shape: tuple[int, ...], steps: int, classes: int) -> Draw:
    """Return what draws sequences with a one-hot label for each of `steps`."""

    def batch(rng: np.random.Generator) -> Batch:
        labels = rng.integers(0, classes, (shape[0], steps))
        return rng.random(shape, dtype="float32"), np.eye(classes, dtype="float32")[labels]

    return batch


def _sentences(rng: np.random.Generator) -> Batch:
    x, y = tokens((32, 60), 5_000, 1)(rng)
    x[np.arange(60) >= rng.integers(1, 60, (32, 1), endpoint=True)] = 0
    return x, y


def _table(rng: np.random.Generator) -> Batch:
    kinds = [rng.integers(0, 1_000, (128, 1)).astype("int32") for _ in range(6)]
    numbers = rng.random((128, 20), dtype="float32")
    return [*kinds, numbers], rng.integers(0, 2, (128, 1)).astype("float32")


CLASSES, YES, SQUARES = "categorical_crossentropy", "binary_crossentropy", "mse"


def _workload(network: Network, batch: Draw, loss: str, optimizer: str = "Adam") -> Workload:
    def build(keras: ModuleType) -> Model:
        x, y = network(keras.layers)
        return compiled(keras, x, y, getattr(keras.optimizers, optimizer)(0.001), loss)

    assert network.__doc__ is not None
    inputs = batch(np.random.default_rng(0))[0]
    rows = len(inputs[0] if isinstance(inputs, list) else inputs)
    title = f"{network.__doc__.rstrip('.')}; {optimizer}, batch {rows}"
    return Workload(title, build, batch)


BREADTH = {
    "mobilenet": _workload(mobilenet, classified((16, 64, 64, 3), 10), CLASSES),
    "xception": _workload(xception, classified((16, 48, 48, 3), 10), CLASSES),
    "bottleneck": _workload(bottleneck, classified((16, 64, 64, 3), 10), CLASSES, "SGD"),
    "densenet": _workload(densenet, classified((16, 32, 32, 3), 10), CLASSES),
    "inception": _workload(inception, classified((16, 32, 32, 3), 10), CLASSES, "RMSprop"),
    "vgg": _workload(vgg, classified((32, 32, 32, 3), 10), CLASSES, "RMSprop"),
    "squeeze": _workload(squeeze, classified((16, 32, 32, 3), 10), CLASSES),
    "lenet": _workload(lenet, classified((64, 28, 28, 1), 10), CLASSES, "SGD"),
    "unet": _workload(unet, _values((8, 64, 64, 1), (8, 64, 64, 1)), YES),
    "autoencoder": _workload(autoencoder, _values((32, 32, 32, 3), (32, 32, 32, 3)), SQUARES),
    "segmentation": _workload(segmentation, _values((8, 64, 64, 3), (8, 64, 64, 1)), YES),
    "generator": _workload(generator, _values((32, 100), (32, 32, 32, 3)), SQUARES),
    "discriminator": _workload(discriminator, _values((32, 32, 32, 3), (32, 1)), YES),
    "volumes": _workload(volumes, classified((8, 16, 16, 16, 1), 10), CLASSES),
    "wavenet": _workload(wavenet, classified((16, 256, 16), 10), CLASSES),
    "text-cnn": _workload(text_cnn, tokens((32, 100), 5_000, 1), YES),
    "fast-text": _workload(fast_text, tokens((32, 100), 50_000, 1), YES),
    "cnn-lstm": _workload(cnn_lstm, tokens((32, 100), 5_000, 1), YES),
    "lstm-stack": _workload(lstm_stack, classified((32, 40, 32), 10), CLASSES),
    "masked-lstm": _workload(masked_lstm, _sentences, YES),
    "bidirectional": _workload(bidirectional, _labels((32, 40, 32), 40, 10), CLASSES, "RMSprop"),
    "default-gru": _workload(gru, classified((32, 60, 32), 10), CLASSES),
    "conv-lstm": _workload(conv_lstm, _values((8, 8, 20, 20, 3), (8, 20, 20, 1)), YES),
    "addition": _workload(sequence_to_sequence, _labels((128, 7, 12), 4, 12), CLASSES),
    "transformer": _workload(transformer, classified((32, 64, 64), 10), CLASSES),
    "deep-mlp": _workload(deep, classified((32, 64), 10), CLASSES),
    "wide-mlp": _workload(wide, classified((64, 1024), 100), CLASSES, "SGD"),
    "tabular": _workload(tabular, _table, YES),
}
"""The suite; no name is one of another workload."""
