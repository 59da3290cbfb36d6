"""Every operator, by family.

Operators whose names are also Python built-ins carry an underscore here (`sum_`, `max_`); the
package `ksym` offers them by their plain names.  The families use each other in gradients, which
run long after import, so they reach each other through this module: ``ops.reshape(...)``.
"""

from ksym.ops.binary import (
    add,
    equal,
    floor_divide,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    not_equal,
    power,
    subtract,
    true_divide,
)
from ksym.ops.choice import clip, where
from ksym.ops.convolution import convolution, convolution_gradient
from ksym.ops.ctc import ctc_loss
from ksym.ops.elementwise import (
    abs_,
    cast,
    ceil,
    cos,
    exp,
    expm1,
    floor,
    full_like,
    identity,
    is_zero,
    isfinite,
    isinf,
    isnan,
    log,
    log1p,
    negative,
    ones_like,
    round_,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    stop_gradient,
    tan,
    tanh,
    zeros_like,
)
from ksym.ops.indexing import index, one_hot, slice_, slice_gradient, take, take_gradient
from ksym.ops.leaves import placeholder, variable_leaf
from ksym.ops.linalg import dot, matmul, tensordot
from ksym.ops.local import extract_patches, local_convolution
from ksym.ops.losses import (
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    sparse_softmax_cross_entropy,
)
from ksym.ops.movement import (
    arange,
    concatenate,
    flip,
    full,
    ones,
    pad,
    repeat,
    stack,
    tile,
    zeros,
)
from ksym.ops.nn import log_softmax, relu, relu_gradient, softmax
from ksym.ops.normalization import batch_norm, batch_norm_gradient, normalize
from ksym.ops.pooling import (
    average_pool,
    average_pool_gradient,
    global_average_pool,
    global_max_pool,
    max_pool,
    max_pool_gradient,
    max_pool_select,
)
from ksym.ops.random import (
    RandomStream,
    dropout,
    random_normal,
    random_truncated_normal,
    random_uniform,
    seed,
)
from ksym.ops.reduction import (
    all_,
    any_,
    argmax,
    argmin,
    count,
    cumprod,
    cumsum,
    logsumexp,
    max_,
    mean,
    min_,
    prod,
    std,
    sum_,
    var,
)
from ksym.ops.registry import as_tensor, cast_to, constant, is_constant
from ksym.ops.resize import resize, resize_gradient
from ksym.ops.separable import depthwise_convolution, separable_convolution
from ksym.ops.shape import (
    broadcast_to,
    expand_dims,
    reshape,
    shape_of,
    squeeze,
    sum_to,
    transpose,
)
from ksym.ops.standardization import layer_norm
from ksym.ops.transposed import convolution_transpose

__all__ = [name for name in dir() if not name.startswith("_")]
