"""Functions with a gradient of the user's, and gradients for steps of training of the user's."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from keras.src import tree
from keras.src.backend.common import KerasVariable

import ksym
from keras_ksym.src.tensor import Tensor, as_array, has_tensors, tensor

__all__ = ["custom_gradient", "gradients", "remat"]


def gradients(loss: Any, variables: Sequence[Any]) -> list[Tensor]:
    """Return the gradients of a loss by variables, in a step of training of the user's.

    Args:
        loss: A symbolic scalar.
        variables: Keras's variables, or symbolic tensors that the loss depends on.

    Returns:
        A symbolic tensor for each; zeros where the loss does not depend on it.
    """
    wrt = [v.state if isinstance(v, KerasVariable) else tensor(v).graph for v in variables]
    found = ksym.gradients(tensor(loss).graph, wrt, disconnected="zero")
    dtypes = [v._dtype if isinstance(v, KerasVariable) else v.dtype for v in variables]
    return [Tensor(g, dtype) for g, dtype in zip(found, dtypes, strict=True)]


def custom_gradient(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function whose gradient is the one that it returns beside its results.

    Args:
        fun: Returns ``(outputs, grad)``; ``grad(*upstream)`` returns the gradients of the
            arguments that are tensors.
    """

    def with_gradient(*args: Any, **kwargs: Any) -> Any:
        if not _is_traced(args, kwargs):
            return fun(*args, **kwargs)[0]
        args = tree.map_structure(lambda x: tensor(x) if isinstance(x, KerasVariable) else x, args)
        places = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
        operands = [args[i].graph for i in places]
        outputs, grad = fun(*args, **kwargs)
        results = [tensor(output) for output in tree.flatten(outputs)]

        def rule(*given: Any) -> Any:
            arriving = given[-len(results) :]
            upstream = [Tensor(g, y.dtype) for g, y in zip(arriving, results, strict=True)]
            # Keras's own take what arrives by the name `upstream` only.
            by_name = len(results) == 1 and _takes_upstream(grad)
            found = grad(upstream=upstream[0]) if by_name else grad(*upstream)
            found = list(found) if isinstance(found, list | tuple) else [found]
            if len(found) == len(args) != len(places):
                found = [found[i] for i in places]
            return [None if g is None else tensor(g).graph for g in found]

        attached = ksym.custom_gradient(lambda *_: [y.graph for y in results], rule)(*operands)
        made = [Tensor(graph, y.dtype) for graph, y in zip(attached, results, strict=True)]
        return tree.pack_sequence_as(outputs, made)

    return with_gradient


def _takes_upstream(grad: Callable[..., Any]) -> bool:
    """Return whether a gradient has a parameter `upstream`."""
    parameter = inspect.signature(grad).parameters.get("upstream")
    return parameter is not None


def _is_traced(args: Any, kwargs: Any) -> bool:
    return any(has_tensors(x) or isinstance(x, KerasVariable) for x in tree.flatten((args, kwargs)))


def remat(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function: ksym decides itself what it keeps for the gradient."""
    warnings.warn(
        "Rematerialization is not supported by the ksym backend: the function runs as it is.",
        stacklevel=2,
    )
    return f


def directional(fun: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool) -> Any:
    """Return a function's results, and their changes when its arguments change by tangents."""
    traced = any(has_tensors(x) for x in tree.flatten((primals, tangents)))
    inside = [tensor(x) for x in tree.flatten(primals)]
    inputs = (
        inside
        if traced
        else [Tensor(ksym.placeholder(x.shape, x.graph.dtype), x.dtype) for x in inside]
    )
    found = fun(*tree.pack_sequence_as(primals, inputs))
    outputs, aux = found if has_aux else (found, None)
    results = [tensor(output) for output in tree.flatten(outputs)]
    along = [
        tensor(t).graph_in(x.dtype) for t, x in zip(tree.flatten(tangents), inside, strict=True)
    ]
    changes = ksym.jvp([r.graph for r in results], [x.graph for x in inputs], along)
    beside = [tensor(x) for x in tree.flatten(aux)] if has_aux else []
    dtypes = [x.dtype for x in (*results, *results, *beside)]
    whole = [*(r.graph for r in results), *changes, *(x.graph for x in beside)]
    if traced:
        values: list[Any] = [Tensor(g, d) for g, d in zip(whole, dtypes, strict=True)]
    else:
        given = [as_array(x) for x in tree.flatten(primals)]
        feeds = {i.graph: x for i, x in zip(inputs, given, strict=True)}
        values = ksym.evaluate(whole, feeds)
    count = len(results)
    first = tree.pack_sequence_as(outputs, values[:count])
    second = tree.pack_sequence_as(outputs, values[count : 2 * count])
    if not has_aux:
        return first, second
    return first, second, tree.pack_sequence_as(aux, values[2 * count :])
