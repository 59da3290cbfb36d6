"""ksym: a symbolic graph runtime on MXNet's NDArray, and a Keras backend on top of it.

Build a graph from placeholders, variables and operators, differentiate it into another graph, and
compile both with updates of variables into one native function:

>>> import ksym
>>> x = ksym.placeholder((None, 3))
>>> w = ksym.Variable([[1.0], [2.0], [3.0]])
>>> loss = ksym.mean(ksym.square(x @ w))
>>> step = ksym.function([x], loss, updates=[w.assign_sub(0.01 * ksym.gradients(loss, w))])
>>> float(step([[1, 0, 0], [0, 1, 0]]))
2.5
"""

from ksym.autodiff import explain_gradient, gradients
from ksym.derivatives import Lop, Rop, hessian, hessian_vector_product, jacobian, jvp, vjp
from ksym.errors import (
    DeviceError,
    DTypeError,
    ExecutionError,
    GradientError,
    GraphError,
    InputError,
    KsymError,
    MissingMXNetError,
    ShapeError,
)
from ksym.function import Function, evaluate, function
from ksym.graph import Node, Origin, Spec, Tensor, name_scope, substitute, to_networkx
from ksym.ops import (
    RandomStream,
    arange,
    argmax,
    argmin,
    as_tensor,
    average_pool,
    batch_norm,
    broadcast_to,
    cast,
    ceil,
    clip,
    concatenate,
    constant,
    convolution,
    convolution_transpose,
    cos,
    cumprod,
    cumsum,
    dot,
    dropout,
    equal,
    exp,
    expand_dims,
    expm1,
    flip,
    floor,
    full,
    full_like,
    greater,
    greater_equal,
    identity,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    logsumexp,
    matmul,
    max_pool,
    maximum,
    mean,
    minimum,
    normalize,
    not_equal,
    one_hot,
    ones,
    ones_like,
    pad,
    placeholder,
    power,
    prod,
    random_bernoulli,
    random_binomial,
    random_categorical,
    random_exponential,
    random_gamma,
    random_gumbel,
    random_integers,
    random_laplace,
    random_multinomial,
    random_normal,
    random_permutation,
    random_shuffle,
    random_streams,
    random_truncated_normal,
    random_uniform,
    relu,
    repeat,
    reshape,
    seed,
    shape_of,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    sqrt,
    square,
    squeeze,
    stack,
    std,
    stop_gradient,
    take,
    tan,
    tanh,
    tensordot,
    tile,
    transpose,
    var,
    where,
    zeros,
    zeros_like,
)
from ksym.ops import abs_ as abs
from ksym.ops import all_ as all
from ksym.ops import any_ as any
from ksym.ops import max_ as max
from ksym.ops import min_ as min
from ksym.ops import round_ as round
from ksym.ops import slice_ as slice
from ksym.ops import sum_ as sum
from ksym.runtime.device import get_device, set_device
from ksym.variables import Update, Variable

__version__ = "0.1.0"
