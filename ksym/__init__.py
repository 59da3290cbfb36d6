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

from ksym import versions as _versions  # the first import, as others need what it checks

# isort: split
from ksym import pickling as _pickling  # pickle takes tensors
from ksym import protocol as _protocol  # NumPy's functions take tensors
from ksym.autodiff import (
    explain_gradient,
    gradients,
)
from ksym.derivatives import (
    Lop,
    Rop,
    hessian,
    hessian_vector_product,
    jacobian,
    jvp,
    vjp,
)
from ksym.errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    ExecutionError,
    FileError,
    GradientError,
    GraphError,
    InputError,
    KsymError,
    KsymWarning,
    MissingMXNetError,
    MissingPackageError,
    NonFiniteError,
    ParallelError,
    ShapeError,
    SymbolicError,
    UnsupportedVersionError,
)
from ksym.export.mxnet import export_mxnet
from ksym.export.onnx import export_onnx
from ksym.function import (
    Function,
    evaluate,
    function,
)
from ksym.graph import (
    Node,
    Spec,
    Tensor,
    substitute,
    to_networkx,
)
from ksym.inspection.debugprint import debugprint
from ksym.inspection.drawing import draw
from ksym.inspection.layers import inspect
from ksym.loops.api import (
    cond,
    foldl,
    foldr,
    map_fn,
    scan,
    while_loop,
)
from ksym.loops.recurrent import (
    gru,
    lstm,
    simple_rnn,
)
from ksym.operator.operands import as_tensor
from ksym.ops import abs_ as abs
from ksym.ops import all_ as all
from ksym.ops import any_ as any
from ksym.ops import max_ as max
from ksym.ops import min_ as min
from ksym.ops import round_ as round
from ksym.ops import slice_ as slice
from ksym.ops import sum_ as sum
from ksym.ops.public import *
from ksym.origin import Origin, name_scope
from ksym.parallel.api import data_parallel, rank, shard, size
from ksym.runtime.device import (
    get_device,
    set_device,
)
from ksym.runtime.interop import to_mxnet
from ksym.saving.api import (
    load,
    save,
)
from ksym.variables import (
    Update,
    Variable,
    get_values,
    set_values,
)

__version__ = "0.1.0"
