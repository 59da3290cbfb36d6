"""Functions of what computes like one, such as a Keras model."""

from __future__ import annotations

from typing import Any

from ksym.errors import GraphError
from ksym.function import Function, function
from ksym.origin import current_origin
from ksym.variables import Update


def as_function(given: Any) -> Function:
    """Return the function of what computes like one.

    Args:
        given: A `Function`; what ``K.function`` returns; or a Keras model, for which the function
            that predicts is made.

    Raises:
        GraphError: It is none of these, or a model that has no inputs yet.
    """
    if isinstance(given, Function):
        return given
    compiled = getattr(given, "compiled", None)
    if isinstance(compiled, Function):
        return compiled
    inputs, outputs = getattr(given, "inputs", None), getattr(given, "outputs", None)
    if not (isinstance(inputs, list) and isinstance(outputs, list) and inputs and outputs):
        raise GraphError(
            f"{given!r} is neither a function nor a Keras model that has been built",
            remedy="give what ksym.function or K.function returns, or a Keras model; build a model "
            "by model.build(input_shape), or by its first call",
        ).located(origin=current_origin())
    # Of stateful layers; layers may add anything (0, None) as an update.
    updates = [u for u in getattr(given, "state_updates", ()) if isinstance(u, Update | tuple)]
    results = outputs[0] if len(outputs) == 1 else outputs
    name = getattr(given, "name", None)
    return function(inputs, results, updates, on_unused_input="ignore", name=name)
