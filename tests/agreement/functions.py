"""Every function of Keras's backend, called on arrays: what is compared with other backends.

A `Call` gives a function its arrays as placeholders of float type, first with their shapes, then
with every side unknown; `differentiable` says which of them gradients are taken of.  Functions that
compute no tensor from tensors are named in `OTHERS`, with the test that calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from models import TF


@dataclass(frozen=True)
class Call:
    """A function of K and of tensors, and arrays for the tensors."""

    make: Callable[..., Any]
    arrays: Sequence[np.ndarray]
    differentiable: Sequence[int]
    needs_shapes: str = ""  # why it does not take tensors of unknown shape
    apart: Mapping[str, str] = field(default_factory=dict)  # as in models.Case


CALLS: dict[str, Call] = {}
_random = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return _random.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    return _random.uniform(0.1, 0.9, shape)


def apart(*shape: int) -> np.ndarray:
    """Values that differ from each other and from 0, for what has kinks."""
    count = int(np.prod(shape))
    values = (np.arange(count) - count / 2 + 0.3) / count * 4
    return _random.permutation(values).reshape(shape)


def call(name: str, make: Callable[..., Any], *arrays: np.ndarray, **options: Any) -> None:
    """Declare a call of the function with a name; by default it can be differentiated."""
    options.setdefault("differentiable", range(len(arrays)))
    CALLS[name] = Call(make, arrays, **options)


FLAT: dict[str, Any] = {"differentiable": ()}  # whole numbers and truth values
RECTANGLE = apart(3, 4)

for _name in ("square", "abs", "exp", "sign", "sin", "cos", "elu", "relu", "softmax", "softplus"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x), RECTANGLE)
for _name in ("softsign", "sigmoid", "hard_sigmoid", "tanh", "identity", "transpose"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x), RECTANGLE)
for _name in ("sqrt", "log"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x), positive(3, 4))
for _name in ("max", "min", "sum", "prod", "var", "std", "mean", "logsumexp"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x, axis=[0, 2]), apart(2, 3, 4))
for _name in ("cumsum", "cumprod"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x, axis=1), RECTANGLE)
for _name in ("any", "all"):
    call(
        _name, lambda K, x, name=_name: getattr(K, name)(K.greater(x, 0), axis=1), RECTANGLE, **FLAT
    )
for _name in ("argmax", "argmin"):
    call(_name, lambda K, x, name=_name: getattr(K, name)(x, axis=1), RECTANGLE, **FLAT)
_ROUNDED = np.round(apart(3, 4))
for _name in ("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"):
    call(
        _name,
        lambda K, x, y, name=_name: getattr(K, name)(x, y),
        _ROUNDED,
        np.zeros((3, 4)),
        **FLAT,
    )
for _name in ("maximum", "minimum"):
    call(_name, lambda K, x, y, name=_name: getattr(K, name)(x, y), RECTANGLE, apart(3, 4))
call("round", lambda K, x: K.round(x), RECTANGLE, **FLAT)
call("pow", lambda K, x: K.pow(x, 3), RECTANGLE)
call("clip", lambda K, x: K.clip(x, -0.5, 0.7), RECTANGLE)
call("l2_normalize", lambda K, x: K.l2_normalize(x, axis=1), RECTANGLE)
call("cast", lambda K, x: K.cast(x, "int32"), RECTANGLE, **FLAT)
call("stop_gradient", lambda K, x: K.stop_gradient(x) * x, RECTANGLE)
call("switch", lambda K, x, y: K.switch(K.greater(x, 0), x * 2.0, y * 3.0), RECTANGLE, apart(3, 4))
call("in_train_phase", lambda K, x: K.in_train_phase(x, 2 * x), RECTANGLE)
call("in_test_phase", lambda K, x: K.in_test_phase(x, 2 * x), RECTANGLE)
call("zeros_like", lambda K, x: K.zeros_like(x), RECTANGLE, **FLAT)
call("ones_like", lambda K, x: K.ones_like(x), RECTANGLE, **FLAT)
call("shape", lambda K, x: K.shape(x), RECTANGLE, **FLAT)
call("size", lambda K, x: K.size(x), RECTANGLE, **FLAT)
call("arange", lambda K, x: K.arange(0, K.shape(x)[0]), RECTANGLE, **FLAT)

call("dot", lambda K, x, y: K.dot(x, y), normal(2, 3, 4), normal(4, 5))
call(
    "batch_dot",
    lambda K, x, y: K.batch_dot(x, y, axes=(2, 1)),
    normal(2, 3, 4),
    normal(2, 4, 5),
)
call(
    "gather",
    lambda K, x, i: K.gather(x, K.cast(i, "int32")),
    normal(5, 3),
    np.array([[0.0, 4, 4], [1, 2, 0]]),
    differentiable=(0,),
)
call("concatenate", lambda K, x, y: K.concatenate([x, y], axis=-1), normal(2, 3), normal(2, 4))
call("stack", lambda K, x, y: K.stack([x, y], axis=1), normal(2, 3), normal(2, 3))
call("reshape", lambda K, x: K.reshape(x, (2, -1)), RECTANGLE)
call("permute_dimensions", lambda K, x: K.permute_dimensions(x, (2, 0, 1)), normal(2, 3, 4))
call("repeat_elements", lambda K, x: K.repeat_elements(x, 3, axis=1), RECTANGLE)
call("repeat", lambda K, x: K.repeat(x, 3), RECTANGLE)
call("tile", lambda K, x: K.tile(x, (2, 3)), RECTANGLE)
call("flatten", lambda K, x: K.flatten(x), RECTANGLE)
call("batch_flatten", lambda K, x: K.batch_flatten(x), normal(2, 3, 4))
call("expand_dims", lambda K, x: K.expand_dims(x, 1), RECTANGLE)
call("squeeze", lambda K, x: K.squeeze(x, 1), normal(3, 1, 4))
call("temporal_padding", lambda K, x: K.temporal_padding(x, (1, 2)), normal(2, 3, 4))
call(
    "spatial_2d_padding", lambda K, x: K.spatial_2d_padding(x, ((1, 2), (0, 1))), normal(2, 3, 3, 2)
)
call(
    "spatial_3d_padding",
    lambda K, x: K.spatial_3d_padding(x, ((1, 0), (0, 2), (1, 1))),
    normal(2, 2, 3, 2, 2),
)
call("one_hot", lambda K, i: K.one_hot(K.cast(i, "int32"), 4), np.array([0.0, 3, 1]), **FLAT)
call("reverse", lambda K, x: K.reverse(x, (0, 1)), RECTANGLE)
call("slice", lambda K, x: K.slice(x, [0, 1], [2, 2]), RECTANGLE)
call(
    "resize_images",
    lambda K, x: K.resize_images(x, 2, 3, "channels_last", interpolation="bilinear"),
    normal(2, 3, 2, 2),
    needs_shapes="bilinear resizing needs the sizes; the nearest does not",
    apart={f"{TF} float64": "Keras on TensorFlow resizes bilinearly in float32 only"},
)
call(
    "resize_volumes",
    lambda K, x: K.resize_volumes(x, 2, 1, 3, "channels_last"),
    normal(2, 2, 2, 2, 1),
)

call(
    "batch_normalization",
    lambda K, x, m, v, b, g: K.batch_normalization(x, m, v, b, g, axis=-1),
    normal(3, 4),
    normal(4),
    positive(4),
    normal(4),
    positive(4),
)
call(
    "normalize_batch_in_training",
    lambda K, x, g, b: K.normalize_batch_in_training(x, g, b, [0])[0],
    normal(5, 4),
    positive(4),
    normal(4),
)
call(
    "categorical_crossentropy",
    lambda K, t, p: K.categorical_crossentropy(t, p),
    np.eye(3)[[0, 2, 1, 1]],
    positive(4, 3),
    differentiable=(1,),
)
call(
    "sparse_categorical_crossentropy",
    lambda K, t, p: K.sparse_categorical_crossentropy(t, p),
    np.array([[0.0], [2], [1], [1]]),
    positive(4, 3),
    differentiable=(1,),
    needs_shapes="the number of classes must be known",
)
call(
    "binary_crossentropy",
    lambda K, t, p: K.binary_crossentropy(t, p),
    np.array([[0.0, 1, 1], [1, 0, 1]]),
    positive(2, 3),
    differentiable=(1,),
)
call(
    "in_top_k",
    lambda K, p, t: K.in_top_k(K.cast(p, "float32"), K.cast(t, "int32"), 2),
    apart(4, 5),
    np.array([0.0, 4, 2, 1]),
    **FLAT,
)

_CHANNELS = "the number of channels must be known"
call(
    "conv1d",
    lambda K, x, k: K.conv1d(x, k, padding="causal", dilation_rate=2),
    normal(2, 7, 3),
    normal(2, 3, 4),
    needs_shapes="causal padding needs the size of the kernel; others do not",
)
call(
    "conv2d",
    lambda K, x, k: K.conv2d(x, k, strides=(2, 1), padding="same"),
    normal(2, 5, 5, 3),
    normal(3, 2, 3, 4),
)
call("conv3d", lambda K, x, k: K.conv3d(x, k), normal(2, 4, 4, 3, 2), normal(2, 3, 2, 2, 3))
call(
    "conv2d_transpose",
    lambda K, x, k: K.conv2d_transpose(x, k, (2, 9, 9, 4), strides=(2, 2), padding="valid"),
    normal(2, 4, 4, 3),
    normal(3, 3, 4, 3),
    needs_shapes=_CHANNELS,
)
call(
    "conv3d_transpose",
    lambda K, x, k: K.conv3d_transpose(x, k, (2, 4, 4, 6, 3), strides=(2, 2, 2)),
    normal(2, 2, 2, 3, 2),
    normal(2, 2, 2, 3, 2),
    needs_shapes=_CHANNELS,
)
call(
    "depthwise_conv2d",
    lambda K, x, k: K.depthwise_conv2d(x, k, padding="same"),
    normal(2, 5, 4, 3),
    normal(3, 2, 3, 2),
    needs_shapes=_CHANNELS,
)
call(
    "separable_conv1d",
    lambda K, x, d, p: K.separable_conv1d(x, d, p, padding="same"),
    normal(2, 6, 3),
    normal(2, 3, 2),
    normal(1, 6, 4),
    needs_shapes=_CHANNELS,
)
call(
    "separable_conv2d",
    lambda K, x, d, p: K.separable_conv2d(x, d, p, strides=(2, 2)),
    normal(2, 6, 5, 3),
    normal(2, 2, 3, 2),
    normal(1, 1, 6, 4),
    needs_shapes=_CHANNELS,
)
_WINDOWS = "the windows must be known"
call(
    "local_conv1d",
    lambda K, x, k: K.local_conv1d(x, k, (2,), (2,)),
    normal(2, 6, 3),
    normal(3, 6, 4),
    needs_shapes=_WINDOWS,
)
call(
    "local_conv2d",
    lambda K, x, k: K.local_conv2d(x, k, (2, 3), (2, 1), (2, 2)),
    normal(2, 4, 4, 3),
    normal(4, 18, 2),
    needs_shapes=_WINDOWS,
)
for _mode in ("pool2d", "pool3d"):
    _rank = int(_mode[4])
    call(
        _mode,
        lambda K, x, name=_mode, rank=_rank: getattr(K, name)(
            x, (2,) * rank, (2,) * rank, padding="same", pool_mode="avg"
        ),
        apart(2, *(5, 4, 3)[:_rank], 2),
        apart={f"{TF} float64": "TensorFlow has no pooling of three axes in float64"}
        if _rank == 3
        else {},
    )
call("bias_add", lambda K, x, b: K.bias_add(x, b), normal(2, 3, 4), normal(4))


def _steps(K, x, weights):
    def step(inputs, states):
        y = K.tanh(inputs + K.dot(states[0], weights))
        return y, [y]

    return K.rnn(step, x, [K.zeros_like(x[:, 0])])[1]


call("rnn", _steps, normal(2, 5, 3), normal(3, 3), needs_shapes="a loop needs the width of a step")
call("map_fn", lambda K, x: K.map_fn(lambda row: K.sum(row * row), x), RECTANGLE)
call("foldl", lambda K, x: K.foldl(lambda total, row: total * 0.5 + row, x), RECTANGLE)
call("foldr", lambda K, x: K.foldr(lambda total, row: total * 0.5 + row, x), RECTANGLE)

_SERIES = np.exp(normal(2, 6, 4))
_SERIES /= _SERIES.sum(-1, keepdims=True)
call(
    "ctc_batch_cost",
    lambda K, t, y, n, m: K.ctc_batch_cost(
        K.cast(t, "int32"), y, K.cast(n, "int32"), K.cast(m, "int32")
    ),
    np.array([[0.0, 1, 2], [2, 2, 0]]),
    _SERIES,
    np.array([[6.0], [5]]),
    np.array([[3.0], [2]]),
    differentiable=(1,),
    needs_shapes="the number of classes must be known",
)
call(
    "ctc_decode",
    lambda K, y, n: K.ctc_decode(y, K.cast(n, "int32"))[0][0],
    _SERIES,
    np.array([6.0, 5]),
    **FLAT,
)
call(
    "gradients",
    lambda K, x: K.gradients(K.sum(x * x * x), [x])[0],
    RECTANGLE,
)
call("update", lambda K, x: K.update(K.variable(np.ones((3, 4))), x), RECTANGLE, **FLAT)
call("update_add", lambda K, x: K.update_add(K.variable(np.ones((3, 4))), x), RECTANGLE, **FLAT)
call("update_sub", lambda K, x: K.update_sub(K.variable(np.ones((3, 4))), x), RECTANGLE, **FLAT)
call("print_tensor", lambda K, x: K.print_tensor(x, "") * 2.0, RECTANGLE)

TESTS = "tests/keras/test_backend.py"
DRAWN = "draws; its moments and seeds: Keras's own tests"
OTHERS = {
    **dict.fromkeys(
        ("dropout", "random_normal", "random_uniform", "random_binomial", "truncated_normal"), DRAWN
    ),
    **dict.fromkeys(("random_normal_variable", "random_uniform_variable"), DRAWN),
    **dict.fromkeys(
        ("variable", "constant", "placeholder", "zeros", "ones", "eye"), "makes: Keras's own tests"
    ),
    **dict.fromkeys(
        ("get_value", "set_value", "batch_get_value", "batch_set_value", "eval", "function"),
        "runs: Keras's own tests",
    ),
    **dict.fromkeys(
        ("is_keras_tensor", "is_placeholder", "is_sparse", "is_tensor", "is_variable"),
        f"tells: {TESTS}",
    ),
    **dict.fromkeys(
        ("dtype", "int_shape", "ndim", "count_params", "get_variable_shape"),
        "tells: Keras's own tests",
    ),
    **dict.fromkeys(("learning_phase", "set_learning_phase", "name_scope"), f"sets: {TESTS}"),
    **dict.fromkeys(("get_uid", "reset_uids", "clear_session"), f"names: {TESTS}"),
    **dict.fromkeys(("get_session", "manual_variable_initialization"), f"runs: {TESTS}"),
    "control_dependencies": f"orders: {TESTS}",
    "moving_average_update": "updates: batch normalisation in the models below",
    "to_dense": f"sparse tensors: {TESTS}",
    "ctc_label_dense_to_sparse": "sparse tensors: tests/keras/test_sequences.py",
}
