"""Lowering: write a graph of known shapes as one MXNet graph (NNVM)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ksym import shapes
from ksym.graph import FrozenArray, Node, Spec, Tensor, topological_order
from ksym.operator.emitter import WHOLE_BLOCK, Emitter, block_of, smallest
from ksym.ops.leaves import folded_leaf, is_constant

NNVM_VERSION = 10901
"""The MXNet version whose JSON format is written."""


OWN_LAYOUT = {"Convolution", "Deconvolution", "Pooling"}
"""MXNet's operators whose results oneDNN may leave in its own layout; so do their gradients."""

KEEPS_LAYOUT = {"Activation", "BatchNorm", "Concat", "LeakyReLU", "elemwise_add"}
"""MXNet's operators whose results have the layout of their inputs; so have their gradients."""

OF_THE_FIRST = {"BatchNorm", "Pooling"}
"""Those whose result has the blocks of the images, if any, and other inputs are vectors."""

IN_ORDER = frozenset({0})
"""The blocks of an array in order."""

MODAL = {"BatchNorm", "Dropout", "RNN"}
"""MXNet's operators that compute something else outside of training mode."""

BLOCKING = {"Convolution", "Deconvolution", "FullyConnected"}
"""MXNet's operators that convert their weights to oneDNN's layout outside of training mode."""


WRITTEN = {"_backward_RNN": 1, "BatchNorm": 0}
"""The results that MXNet's kernels must write, as else others of their results are wrong.

Of a recurrent layer the gradients of the sequence and of the first state are wrong where that of
the weights is not asked for; cuDNN's batch normalisation needs a place for its first result.
"""

_PAIRS = {
    "_npi_add": "elemwise_add",
    "_npi_subtract": "elemwise_sub",
    "_npi_multiply": "elemwise_mul",
    "_npi_true_divide": "elemwise_div",
}
_SINGLE = {
    "_npi_add_scalar": "_plus_scalar",
    "_npi_subtract_scalar": "_minus_scalar",
    "_npi_rsubtract_scalar": "_rminus_scalar",
    "_npi_multiply_scalar": "_mul_scalar",
    "_npi_true_divide_scalar": "_div_scalar",
    "_npi_rtrue_divide_scalar": "_rdiv_scalar",
    "_npi_absolute": "abs",
    "_npi_negative": "negative",
    **{
        f"_npi_{name}": name
        for name in (
            *("exp", "expm1", "log", "log1p", "sqrt", "cbrt", "square", "reciprocal", "sign"),
            *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"),
            *("arcsinh", "arccosh", "arctanh", "floor", "ceil", "trunc", "rint"),
        )
    },
}
FUSIBLE = {**_PAIRS, **_SINGLE}
"""For operators of MXNet's NumPy interface, older ones of floats of equal shapes that are alike.

MXNet's pointwise fusion on GPUs (operator/fusion/fused_op-inl.h) knows the older ones only.
"""


class Entry(NamedTuple):
    """One result of a native node."""

    node: int
    output: int


class Requirement(NamedTuple):
    """A condition that a native graph computes, because its kernels do not report its violation.

    Attributes:
        head: The position of a head, a scalar that is zero if the condition is violated.
        node: The node whose operands violate it.
        problem: The problem, as a clause.
    """

    head: int
    node: Node
    problem: str


@dataclass
class NativeGraph:
    """An MXNet graph before it is bound to arrays.

    Attributes:
        nodes: The nodes in NNVM's JSON form, in topological order.
        heads: The results, without repetition; none of them is an input.
        positions: For each output of the lowered graph, the position of its head.
        leaves: The name of the input for each placeholder, variable, random tensor, and tensor that
            is computed elsewhere.
        constants: The value of each constant input, by name.
        scratch: Shape and dtype of memory that operators write to, by name.
        in_blocks: Whether results may be in a memory layout of oneDNN's own.
        training: Whether to run in training mode, in which a pooling keeps what its gradient needs.
        makers: The node for which each native node was emitted first, by the name of that.
        requirements: The conditions that are looked at after each run.
    """

    nodes: list[dict[str, Any]] = field(default_factory=list)
    heads: list[Entry] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    leaves: dict[Tensor, str] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    scratch: dict[str, Spec] = field(default_factory=dict)
    in_blocks: bool = False
    training: bool = True
    makers: dict[str, Node] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the graph in the form that MXNet loads."""
        return json.dumps(
            {
                "nodes": self.nodes,
                "arg_nodes": [i for i, node in enumerate(self.nodes) if node["op"] == "null"],
                "heads": [[head.node, head.output, 0] for head in self.heads],
                "attrs": {"mxnet_version": ["int", NNVM_VERSION]},
            },
            separators=(",", ":"),
        )


def _texts(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return attributes as MXNet reads them."""
    return {key: str(value) for key, value in attributes.items()}


class GraphEmitter(Emitter):
    """Emits native operators as nodes of a `NativeGraph`.

    Equal applications give one node.  A gradient kernel depends on this: it repeats the emission of
    its forward operator to get at that node's results, hidden ones included.

    Args:
        on_host: Whether MXNet's kernels for the CPU run the graph, on arrays of the host.
        fusible: Whether elementwise operators have the names that MXNet's fusion knows.
    """

    def __init__(self, on_host: bool = True, fusible: bool = False) -> None:
        self._on_host = on_host
        self._fusible = fusible
        self._renamed: Mapping[str, str] = {}
        self._required: list[tuple[Entry, Node, str]] = []
        self._lowered: Node | None = None
        self.graph = NativeGraph()
        self._nodes: dict[Any, int] = {}
        self._constants: dict[FrozenArray, Entry] = {}
        self._scratch: dict[tuple[Spec, str], Entry] = {}
        self._forward: dict[int, Entry] = {}
        self._blocks: dict[int, frozenset[int]] = {}
        self._may_be_blocked: set[int] = set()

    def __call__(self, operator: str, *inputs: Entry, outputs: int = 1, **attributes: Any) -> Any:
        return self._apply(operator, inputs, outputs, attributes, None)

    def backward(
        self, operator: str, *inputs: Entry, of: Entry, results: Sequence[Spec], **attributes: Any
    ) -> Any:
        # NNVM infers the shapes of a gradient kernel from the forward node that it depends on.
        self._forward[of.node] = of
        return self._apply(operator, inputs, len(results), attributes, of.node)

    def _apply(
        self,
        operator: str,
        inputs: tuple[Entry, ...],
        outputs: int,
        attributes: Mapping[str, Any],
        after: int | None,
    ) -> Any:
        if operator == "_np_reshape" and attributes["newshape"] and self._in_own_layout(*inputs):
            # The plain one only renames the shape of memory, which oneDNN's sum then takes for
            # memory in a layout of the old shape, and fails; this one brings it into order.
            operator, attributes = "Reshape", {"shape": attributes["newshape"]}
        operator = self._renamed.get(operator, operator)
        texts = _texts(attributes)
        key = (operator, inputs, tuple(texts.items()), after)
        number = self._nodes.get(key)
        if number is None:
            node: dict[str, Any] = {
                "op": operator,
                "name": f"{operator}{len(self.graph.nodes)}",
                "attrs": texts,
                "inputs": [[entry.node, entry.output, 0] for entry in inputs],
            }
            if after is not None:
                node["control_deps"] = [after]
            number = self._nodes[key] = self._append(node)
            kind = operator.removeprefix("_backward_")
            if kind in OWN_LAYOUT:
                blocks = self._kept_blocks(kind, inputs) if kind == "Pooling" else None
                self._blocks[number] = blocks or frozenset({WHOLE_BLOCK})
            elif kind in KEEPS_LAYOUT and self._in_own_layout(*inputs):
                self._blocks[number] = self._kept_blocks(kind, inputs)
        if outputs == 1:
            return Entry(number, 0)
        return tuple(Entry(number, output) for output in range(outputs))

    def _kept_blocks(self, kind: str, inputs: Sequence[Entry]) -> frozenset[int]:
        """Return the possible blocks of a result that has the layout of its inputs."""
        found = [self._blocks.get(entry.node, IN_ORDER) for entry in inputs]
        blocks = frozenset().union(*found)
        if kind in OF_THE_FIRST:
            return blocks - IN_ORDER
        # Channels in several layouts are joined in order.
        return blocks | IN_ORDER if kind == "Concat" and len(blocks) > 1 else blocks

    def emitted(self, operator: str, *inputs: Entry, **attributes: Any) -> Entry | None:
        number = self._nodes.get((operator, inputs, tuple(_texts(attributes).items()), None))
        return None if number is None else Entry(number, 0)

    def in_own_layout(self, x: Entry) -> bool:
        return self._on_host and self._in_own_layout(x)

    def blocks(self, x: Entry) -> frozenset[int]:
        found = self._blocks.get(x.node, IN_ORDER)
        return found - IN_ORDER if self._on_host else frozenset()

    def in_blocks(self, x: Entry, spec: Spec) -> Entry:
        blocks = self._blocks.get(x.node, IN_ORDER)
        if not self._on_host or 0 not in blocks:
            return x
        # A convolution of each channel with 1; made anew, as oneDNN would reorder a constant.
        channels = shapes.known(spec.shape)[1]
        weight = self("_full", shape=(channels, 1, 1, 1), value=1.0, dtype=spec.dtype)
        options: dict[str, Any] = {"kernel": (1, 1), "num_filter": channels, "num_group": channels}
        y = self("Convolution", x, weight, no_bias=True, **options)
        self.made_in_blocks(y, block_of(channels))
        return y

    def made_in_blocks(self, x: Entry, channels: int) -> None:
        self._blocks[x.node] = frozenset({channels})

    def require(self, problem: str, flags: Callable[[], Entry]) -> None:
        if not self._on_host:
            assert self._lowered is not None
            entry = smallest(self, flags())
            self._required.append((entry, self._lowered, problem))

    def _in_own_layout(self, *entries: Entry) -> bool:
        return any(entry.node in self._blocks for entry in entries)

    def _needs_training(self, node: dict[str, Any]) -> bool:
        """Return whether a node must run in training mode.

        Gradients must, and operators that compute something else outside of it.  So must those
        that would convert weights to oneDNN's layout in place, since these may be variables; but
        not for weights that nothing else reads.
        """
        weights = [source for source, _, _ in node["inputs"][1:]]
        return (
            node["op"].startswith("_backward_")
            or node["op"] in MODAL
            or (
                node["op"] in BLOCKING
                and any(self.graph.nodes[source]["op"] == "null" for source in weights[:1])
                and self._may_be_blocked.isdisjoint(weights[:1])
            )
        )

    def _append(self, node: dict[str, Any]) -> int:
        self.graph.nodes.append(node)
        return len(self.graph.nodes) - 1

    def input(self, purpose: str) -> tuple[str, Entry]:
        """Add an input and return its name and value."""
        name = f"{purpose}{len(self.graph.nodes)}"
        return name, Entry(self._append({"op": "null", "name": name, "inputs": []}), 0)

    def constant(self, array: np.ndarray) -> Entry:
        frozen = FrozenArray(array)
        entry = self._constants.get(frozen)
        if entry is None:
            name, entry = self.input("constant")
            self._constants[frozen] = entry
            self.graph.constants[name] = frozen.array
        return entry

    def leaf(self, node: Node) -> Entry:
        return self.given(node.outputs[0])

    def given(self, tensor: Tensor) -> Entry:
        """Return the value of a tensor that is computed elsewhere."""
        self.graph.leaves[tensor], entry = self.input(tensor.node.operator.name)
        if tensor.node.operator is folded_leaf and tensor.node.attributes["in_blocks"]:
            self._may_be_blocked.add(entry.node)
        return entry

    def draw(self, node: Node) -> Entry:
        return self.given(node.outputs[0])

    def scratch(self, spec: Spec, purpose: str) -> Entry:
        key = (spec, purpose)
        if key not in self._scratch:
            name, self._scratch[key] = self.input("scratch")
            self.graph.scratch[name] = spec
        return self._scratch[key]

    def finish(self, outputs: Sequence[Entry]) -> NativeGraph:
        """Make entries the heads of the graph and return it."""
        self.graph.in_blocks = bool(self._blocks)
        self.graph.training = any(map(self._needs_training, self.graph.nodes))
        heads: dict[Entry, int] = {}
        for entry in outputs:
            if entry not in heads:
                heads[entry] = len(heads)
            self.graph.positions.append(heads[entry])
        for entry in heads:
            # A head that is an input would be the memory that the next call overwrites.
            is_input = self.graph.nodes[entry.node]["op"] == "null"
            self.graph.heads.append(self("_copy", entry) if is_input else entry)
        # A forward node runs because a gradient kernel depends on it, and MXNet's kernels must
        # write a result; one that nothing reads becomes a head after those of the outputs.
        nodes, read = self._needed()
        self.graph.heads += [
            entry
            for node, entry in self._forward.items()
            if node not in {source for source, _ in read}
            and self.graph.nodes[node]["op"] not in WRITTEN
        ]
        written = [
            Entry(number, WRITTEN[self.graph.nodes[number]["op"]])
            for number in sorted(nodes | self._forward.keys())
            if self.graph.nodes[number]["op"] in WRITTEN
        ]
        self.graph.heads += [entry for entry in written if entry not in read]
        for entry, node, problem in self._required:
            self.graph.requirements.append(Requirement(len(self.graph.heads), node, problem))
            self.graph.heads.append(entry)
        return self.graph

    def lowering(self, node: Node) -> None:
        """Take what is emitted from now on as the work of a node."""
        self._lowered = node
        self._renamed = _fusible_names(node) if self._fusible else {}

    def _needed(self) -> tuple[set[int], set[Entry]]:
        """Return the nodes that the heads depend on, and the results that these read."""
        read = set(self.graph.heads)
        nodes = {head.node for head in read}
        for number in range(len(self.graph.nodes) - 1, -1, -1):  # operands come before
            if number in nodes:
                entries = [Entry(node, k) for node, k, _ in self.graph.nodes[number]["inputs"]]
                read.update(entries)
                nodes.update(entry.node for entry in entries)
        return nodes, read


def _fusible_names(node: Node) -> Mapping[str, str]:
    """Return the names to use, instead of others, for the native operators of a node.

    MXNet's fusion does not broadcast, and passes numbers through float32.
    """
    numbers = [t for t in node.inputs if is_constant(t) and not t.rank]
    specs = {t.spec for t in (*node.inputs, *node.outputs) if t not in numbers}
    if not node.operator.elementwise or len(specs) != 1 or specs.pop().dtype != "float32":
        return {}
    return _SINGLE if numbers else FUSIBLE


def lower_node(emit: Emitter, node: Node, values: Sequence[Any]) -> Sequence[Any]:
    """Emit one node and return its results."""
    if all(0 in tensor.shape for tensor in node.outputs):
        # Nothing to compute; MXNet's kernels fail for such results.
        return [
            emit.constant(np.empty(shapes.known(tensor.shape), tensor.dtype))
            for tensor in node.outputs
        ]
    result = node.operator.lower(emit, node, *values)
    return result if len(node.outputs) > 1 else (result,)


def lower(
    outputs: Sequence[Tensor],
    given: Sequence[Tensor] = (),
    on_host: bool = True,
    fusible: bool = False,
) -> NativeGraph:
    """Return the native graph that computes outputs.

    Args:
        outputs: The outputs.
        given: Tensors that are computed elsewhere.
        on_host: As for `GraphEmitter`.
        fusible: As for `GraphEmitter`.
    """
    emit = GraphEmitter(on_host, fusible)
    entries: dict[Tensor, Entry] = {tensor: emit.given(tensor) for tensor in given}
    for node in topological_order(outputs, until=entries):
        before = len(emit.graph.nodes)
        emit.lowering(node)
        results = lower_node(emit, node, [entries[tensor] for tensor in node.inputs])
        emit.graph.makers.update((made["name"], node) for made in emit.graph.nodes[before:])
        entries.update(zip(node.outputs, results, strict=True))
    return emit.finish([entries[tensor] for tensor in outputs])
