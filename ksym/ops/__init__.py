"""Every operator, by family.

Operators whose names are also Python built-ins carry an underscore here (`sum_`, `max_`); the
package `ksym` offers them by their plain names.  The families use each other in gradients, which
run long after import, so they reach each other through this module: ``ops.reshape(...)``.
"""

from ksym.operator.operands import as_tensor, cast_to, promoted
from ksym.ops.arrays.arrangement import (
    diff,
    fliplr,
    flipud,
    moveaxis,
    pad_from_inside,
    ravel,
    roll,
    rot90,
    split,
    swapaxes,
    tril,
    triu,
    unstack,
)
from ksym.ops.arrays.creation import (
    arange,
    eye,
    full,
    linspace,
    ones,
    zeros,
)
from ksym.ops.arrays.diagonal import (
    diag,
    diagonal,
    matrix_diag,
    matrix_diag_part,
    trace,
)
from ksym.ops.arrays.dynamic import (
    argwhere,
    boolean_mask,
    flatnonzero,
    unique,
    unique_positions,
)
from ksym.ops.arrays.gathering import one_hot, take, take_gradient
from ksym.ops.arrays.indexing import (
    index,
    slice_,
    slice_bounds,
    slice_gradient,
)
from ksym.ops.arrays.joining import (
    array_split,
    atleast_1d,
    atleast_2d,
    atleast_3d,
    column_stack,
    dstack,
    hstack,
    meshgrid,
    vstack,
)
from ksym.ops.arrays.movement import (
    concatenate,
    flip,
    repeat,
    stack,
    tile,
)
from ksym.ops.arrays.padding import pad
from ksym.ops.arrays.scattering import (
    gather_nd,
    index_add,
    index_update,
    scatter_nd,
    take_along_axis,
)
from ksym.ops.arrays.shape import (
    broadcast_to,
    expand_dims,
    reshape,
    shape_of,
    squeeze,
    sum_to,
    transpose,
)
from ksym.ops.elementwise.activations import (
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
from ksym.ops.elementwise.binary import add, multiply, subtract
from ksym.ops.elementwise.choice import (
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
from ksym.ops.elementwise.comparison import (
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
from ksym.ops.elementwise.division import (
    floor_divide,
    fmod,
    mod,
    power,
    remainder,
    true_divide,
    truncate_divide,
)
from ksym.ops.elementwise.exponential import (
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
from ksym.ops.elementwise.numerical import (
    allclose,
    isneginf,
    isposinf,
    logit,
    sinc,
    trapz,
    tri,
    unravel_index,
    vander,
)
from ksym.ops.elementwise.rounding import (
    ceil,
    fix,
    floor,
    round_,
    trunc,
)
from ksym.ops.elementwise.special import (
    digamma,
    erf,
    erfc,
    erfinv,
    gamma,
    gammaln,
    polygamma,
)
from ksym.ops.elementwise.trigonometry import (
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
from ksym.ops.elementwise.unary import (
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
from ksym.ops.leaves import (
    constant,
    is_constant,
    placeholder,
    variable_leaf,
)
from ksym.ops.linalg.decompositions import (
    cholesky,
    eigh,
    qr,
    tall_qr,
)
from ksym.ops.linalg.einsum import contraction, einsum
from ksym.ops.linalg.matmul import (
    dot,
    inner,
    integer_matmul,
    matmul,
    matrix_transpose,
    outer,
    tensordot,
    vdot,
)
from ksym.ops.linalg.products import cross, kron, matrix_power
from ksym.ops.linalg.singular import pinv, svd
from ksym.ops.linalg.solving import (
    det,
    inv,
    slogdet,
    solve,
    triangular_solve,
)
from ksym.ops.nn.convolution import convolution, convolution_gradient
from ksym.ops.nn.ctc import ctc_loss
from ksym.ops.nn.ctc_decoding import ctc_decode
from ksym.ops.nn.global_pooling import global_average_pool, global_max_pool
from ksym.ops.nn.local import extract_patches, local_convolution
from ksym.ops.nn.losses import (
    sigmoid_cross_entropy,
    softmax_cross_entropy,
    sparse_softmax_cross_entropy,
)
from ksym.ops.nn.normalization import batch_norm, batch_norm_gradient, normalize
from ksym.ops.nn.pooling import (
    average_pool,
    average_pool_gradient,
    max_pool,
    max_pool_gradient,
    max_pool_select,
)
from ksym.ops.nn.resize import resize, resize_gradient
from ksym.ops.nn.separable import depthwise_convolution, separable_convolution
from ksym.ops.nn.softmax import glu, log_softmax, softmax
from ksym.ops.nn.standardization import (
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from ksym.ops.nn.transposed import convolution_transpose
from ksym.ops.random.discrete import (
    dropout,
    random_bernoulli,
    random_binomial,
    random_categorical,
    random_multinomial,
    random_shuffle,
)
from ksym.ops.random.distributions import (
    random_exponential,
    random_gamma,
    random_gumbel,
    random_laplace,
    random_normal,
    random_truncated_normal,
    random_uniform,
    symbolic_gamma,
)
from ksym.ops.random.standard import (
    random_integers,
    random_permutation,
    standard_exponential,
    standard_gamma,
    standard_gumbel,
    standard_laplace,
    standard_normal,
    standard_truncated_normal,
    standard_uniform,
)
from ksym.ops.random.streams import RandomStream, random_streams, seed
from ksym.ops.reductions.quantiles import (
    median,
    nanmax,
    nanmean,
    nanmin,
    nanprod,
    nansum,
    nanvar,
    percentile,
    quantile,
)
from ksym.ops.reductions.reduction import (
    all_,
    any_,
    argmax,
    argmin,
    max_,
    min_,
    prod,
    sum_,
)
from ksym.ops.reductions.running import (
    cummax,
    cummin,
    cumprod,
    cumsum,
    exclusive_cumprod,
    linear_recurrence,
)
from ksym.ops.reductions.sorting import (
    argsort,
    bincount,
    searchsorted,
    sort,
    top_k,
)
from ksym.ops.reductions.statistics import (
    count,
    count_nonzero,
    logsumexp,
    mean,
    moments,
    norm,
    ptp,
    std,
    var,
)

__all__ = [name for name in dir() if not name.startswith("_")]
