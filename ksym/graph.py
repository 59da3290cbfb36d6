"""The graph: immutable tensors, produced by nodes of registered operators.

A `Node` is one application of an operator: its operands, its attributes, and where in the user's
code it was made.  A `Tensor` is one output of a node, with a static shape and dtype.  There is no
global graph: a graph is whatever a set of tensors reaches through their nodes, and it is gone when
the last of them is.  Every walk here is iterative; depth is limited by memory only.
"""

from __future__ import annotations

import copy
import gc
import itertools
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from ksym import shapes
from ksym.arraylike import NUMPY as NUMPY
from ksym.arraylike import OPERATORS as OPERATORS
from ksym.arraylike import ArrayLike
from ksym.errors import ArgumentError, GraphError
from ksym.origin import Origin, provenance
from ksym.shapes import Shape

if TYPE_CHECKING:
    import networkx

    from ksym.operator.declaration import Operator


class Spec(NamedTuple):
    """The shape and dtype of a value, known before it is computed."""

    shape: Shape
    dtype: str

    def __str__(self) -> str:
        inside = ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.dtype} ({inside}{',' if len(self.shape) == 1 else ''})"


class FrozenArray:
    """A read-only array that is compared and hashed by value, so that it can be an attribute."""

    __slots__ = ("_hash", "array")

    def __init__(self, array: np.ndarray):
        # A copy of its own: the caller's array may change later.
        self.array = np.array(array, order="C")
        self.array.setflags(write=False)
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrozenArray):
            return NotImplemented
        a, b = self.array, other.array
        # Compared as bytes: 0.0 and -0.0 differ, and a NaN equals itself.
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash((self.array.dtype, self.array.shape, self.array.tobytes()))
        return self._hash

    def __deepcopy__(self, memo: Any) -> FrozenArray:
        return self

    def __reduce__(self) -> Any:
        return FrozenArray, (self.array,)  # hashes differ from process to process

    def __repr__(self) -> str:
        if self.array.size > 8:
            return f"<{self.array.dtype} array of shape {self.array.shape}>"
        return np.array2string(self.array, separator=", ")


class Node:
    """One application of an operator.

    Attributes:
        operator: The declaration this node applies.
        inputs: The operands, in the operator's order.
        attributes: Everything else that decides the result; hashable values only.
        outputs: The tensors it produces.
        origin: The place in the user's code that made it.
        number: The number in the order of creation: larger than those of the operands' nodes.
    """

    __slots__ = (
        "__weakref__",
        "attributes",
        "inputs",
        "number",
        "operator",
        "origin",
        "outputs",
    )
    _numbers = itertools.count()

    def __init__(
        self,
        operator: Operator,
        inputs: Sequence[Tensor],
        attributes: Mapping[str, Any],
        specs: Sequence[Spec],
        origin: Origin,
    ):
        self.operator = operator
        self.inputs = tuple(inputs)
        self.attributes = attributes
        self.origin = origin
        self.number = next(Node._numbers)
        self.outputs = tuple([Tensor(self, index, spec) for index, spec in enumerate(specs)])

    def __repr__(self) -> str:
        return f"<Node {self.operator.name}:{self.number}>"


class Tensor(ArrayLike):
    """A symbolic array: one output of a node.

    Its shape, dtype and node never change; users (as Keras does) may set attributes of their own.
    Tensors compare and hash by identity, so that they can be looked for in lists and dictionaries.
    Arithmetic and ordering build nodes; ``==`` and ``!=`` do not: `ksym.equal` does.

    Attributes:
        shape: A tuple of sizes, None where a size is not known yet.
        dtype: The name of the dtype.
        value: The value, where it is known while the graph is built: an array for constants, and
            for small integer tensors computed from shapes, where an entry may be
            `shapes.UNKNOWN`.
        loop: For a parameter of a loop's body what it is, in words; else empty.
    """

    loop = ""

    def __init__(self, node: Node, index: int, spec: Spec):
        self.node = node
        self.index = index
        self.shape = spec.shape
        self.dtype = spec.dtype
        self.value: np.ndarray | None = None

    @property
    def spec(self) -> Spec:
        """The shape and dtype together."""
        return Spec(self.shape, self.dtype)

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def name(self) -> str:
        """The name given by the user, else the operator and a number."""
        given = self.node.attributes.get("name")
        if given:
            return str(given)
        suffix = f":{self.index}" if len(self.node.outputs) > 1 else ""
        return f"{self.node.operator.name}_{self.node.number}{suffix}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.spec}>"

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return deep_copy(self, memo)


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which would scan a graph again and again while it is made."""
    enabled = gc.isenabled()
    try:
        gc.disable()
        yield
    finally:
        if enabled:
            gc.enable()


# --- walks -------------------------------------------------------------------------------------


def topological_order(
    outputs: Iterable[Tensor], until: Collection[Tensor] = frozenset()
) -> list[Node]:
    """Return the nodes that outputs depend on in the order in which they were made.

    Each node comes after the nodes of its operands.

    Args:
        outputs: The tensors to start from.
        until: Tensors that are taken as given; the walk does not go behind them.
    """
    given = until if isinstance(until, Set | Mapping) else set(until)
    found: set[Node] = set()
    order: list[Node] = []
    stack = [tensor.node for tensor in outputs if tensor not in given]
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            order.append(node)
            stack.extend([tensor.node for tensor in node.inputs if tensor not in given])
    # Operands exist before the nodes made of them.
    order.sort(key=operator.attrgetter("number"))
    return order


def count_uses(order: Iterable[Node], outputs: Iterable[Tensor]) -> Counter[Tensor]:
    """Count the uses of each tensor as an operand of a node, or as one of the outputs."""
    uses = Counter(tensor for node in order for tensor in node.inputs)
    uses.update(outputs)
    return uses


def same(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Return whether two sequences hold the very same tensors."""
    return all(map(operator.is_, first, second))


RewriteRule = Callable[[Node, Sequence["Tensor"]], "Tensor | Sequence[Tensor] | None"]


def rewrite(
    outputs: Sequence[Tensor],
    rule: RewriteRule,
    given: Mapping[Tensor, Tensor] | None = None,
    order: Sequence[Node] | None = None,
) -> list[Tensor]:
    """Rebuild outputs bottom-up, each node replaced by the result of a rule.

    Args:
        outputs: The tensors to rebuild.
        rule: Called as ``rule(node, inputs)`` with the node's operands as already rewritten.
            Returns the replacement (one tensor, or one for each output), or None to keep the node,
            rebuilt if an operand changed.
        given: Replacements made before anything else; the walk does not go behind them.
        order: A topological order to follow, for a rule that needs one node before another.

    A replacement keeps the origin of the node it stands for.
    """
    replaced: dict[Tensor, Tensor] = dict(given or {})
    if order is None:
        order = topological_order(outputs, until=replaced)
    before = getattr(provenance, "origin", None)
    try:
        for node in order:
            inputs = [replaced.get(tensor, tensor) for tensor in node.inputs]
            provenance.origin = node.origin
            new = rule(node, inputs)
            if new is None:
                if same(inputs, node.inputs):
                    continue
                new = node.operator.remake(node, inputs).outputs
            if isinstance(new, Tensor):
                new = (new,)
            for old, tensor in zip(node.outputs, new, strict=True):
                if tensor is not old and old not in replaced:
                    replaced[old] = tensor
    finally:
        provenance.origin = before
    return [replaced.get(tensor, tensor) for tensor in outputs]


def replace(outputs: Sequence[Tensor], given: Mapping[Tensor, Tensor]) -> list[Tensor]:
    """Return outputs rebuilt with the tensors that are keys of given replaced by their values.

    All replacements happen at once: what a value is made of is not replaced again.  Nothing is
    checked before; `substitute` is the one for tensors that a user gives.
    """
    return rewrite(outputs, lambda node, inputs: None, given=given)


def listed_tensors(given: Any, called: str) -> list[Tensor]:
    """Return a tensor, or several, as a list.

    Args:
        given: The argument of a user's call.
        called: Its name in the error.

    Raises:
        ArgumentError: It is neither a tensor nor a sequence of tensors.
    """
    tensors = [given] if isinstance(given, Tensor) or not isinstance(given, Iterable) else given
    result = list(tensors)
    for tensor in result:
        if not isinstance(tensor, Tensor):
            raise ArgumentError(
                f"{called} has {tensor!r}, no tensor of a graph",
                remedy="give a tensor, or a list of tensors; of a number or an array "
                "ksym.as_tensor(value) makes one",
            )
    return result


@overload
def substitute(outputs: Tensor, replacements: Mapping[Tensor, Tensor]) -> Tensor: ...


@overload
def substitute(
    outputs: Sequence[Tensor], replacements: Mapping[Tensor, Tensor]
) -> list[Tensor]: ...


def substitute(
    outputs: Tensor | Sequence[Tensor], replacements: Mapping[Tensor, Tensor]
) -> Tensor | list[Tensor]:
    """Return outputs with each key of replacements replaced by its value.

    All replacements happen at once: the values' own operands are not replaced.

    Args:
        outputs: A tensor, or a sequence of them.
        replacements: For each tensor to be replaced another one of its dtype and shape.

    Returns:
        A new tensor, or a list; a tensor that depends on none of the keys is returned as it is.

    Raises:
        ArgumentError: There is something else than tensors.
        GraphError: A value has another rank or dtype than the tensor it replaces.
        ShapeError: A shape does not fit where it now stands.
    """
    if not isinstance(replacements, Mapping):
        raise ArgumentError(
            f"the replacements are {replacements!r}, no mapping",
            remedy="give one, as in ksym.substitute(y, {x: 2.0 * x})",
        )
    graph = listed_tensors(outputs, "the graph")
    listed_tensors([*replacements, *replacements.values()], "the mapping of replacements")
    for old, new in replacements.items():
        if old.dtype != new.dtype or not shapes.compatible(old.shape, new.shape):
            raise GraphError(f"cannot replace {old!r} by {new!r}: shape or dtype differ")
    replaced = replace(graph, replacements)
    return replaced[0] if isinstance(outputs, Tensor) else replaced


def deep_copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Return a tensor that depends on copies of the variables and streams that this one depends on.

    What depends on none is not copied: it never changes.

    Args:
        tensor: The tensor.
        memo: The copies so far, by the identities of their originals, as `copy` keeps them.
    """
    found: set[Node] = set()
    stack = [tensor]
    while stack:
        current = stack.pop()
        if id(current) in memo or current.node in found:
            continue
        if type(current) is not Tensor:
            copy.deepcopy(current, memo)  # a variable, which copies itself
            continue
        found.add(current.node)
        stack.extend(current.node.inputs)
    with collection_paused():
        for node in sorted(found, key=operator.attrgetter("number")):
            inputs = [memo[id(t)] for t in node.inputs]
            attributes = {key: copy.deepcopy(item, memo) for key, item in node.attributes.items()}
            made = node
            if attributes != node.attributes or not same(inputs, node.inputs):
                specs = [t.spec for t in node.outputs]
                made = Node(node.operator, inputs, attributes, specs, node.origin)
                node.operator.track_values(made)
            memo.update((id(old), new) for old, new in zip(node.outputs, made.outputs, strict=True))
    copied: Tensor = memo[id(tensor)]
    return copied


def to_networkx(outputs: Tensor | Iterable[Tensor]) -> networkx.MultiDiGraph:
    """Convert the graph that outputs depend on to a networkx.MultiDiGraph.

    Each node is keyed by its number and carries ``operator``, ``label``, ``specs`` (one
    "dtype (shape)" for each output), ``attributes``, ``origin`` and ``scope``; each edge carries
    ``output`` (which output of its source) and ``operand`` (which operand of its target).

    Raises:
        ArgumentError: The outputs are no tensors.
    """
    import networkx

    graph = networkx.MultiDiGraph()
    for node in topological_order(listed_tensors(outputs, "the graph")):
        graph.add_node(
            node.number,
            operator=node.operator.name,
            label=node.outputs[0].name,
            specs=[str(tensor.spec) for tensor in node.outputs],
            attributes={key: str(value) for key, value in node.attributes.items()},
            origin=str(node.origin),
            scope=node.origin.scope,
        )
        for operand, tensor in enumerate(node.inputs):
            graph.add_edge(tensor.node.number, node.number, output=tensor.index, operand=operand)
    return graph
