"""Checking gradients and values, for ksym's own tests and for users' compositions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops, shapes
from ksym.autodiff import gradients
from ksym.compiler.specialize import specialize
from ksym.errors import GradientError
from ksym.function import function
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.leaves import placeholder
from ksym.variables import Variable

STENCIL = ((1.0, 2.0 / 3.0), (-1.0, -2.0 / 3.0), (2.0, -1.0 / 12.0), (-2.0, 1.0 / 12.0))
"""The places of the central difference of fourth order, in steps, and its weights there."""

ROUNDING = 32.0
"""The error of a computed sum that `verify_gradient` allows, in roundings of its largest term."""


def verify_gradient(
    build: Callable[..., Tensor | Sequence[Tensor]],
    point: Sequence[np.ndarray],
    *,
    order: int = 2,
    tolerance: float = 1e-6,
    step: float = 1e-4,
    directions: int = 1,
    seed: int = 0,
) -> None:
    """Compare gradients with central differences in float64, and raise if they differ.

    The outputs are projected on fixed random weights, and the gradient is compared with the
    difference of fourth order along random directions, for each operand.  For the second order the
    same is done to the gradient, by all operands.  No element moves further than two steps from
    the point, so a jump beyond that has no effect.  All orders are compiled as one function,
    which is called for each place of a difference.

    The error is relative to the size of the gradient: the sum of the absolute values of its terms
    along the direction.  The rounding of the difference quotient comes on top: values of f are
    known up to eps * |f|, where |f| is the sum of the absolute values of the terms of the
    projection, so their quotient only up to a multiple of eps * |f| / step.

    Args:
        build: Called with one tensor for each array in point; returns a tensor or several.
        point: The arrays at which to check.
        order: The number of orders to check.
        tolerance: The largest difference allowed, relative to the size of the gradient.
        step: The step of the difference.
        directions: The number of random directions for each operand.
        seed: The seed for weights and directions.

    Raises:
        GradientError: A gradient differs.

    >>> verify_gradient(lambda x: ops.tanh(x) * x, [np.array([0.3, -1.2])])
    """
    arrays = [np.asarray(array, "float64") for array in point]
    rng = np.random.default_rng(seed)
    inputs = [placeholder(array.shape, "float64") for array in arrays]
    built = build(*inputs)
    # The outputs, their gradients, the gradients of these: levels to be differentiated.
    levels = [[built] if isinstance(built, Tensor) else list(built)]
    levels[0] = [output for output in levels[0] if dtypes.is_float(output.dtype)]
    weights: list[list[np.ndarray]] = []
    for _ in range(order):
        sizes = [tensor.shape for tensor in specialize(levels[-1], {})]
        if not all(
            map(shapes.is_known, sizes)
        ):  # sizes of dynamic results: known only when they are computed
            sizes = [value.shape for value in function(inputs, levels[-1])(*arrays)]
        weights.append([_away_from_zero(rng, shapes.known(size)) for size in sizes])
        loss: Tensor = ops.constant(0.0, "float64")
        for output, weight in zip(levels[-1], weights[-1], strict=True):
            loss = loss + ops.sum_(ops.cast(output, "float64") * weight)
        levels.append(gradients(loss, inputs, disconnected="zero"))
    compiled = function(inputs, [tensor for level in levels for tensor in level])

    def evaluate(values: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        found = iter(compiled(*values))
        return [[next(found) for _ in level] for level in levels]

    exact = evaluate(arrays)
    for position in list(range(len(arrays))) * directions:
        direction = _away_from_zero(rng, arrays[position].shape)
        around = []
        for distance, _ in STENCIL:
            moved = list(arrays)
            moved[position] = arrays[position] + step * distance * direction
            around.append(evaluate(moved))
        for current in range(order):
            error = _mismatch(
                exact[current + 1][position] * direction,
                [level[current] for level in around],
                weights[current],
                tolerance,
                step,
            )
            if error:
                raise GradientError(
                    f"the gradient of order {current + 1} by operand {position} is off: {error[0]}",
                    details=[
                        error[1],
                        f"at {arrays}",
                        f"operand {position} moves along {direction.tolist()}",
                    ],
                )


def _away_from_zero(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Draw numbers of both signs from 0.5 to 1 in size, so that every element has a weight."""
    return rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape)


def _mismatch(
    terms: np.ndarray,
    around: Sequence[Sequence[np.ndarray]],
    weights: Sequence[np.ndarray],
    tolerance: float,
    step: float,
) -> tuple[str, str] | None:
    """Compare the terms of a gradient with a difference quotient; say how they differ, if so."""
    expected, size = float(np.sum(terms)), float(np.sum(np.abs(terms)))
    difference = magnitude = 0.0
    for (_, factor), values in zip(STENCIL, around, strict=True):
        for weight, value in zip(weights, values, strict=True):
            difference += factor * float(np.sum(weight * value)) / step
            magnitude = max(magnitude, float(np.sum(np.abs(weight * value))))
    floor = ROUNDING * np.finfo("float64").eps * magnitude / step
    error = abs(difference - expected)
    if error <= tolerance * size + floor:
        return None
    return (
        f"{expected:.9g} along a direction where the difference quotient is {difference:.9g}",
        f"the error is {error:.2g}; allowed are {tolerance:.2g} of the size {size:.2g} of the "
        f"gradient, and {floor:.2g} for rounding",
    )


def evaluate_numpy(
    outputs: Sequence[Tensor], feeds: Mapping[Tensor, np.ndarray] | None = None
) -> list[np.ndarray]:
    """Compute outputs in NumPy, by the `numpy` that each operator declares.

    Floats are computed in float64 and rounded to their dtype.  For tests: it does not use MXNet,
    except for the values of variables.

    >>> x = placeholder((2,))
    >>> evaluate_numpy([x * 3.0], {x: np.array([1.0, 2.0], "float32")})[0].tolist()
    [3.0, 6.0]
    """
    values: dict[Tensor, Any] = dict(feeds or {})
    for node in topological_order(outputs, until=values):
        leaf = node.outputs[0]
        if isinstance(leaf, Variable):
            values[leaf] = leaf.get_value()
            continue
        operands = [_widened(values[tensor]) for tensor in node.inputs]
        with np.errstate(all="ignore"):
            found = node.operator.numpy(*operands, **node.attributes)
        results = (found,) if len(node.outputs) == 1 else found
        for tensor, result in zip(node.outputs, results, strict=True):
            values[tensor] = np.asarray(result, tensor.dtype)
    return [values[output] for output in outputs]


def _widened(value: Any) -> Any:
    return value.astype("float64") if value.dtype.kind == "f" else value


def assert_same_graph(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raise if two graphs do not apply the same operators to the same leaves in the same way.

    Raises:
        AssertionError: They differ; the message shows both.
    """
    lines: dict[Any, int] = {}
    if _numbered(found, lines) != _numbered(expected, lines):
        texts = []
        for outputs in (found, expected):
            lines = {}
            numbers = _numbered(outputs, lines)
            texts.append("\n".join(map(str, [*lines, numbers])))
        raise AssertionError(f"found:\n{texts[0]}\nexpected:\n{texts[1]}")


def _numbered(outputs: Sequence[Tensor], lines: dict[Any, int]) -> list[tuple[int, int]]:
    """Write a graph down, one line for all nodes that are equal; return those of the outputs."""
    numbers: dict[Node, int] = {}
    for node in topological_order(outputs):
        if node.inputs or node.operator.pure:
            attributes = tuple(sorted(node.attributes.items()))
            operands = tuple((numbers[t.node], t.index) for t in node.inputs)
            line: Any = (node.operator.name, attributes, operands)
        else:
            line = (node.operator.name, id(node))
        numbers[node] = lines.setdefault(line, len(lines))
    return [(numbers[t.node], t.index) for t in outputs]
