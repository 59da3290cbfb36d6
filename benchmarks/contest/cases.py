"""The operators that are measured, each as the Keras layer, function or loss that emits it.

A case is written once and given the peer's `keras`; only what Keras 2.3.1, tf.keras and Keras 3
have in common is used.  Images have their channels last here; `operator_worker` turns them for the
other format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

Shape = tuple[int, ...]
Build = Callable[[ModuleType, Sequence[Any]], Any]
"""From the peer's `keras` and its inputs to the result."""


@dataclass(frozen=True)
class Case:
    """An operator with the sizes it is measured at.

    Attributes:
        build: Applies it to inputs.
        sizes: For each size the shapes of the inputs, the batch included.
        image: Whether its layers have a data format.
        integers: The number that inputs are below, if they are indices.
    """

    build: Build
    sizes: tuple[tuple[Shape, ...], ...]
    image: bool = False
    integers: int | None = None


def _one(*shapes: Shape) -> tuple[tuple[Shape, ...], ...]:
    return tuple((shape,) for shape in shapes)


def _two(*shapes: Shape) -> tuple[tuple[Shape, ...], ...]:
    return tuple((shape, shape) for shape in shapes)


IMAGES = _one((1, 32, 32, 32), (32, 16, 16, 64), (16, 56, 56, 32))
ODD_IMAGES = _one((1, 32, 32, 12), (32, 16, 16, 60), (16, 56, 56, 20))
PICTURES = _one((1, 64, 64, 3), (32, 32, 32, 3), (8, 112, 112, 3))
VOLUMES = _one((1, 16, 16, 16, 8), (4, 16, 16, 16, 16), (2, 24, 24, 24, 32))
STEPS = _one((1, 100, 64), (32, 100, 64), (32, 400, 128))
ROWS = _one((1, 256), (32, 512), (256, 2048))
WIDE = _one((1, 4096), (32, 1024), (128, 2048))
SENTENCES = _one((1, 50), (32, 100), (64, 400))


def _layer(name: str, *args: Any, sizes: Any, **options: Any) -> Case:
    """Return the case of a layer, or of one that joins its inputs."""

    def build(keras: ModuleType, inputs: Sequence[Any]) -> Any:
        given = inputs[0] if len(inputs) == 1 else list(inputs)
        return getattr(keras.layers, name)(*args, **options)(given)

    # Layers of images have a data format, which `keras.backend` sets.
    image = any(len(shape) > 3 for shape in sizes[0])
    return Case(build, sizes, image)


def _activation(name: str) -> Case:
    return _layer("Activation", name, sizes=IMAGES)


def _loss(name: str, sizes: Any = None, softmax: bool = False) -> Case:
    """Return the case of a loss, for each sample."""

    def build(keras: ModuleType, inputs: Sequence[Any]) -> Any:
        activations, compute = keras.activations, getattr(keras.losses, name)

        def loss(given: Sequence[Any]) -> Any:
            true = activations.sigmoid(given[0])
            predicted = (activations.softmax if softmax else activations.sigmoid)(given[1])
            return compute(true, predicted)

        return keras.layers.Lambda(loss)(list(inputs))

    return Case(build, sizes or _two((1, 10), (32, 100), (256, 1000)))


def _conv(filters: int, side: int = 3, sizes: Any = IMAGES, **options: Any) -> Case:
    return _layer("Conv2D", filters, side, padding="same", sizes=sizes, **options)


def _after(first: str, *args: Any, then: str, sizes: Any = IMAGES, **options: Any) -> Case:
    """Return the case of two layers after each other."""

    def build(keras: ModuleType, inputs: Sequence[Any]) -> Any:
        between = getattr(keras.layers, first)(*args, **options)(inputs[0])
        if then == "relu6":
            return keras.layers.ReLU(6.0)(between)
        if then in ("relu", "elu", "selu", "hard_sigmoid", "sigmoid", "tanh"):
            return keras.layers.Activation(then)(between)
        return getattr(keras.layers, then)()(between)

    return Case(build, sizes, True)


CASES: dict[str, Case] = {
    # Products
    "Dense 256": _layer("Dense", 256, sizes=ROWS),
    "Dense 4096": _layer("Dense", 4096, sizes=WIDE),
    "Dense over time": _layer("Dense", 64, sizes=STEPS),
    "Dot": _layer("Dot", 1, sizes=_two((1, 64), (32, 512), (256, 2048))),
    "batch_dot": _layer("Dot", (2, 2), sizes=_two((1, 50, 64), (32, 50, 64), (8, 200, 64))),
    # Convolutions
    "Conv1D": _layer("Conv1D", 64, 5, sizes=STEPS),
    "Conv1D causal": _layer("Conv1D", 64, 2, padding="causal", sizes=STEPS),
    "Conv1D causal, dilated 4": _layer(
        "Conv1D", 64, 2, padding="causal", dilation_rate=4, sizes=STEPS
    ),
    "Conv2D": _conv(32),
    "Conv2D 5x5": _conv(32, 5),
    "Conv2D 1x1": _conv(64, 1),
    "Conv2D 1x1 strided": _conv(64, 1, strides=2),
    "Conv2D strided": _conv(64, strides=2),
    "Conv2D dilated": _conv(32, dilation_rate=2),
    "Conv2D of 12 to 12": _conv(12, sizes=ODD_IMAGES),
    "Conv2D 1x1 to 48": _conv(48, 1, sizes=ODD_IMAGES),
    "Conv2D of pictures": _conv(32, sizes=PICTURES),
    "Conv2D of pictures 7x7 strided": _conv(64, 7, strides=2, sizes=PICTURES),
    "Conv2D to 1 filter": _conv(1),
    "Conv3D": _layer("Conv3D", 16, 3, padding="same", sizes=VOLUMES),
    "Conv2DTranspose": _layer("Conv2DTranspose", 32, 3, strides=2, padding="same", sizes=IMAGES),
    "Conv2DTranspose 4x4": _layer(
        "Conv2DTranspose", 32, 4, strides=2, padding="same", sizes=IMAGES
    ),
    "Conv2DTranspose to 3": _layer(
        "Conv2DTranspose", 3, 5, strides=2, padding="same", sizes=IMAGES
    ),
    "DepthwiseConv2D": _layer("DepthwiseConv2D", 3, padding="same", sizes=IMAGES),
    "DepthwiseConv2D strided": _layer(
        "DepthwiseConv2D", 3, strides=2, padding="same", sizes=IMAGES
    ),
    "SeparableConv2D": _layer("SeparableConv2D", 32, 3, padding="same", sizes=IMAGES),
    "Conv2D, BatchNormalization": _after(
        "Conv2D", 32, 3, padding="same", then="BatchNormalization"
    ),
    "Conv2DTranspose, BatchNormalization": _after(
        "Conv2DTranspose", 32, 3, strides=2, padding="same", then="BatchNormalization"
    ),
    "Conv2D, relu": _after("Conv2D", 32, 3, padding="same", then="relu"),
    "Conv2D, relu6": _after("Conv2D", 32, 3, padding="same", then="relu6"),
    "Conv2D, LeakyReLU": _after("Conv2D", 32, 3, padding="same", then="LeakyReLU"),
    "Conv2D, elu": _after("Conv2D", 32, 3, padding="same", then="elu"),
    "Conv2D, tanh": _after("Conv2D", 32, 3, padding="same", then="tanh"),
    "Conv2D, MaxPooling2D": _after("Conv2D", 32, 3, padding="same", then="MaxPooling2D"),
    "Conv2D, UpSampling2D": _after("Conv2D", 32, 3, padding="same", then="UpSampling2D"),
    # Pooling
    "MaxPooling1D": _layer("MaxPooling1D", 2, sizes=STEPS),
    "AveragePooling1D": _layer("AveragePooling1D", 2, sizes=STEPS),
    "MaxPooling2D": _layer("MaxPooling2D", 2, sizes=IMAGES),
    "MaxPooling2D 3, strides 2": _layer("MaxPooling2D", 3, 2, padding="same", sizes=IMAGES),
    "AveragePooling2D": _layer("AveragePooling2D", 2, sizes=IMAGES),
    "AveragePooling2D 3, strides 2": _layer("AveragePooling2D", 3, 2, padding="same", sizes=IMAGES),
    "MaxPooling3D": _layer("MaxPooling3D", 2, sizes=VOLUMES),
    "GlobalMaxPooling1D": _layer("GlobalMaxPooling1D", sizes=STEPS),
    "GlobalAveragePooling1D": _layer("GlobalAveragePooling1D", sizes=STEPS),
    "GlobalMaxPooling2D": _layer("GlobalMaxPooling2D", sizes=IMAGES),
    "GlobalAveragePooling2D": _layer("GlobalAveragePooling2D", sizes=IMAGES),
    # Elements
    "relu": _activation("relu"),
    "relu6": _layer("ReLU", 6.0, sizes=IMAGES),
    "LeakyReLU": _layer("LeakyReLU", sizes=IMAGES),
    "PReLU": _layer("PReLU", shared_axes=[1, 2], sizes=IMAGES),
    "elu": _activation("elu"),
    "selu": _activation("selu"),
    "sigmoid": _activation("sigmoid"),
    "hard_sigmoid": _activation("hard_sigmoid"),
    "tanh": _activation("tanh"),
    "softplus": _activation("softplus"),
    "softsign": _activation("softsign"),
    "exponential": _activation("exponential"),
    "Softmax": _layer("Softmax", sizes=_one((1, 1000), (32, 1000), (3200, 64))),
    "Add": _layer("Add", sizes=_two(*(shape for (shape,) in IMAGES))),
    "Multiply": _layer("Multiply", sizes=_two(*(shape for (shape,) in IMAGES))),
    "Maximum": _layer("Maximum", sizes=_two(*(shape for (shape,) in IMAGES))),
    "Dropout": _layer("Dropout", 0.5, sizes=IMAGES),
    "GaussianNoise": _layer("GaussianNoise", 0.5, sizes=ROWS),
    # Normalisation
    "BatchNormalization": _layer("BatchNormalization", sizes=IMAGES),
    "BatchNormalization of rows": _layer("BatchNormalization", sizes=ROWS),
    # Moving
    "ZeroPadding2D": _layer("ZeroPadding2D", 1, sizes=IMAGES),
    "Cropping2D": _layer("Cropping2D", 1, sizes=IMAGES),
    "UpSampling2D": _layer("UpSampling2D", 2, sizes=IMAGES),
    "UpSampling2D bilinear": _layer("UpSampling2D", 2, interpolation="bilinear", sizes=IMAGES),
    "UpSampling1D": _layer("UpSampling1D", 2, sizes=STEPS),
    "Concatenate": _layer("Concatenate", sizes=_two(*(shape for (shape,) in IMAGES))),
    "Concatenate over time": _layer(
        "Concatenate", axis=1, sizes=_two(*(shape for (shape,) in STEPS))
    ),
    "Flatten": _layer("Flatten", sizes=IMAGES),
    "Permute": _layer("Permute", (2, 1), sizes=STEPS),
    "RepeatVector": _layer("RepeatVector", 20, sizes=ROWS),
    "Embedding": Case(
        lambda keras, inputs: keras.layers.Embedding(20000, 64)(inputs[0]), SENTENCES, False, 20000
    ),
    # Recurrent layers
    "SimpleRNN": _layer("SimpleRNN", 64, sizes=STEPS),
    "LSTM": _layer("LSTM", 64, sizes=STEPS),
    "LSTM hard_sigmoid": _layer("LSTM", 64, recurrent_activation="hard_sigmoid", sizes=STEPS),
    "GRU": _layer("GRU", 64, reset_after=True, recurrent_activation="sigmoid", sizes=STEPS),
    "GRU reset before": _layer(
        "GRU", 64, reset_after=False, recurrent_activation="sigmoid", sizes=STEPS
    ),
    "GRU hard_sigmoid": _layer(
        "GRU", 64, reset_after=False, recurrent_activation="hard_sigmoid", sizes=STEPS
    ),
    "ConvLSTM2D": _layer(
        "ConvLSTM2D", 16, 3, padding="same", sizes=_one((1, 5, 16, 16, 8), (8, 10, 20, 20, 16))
    ),
    # Losses
    "mean_squared_error": _loss("mean_squared_error"),
    "mean_absolute_error": _loss("mean_absolute_error"),
    "binary_crossentropy": _loss("binary_crossentropy"),
    "categorical_crossentropy": _loss("categorical_crossentropy", softmax=True),
    "kullback_leibler_divergence": _loss("kullback_leibler_divergence"),
    "poisson": _loss("poisson"),
    "hinge": _loss("hinge"),
    "squared_hinge": _loss("squared_hinge"),
    "logcosh": _loss("logcosh"),
}
