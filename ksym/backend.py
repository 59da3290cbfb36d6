"""The module Keras loads: ``KERAS_BACKEND=ksym.backend``.

It hands on the names that Keras 2.3.1 imports, in the order of Keras's own sections; the work is
done in `ksym.keras`, by topic.
"""

from __future__ import annotations

import os as _os
import sys as _sys
from difflib import get_close_matches as _get_close_matches
from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

from ksym import origin as _origin
from ksym import versions as _versions
from ksym.keras import phase as _phase
from ksym.keras import shims as _shims
from ksym.keras import tensors as _tensors
from ksym.keras.scopes import Scope as _Scope
from ksym.keras.session import SESSION as _SESSION
from ksym.keras.session import Session as _Session

# names and kinds of tensors
from ksym.keras.tensors import (
    get_uid,
    is_keras_tensor,
    is_placeholder,
    is_sparse,
    is_tensor,
    is_variable,
    reset_uids,
    to_dense,
)
from ksym.keras.phase import learning_phase, set_learning_phase

# variables, placeholders and their values
from ksym.keras.state import (
    batch_get_value,
    batch_set_value,
    cast,
    constant,
    eye,
    get_value,
    identity,
    moving_average_update,
    ones,
    ones_like,
    placeholder,
    random_normal_variable,
    random_uniform_variable,
    set_value,
    update,
    update_add,
    update_sub,
    variable,
    zeros,
    zeros_like,
)
from ksym.keras.tensors import count_params, dtype, int_shape, ndim, shape, size

# linear algebra
from ksym.keras.linalg import batch_dot, dot, gather, transpose

# elementwise operations and reductions
from ksym.keras.math import (
    abs,
    all,
    any,
    argmax,
    argmin,
    clip,
    cos,
    cumprod,
    cumsum,
    equal,
    exp,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    logsumexp,
    max,
    maximum,
    mean,
    min,
    minimum,
    not_equal,
    pow,
    prod,
    round,
    sign,
    sin,
    sqrt,
    square,
    std,
    sum,
    var,
)

# shapes
from ksym.keras.resize import resize_images, resize_volumes
from ksym.keras.shape import (
    arange,
    batch_flatten,
    concatenate,
    expand_dims,
    flatten,
    one_hot,
    permute_dimensions,
    repeat,
    repeat_elements,
    reshape,
    reverse,
    slice,
    spatial_2d_padding,
    spatial_3d_padding,
    squeeze,
    stack,
    temporal_padding,
    tile,
)

# running graphs
from ksym.keras.execution import (
    control_dependencies,
    eval,
    function,
    gradients,
    print_tensor,
    stop_gradient,
)

# control flow
from ksym.keras.phase import in_test_phase, in_train_phase, switch
from ksym.keras.recurrent import foldl, foldr, map_fn, rnn

# neural networks
from ksym.keras.nn import (
    batch_normalization,
    binary_crossentropy,
    categorical_crossentropy,
    dropout,
    elu,
    hard_sigmoid,
    in_top_k,
    l2_normalize,
    normalize_batch_in_training,
    relu,
    sigmoid,
    softmax,
    softplus,
    softsign,
    sparse_categorical_crossentropy,
    tanh,
)

# convolutions
from ksym.keras.conv import (
    bias_add,
    conv1d,
    conv2d,
    conv2d_transpose,
    conv3d,
    conv3d_transpose,
    depthwise_conv2d,
    local_conv1d,
    local_conv2d,
    pool2d,
    pool3d,
    separable_conv1d,
    separable_conv2d,
)

# randomness
from ksym.keras.random import random_binomial, random_normal, random_uniform, truncated_normal

# connectionist temporal classification
from ksym.keras.ctc import ctc_batch_cost, ctc_decode, ctc_label_dense_to_sparse


name_scope = _Scope


def get_variable_shape(x: object) -> object:
    """Return the static shape of a variable."""
    return int_shape(x)


# names that only Keras on TensorFlow has
def get_session() -> _Session:
    """Return the session, which computes tensors by ``run(fetches, feed_dict)``; there is one."""
    return _SESSION


def clear_session() -> None:
    """Reset the learning phase and the names; graphs are freed when nothing refers to them."""
    _phase.PHASE.clear()
    _SESSION.clear()
    reset_uids()


def manual_variable_initialization(value: bool) -> None:
    """Do nothing: variables have values from the start, which may be replaced."""


# For hasattr and for messages: the name that is missing, and what there is instead.
_ELSEWHERE = {
    "set_session": "there is one session, which needs no setting; threads are chosen by "
    "OMP_NUM_THREADS, the device by KSYM_DEVICE",
    "tf": "this is not Keras on TensorFlow; use functions of K or of ksym",
    "tensorflow_backend": "this is not Keras on TensorFlow; use functions of K or of ksym",
    "get_graph": "there is no global graph; ksym.to_networkx(tensor) has that of a tensor",
    "is_tf_1": "this is not Keras on TensorFlow; K.backend() is 'ksym.backend'",
    "einsum": "it is ksym.einsum, which takes and returns the same tensors",
    "pattern_broadcast": "axes of size 1 are stretched without being told",
}


def __getattr__(name: str) -> object:
    """Raise an error for a missing name that says which name may have been meant."""
    known = {*globals(), *getattr(_sys.modules.get("keras.backend"), "__dict__", ())}
    near = _get_close_matches(name, [n for n in known if not n.startswith("_")])
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    if name in _ELSEWHERE:
        meant = f": {_ELSEWHERE[name]}"
    raise AttributeError(f"Keras's backend ksym.backend has no {name!r}{meant}")


def _install() -> None:
    _versions.check_keras()
    _tensors.install()
    _shims.install()
    keras = _find_spec("keras")
    if keras is not None and keras.origin:
        _origin.skip_frames_of(str(_Path(keras.origin).parent))
    if "keras" not in _sys.modules and keras is not None:
        # Imported before Keras: let Keras find this module, complete as it is now.
        _os.environ.setdefault("KERAS_BACKEND", __name__)
        _import_module("keras")
        _shims.install()
    loaded = _sys.modules.get("keras.backend")
    if loaded is not None:
        # Keras hands on a fixed list of names; users call these too.
        loaded.clear_session = clear_session  # type: ignore[attr-defined]
        loaded.get_session = get_session  # type: ignore[attr-defined]
        loaded.get_variable_shape = get_variable_shape  # type: ignore[attr-defined]
        loaded.manual_variable_initialization = (  # type: ignore[attr-defined]
            manual_variable_initialization
        )
        loaded.__getattr__ = __getattr__  # type: ignore[method-assign]


_install()
