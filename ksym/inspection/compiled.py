"""Compiling a function without running it, to look at what comes out."""

from __future__ import annotations

from collections.abc import Mapping

from ksym import shapes
from ksym.compiler.compile import Watch, compile_graph
from ksym.compiler.plan import Plan
from ksym.errors import ArgumentError, GraphError, InputError
from ksym.function import Function
from ksym.graph import Tensor
from ksym.ops.leaves import constant, placeholder
from ksym.shapes import Shape


def plan_for(
    function: Function, sizes: Mapping[Tensor, Shape] | None = None, watch: Watch | None = None
) -> Plan:
    """Return the plan of a function for some shapes of its inputs, compiled anew.

    Args:
        function: The function.
        sizes: The shapes of inputs; an input that is left out has its own shape, if that is known.
            By default all have the shapes of the last call.
        watch: Called with the graph before all passes, then with each pass and its result.

    Raises:
        ArgumentError: `sizes` is no mapping.
        ShapeError: A shape is none.
        InputError: A key of `sizes` is no input, or a shape does not fit.
        GraphError: The shape of an input is not known.
    """
    last = function.last_source
    if sizes is None and last is not None:
        return compile_graph(*last, watch)
    return compile_graph(function.frozen(), _given(function, sizes or {}), watch)


def _given(function: Function, sizes: Mapping[Tensor, Shape]) -> dict[Tensor, Tensor]:
    """Return for each input a placeholder of known shape, or the constant that it defaults to."""
    if not isinstance(sizes, Mapping):
        raise ArgumentError(f"shapes is {sizes!r}", remedy="give a mapping, as in {x: (32, 3)}")
    names = ", ".join(slot.name for slot in function.inputs.values())
    for tensor in sizes:
        if tensor not in function.inputs:
            raise InputError(
                f"{tensor!r} is given a shape, and is no input of {function.name}",
                remedy=f"give shapes of its inputs: {names}",
            )
    given = {}
    for tensor, slot in function.inputs.items():
        default = slot.node.attributes["default"]
        shape = shapes.normalize(sizes.get(tensor, slot.shape))
        if not shapes.compatible(shape, slot.shape):
            raise InputError(
                f"the input {slot.name} of {function.name} is {slot.spec}, and is given the shape "
                f"{shape}",
                remedy="give a size for each axis: the input's own, where it is known",
            ).located(origin=slot.node.origin)
        if slot.node.attributes["static"] and default is not None:
            given[slot] = constant(default.array)
        elif not shapes.is_known(shape):
            raise GraphError(
                f"nothing can be compiled: the shape of the input {slot.name}, {slot.spec}, is not "
                "known",
                remedy="call the function first, or give the shapes of its inputs, as in "
                "shapes={x: (32, 3)}",
            ).located(origin=slot.node.origin)
        elif shape == slot.shape:
            given[slot] = slot
        else:
            given[slot] = placeholder(shape, slot.dtype, name=slot.name)
    return given
