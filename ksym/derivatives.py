"""Derivatives built on `gradients`: products with Jacobians, Jacobians and Hessians.

All of them are graph tensors, so they can be differentiated again.  Tensors that do not depend on
each other have the derivative zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

from ksym import dtypes, ops, shapes
from ksym.autodiff import gradients
from ksym.errors import GradientError, ShapeError
from ksym.graph import Tensor, listed_tensors, substitute

Structure = TypeVar("Structure", bound=Tensor | Sequence[Tensor])


def _many(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return listed_tensors(tensors, "an argument")


def vjp(
    outputs: Tensor | Sequence[Tensor],
    inputs: Structure,
    cotangents: Tensor | Sequence[Tensor],
) -> Structure:
    """Return the product of vectors with a Jacobian: the cotangents pulled back to the inputs.

    It is the result of ``jax.vjp(f, *inputs)[1](cotangents)``, where outputs are f(inputs).

    Args:
        outputs: A tensor or several.
        inputs: The tensors to differentiate by, one or several.
        cotangents: One for each output, of its shape and dtype.

    Returns:
        For each input a tensor of its shape and dtype; a list if inputs is a sequence.

    Raises:
        GradientError: The cotangents do not match the outputs, or a tensor is not a float.

    >>> x = ops.placeholder((3,))
    >>> vjp(x[:2] * x[1:], x, ops.ones((2,))).shape
    (3,)
    """
    sources, arriving = _many(inputs), _many(cotangents)
    results = gradients(outputs, sources, output_gradients=arriving, disconnected="zero")
    return cast(Structure, results[0] if isinstance(inputs, Tensor) else results)


def jvp(
    outputs: Structure,
    inputs: Tensor | Sequence[Tensor],
    tangents: Tensor | Sequence[Tensor],
) -> Structure:
    """Return the product of a Jacobian with vectors: the tangents pushed on to the outputs.

    It is ``jax.jvp(f, inputs, tangents)[1]``, where outputs are f(inputs).  The product of a vector
    with the Jacobian from the left is linear in the vector; the result is its derivative by the
    vector (J. Townsend, A new trick for calculating Jacobian vector products, 2017).

    Args:
        outputs: A tensor or several.
        inputs: The tensors they are computed from, one or several.
        tangents: One for each input, of its shape and dtype.

    Returns:
        For each output a tensor of its shape and dtype; a list if outputs is a sequence.

    Raises:
        GradientError: The tangents do not match the inputs, or a tensor is not a float.

    >>> x = ops.placeholder((3,))
    >>> jvp(x[:2] * x[1:], x, ops.ones((3,))).shape
    (2,)
    """
    targets, sources, directions = _many(outputs), _many(inputs), _many(tangents)
    # Not constants: the walk back would stop at a gradient of zero.
    probes = [ops.placeholder(t.shape, t.dtype, name="cotangent") for t in targets]
    pulled = gradients(targets, sources, output_gradients=probes, disconnected="zero")
    pushed = gradients(pulled, probes, output_gradients=directions, disconnected="zero")
    # The derivative of a linear function does not contain the probes, but for their shapes.
    results = substitute(pushed, dict(zip(probes, map(ops.zeros_like, targets), strict=True)))
    return cast(Structure, results[0] if isinstance(outputs, Tensor) else results)


def Lop(  # noqa: N802
    f: Tensor | Sequence[Tensor], wrt: Structure, eval_points: Tensor | Sequence[Tensor]
) -> Structure:
    """Return `vjp` under Theano's name, with its order of arguments: f, wrt, eval_points."""
    return vjp(f, wrt, eval_points)


def Rop(  # noqa: N802
    f: Structure, wrt: Tensor | Sequence[Tensor], eval_points: Tensor | Sequence[Tensor]
) -> Structure:
    """Return `jvp` under Theano's name, with its order of arguments: f, wrt, eval_points."""
    return jvp(f, wrt, eval_points)


def jacobian(y: Tensor, x: Tensor) -> Tensor:
    """Return the derivative of each element of y by each element of x.

    One gradient is built for each element of y.

    Args:
        y: A tensor whose shape is known while the graph is built.
        x: The tensor to differentiate by.

    Returns:
        A tensor of shape y.shape + x.shape and the dtype of x.

    Raises:
        ShapeError: The shape of y is not known.
        GradientError: One of them is not a float.

    >>> x = ops.placeholder((3,))
    >>> jacobian(x[:2] * x[1:], x).shape
    (2, 3)
    """
    for tensor in _many([y, x]):
        if not dtypes.is_float(tensor.dtype):
            raise GradientError(f"{tensor!r} has no gradient: only floats have")
    count = shapes.size(y.shape)
    if count is None or not shapes.is_known(y.shape):
        raise ShapeError(
            f"the jacobian of {y!r} needs a row for each element, but their number is not known",
            remedy="give its shape, or take products with the Jacobian (jvp, vjp)",
        )
    shape = ops.concatenate([ops.shape_of(y), ops.shape_of(x)])
    if not count:
        return ops.broadcast_to(ops.constant(0.0, x.dtype), shape)
    flat = ops.reshape(y, (count,))
    rows = [gradients(flat[i], x, disconnected="zero") for i in range(count)]
    return ops.reshape(ops.stack(rows), shape)


def hessian(loss: Tensor, x: Tensor) -> Tensor:
    """Return the second derivatives of a scalar by each pair of elements of x.

    Args:
        loss: A tensor without axes.
        x: The tensor to differentiate by; its shape is known while the graph is built.

    Returns:
        A tensor of shape x.shape + x.shape.

    Raises:
        ShapeError: loss is not a scalar, or the shape of x is not known.
        GradientError: One of them is not a float.
    """
    _scalar(loss)
    return jacobian(gradients(loss, x, disconnected="zero"), x)


def hessian_vector_product(loss: Tensor, x: Structure, v: Structure) -> Structure:
    """Return the Hessian of a scalar times v, at the cost of a few gradients.

    Args:
        loss: A tensor without axes.
        x: The tensors to differentiate by, one or several.
        v: A vector for each x, of its shape and dtype.

    Returns:
        A tensor of the shape and dtype of each x; a list if x is a sequence.

    Raises:
        ShapeError: loss is not a scalar.
        GradientError: v does not match x, or a tensor is not a float.
    """
    _scalar(loss)
    first = gradients(loss, _many(x), disconnected="zero")
    # The Hessian is symmetric, so a product from the left equals one from the right.
    return vjp(first, x, v)


def _scalar(loss: Tensor) -> None:
    if loss.rank:
        raise ShapeError(
            f"a Hessian is that of a scalar, not of {loss!r}", remedy="sum over its axes first"
        )
