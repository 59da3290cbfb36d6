"""The things that can be looked into: tensors, updates, functions, and models of Keras."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ksym.arguments import named
from ksym.errors import GraphError
from ksym.function import Function, function
from ksym.graph import Node, Tensor, topological_order
from ksym.ops.leaves import placeholder
from ksym.variables import Update


class Subject(NamedTuple):
    """A graph to look at.

    Attributes:
        title: One line that says what it is.
        roots: The tensors that it computes, by what they are: ``"output 0"``, ``"update of w"``.
        function: The function that computes them, if the user gave one.
    """

    title: str
    roots: Mapping[str, Tensor]
    function: Function | None

    def compilable(self) -> Function:
        """Return the function, or one of all the placeholders that the tensors depend on."""
        if self.function is not None:
            return self.function
        order = topological_order(self.roots.values())
        inputs = [
            n.outputs[0]
            for n in order
            if n.operator is placeholder and n.attributes["default"] is None
        ]
        return function(inputs, self.roots, name=self.title, no_default_updates=True)


def subject_of(what: Any) -> Subject:
    """Return the graph of what a user gives.

    Args:
        what: A tensor, an update, a sequence or mapping of these, a `ksym.Function`, a function of
            Keras's backend, or a model of Keras.

    Raises:
        GraphError: It is none of these.
    """
    # What Keras's backend makes has the function inside.
    inner = what if isinstance(what, Function) else getattr(what, "compiled", None)
    if isinstance(inner, Function):
        return Subject(repr(inner).strip("<>"), inner.results, inner)
    if hasattr(what, "layers") and hasattr(what, "outputs"):
        if not what.outputs:
            raise GraphError(
                f"the model {what.name!r} is not built yet: it has no graph",
                remedy="give its first layer an input_shape, or call the model on data first",
            )
        outputs = {f"output {i}": t for i, t in enumerate(what.outputs)}
        return Subject(f"model {what.name}", outputs, None)
    if isinstance(what, Tensor | Update):
        what = [what]
    items = what.items() if isinstance(what, Mapping) else _numbered(what)
    names: list[str] = []
    tensors: list[Tensor] = []
    for name, item in items:
        if isinstance(item, Update):
            names.append(f"update of {item.variable.name}")
            tensors.append(item.value)
        elif isinstance(item, Tensor):
            names.append(str(name))
            tensors.append(item)
        else:
            raise _no_graph(item)
    if not tensors:
        raise GraphError(
            f"an empty {type(what).__name__} is no graph to look at", remedy="give a tensor"
        )
    return Subject(f"graph of {len(names)} tensor(s)", named(names, tensors), None)


def _numbered(what: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(what, Iterable) or isinstance(what, str | bytes):
        raise _no_graph(what)
    return ((f"output {i}", item) for i, item in enumerate(what))


def _no_graph(what: Any) -> GraphError:
    return GraphError(
        f"{type(what).__name__} is no graph to look at",
        remedy="give a tensor, an update, a list of them, a ksym.function, or a Keras model",
    )


def layer_of(node: Node) -> str:
    """Return the layer, or the name scope, under which a node was made; empty for none."""
    return node.origin.scope


def place_of(node: Node) -> str:
    """Return the user's line that made a node, as ``file:line``."""
    return f"{node.origin.filename}:{node.origin.line}"
