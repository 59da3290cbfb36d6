"""The inputs, outputs and givens of a function, in the forms in which users give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ksym.errors import ArgumentError, GraphError
from ksym.graph import Tensor, substitute, topological_order
from ksym.ops.leaves import constant, placeholder
from ksym.origin import warn
from ksym.variables import Update, Variable

Outputs = Tensor | Iterable[Tensor] | Mapping[Any, Tensor] | None
"""The outputs of a function, as a user gives them."""

Givens = Mapping[Tensor, Any] | Iterable[tuple[Tensor, Any]]
"""Tensors, and what replaces each."""


def variables_in(graph: Sequence[Tensor], updated: Sequence[Variable]) -> list[Variable]:
    """Return the variables that a graph reads, and those that are updated besides."""
    leaves = (node.outputs[0] for node in topological_order(graph))
    return [*(leaf for leaf in leaves if isinstance(leaf, Variable)), *updated]


def default_updates(
    read: Iterable[Variable], updated: Sequence[Variable], without: bool | Iterable[Variable]
) -> list[Update]:
    """Return the default updates of variables that a graph reads.

    Args:
        read: The variables.
        updated: Those that have another update.
        without: The variables whose default update is left out; True for all of them.

    Raises:
        ArgumentError: `without` is something else.
    """
    excepted: set[Any] = set(updated)
    if not isinstance(without, bool):
        listed = list(without) if isinstance(without, Iterable) else [without]
        for variable in listed:
            if not isinstance(variable, Variable):
                raise ArgumentError(
                    f"no_default_updates has {variable!r}, which is no variable",
                    remedy="give True, or a list of the variables",
                )
        excepted.update(listed)
    if without is True:
        return []
    return [
        Update(variable, variable.default_update)
        for variable in read
        if variable.default_update is not None and variable not in excepted
    ]


def named(names: Iterable[str], tensors: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names; of equal names all but the first get a number.

    >>> from ksym.ops import constant
    >>> list(named(["a", "b", "a"], [constant(1), constant(2), constant(3)]))
    ['a', 'b', 'a (2)']
    """
    result: dict[str, Tensor] = {}
    for name, tensor in zip(names, tensors, strict=True):
        unique, count = name, 1
        while unique in result:
            count += 1
            unique = f"{name} ({count})"
        result[unique] = tensor
    return result


def inputs_of(inputs: Any, name: str) -> list[Any]:
    """Return the inputs of a function as a list.

    Raises:
        ArgumentError: They are none.
    """
    if isinstance(inputs, Tensor):
        return [inputs]
    if not isinstance(inputs, Iterable) or isinstance(inputs, str):
        raise ArgumentError(
            f"the inputs of {name} are {inputs!r}, no tensors of a graph",
            remedy="give a placeholder, or a list of them; [] for none",
        )
    return list(inputs)


def opened(
    inputs: Sequence[Any], graph: list[Tensor], name: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Put a placeholder in the place of each input that is something else.

    Args:
        inputs: The inputs.
        graph: The outputs and new values.
        name: The name of the function, for messages.

    Returns:
        A placeholder for each input, and the graph in terms of these.

    Raises:
        GraphError: An input is no tensor or repeated, or the graph depends on more placeholders.
    """
    slots: list[Tensor] = []
    cuts: dict[Tensor, Tensor] = {}
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor):
            raise GraphError(
                f"input {position} of {name} is {tensor!r}, not a tensor of a graph",
                remedy="make it with ksym.placeholder(shape)",
            )
        if tensor in inputs[:position]:
            raise GraphError(f"input {position} of {name}, {tensor.name}, is repeated")
        if tensor.node.operator is placeholder:
            slots.append(tensor)
        else:
            cuts[tensor] = placeholder(tensor.shape, tensor.dtype, name=tensor.name)
            slots.append(cuts[tensor])
    if cuts:
        graph = substitute(graph, cuts)
    defaults = _defaults(graph, slots, name)
    return slots, substitute(graph, defaults) if defaults else graph


def _defaults(graph: Sequence[Tensor], slots: Sequence[Tensor], name: str) -> dict[Tensor, Tensor]:
    """Return the defaults of the placeholders that a graph depends on besides its inputs.

    Raises:
        GraphError: One has none.
    """
    defaults: dict[Tensor, Tensor] = {}
    for node in topological_order(graph):
        leaf = node.outputs[0]
        if node.operator is not placeholder or leaf in slots:
            continue
        default = node.attributes["default"]
        if default is None and leaf.loop:
            raise GraphError(
                f"{name} depends on {leaf.loop}, which has a value only inside",
                remedy="return from the body what is computed of it, and use what the loop returns",
            ).located(origin=node.origin)
        if default is None:
            raise GraphError(
                f"{name} depends on the placeholder {leaf.name}, which is not an input",
                remedy="add it to the inputs, or replace it by givens",
            ).located(origin=node.origin)
        defaults[leaf] = constant(default.array)
    return defaults


def report_unused_inputs(
    inputs: Sequence[Any], graph: Sequence[Tensor], policy: str, name: str
) -> None:
    """Report inputs that nothing depends on.

    Args:
        inputs: The inputs, as the user gave them.
        graph: The outputs and new values, before placeholders were put in.
        policy: ``"warn"``, ``"ignore"`` or ``"raise"``.
        name: The name of the function.

    Raises:
        GraphError: There is such an input and the policy says so, or there is no such policy.
    """
    if policy not in ("warn", "ignore", "raise"):
        raise GraphError(
            f"on_unused_input is {policy!r}", remedy='give "warn", "ignore" or "raise"'
        )
    used = set(topological_order(graph)) if graph else None
    for position, tensor in enumerate(inputs):
        if policy == "ignore" or used is None or not isinstance(tensor, Tensor):
            continue
        if tensor.node in used:
            continue
        problem = f"nothing depends on input {position} of {name}, {tensor.name}"
        remedy = (
            "leave it out, or give the tensor that the outputs were made of; "
            'on_unused_input="ignore" keeps silent'
        )
        if policy == "raise":
            raise GraphError(problem, remedy=remedy).located(origin=tensor.node.origin)
        warn(problem, remedy)


def listed(outputs: Outputs, name: str) -> tuple[list[Any], bool, list[Any] | None]:
    """Return outputs as a list, whether a call returns another form of them, and their names.

    Raises:
        ArgumentError: They are nothing of the kind.
        GraphError: An output is an update.
    """
    keys = None
    if isinstance(outputs, Mapping):
        keys, outputs = list(outputs), list(outputs.values())
    alone = isinstance(outputs, Tensor | Update)
    try:
        results: list[Any] = [outputs] if alone else [] if outputs is None else list(outputs)
    except TypeError:
        raise _no_outputs(outputs, name) from None
    if isinstance(outputs, str):
        raise _no_outputs(outputs, name)
    for position, result in enumerate(results):
        if isinstance(result, Update):
            raise GraphError(
                f"output {position} of {name} is an update of {result.variable.name!r}, no tensor",
                remedy="give it by updates=[update]; for the new value itself, let the output be "
                "update.value",
            ).located(origin=result.value.node.origin)
    return results, alone or keys is not None, keys


def _no_outputs(outputs: Any, name: str) -> ArgumentError:
    return ArgumentError(
        f"the outputs of {name} are {outputs!r}, no tensors of a graph",
        remedy="give a tensor, or a list or a mapping of tensors; of a number or an array "
        "ksym.as_tensor(value) makes one",
    )


def with_givens(graph: list[Tensor], givens: Givens | None) -> list[Tensor]:
    """Return a graph with tensors replaced by other tensors, or by values."""
    if not givens:
        return graph
    replaced = {
        old: new if isinstance(new, Tensor) else constant(new, old.dtype)
        for old, new in _pairs(givens)
    }
    return substitute(graph, replaced)


def report_unused_givens(graph: Sequence[Tensor], givens: Givens | None) -> None:
    """Warn of givens for tensors on which a graph does not depend."""
    if not givens:
        return
    used = set(topological_order(graph))
    for old, _ in _pairs(givens):
        if old.node not in used:
            warn(
                f"the given for {old!r} has no effect: nothing depends on that tensor",
                "give the very tensor that the outputs were made of: two x[-1] are two tensors",
            )


def _pairs(givens: Givens) -> list[tuple[Tensor, Any]]:
    """Return givens as pairs.

    Raises:
        ArgumentError: They are none, or something else than a tensor is to be replaced.
    """
    items: Any = givens.items() if isinstance(givens, Mapping) else givens
    try:
        pairs = [(old, new) for old, new in items]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"the givens are {givens!r}", remedy="give a mapping, as in givens={x: value}"
        ) from None
    for old, _ in pairs:
        if not isinstance(old, Tensor):
            raise ArgumentError(
                f"a given replaces {old!r}, which is no tensor",
                remedy="give the tensors that are replaced as keys, as in givens={x: value}",
            )
    return pairs
