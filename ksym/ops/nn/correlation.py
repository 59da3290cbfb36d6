"""The meaning of convolutions in NumPy: for each offset in the window a product over channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ksym.operator.sampling import Draw
from ksym.ops.nn.windows import cut, explicit_padding, output_sides


def correlate(x: Any, w: Any, attributes: Mapping[str, Any]) -> Any:
    """Compute a convolution."""
    strides, dilation, padding, groups = _geometry(x.shape, attributes)
    window = w.shape[2:]
    sides: Any = output_sides(x.shape[2:], window, strides, dilation, padding)
    x = np.pad(
        x, [(0, 0), (0, 0), *explicit_padding(x.shape[2:], window, strides, dilation, padding)]
    )
    n, filters = x.shape[0], w.shape[0]
    x = x.reshape(n, groups, w.shape[1], *x.shape[2:])
    w = w.reshape(groups, filters // groups, *w.shape[1:])
    y: Any = np.zeros((n, groups, filters // groups, *sides), np.result_type(x, w))
    for offset in np.ndindex(*window):
        view = x[(..., *cut(offset, sides, strides, dilation))]
        y += np.einsum("ngc...,gfc->ngf...", view, w[(..., *offset)])
    return y.reshape(n, filters, *sides)


def correlate_transposed(
    g: Any, w: Any, x_shape: Any, attributes: Mapping[str, Any]
) -> tuple[Any, Callable[[Any], Any]]:
    """Return the gradient of `correlate` by x, and a function of x that returns the one by w."""
    strides, dilation, padding, groups = _geometry(x_shape, attributes)
    window = w.shape[2:]
    pairs = explicit_padding(x_shape[2:], window, strides, dilation, padding)
    sides = g.shape[2:]
    n, filters = g.shape[0], w.shape[0]
    g = g.reshape(n, groups, filters // groups, *sides)
    w = w.reshape(groups, filters // groups, *w.shape[1:])
    channels = w.shape[2]
    padded = [d + b + a for d, (b, a) in zip(x_shape[2:], pairs, strict=True)]
    dx: Any = np.zeros((n, groups, channels, *padded), np.result_type(g, w))
    for offset in np.ndindex(*window):
        dx[(..., *cut(offset, sides, strides, dilation))] += np.einsum(
            "ngf...,gfc->ngc...", g, w[(..., *offset)]
        )
    inside = tuple(slice(b, b + d) for d, (b, _) in zip(x_shape[2:], pairs, strict=True))
    dx = dx.reshape(n, groups * channels, *padded)[(..., *inside)]

    def by_kernel(x: Any) -> Any:
        x = np.pad(x, [(0, 0), (0, 0), *pairs]).reshape(n, groups, channels, *padded)
        dw: Any = np.zeros(w.shape, dx.dtype)
        positions = int(np.prod(sides))
        for offset in np.ndindex(*window):
            view = x[(..., *cut(offset, sides, strides, dilation))]
            dw[(..., *offset)] = np.einsum(
                "ngcp,ngfp->gfc",
                view.reshape(n, groups, channels, positions),
                g.reshape(n, groups, filters // groups, positions),
            )
        return dw.reshape(filters, *dw.shape[2:])

    return dx, by_kernel


def _geometry(x_shape: Any, attributes: Mapping[str, Any]) -> tuple[Any, Any, Any, int]:
    return (
        attributes["strides"],
        attributes["dilation"],
        attributes["padding"],
        attributes["groups"] or x_shape[1],
    )


def convolution_sample(draw: Draw) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Draw an input, a kernel, and the attributes of a convolution."""
    axes = draw.integer(1, 3)
    groups = draw.integer(1, 2)
    channels = groups * draw.integer(1, 2)
    filters = groups * draw.integer(1, 2)
    window = [draw.integer(1, 3 if axes < 3 else 2) for _ in range(axes)]
    strides = tuple(draw.integer(1, 2) for _ in range(axes))
    dilation = tuple(draw.integer(1, 2) for _ in range(axes))
    extent = [(k - 1) * d + 1 for k, d in zip(window, dilation, strict=True)]
    sides = [e + draw.integer(0, 3 if axes < 3 else 1) for e in extent]
    x = draw.array((*draw.shape(1, 1, min_side=0), channels, *sides))
    w = draw.array((filters, channels // groups, *window))
    explicit = tuple((draw.integer(0, 1), draw.integer(0, 1)) for _ in range(axes))
    padding = draw.choose(("valid", "same", explicit, *["causal"] * (axes == 1)))
    attributes = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
    return x, w, attributes
