"""Checking gradients and values, for ksym's own tests and for users' compositions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, ops
from ksym.autodiff import gradients
from ksym.errors import GradientError
from ksym.function import function
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.leaves import placeholder
from ksym.variables import Variable


def verify_gradient(
    build: Callable[..., Tensor | Sequence[Tensor]],
    point: Sequence[np.ndarray],
    *,
    order: int = 2,
    tolerance: float = 1e-6,
    step: float = 1e-5,
    seed: int = 0,
) -> None:
    """Compare gradients with central differences in float64, and raise if they differ.

    The outputs are projected on fixed random weights, and the gradient is compared with the
    difference along random directions, one for each operand and one for all together.  For the
    second order the same is done to the gradient.

    Args:
        build: Takes one tensor for each array in point and returns a tensor or several.
        point: Where to check.
        order: How many orders to check.
        tolerance: The largest difference allowed, relative to the size of the gradient.
        step: The step of the difference.
        seed: For weights and directions.

    Raises:
        GradientError: A gradient differs.

    >>> verify_gradient(lambda x: ops.tanh(x) * x, [np.array([0.3, -1.2])])
    """
    arrays = [np.asarray(array, "float64") for array in point]
    rng = np.random.default_rng(seed)
    inputs = [placeholder(array.shape, "float64") for array in arrays]
    built = build(*inputs)
    outputs = [built] if isinstance(built, Tensor) else list(built)
    for current in range(1, order + 1):
        outputs = [output for output in outputs if dtypes.is_float(output.dtype)]
        loss = _project(outputs, rng, function(inputs, outputs)(*arrays))
        derived = gradients(loss, inputs, disconnected="zero")
        _compare(loss, derived, inputs, arrays, rng, current, tolerance, step)
        outputs = derived


def _project(
    outputs: Sequence[Tensor], rng: np.random.Generator, values: Sequence[np.ndarray]
) -> Tensor:
    total: Tensor = ops.constant(0.0, "float64")
    for output, value in zip(outputs, values, strict=True):
        # Away from zero, so that no part goes unseen.
        weights = rng.uniform(0.5, 1.5, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        total = total + ops.sum_(ops.cast(output, "float64") * weights)
    return total


def _compare(
    loss: Tensor,
    derived: Sequence[Tensor],
    inputs: Sequence[Tensor],
    arrays: Sequence[np.ndarray],
    rng: np.random.Generator,
    order: int,
    tolerance: float,
    step: float,
) -> None:
    value = function(inputs, loss)
    analytic = function(inputs, list(derived))(*arrays)
    directions = [rng.standard_normal(array.shape) for array in arrays]
    choices = [[position] for position in range(len(arrays))] + [list(range(len(arrays)))]
    for chosen in choices:

        def moved(by: float, chosen: Sequence[int] = chosen) -> list[np.ndarray]:
            return [
                array + by * direction if position in chosen else array
                for position, (array, direction) in enumerate(zip(arrays, directions, strict=True))
            ]

        difference = (value(*moved(step)) - value(*moved(-step))) / (2 * step)
        expected = sum(float(np.sum(analytic[p] * directions[p])) for p in chosen)
        size = sum(float(np.sum(np.abs(analytic[p] * directions[p]))) for p in chosen)
        error = abs(difference - expected) / max(1.0, size)
        if not error <= tolerance:
            raise GradientError(
                f"the gradient of order {order} by operand(s) {chosen} is off: {expected:.9g} "
                f"along a direction where the difference quotient is {float(difference):.9g}",
                details=[f"relative error {error:.2g}, allowed {tolerance:.2g}"],
            )


def evaluate_numpy(
    outputs: Sequence[Tensor], feeds: Mapping[Tensor, np.ndarray] | None = None
) -> list[np.ndarray]:
    """Compute outputs by what their operators declare to mean in NumPy.

    Floats are computed in float64 and rounded to their dtype.  Independent of MXNet; for tests.
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
