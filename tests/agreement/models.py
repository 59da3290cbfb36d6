"""Small models of all kinds, built alike by any Keras, and the batches they are trained on.

What differs between Keras 2.3.1 and tf.keras by design is said here: `Case.apart` names the
reference that a case cannot be compared with, `Case.without` the weights, each with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS = 10


@dataclass(frozen=True)
class Case:
    """A model, one batch for it, and how it is trained."""

    build: Callable[[Any], Any]
    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray]
    loss: Any = "mse"
    optimizer: tuple[str, Mapping[str, Any]] = ("SGD", {"learning_rate": 0.05})
    compiled: Mapping[str, Any] = field(default_factory=dict)  # more arguments of compile
    sample_weight: np.ndarray | None = None
    apart: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, tuple[str, str]] = field(default_factory=dict)


CASES: dict[str, Case] = {}

TF, TF_KERAS = "tensorflow", "tf.keras"
NO_CHANNELS_FIRST = {TF_KERAS: "TensorFlow convolves channels first on GPUs only"}
NO_POOLING = {
    f"{side} float64": "TensorFlow has no pooling of three axes in float64"
    for side in (TF, TF_KERAS)
}
OTHER_VARIANCE = {
    TF_KERAS: ("moving_variance", "tf.keras keeps the variance of the batch, not of its population")
}


def case(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray], **options: Any) -> Callable:
    """Declare the model that the decorated function builds."""

    def declare(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
        CASES[build.__name__.replace("_", " ")] = Case(build, inputs, targets, **options)
        return build

    return declare


_random = np.random.default_rng(20)


def normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    return _random.uniform(0.1, 0.9, shape)


def labels(count: int, classes: int) -> np.ndarray:
    return _random.integers(0, classes, count).astype("float64")


def one_hot(count: int, classes: int) -> np.ndarray:
    return np.eye(classes)[_random.integers(0, classes, count)]


def words(count: int, length: int, vocabulary: int) -> np.ndarray:
    """Sentences of different lengths, with zeros behind."""
    found = _random.integers(1, vocabulary, (count, length)).astype("float64")
    ends = _random.integers(1, length + 1, count)
    return np.where(np.arange(length) < ends[:, None], found, 0.0)


def sequences(count: int, length: int, features: int) -> np.ndarray:
    """Series whose steps are all zero here and there, for Masking."""
    values = normal(count, length, features)
    return values * (_random.random((count, length, 1)) > 0.3)


SOFTMAX = "sparse_categorical_crossentropy"
MOMENTUM = ("SGD", {"learning_rate": 0.05, "momentum": 0.9})


@case([normal(16, 6)], [labels(16, 3)], loss=SOFTMAX, optimizer=MOMENTUM)
def dense_softmax(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(8, activation="relu", input_shape=(6,)),
            layers.Dense(5, activation="tanh", use_bias=False),
            layers.Dense(3, activation="softmax"),
        ]
    )


@case([normal(12, 5)], [normal(12, 40)])
def activations(keras):
    layers = keras.layers
    x = layers.Input((5,))
    y = layers.Dense(4)(x)
    names = ("relu", "elu", "selu", "tanh", "sigmoid", "hard_sigmoid", "softplus", "softsign")
    made = [layers.Activation(name)(y) for name in names]
    made += [
        layers.LeakyReLU(0.2)(y),
        layers.PReLU()(y),
        layers.ThresholdedReLU(0.3)(y),
        layers.Softmax()(y),
        layers.ELU(0.5)(y),
        layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2)(y),
    ]
    return keras.Model(x, layers.Dense(40)(layers.Concatenate()(made)))


def _convolutional(keras, data_format, shape):
    layers = keras.layers
    options = {"data_format": data_format}
    return keras.Sequential(
        [
            layers.Conv2D(5, 3, activation="relu", padding="same", input_shape=shape, **options),
            layers.Conv2D(6, (3, 2), strides=2, **options),
            layers.MaxPooling2D(2, strides=1, **options),
            layers.Conv2D(4, 2, dilation_rate=2, padding="same", activation="elu", **options),
            layers.AveragePooling2D(2, **options),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


@case([normal(6, 10, 10, 3)], [one_hot(6, 3)], loss="categorical_crossentropy")
def convolutions_channels_last(keras):
    return _convolutional(keras, "channels_last", (10, 10, 3))


@case(
    [normal(6, 3, 10, 10)],
    [one_hot(6, 3)],
    loss="categorical_crossentropy",
    apart=NO_CHANNELS_FIRST,
)
def convolutions_channels_first(keras):
    return _convolutional(keras, "channels_first", (3, 10, 10))


@case([normal(6, 9, 9, 3)], [labels(6, 4)], loss=SOFTMAX, optimizer=MOMENTUM)
def separable_and_depthwise_convolutions(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.SeparableConv2D(
                6, 3, depth_multiplier=2, activation="relu", input_shape=(9, 9, 3)
            ),
            layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
            layers.SeparableConv2D(4, 2, padding="same", dilation_rate=2, use_bias=False),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


@case([normal(8, 16, 3)], [normal(8, 4)])
def one_spatial_axis(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, input_shape=(16, 3)),
            layers.MaxPooling1D(2, padding="same"),
            layers.SeparableConv1D(5, 2, activation="tanh"),
            layers.UpSampling1D(2),
            layers.ZeroPadding1D((1, 2)),
            layers.Cropping1D((2, 1)),
            layers.AveragePooling1D(3, strides=2, padding="same"),
            layers.Conv1D(4, 2, strides=2),
            layers.GlobalMaxPooling1D(),
        ]
    )


@case(
    [normal(4, 6, 6, 6, 2)],
    [normal(4, 3)],
    apart=NO_POOLING,
)
def three_spatial_axes(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv3D(3, 2, activation="tanh", padding="same", input_shape=(6, 6, 6, 2)),
            layers.MaxPooling3D(2),
            layers.Conv3DTranspose(4, 2, strides=2),
            layers.Cropping3D(((0, 1), (1, 0), (1, 1))),
            layers.ZeroPadding3D(1),
            layers.AveragePooling3D(2, padding="same"),
            layers.UpSampling3D((1, 2, 1)),
            layers.Conv3D(3, 3, strides=2),
            layers.GlobalAveragePooling3D(),
        ]
    )


@case([normal(5, 5, 5, 3)], [normal(5, 47, 47, 2)])
def transposed_convolutions(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2DTranspose(4, 3, strides=2, padding="same", input_shape=(5, 5, 3)),
            layers.Activation("softplus"),
            layers.Conv2DTranspose(3, 2),
            layers.ZeroPadding2D(((1, 1), (2, 0))),
            layers.Conv2DTranspose(2, 2, strides=2, output_padding=1, padding="same"),
            layers.UpSampling2D(2, interpolation="nearest"),
            layers.Cropping2D(((1, 2), (3, 0))),
        ]
    )


@case([normal(5, 7, 7, 3)], [normal(5, 2)], optimizer=("SGD", {"learning_rate": 0.005}))
def pooling_with_same_padding(keras):
    layers = keras.layers
    x = layers.Input((7, 7, 3))
    y = layers.Conv2D(4, 1)(x)
    made = [
        layers.MaxPooling2D(3, strides=2, padding="same")(y),
        layers.AveragePooling2D(3, strides=2, padding="same")(y),
        layers.MaxPooling2D((2, 3), strides=2, padding="same")(y),
        layers.AveragePooling2D(2, padding="same")(y),
    ]
    y = layers.Add()(made)
    pooled = layers.Concatenate()(
        [layers.GlobalMaxPooling2D()(y), layers.GlobalAveragePooling2D()(y)]
    )
    return keras.Model(x, layers.Dense(2)(pooled))


@case([normal(6, 8, 8, 2), normal(6, 9, 3)], [normal(6, 3)])
def locally_connected(keras):
    layers = keras.layers
    image, series = layers.Input((8, 8, 2)), layers.Input((9, 3))
    y = layers.LocallyConnected2D(3, (3, 2), strides=(2, 1), activation="tanh")(image)
    z = layers.LocallyConnected1D(4, 3, strides=2)(series)
    return keras.Model(
        [image, series],
        layers.Dense(3)(layers.Concatenate()([layers.Flatten()(t) for t in (y, z)])),
    )


@case([normal(8, 6, 6, 3)], [labels(8, 3)], loss=SOFTMAX, without=OTHER_VARIANCE)
def batch_normalisation(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2D(4, 3, input_shape=(6, 6, 3)),
            layers.BatchNormalization(momentum=0.8),
            layers.Activation("relu"),
            layers.BatchNormalization(axis=1, scale=False, momentum=0.7),
            layers.Flatten(),
            layers.Dense(6),
            layers.BatchNormalization(center=False, epsilon=0.01),
            layers.Dense(3, activation="softmax"),
        ]
    )


@case([words(8, 7, 12)], [labels(8, 3)], loss=SOFTMAX)
def embedding_and_masked_lstm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Embedding(12, 5, mask_zero=True, input_length=7),
            layers.LSTM(6, return_sequences=True, recurrent_activation="sigmoid"),
            layers.LSTM(4, recurrent_activation="hard_sigmoid", unit_forget_bias=False),
            layers.Dense(3, activation="softmax"),
        ]
    )


@case([sequences(6, 7, 3)], [normal(6, 2)])
def masked_gru_both_ways(keras):
    layers = keras.layers
    x = layers.Input((7, 3))
    masked = layers.Masking()(x)
    y = layers.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid")(masked)
    z = layers.GRU(4, reset_after=True, recurrent_activation="sigmoid", go_backwards=True)(masked)
    return keras.Model(x, layers.Dense(2)(layers.Multiply()([y, z])))


@case([sequences(6, 6, 3)], [normal(6, 6, 2)], sample_weight=positive(6))
def simple_rnn_in_layers(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.SimpleRNN(5, return_sequences=True, input_shape=(6, 3)),
            layers.RNN([layers.SimpleRNNCell(4), layers.LSTMCell(3)], return_sequences=True),
            layers.SimpleRNN(4, return_sequences=True, unroll=True, activation="relu"),
            layers.TimeDistributed(layers.Dense(2)),
        ]
    )


@case([normal(4, 5, 3)], [normal(4, 2)])
def states_kept_between_batches(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.LSTM(4, stateful=True, return_sequences=True, batch_input_shape=(4, 5, 3)),
            layers.GRU(3, stateful=True, reset_after=False),
            layers.Dense(2),
        ]
    )


@case([words(6, 6, 9)], [labels(6, 2)], loss=SOFTMAX)
def bidirectional(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Embedding(9, 4, mask_zero=True, input_length=6),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.Bidirectional(layers.GRU(3, reset_after=False), merge_mode="sum"),
            layers.Dense(2, activation="softmax"),
        ]
    )


@case([normal(3, 4, 6, 6, 2)], [normal(3, 4, 6, 6, 1)])
def convolutional_lstm(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.ConvLSTM2D(
                3, 3, padding="same", return_sequences=True, input_shape=(4, 6, 6, 2)
            ),
            layers.TimeDistributed(layers.Conv2D(1, 3, padding="same")),
        ]
    )


@case(
    [normal(12, 4), normal(12, 4)],
    [normal(12, 1), one_hot(12, 2)],
    loss=["mse", "categorical_crossentropy"],
    compiled={"loss_weights": [1.0, 0.3]},
)
def several_inputs_and_outputs_over_shared_layers(keras):
    layers = keras.layers
    a, b = layers.Input((4,)), layers.Input((4,))
    shared = layers.Dense(5, activation="tanh")
    left, right = shared(a), shared(b)
    merged = [
        merge()([left, right])
        for merge in (
            layers.Add,
            layers.Subtract,
            layers.Multiply,
            layers.Maximum,
            layers.Minimum,
            layers.Average,
        )
    ]
    joined = layers.Concatenate()([*merged, layers.Dot(axes=-1, normalize=True)([left, right])])
    return keras.Model(
        [a, b], [layers.Dense(1)(joined), layers.Dense(2, activation="softmax")(joined)]
    )


@case([normal(6, 8, 8, 3)], [labels(6, 3)], loss=SOFTMAX, without=OTHER_VARIANCE)
def residual_blocks(keras):
    layers = keras.layers
    x = layers.Input((8, 8, 3))
    y = layers.Conv2D(4, 3, padding="same")(x)
    for strides in (1, 2):
        z = layers.BatchNormalization()(y)
        z = layers.Conv2D(4, 3, padding="same", strides=strides)(layers.Activation("relu")(z))
        y = layers.Add()([layers.Conv2D(4, 1, strides=strides)(y), z])
    y = layers.GlobalAveragePooling2D()(layers.Activation("relu")(y))
    return keras.Model(x, layers.Dense(3, activation="softmax")(y))


@case(
    [normal(16, 5)],
    [labels(16, 2).reshape(16, 1)],
    loss="binary_crossentropy",
    sample_weight=positive(16),
    apart={TF: "this TensorFlow takes logarithms of outputs of layers, older ones and ksym do not"},
)
def binary_crossentropy_with_sample_weights(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(6, activation="elu", input_shape=(5,)),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def _pass_on(y_true, y_pred):
    return y_pred


@case(
    [
        normal(4, 8, 5),
        np.array([[0, 1, 2], [3, 3, 0], [1, 0, 0], [2, 2, 2]], float),
        np.array([[8], [8], [7], [8]], float),
        np.array([[3], [2], [1], [3]], float),
    ],
    [np.zeros((4, 1))],
    loss=_pass_on,
)
def connectionist_temporal_classification(keras):
    layers, backend = keras.layers, keras.backend
    series, said = layers.Input((8, 5)), layers.Input((3,))
    steps, length = layers.Input((1,)), layers.Input((1,))
    y = layers.LSTM(6, return_sequences=True)(series)
    y = layers.Dense(5, activation="softmax")(y)
    cost = layers.Lambda(
        lambda t: backend.ctc_batch_cost(
            backend.cast(t[0], "int32"),
            t[1],
            backend.cast(t[2], "int32"),
            backend.cast(t[3], "int32"),
        ),
        output_shape=(1,),
    )
    return keras.Model([series, said, steps, length], cost([said, y, steps, length]))


def _regularized(keras, activity):
    layers, constraints = keras.layers, keras.constraints
    regularizers = keras.regularizers
    return keras.Sequential(
        [
            layers.Dense(
                6,
                input_shape=(5,),
                kernel_regularizer=regularizers.l1_l2(0.01, 0.02),
                bias_regularizer=regularizers.l2(0.03),
                kernel_constraint=constraints.MaxNorm(0.7),
                bias_constraint=constraints.NonNeg(),
                activity_regularizer=regularizers.l2(0.02) if activity else None,
            ),
            layers.Dense(4, kernel_constraint=constraints.UnitNorm(), activation="tanh"),
            layers.Dense(3, kernel_constraint=constraints.MinMaxNorm(0.2, 0.8, rate=0.5)),
        ]
    )


@case([normal(10, 5)], [normal(10, 3)])
def regularizers_and_constraints(keras):
    return _regularized(keras, activity=False)


@case(
    [normal(10, 5)],
    [normal(10, 3)],
    apart={TF_KERAS: "tf.keras divides what an activity costs by the size of the batch"},
)
def regularized_activities(keras):
    return _regularized(keras, activity=True)


@case([normal(10, 5)], [normal(10, 3)])
def dropout_and_noise_turned_off(keras):
    layers = keras.layers
    x = layers.Input((5,))
    y = layers.Dense(6, activation="relu")(x)
    for layer in (
        layers.Dropout(0.5),
        layers.GaussianNoise(0.5),
        layers.GaussianDropout(0.5),
        layers.AlphaDropout(0.5),
    ):
        y = layer(y, training=False)
    return keras.Model(x, layers.Dense(3)(y))


@case(
    [normal(10, 4)],
    [
        normal(10, 3),
        100.0 * positive(10, 3),  # of small ones percentages are so steep that training diverges
        positive(10, 3),
        np.sign(normal(10, 3)),
        np.sign(normal(10, 3)),
        normal(10, 3),
        positive(10, 3),
        positive(10, 3),
        one_hot(10, 3),
        normal(10, 3),
    ],
    loss=[
        "mean_absolute_error",
        "mean_absolute_percentage_error",
        "mean_squared_logarithmic_error",
        "hinge",
        "squared_hinge",
        "logcosh",
        "kullback_leibler_divergence",
        "poisson",
        "categorical_hinge",
        "cosine_similarity",
    ],
    apart={f"{TF} float64": "Keras on TensorFlow takes log(2) in float32 only"},
)
def losses(keras):
    layers = keras.layers
    x = layers.Input((4,))
    y = layers.Dense(6, activation="tanh")(x)
    made = [layers.Dense(3, activation="sigmoid" if 6 <= i < 8 else None)(y) for i in range(10)]
    return keras.Model(x, made)


@case(
    [normal(5, 6, 6, 2)],
    [np.ones((5, 1))],
    apart={TF_KERAS: "tf.keras has no gradients inside of a model"},
)
def gradient_penalty(keras):
    layers, backend = keras.layers, keras.backend
    x = layers.Input((6, 6, 2))
    critic = keras.Sequential(
        [
            layers.Conv2D(
                4, 3, strides=2, padding="same", activation="tanh", input_shape=(6, 6, 2)
            ),
            layers.Conv2D(3, 2, activation="softplus"),
            layers.Flatten(),
            layers.Dense(1, use_bias=False),
        ]
    )

    def norms(tensors):
        gradient = backend.gradients(tensors[0], [tensors[1]])[0]
        return backend.sqrt(backend.sum(backend.square(gradient), axis=[1, 2, 3]))[:, None]

    return keras.Model(x, layers.Lambda(norms, output_shape=(1,))([critic(x), x]))


def _small(keras):
    layers = keras.layers
    return keras.Sequential([layers.Dense(6, activation="tanh", input_shape=(5,)), layers.Dense(2)])


_BATCH = ([normal(10, 5)], [normal(10, 2)])
for _name, _options in (
    ("SGD", {"learning_rate": 0.1, "momentum": 0.8, "nesterov": True, "decay": 0.01}),
    ("SGD", {"learning_rate": 0.3, "clipnorm": 0.4}),
    ("SGD", {"learning_rate": 0.3, "clipvalue": 0.05}),
    ("RMSprop", {"learning_rate": 0.01, "rho": 0.8}),
    ("Adagrad", {"learning_rate": 0.05}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adam", {"learning_rate": 0.01, "decay": 0.02}),
    ("Adam", {"learning_rate": 0.01, "amsgrad": True}),
    ("Adamax", {"learning_rate": 0.01}),
    ("Nadam", {"learning_rate": 0.01}),
):
    _more = [
        f"{k} {v}" if v is not True else k for k, v in _options.items() if k != "learning_rate"
    ]
    CASES[", ".join([_name, *_more])] = Case(_small, *_BATCH, optimizer=(_name, _options))
