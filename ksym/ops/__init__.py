"""Every operator, by family.

Operators whose names are also Python built-ins carry an underscore here (`sum_`, `max_`); the
package `ksym` offers them by their plain names.  The families use each other in gradients, which
run long after import, so they reach each other through this module: ``ops.reshape(...)``.
"""

from ksym.ops.activations import (
    celu,
    elu,
    gelu,
    hard_sigmoid,
    hard_swish,
    hard_tanh,
    leaky_relu,
    log_sigmoid,
    mish,
    prelu,
    relu,
    relu6,
    relu_gradient,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    swish,
)
from ksym.ops.binary import (
    add,
    multiply,
    subtract,
)
from ksym.ops.choice import (
    clip,
    copysign,
    fmax,
    fmin,
    heaviside,
    isclose,
    maximum,
    minimum,
    nan_to_num,
    signbit,
    where,
)
from ksym.ops.comparison import (
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    equal,
    greater,
    greater_equal,
    invert,
    left_shift,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    not_equal,
    right_shift,
)
from ksym.ops.convolution import (
    convolution,
    convolution_gradient,
    convolution_transpose,
    depthwise_kernel,
)
from ksym.ops.distributions import (
    dropout,
    random_bernoulli,
    random_binomial,
    random_categorical,
    random_exponential,
    random_gamma,
    random_gumbel,
    random_laplace,
    random_multinomial,
    random_normal,
    random_shuffle,
    random_truncated_normal,
    random_uniform,
    symbolic_gamma,
)
from ksym.ops.division import (
    floor_divide,
    fmod,
    mod,
    power,
    remainder,
    true_divide,
    truncate_divide,
)
from ksym.ops.elementwise import (
    abs_,
    cast,
    cbrt,
    full_like,
    identity,
    is_zero,
    isfinite,
    isinf,
    isnan,
    negative,
    ones_like,
    positive,
    reciprocal,
    rsqrt,
    sign,
    sqrt,
    square,
    stop_gradient,
    zeros_like,
)
from ksym.ops.exponential import (
    exp,
    exp2,
    expm1,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    logaddexp2,
    xlogy,
)
from ksym.ops.indexing import index, one_hot, slice_, slice_gradient, take, take_gradient
from ksym.ops.leaves import placeholder, variable_leaf
from ksym.ops.linalg import dot, matmul, tensordot
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
from ksym.ops.nn import glu, log_softmax, softmax
from ksym.ops.normalization import batch_norm, batch_norm_gradient, normalize
from ksym.ops.pooling import (
    average_pool,
    average_pool_gradient,
    max_pool,
    max_pool_gradient,
    max_pool_select,
)
from ksym.ops.random import (
    RandomStream,
    random_integers,
    random_permutation,
    random_streams,
    seed,
    standard_exponential,
    standard_gamma,
    standard_gumbel,
    standard_laplace,
    standard_normal,
    standard_truncated_normal,
    standard_uniform,
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
from ksym.ops.registry import as_tensor, cast_to, constant, is_constant, promoted
from ksym.ops.rounding import (
    ceil,
    fix,
    floor,
    round_,
    trunc,
)
from ksym.ops.shape import (
    broadcast_to,
    expand_dims,
    reshape,
    shape_of,
    squeeze,
    sum_to,
    transpose,
)
from ksym.ops.special import (
    digamma,
    erf,
    erfc,
    erfinv,
    gamma,
    gammaln,
    polygamma,
)
from ksym.ops.trigonometry import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    deg2rad,
    degrees,
    hypot,
    rad2deg,
    radians,
    sin,
    sinh,
    tan,
    tanh,
)

__all__ = [name for name in dir() if not name.startswith("_")]
