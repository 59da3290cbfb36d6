"""Random numbers that are functions of a key: the same key gives the same numbers.

Unlike those of a `RandomStream` they do not depend on what was drawn before.  So a program that
keeps its keys in variables, as Keras 3 does, can be repeated from any point, eagerly or compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import DTypeError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, cast_to, floating, known_dimensions, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.random.standard import float_dtype, size_operand
from ksym.ops.random.streams import DISTRIBUTIONS

__all__ = [
    "keyed_uniform",
    "keyed_normal",
    "keyed_truncated_normal",
    "keyed_gamma",
    "keyed_binomial",
]


def _key_operand(key: Any) -> Tensor:
    tensor = as_tensor(key)
    if dtypes.kind(tensor.dtype) != 1 or tensor.rank > 1:
        raise DTypeError(f"a key is an integer, or a vector of them, not {tensor.spec}")
    return cast_to(tensor, "int64")


def _generator(key: Any) -> np.random.Generator:
    words = np.atleast_1d(np.asarray(key, "int64")).astype("uint64").tolist()
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(words)))


class _Keyed(Operator):
    """An operator that draws standard numbers.

    Args:
        kind: The distribution, a key of `DISTRIBUTIONS`.
        doc: The docstring.
    """

    runs = "host"
    static_operands = (1,)

    def __init__(self, kind: str, doc: str):
        self.kind = kind
        super().__init__(f"keyed_{kind}", doc)

    def prepare(
        self, key: Any, shape: Any, dtype: Any = dtypes.DEFAULT_FLOAT
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_key_operand(key), size_operand(shape)], {"dtype": float_dtype(dtype)}

    def infer(self, key: Tensor, shape: Tensor, dtype: str) -> Spec:
        return Spec(tuple(known_dimensions(shape)), dtype)

    def numpy(self, key: Any, shape: Any, dtype: str) -> Any:
        return DISTRIBUTIONS[self.kind](_generator(key), tuple(int(d) for d in shape), dtype)

    def sample(self, draw: Draw) -> Sample:
        key = draw.array((2,), 0, 1000, dtype="int64")
        return Sample(key, np.array(draw.shape(min_side=0), "int64"))


_DOC = """{}

    Args:
        key: An integer, or a vector of them: equal keys give equal numbers.
        shape: The shape: ints, scalar tensors, a mix, or a vector.
        dtype: A float dtype.

    Raises:
        DTypeError: The key is not made of integers, or the dtype is no float dtype.
    """

keyed_uniform = _Keyed(
    "uniform", _DOC.format("Draw numbers from 0 up to, not including, 1 by a key.")
)
keyed_normal = _Keyed("normal", _DOC.format("Draw normal numbers by a key."))
keyed_truncated_normal = _Keyed(
    "truncated_normal",
    _DOC.format("Draw normal numbers by a key, again where they are beyond two."),
)


class _KeyedWith(Operator):
    """An operator that draws a number for each element of its parameters.

    Args:
        name: The name.
        draw: The function ``(generator, *parameters) -> numbers`` of NumPy's.
        doc: The docstring.
    """

    runs = "host"

    def __init__(self, name: str, draw: Callable[..., Any], doc: str):
        self._draw = draw
        super().__init__(name, doc)

    def infer(self, key: Tensor, *parameters: Tensor) -> Spec:
        self._check_shapes(parameters)
        return parameters[0].spec

    def check(self, node: Node) -> None:
        self._check_shapes(node.inputs[1:])

    def _check_shapes(self, parameters: Sequence[Tensor]) -> None:
        if not all(shapes.compatible(p.shape, parameters[0].shape) for p in parameters):
            raise ShapeError(f"the parameters have shapes {[p.shape for p in parameters]}")

    def numpy(self, key: Any, *parameters: Any) -> Any:
        numbers = self._draw(_generator(key), *(np.asarray(p, "float64") for p in parameters))
        return np.asarray(numbers).astype(np.asarray(parameters[0]).dtype)


class _KeyedGamma(_KeyedWith):
    # No gradient flows to alpha, as in NumPy, where a number is a jump away from another.
    unproven = dict.fromkeys(("gradients", "second order"), "numbers are drawn, not computed")

    def prepare(self, key: Any, alpha: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_key_operand(key), floating(alpha)], {}

    def sample(self, draw: Draw) -> Sample:
        key = draw.array((2,), 0, 1000, dtype="int64")
        return Sample(key, draw.array(draw.shape(min_side=0), 0.1, 5.0), differentiate=())


keyed_gamma = _KeyedGamma(
    "keyed_gamma",
    lambda generator, alpha: generator.standard_gamma(np.maximum(alpha, 0.0)),
    """Draw numbers of density x^(alpha-1) exp(-x) / Gamma(alpha), for positive x, by a key.

    Args:
        key: An integer, or a vector of them: equal keys give equal numbers.
        alpha: Positive floats, one for each number; no gradient flows to them.

    Raises:
        DTypeError: The key is not made of integers.
    """,
)


def _binomial(generator: np.random.Generator, n: Any, p: Any) -> Any:
    return generator.binomial(np.maximum(n, 0).astype("int64"), np.clip(p, 0.0, 1.0))


class _KeyedBinomial(_KeyedWith):
    unproven = dict.fromkeys(("gradients", "second order"), "numbers are drawn, not computed")

    def prepare(self, key: Any, n: Any, p: Any) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return [_key_operand(key), *(floating(v) for v in promoted(n, p))], {}

    def sample(self, draw: Draw) -> Sample:
        key = draw.array((2,), 0, 1000, dtype="int64")
        shape = draw.shape(min_side=0)
        n, p = np.floor(draw.array(shape, 0.0, 9.0)), draw.array(shape, 0.0, 1.0)
        return Sample(key, n, p, differentiate=())


keyed_binomial = _KeyedBinomial(
    "keyed_binomial",
    _binomial,
    """Draw the number of successes in n trials, each with probability p, by a key.

    Args:
        key: An integer, or a vector of them: equal keys give equal numbers.
        n: The numbers of trials, as floats.
        p: The probabilities, of the shape of n.

    Raises:
        DTypeError: The key is not made of integers.
        ShapeError: The parameters have different shapes.
    """,
)
