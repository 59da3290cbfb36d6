"""Windows of a tensor side by side, and convolutions with a kernel for each place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ksym import ops, shapes
from ksym.errors import ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.operator.declaration import Operator
from ksym.operator.operands import as_tensor, promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.nn.windows import check_floats, cut, output_sides, per_axis

__all__ = ["extract_patches", "local_convolution"]


class _ExtractPatches(Operator):
    linear_in = (0,)

    def prepare(
        self, x: Any, window: Any, strides: Any = 1, dilation: Any = 1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x = as_tensor(x)
        axes = x.rank - 2
        if axes < 1:
            raise ShapeError(f"a tensor of rank {x.rank} has no spatial axes")
        return [x], {
            "window": per_axis(window, axes, "window"),
            "strides": per_axis(strides, axes, "strides"),
            "dilation": per_axis(dilation, axes, "dilation"),
        }

    def infer(self, x: Tensor, window: Any, strides: Any, dilation: Any) -> Spec:
        check_floats(x)
        sides = output_sides(x.shape[2:], window, strides, dilation, "valid")
        return Spec((*x.shape[:2], int(np.prod(window)), *sides), x.dtype)

    def numpy(self, x: Any, window: Any, strides: Any, dilation: Any) -> Any:
        sides: Any = output_sides(x.shape[2:], window, strides, dilation, "valid")
        views = [x[(..., *cut(o, sides, strides, dilation))] for o in np.ndindex(*window)]
        return np.stack(views, axis=2)

    def differentiable_form(self, node: Node) -> list[Tensor] | None:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        # One slice for each place in the window, however many positions the window takes.
        (x,) = node.inputs
        strides, dilation = node.attributes["strides"], node.attributes["dilation"]
        window = node.attributes["window"]
        views = []
        for offset in np.ndindex(*window):
            bounds: list[Any] = [slice(None), slice(None)]
            for a, (o, d, s, k) in enumerate(zip(offset, dilation, strides, window, strict=True)):
                after = (k - 1 - o) * d
                bounds.append(slice(o * d, -after if after else None, s))
                side = x.shape[2 + a]
                if side is not None:
                    bounds[-1] = slice(o * d, max(0, side - after), s)
            views.append(x[tuple(bounds)])
        # The positions in one axis meanwhile: MXNet slices tensors of at most five axes.
        sides = [ops.shape_of(views[0])[a] for a in range(x.rank)]
        positions = sides[2]
        for side in sides[3:]:
            positions = positions * side
        flat = [ops.reshape(view, [*sides[:2], positions]) for view in views]
        return ops.reshape(ops.stack(flat, axis=2), [*sides[:2], len(views), *sides[2:]])

    def sample(self, draw: Draw) -> Sample:
        axes = draw.integer(1, 3)
        window = tuple(draw.integer(1, 2) for _ in range(axes))
        strides = tuple(draw.integer(1, 2) for _ in range(axes))
        dilation = tuple(draw.integer(1, 2) for _ in range(axes))
        sides = [
            (k - 1) * d + 1 + draw.integer(0, 2) for k, d in zip(window, dilation, strict=True)
        ]
        x = draw.array((*draw.shape(2, 2, min_side=0), *sides))
        attributes = {"window": window, "strides": strides, "dilation": dilation}
        return Sample(x, attributes=attributes)


extract_patches = _ExtractPatches(
    "extract_patches",
    doc="""Return the elements under a window at each of its positions.

    Args:
        x: (batch, channels, spatial axes...), floats.
        window: Its size, an int or one for each spatial axis.
        strides: The distance between positions.
        dilation: The distance between neighbours in the window.

    Returns:
        (batch, channels, elements of the window, positions along each spatial axis...).

    Raises:
        DTypeError: x is not of floats.
        ShapeError: The window has another rank, or does not fit.
    """,
)


class _LocalConvolution(Operator):
    half = False
    linear_in = (0, 1)

    def prepare(
        self, x: Any, w: Any, window: Any, strides: Any = 1
    ) -> tuple[Sequence[Tensor], dict[str, Any]]:
        x, w = promoted(x, w)
        axes = x.rank - 2
        if axes < 1:
            raise ShapeError(f"a tensor of rank {x.rank} has no spatial axes")
        return [x, w], {
            "window": per_axis(window, axes, "window"),
            "strides": per_axis(strides, axes, "strides"),
        }

    def infer(self, x: Tensor, w: Tensor, window: Any, strides: Any) -> Spec:
        check_floats(x, w)
        if w.rank != x.rank:
            raise ShapeError(f"the kernels have rank {w.rank} for an input of rank {x.rank}")
        sides = output_sides(x.shape[2:], window, strides, (1,) * len(window), "valid")
        elements = shapes.elementwise(lambda c: c * int(np.prod(window)), x.shape[1])
        if not shapes.compatible(w.shape[:-1], (*sides, elements)):
            raise ShapeError(
                f"kernels of shape {w.shape} for {elements} elements at positions {sides}"
            )
        sides = shapes.merge(sides, w.shape[:-2])
        return Spec((x.shape[0], w.shape[-1], *sides), x.dtype)

    def numpy(self, x: Any, w: Any, window: Any, strides: Any) -> Any:
        result = np.zeros((x.shape[0], w.shape[-1], *w.shape[:-2]), np.result_type(x, w))
        for place in np.ndindex(*w.shape[:-2]):
            at = tuple(
                slice(p * s, p * s + k) for p, s, k in zip(place, strides, window, strict=True)
            )
            result[(..., *place)] = x[(..., *at)].reshape(len(x), w.shape[-2]) @ w[place]
        return result

    def differentiable_form(self, node: Node) -> list[Tensor] | None:
        return [self.expand(node)]

    def expand(self, node: Node) -> Tensor:
        x, w = node.inputs
        axes = range(3, x.rank + 1)
        patches = extract_patches(x, node.attributes["window"], node.attributes["strides"])
        moved = ops.transpose(patches, (*axes, 0, 1, 2))
        kernel = ops.shape_of(w)
        sides = [kernel[a] for a in range(x.rank - 2)]
        rows = ops.reshape(moved, [*sides, ops.shape_of(x)[0], kernel[x.rank - 2]])
        product = ops.matmul(rows, w)
        return ops.transpose(product, (x.rank - 2, x.rank - 1, *range(x.rank - 2)))

    def sample(self, draw: Draw) -> Sample:
        axes = draw.integer(1, 3)
        window = tuple(draw.integer(1, 2) for _ in range(axes))
        strides = tuple(draw.integer(1, 2) for _ in range(axes))
        x = draw.array((*draw.shape(2, 2), *(k + draw.integer(0, 2) for k in window)))
        sides: Any = output_sides(x.shape[2:], window, strides, (1,) * axes, "valid")
        w = draw.array((*sides, x.shape[1] * int(np.prod(window)), draw.integer(1, 2)))
        return Sample(x, w, attributes={"window": window, "strides": strides})


local_convolution = _LocalConvolution(
    "local_convolution",
    doc="""Convolve x with a kernel of its own at each position, as one stack of products.

    Args:
        x: (batch, channels, spatial axes...).
        w: (positions along each spatial axis..., channels * elements of the window, filters).
        window: Its size, an int or one for each spatial axis.
        strides: The distance between positions.

    Returns:
        (batch, filters, positions along each spatial axis...).

    Raises:
        DTypeError: The operands are not floats.
        ShapeError: The kernels do not fit the positions or the elements.
    """,
)
