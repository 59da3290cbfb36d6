"""Batch normalisation: over the statistics of a batch, or over given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.emitter import HALF_BLOCK, Emitter, OnnxEmitter, in_order
from ksym.operator.operands import cast_to, promoted, widened
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_floats, check_meets

__all__ = ["batch_norm", "normalize"]


def _all_but(axis: int, rank: int) -> tuple[int, ...]:
    return tuple(i for i in range(rank) if i != axis)


def _statistics(x: Any, over: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the mean and the variance in NumPy, NaN of no elements."""
    count = np.float64(np.prod([x.shape[a] for a in over]))
    mean = x.sum(axis=over, keepdims=True) / count
    var = np.square(x - mean).sum(axis=over) / count
    return mean.squeeze(over), var


def _stretch(vector: Tensor, axis: int, rank: int) -> Tensor:
    """Return a vector over the channels as a tensor that broadcasts against the data."""
    return ops.reshape(vector, [1] * axis + [-1] + [1] * (rank - axis - 1))


def _check_vectors(x: Tensor, vectors: Sequence[Tensor], axis: int) -> None:
    check_floats(x, *vectors)
    if x.rank < 2:
        raise ShapeError("batch normalisation needs a batch axis and a channel axis")
    for vector in vectors:
        if vector.rank != 1 or not shapes.compatible(vector.shape, (x.shape[axis],)):
            raise ShapeError(
                f"a vector of {x.shape[axis]} channels is expected, not shape {vector.shape}"
            )


FEW = 1 << 15
"""Elements below which a batch normalisation is as fast for an array in order as for blocks."""


def _fills_blocks(node: Node) -> bool:
    """Return whether a normalisation, or its gradient, is faster for an array in oneDNN's blocks.

    Forward, 16 images of 32 x 32, one thread: with 64 channels 3.0 ms in order and 0.7 in blocks,
    which includes putting it into them; with 40 channels 2.2 and 0.7, with 16 0.8 and 0.3.
    """
    x = node.inputs[-3]
    if x.dtype != "float32" or x.rank != 4 or node.attributes["axis"] != 1:
        return False
    return shapes.known(x.shape)[1] % HALF_BLOCK == 0 and (shapes.size(x.shape) or 0) >= FEW


class _BatchNorm(Operator):
    half = False
    keeps_layout = True

    work = 7.0  # mean 1, variance 3, and 3 for the result

    def prepare(
        self, x: Any, gamma: Any, beta: Any, axis: int = 1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, gamma, beta = promoted(x, gamma, beta)
        return [x, gamma, beta], {"axis": shapes.axis(axis, x.rank), "epsilon": float(epsilon)}

    def infer(
        self, x: Tensor, gamma: Tensor, beta: Tensor, axis: int, epsilon: float
    ) -> tuple[Spec, Spec, Spec]:
        _check_vectors(x, [gamma, beta], axis)
        channels = Spec(shapes.merge((x.shape[axis],), gamma.shape), x.dtype)
        return x.spec, channels, channels

    def numpy(self, x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> Any:
        over = _all_but(axis, x.ndim)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        mean, var = _statistics(x, over)
        scale = gamma / np.sqrt(var + epsilon)
        y = (x - mean.reshape(shape)) * scale.reshape(shape) + beta.reshape(shape)
        return y, mean, var

    def onnx(self, emit: OnnxEmitter, node: Node, x: Any, gamma: Any, beta: Any) -> Any:
        axis, rank = node.attributes["axis"], node.inputs[0].rank
        over = emit.constant(_all_but(axis, rank))
        shape = emit.constant([-1 if a == axis else 1 for a in range(rank)])
        mean = emit("ReduceMean", x, over, keepdims=1)
        distance = emit("Sub", x, mean)
        var = emit("ReduceMean", emit("Mul", distance, distance), over, keepdims=1)
        epsilon = emit.constant(node.attributes["epsilon"], node.inputs[0].dtype)
        scale = emit("Div", emit("Reshape", gamma, shape), emit("Sqrt", emit("Add", var, epsilon)))
        y = emit("Add", emit("Mul", distance, scale), emit("Reshape", beta, shape))
        vectors = (emit("Reshape", value, emit.constant([-1])) for value in (mean, var))
        return y, *vectors

    def makes_blocks(self, node: Node) -> bool:
        return _fills_blocks(node)

    def lower(self, emit: Emitter, node: Node, x: Any, gamma: Any, beta: Any) -> Any:
        if 0 in node.inputs[0].shape:  # no elements have no mean
            specs = [tensor.spec for tensor in node.outputs]
            return [emit.constant(np.full(shapes.known(s.shape), np.nan, s.dtype)) for s in specs]
        if _fills_blocks(node):
            x = emit.in_blocks(x, node.inputs[0].spec)
        y, mean, spread = _emit(emit, node, node.inputs[0], x, gamma, beta)
        # MXNet keeps 1 / sqrt(var + epsilon).
        var = emit("_npi_true_divide", emit.constant(_one(node)), emit("_npi_square", spread))
        var = emit("_npi_subtract_scalar", var, scalar=node.attributes["epsilon"])
        return y, mean, emit("_npi_maximum_scalar", var, scalar=0.0)

    def gradient(
        self, node: Node, g: Tensor | None, by_mean: Tensor | None, by_var: Tensor | None
    ) -> list[Tensor | None]:
        x, gamma, beta = node.inputs
        axis = node.attributes["axis"]
        for_x: Tensor | None = None
        for_gamma = for_beta = None
        if g is not None:
            for_x, for_gamma, for_beta = batch_norm_gradient.make(
                [g, x, gamma, beta], node.attributes
            )
        count = ops.count(x, _all_but(axis, x.rank), widened(x).dtype)
        if by_mean is not None:
            share = cast_to(widened(by_mean) / count, x.dtype)
            part = ops.broadcast_to(_stretch(share, axis, x.rank), ops.shape_of(x))
            for_x = part if for_x is None else for_x + part
        if by_var is not None:
            distance = x - _stretch(node.outputs[1], axis, x.rank)
            share = cast_to(2.0 * widened(by_var) / count, x.dtype)
            part = distance * _stretch(share, axis, x.rank)
            for_x = part if for_x is None else for_x + part
        return [for_x, for_gamma, for_beta]

    def sample(self, draw: Draw) -> Sample:
        x, gamma, attributes = _sample_normalized(draw)
        return Sample(x, gamma, draw.array(gamma.shape), attributes=attributes)


def _sample_normalized(draw: Draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    # A single element for each channel has no variance, and next to none is ill-conditioned.
    batch = 0 if draw.shape(1, 1, min_side=0) == (0,) else draw.integer(3, 4)
    shape = [batch, *(draw.integer(1, 3) for _ in range(draw.integer(1, 3)))]
    axis = draw.integer(1, len(shape) - 1)
    x = draw.array(shape, apart=0.05)
    return x, draw.array((shape[axis],), 0.5, 1.5), {"axis": axis, "epsilon": 1e-2}


def _one(node: Node) -> np.ndarray:
    return np.ones((), node.inputs[0].dtype)


def _emit(emit: Emitter, node: Node, source: Tensor, x: Any, gamma: Any, beta: Any) -> Any:
    """Emit MXNet's BatchNorm, with memory for running statistics, which nothing reads."""
    channels = source.shape[node.attributes["axis"]]
    return emit(
        "BatchNorm",
        x,
        gamma,
        beta,
        *_scratch(emit, source, channels),
        outputs=3,
        **_options(node),
    )


def _scratch(emit: Emitter, source: Tensor, channels: int | None) -> list[Any]:
    spec = Spec((channels,), source.dtype)
    return [emit.scratch(spec, "mean"), emit.scratch(spec, "var")]


def _options(node: Node) -> dict[str, Any]:
    return {
        "axis": node.attributes["axis"],
        "eps": node.attributes["epsilon"],
        "momentum": 0.0,
        "fix_gamma": False,
        "use_global_stats": False,
        "output_mean_var": True,
    }


batch_norm = _BatchNorm(
    "batch_norm",
    doc="""Normalise each channel over the batch (Ioffe and Szegedy, arXiv:1502.03167).

    Args:
        x: A tensor with a channel axis.
        gamma: The scale of each channel.
        beta: The shift of each channel, added afterwards.
        axis: The channel axis.
        epsilon: Added to the variance.

    Returns:
        The normalised tensor, and the mean and the (biased) variance of each channel.

    Raises:
        ShapeError: gamma or beta is not a vector of one number for each channel.
    """,
)


class _BatchNormGradient(Operator):
    internal = "a part of the gradient of `batch_norm`"
    half = False
    keeps_layout = True
    repeats = ("batch_norm",)
    linear_in = (0,)

    def makes_blocks(self, node: Node) -> bool:
        return _fills_blocks(node)

    work = 11.0  # mean and variance 4, two sums 3, and 4 for the gradient

    def prepare(
        self, g: Any, x: Any, gamma: Any, beta: Any, axis: int = 1, epsilon: float = 1e-3
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        g, x, gamma, beta = promoted(g, x, gamma, beta)
        attributes = {"axis": shapes.axis(axis, x.rank), "epsilon": float(epsilon)}
        return [g, x, gamma, beta], attributes

    def infer(
        self, g: Tensor, x: Tensor, gamma: Tensor, beta: Tensor, **attributes: Any
    ) -> tuple[Spec, Spec, Spec]:
        _check_vectors(x, [gamma, beta], attributes["axis"])
        check_meets(g, x.shape, x.dtype)
        return x.spec, gamma.spec, beta.spec

    def numpy(self, g: Any, x: Any, gamma: Any, beta: Any, axis: int, epsilon: float) -> Any:
        over = _all_but(axis, x.ndim)
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        mean, var = (moment.reshape(shape) for moment in _statistics(x, over))
        scale = 1.0 / np.sqrt(var + epsilon)
        normal = (x - mean) * scale
        for_gamma, for_beta = (g * normal).sum(axis=over), g.sum(axis=over)
        inner = g - _statistics(g, over)[0].reshape(shape)
        inner = inner - normal * _statistics(g * normal, over)[0].reshape(shape)
        return inner * scale * gamma.reshape(shape), for_gamma, for_beta

    def lower(self, emit: Emitter, node: Node, g: Any, x: Any, gamma: Any, beta: Any) -> Any:
        _, source, scale, shift = node.inputs
        if 0 in source.shape:  # nothing to add up
            return [emit.constant(np.zeros(shapes.known(t.shape), t.dtype)) for t in node.outputs]
        if _fills_blocks(node):
            x = emit.in_blocks(x, source.spec)
        if len(emit.blocks(g) | emit.blocks(x)) > 1:
            # For blocks of two sizes oneDNN has a slow kernel only: 40 ms instead of 0.2 for 16
            # images of 32 x 32 with 16 channels.  What is in order, MXNet puts into the other's.
            g = in_order(emit, g, source.shape)
        y, mean, spread = _emit(emit, node, source, x, gamma, beta)
        return emit.backward(
            "_backward_BatchNorm",
            g,
            mean,
            spread,
            x,
            gamma,
            beta,
            *_scratch(emit, source, scale.shape[0]),
            of=y,
            results=[source.spec, scale.spec, shift.spec],
            **_options(node),
        )

    def differentiable_form(self, node: Node) -> Sequence[Tensor]:
        g, x, gamma, _ = node.inputs
        axis, epsilon = node.attributes["axis"], node.attributes["epsilon"]
        over = _all_but(axis, x.rank)
        distance = x - ops.mean(x, over, keepdims=True)
        scale = 1.0 / ops.sqrt(ops.mean(ops.square(distance), over, keepdims=True) + epsilon)
        normal = distance * scale
        inner = g - ops.mean(g, over, keepdims=True)
        inner = inner - normal * ops.mean(g * normal, over, keepdims=True)
        return (
            inner * scale * _stretch(gamma, axis, x.rank),
            ops.sum_(g * normal, over),
            ops.sum_(g, over),
        )

    def sample(self, draw: Draw) -> Sample:
        x, gamma, attributes = _sample_normalized(draw)
        g = draw.array(x.shape)
        return Sample(g, x, gamma, draw.array(gamma.shape), attributes=attributes)


batch_norm_gradient = _BatchNormGradient(
    "batch_norm_gradient",
    doc="Return the gradients of `batch_norm` by x, gamma and beta, given g of its first result.",
)


class _Normalize(Operator):
    half = False

    work = 3.0

    def prepare(
        self,
        x: Any,
        mean: Any,
        var: Any,
        gamma: Any,
        beta: Any,
        axis: int = 1,
        epsilon: float = 1e-3,
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        operands = promoted(x, mean, var, gamma, beta)
        attributes = {"axis": shapes.axis(axis, operands[0].rank), "epsilon": float(epsilon)}
        return operands, attributes

    def infer(self, x: Tensor, *vectors: Tensor, axis: int, epsilon: float) -> Spec:
        _check_vectors(x, vectors, axis)
        return x.spec

    def numpy(
        self, x: Any, mean: Any, var: Any, gamma: Any, beta: Any, axis: int, epsilon: float
    ) -> Any:
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        scale = gamma / np.sqrt(var + epsilon)
        return (x - mean.reshape(shape)) * scale.reshape(shape) + beta.reshape(shape)

    def onnx(
        self, emit: OnnxEmitter, node: Node, x: Any, mean: Any, var: Any, gamma: Any, beta: Any
    ) -> Any:
        axis, rank = node.attributes["axis"], node.inputs[0].rank
        order = [axis, *(a for a in range(rank) if a not in (0, axis))]
        order = [0, *order] if axis else order
        if not axis or rank < 2:
            shape = emit.constant([-1 if a == axis else 1 for a in range(rank)])
            mean, var, gamma, beta = (emit("Reshape", v, shape) for v in (mean, var, gamma, beta))
            epsilon = emit.constant(node.attributes["epsilon"], node.inputs[0].dtype)
            scale = emit("Div", gamma, emit("Sqrt", emit("Add", var, epsilon)))
            return emit("Add", emit("Mul", emit("Sub", x, mean), scale), beta)
        if axis != 1:
            x = emit("Transpose", x, perm=order)
        epsilon = node.attributes["epsilon"]
        y = emit("BatchNormalization", x, gamma, beta, mean, var, epsilon=epsilon)
        return y if axis == 1 else emit("Transpose", y, perm=np.argsort(order).tolist())

    def lower(
        self, emit: Emitter, node: Node, x: Any, mean: Any, var: Any, gamma: Any, beta: Any
    ) -> Any:
        options = dict(_options(node), use_global_stats=True, output_mean_var=False)
        return emit("BatchNorm", x, gamma, beta, mean, var, **options)

    def gradient(self, node: Node, g: Tensor) -> list[Tensor | None]:
        x, mean, var, gamma, _ = node.inputs
        axis, epsilon = node.attributes["axis"], node.attributes["epsilon"]
        over = _all_but(axis, x.rank)
        inverse = 1.0 / ops.sqrt(var + epsilon)
        scale = gamma * inverse
        for_beta = ops.sum_(g, over)
        by_distance = ops.sum_(g * (x - _stretch(mean, axis, x.rank)), over)
        return [
            g * _stretch(scale, axis, x.rank),
            -for_beta * scale,
            -0.5 * by_distance * scale / (var + epsilon),
            by_distance * inverse,
            for_beta,
        ]

    def sample(self, draw: Draw) -> Sample:
        x, gamma, attributes = _sample_normalized(draw)
        vectors = [draw.array(gamma.shape, 0.5, 2.0) for _ in range(4)]
        return Sample(x, *vectors, attributes=attributes)


normalize = _Normalize(
    "normalize",
    doc="""Normalise each channel by a given mean and variance, scale and shift it.

    Args:
        x: A tensor with a channel axis.
        mean: The mean of each channel.
        var: The variance of each channel.
        gamma: The scale of each channel.
        beta: The shift of each channel, added afterwards.
        axis: The channel axis.
        epsilon: Added to the variance.
    """,
)
