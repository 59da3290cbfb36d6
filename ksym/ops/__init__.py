"""Every operator, by family, and what the rules of operators use of them.

Operators whose names are also Python built-ins carry an underscore here (`sum_`, `max_`); the
package `ksym` offers them by their plain names.  The families use each other in gradients, which
run long after import, so they reach each other through this module: ``ops.reshape(...)``.
"""

from ksym.operator.operands import as_tensor, cast_to, promoted, widened
from ksym.ops.arrays.arrangement import pad_from_inside
from ksym.ops.arrays.broadcasting import sum_to
from ksym.ops.arrays.dynamic import repeat_positions, unique_positions
from ksym.ops.arrays.gathering import take_gradient
from ksym.ops.arrays.indexing import index
from ksym.ops.arrays.slicing import slice_, slice_bounds, slice_gradient
from ksym.ops.elementwise.choice import choose
from ksym.ops.elementwise.rectifiers import relu6_gradient, relu_gradient
from ksym.ops.elementwise.rounding import round_
from ksym.ops.elementwise.unary import abs_, is_zero
from ksym.ops.leaves import is_constant, variable_leaf
from ksym.ops.linalg.decompositions import tall_qr
from ksym.ops.linalg.einsum import contraction
from ksym.ops.linalg.matmul import integer_matmul
from ksym.ops.nn.convolution import convolution_gradient
from ksym.ops.nn.losses import weighted
from ksym.ops.nn.normalization import batch_norm_gradient
from ksym.ops.nn.pooling import average_pool_gradient, max_pool_gradient, max_pool_select
from ksym.ops.nn.resize import resize_gradient
from ksym.ops.public import *
from ksym.ops.random.distributions import symbolic_gamma
from ksym.ops.random.standard import (
    random_mask,
    standard_exponential,
    standard_gamma,
    standard_gumbel,
    standard_laplace,
    standard_normal,
    standard_truncated_normal,
    standard_uniform,
)
from ksym.ops.reductions.reduction import all_, any_, max_, min_, sum_
from ksym.ops.reductions.statistics import count
