"""Every layer of Keras 2.3.1, in a model of its own behind a dense layer that trains with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from models import NO_POOLING, Case

_random = np.random.default_rng(9)
FLAT, SERIES, IMAGE, VOLUME = (4,), (6, 3), (6, 6, 3), (4, 5, 4, 2)
BATCH = 3
CASES: dict[str, Case] = {}


def layer(name: str, shape: tuple[int, ...], **options: Any) -> None:
    """Declare a layer by what it is made with and the shape of its input."""
    arguments = options.pop("arguments", ())
    apart = NO_POOLING if name in ("MaxPooling3D", "AveragePooling3D") else {}

    def build(keras):
        x = keras.layers.Input(shape)
        made = getattr(keras.layers, name)(*arguments, **options)
        return keras.Model(x, made(keras.layers.Dense(shape[-1])(x)))

    CASES[name] = Case(build, [_random.normal(size=(BATCH, *shape))], [], apart=apart)


def built(name: str, build: Any, *inputs: np.ndarray) -> None:
    """Declare a layer by a function of Keras that makes a model with it."""
    CASES[name] = Case(build, inputs, [])


layer("Dense", FLAT, units=3, activation="tanh")
CASES["InputLayer"] = CASES["Dense"]  # what Input makes
layer("Activation", FLAT, activation="softplus")
layer("ActivityRegularization", FLAT, l1=0.01, l2=0.02)
layer("Flatten", IMAGE)
layer("Reshape", IMAGE, target_shape=(12, -1))
layer("Permute", SERIES, dims=(2, 1))
layer("RepeatVector", FLAT, n=3)
layer("Lambda", FLAT, function=lambda x: x * x + 1.0)
layer("LeakyReLU", FLAT, alpha=0.25)
layer("PReLU", SERIES, shared_axes=[1])
layer("ELU", FLAT, alpha=0.5)
layer("ThresholdedReLU", FLAT, theta=0.2)
layer("Softmax", FLAT)
layer("ReLU", FLAT, max_value=1.0, negative_slope=0.25, threshold=0.125)
# At rate 0 they pass on what they get; what they draw is tested by Keras's own tests.
for _name in ("Dropout", "GaussianDropout", "AlphaDropout"):
    layer(_name, FLAT, rate=0.0)
layer("GaussianNoise", FLAT, stddev=0.0)
for _axes, _shape in ((1, SERIES), (2, IMAGE), (3, VOLUME)):
    layer(f"SpatialDropout{_axes}D", _shape, rate=0.0)
    layer(f"Conv{_axes}D", _shape, filters=4, kernel_size=2, strides=2, padding="same")
    layer(f"Cropping{_axes}D", _shape, arguments=(1 if _axes > 1 else (1, 2),))
    layer(f"ZeroPadding{_axes}D", _shape, arguments=(2,))
    layer(f"UpSampling{_axes}D", _shape, arguments=(2,))
    for _kind in ("Max", "Average"):
        layer(f"{_kind}Pooling{_axes}D", _shape, pool_size=2, strides=2, padding="same")
        layer(f"Global{_kind}Pooling{_axes}D", _shape)
layer("Conv2DTranspose", IMAGE, filters=2, kernel_size=3, strides=2, padding="same")
layer("Conv3DTranspose", VOLUME, filters=3, kernel_size=2, strides=2)
layer("SeparableConv1D", SERIES, filters=4, kernel_size=2, depth_multiplier=2)
layer("SeparableConv2D", IMAGE, filters=4, kernel_size=2, padding="same")
layer("DepthwiseConv2D", IMAGE, kernel_size=3, strides=2, depth_multiplier=2)
layer("LocallyConnected1D", SERIES, filters=4, kernel_size=2)
layer("LocallyConnected2D", IMAGE, filters=2, kernel_size=3, strides=2)
# The squares of what it gives always have the same sum, of which nothing would be learnt.
built(
    "BatchNormalization",
    lambda keras: keras.Sequential(
        [
            keras.layers.Dense(3, input_shape=IMAGE),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Activation("softplus"),
        ]
    ),
    _random.normal(size=(BATCH, *IMAGE)),
)
for _name in ("SimpleRNN", "GRU", "LSTM"):
    layer(_name, SERIES, units=4, return_sequences=True)
    built(
        f"{_name}Cell",
        lambda keras, name=_name: keras.Sequential(
            [
                keras.layers.RNN(
                    getattr(keras.layers, f"{name}Cell")(3), go_backwards=True, input_shape=SERIES
                )
            ]
        ),
        _random.normal(size=(BATCH, *SERIES)),
    )
layer("Masking", SERIES, mask_value=0.0)
layer("ConvLSTM2D", (3, *IMAGE), filters=2, kernel_size=2)
layer("MaxoutDense", FLAT, output_dim=3, nb_feature=2)
layer("Highway", FLAT)


def _recurrent(keras, make):
    x = keras.layers.Input(SERIES)
    return keras.Model(x, make(keras.layers)(keras.layers.Masking()(x)))


for _name, _make in {
    "RNN": lambda L: L.RNN(L.LSTMCell(3), unroll=True),
    "StackedRNNCells": lambda L: L.RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(2)])),
    "Bidirectional": lambda L: L.Bidirectional(L.LSTM(3), merge_mode="mul"),
    "TimeDistributed": lambda L: L.TimeDistributed(L.Dense(2)),
}.items():
    built(
        _name,
        lambda keras, make=_make: _recurrent(keras, make),
        _random.normal(size=(BATCH, *SERIES)),
    )
built(
    "ConvLSTM2DCell",
    lambda keras: keras.Sequential(
        [keras.layers.ConvLSTM2D(2, 3, padding="same", input_shape=(3, *IMAGE))]
    ),
    _random.normal(size=(BATCH, 3, *IMAGE)),
)
built(
    "Embedding",
    lambda keras: keras.Sequential(
        [keras.layers.Embedding(7, 3, mask_zero=True, input_length=5), keras.layers.LSTM(2)]
    ),
    _random.integers(0, 7, (BATCH, 5)).astype("float64"),
)


def _merging(keras, name, options):
    a, b = keras.layers.Input(FLAT), keras.layers.Input(FLAT)
    tensors = [keras.layers.Dense(4)(a), b]
    return keras.Model([a, b], getattr(keras.layers, name)(**options)(tensors))


for _name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"):
    built(
        _name,
        lambda keras, name=_name: _merging(keras, name, {"axes": -1} if name == "Dot" else {}),
        *(_random.normal(size=(BATCH, *FLAT)) for _ in range(2)),
    )

OTHERS = {
    "Layer": "what all layers are made from",
    "InputSpec": "what a layer says of its input; no layer",
    "Recurrent": "legacy, what GRU, LSTM and SimpleRNN were made from",
    "ConvRecurrent2D": "legacy, what ConvLSTM2D was made from",
    "CuDNNGRU": "Keras refuses it for any backend not named tensorflow",
    "CuDNNLSTM": "Keras refuses it for any backend not named tensorflow",
}
