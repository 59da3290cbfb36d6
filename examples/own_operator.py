"""Write an operator: declare it once, use it, and check it with the sample of its declaration.

The operator is log(cosh(x)), computed so that nothing overflows.  docs/extending.md explains each
part.  ksym's own property tests take it in as they take all declared operators, with no list to be
edited::

    PYTHONPATH=examples python -m pytest -p own_operator tests/properties -k log_cosh
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import ksym
from ksym import dtypes, ops
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, cast_to
from ksym.operator.sampling import Draw, Sample
from ksym.testing import verify_gradient


class LogCosh(Operator):
    """Return log(cosh(x)): near zero x**2 / 2, far from it the absolute value less log(2)."""

    elementwise = True

    def prepare(self, x: Any) -> tuple[list[Tensor], dict[str, Any]]:
        """Turn the argument of a call into an operand: a float, as for NumPy's functions."""
        x = as_tensor(x)
        return [cast_to(x, dtypes.floating(x.dtype))], {}

    def infer(self, x: Tensor) -> Spec:
        """Return the shape and dtype of the result."""
        return x.spec

    def numpy(self, x: np.ndarray) -> np.ndarray:
        """Compute it in NumPy: the meaning, with which tests compare."""
        return np.logaddexp(x, -x) - math.log(2.0)

    def expand(self, node: Node) -> Tensor:
        """Compose it of other operators, as MXNet has none for it."""
        size = ops.abs_(node.inputs[0])
        return size + ops.log1p(ops.exp(-2.0 * size)) - math.log(2.0)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor]:
        """Return the chain rule, in operators of the graph, so that it has a gradient itself."""
        return [g * ops.tanh(node.inputs[0])]

    def sample(self, draw: Draw) -> Sample:
        """Draw an operand for a test."""
        dtype = draw.dtype("float", "integer", "bool")
        return Sample(draw.array(draw.shape(min_side=0), -3.0, 3.0, dtype=dtype))


log_cosh = LogCosh()


def main() -> None:
    """Use the operator, and check its gradients of two orders against differences."""
    x = ksym.placeholder((None,), "float64", name="x")
    y = log_cosh(x)
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y), x)])
    values, slopes = f([0.0, 1.0, 1000.0])
    print("values:", np.round(values, 4).tolist())
    # -> values: [0.0, 0.4338, 999.3069]
    print("slopes:", np.round(slopes, 4).tolist())
    # -> slopes: [0.0, 0.7616, 1.0]

    verify_gradient(log_cosh, [np.array([-2.0, -0.1, 0.3, 4.0])])
    print("its gradients are right")
    # -> its gradients are right


if __name__ == "__main__":
    main()
