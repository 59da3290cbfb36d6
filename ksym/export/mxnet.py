"""Exporting to MXNet: a symbol and its parameters, which MXNet loads without ksym."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.compiler.codegen.nnvm import Entry
from ksym.errors import ArgumentError, GraphError
from ksym.export.inference import Exported, Format, Sized, at_points, exported
from ksym.export.lowered import lowered, numbers_of
from ksym.export.params import TYPE_FLAGS, write_params
from ksym.export.sizes import Varying, product_of, runs_of, varies
from ksym.export.symbol import Symbol, merging
from ksym.locking import joined
from ksym.ops.leaves import placeholder
from ksym.output import path_text, replacing
from ksym.variables import Variable

WITHOUT_GRADIENT = {"_slice_assign"}
"""Operators of MXNet that have no gradient, besides those that are gradients."""

SECOND_UNREAD = {"_backward_Convolution", "_backward_take"}
"""Gradient kernels of which ksym may read the first result only."""


MXNET = Format("MXNet", merges_axes=True, has_loops=False, has=lambda operator: False)

_GIVE_SIZE = "give the placeholders, or the model's inputs, that size"


class MXNetFiles(NamedTuple):
    """The files that `export_mxnet` wrote, and what MXNet needs to be told of them.

    Attributes:
        symbol: The path of the graph, ``prefix-symbol.json``.
        params: The path of the parameters, ``prefix-0000.params``.
        inputs: The names of the inputs.
        outputs: The names of the outputs, in their order.
        numpy_shapes: Whether the graph has scalars, so that it is loaded and run under
            ``mxnet.util.np_shape()``.
    """

    symbol: str
    params: str
    inputs: list[str]
    outputs: list[str]
    numpy_shapes: bool


def export_mxnet(function: Any, prefix: Any, epoch: int = 0) -> MXNetFiles:
    """Write a function as a symbol and parameters that MXNet loads without ksym.

    Sizes that are not known stay so: a batch of any size can be computed.  Loops are written out,
    but for recurrent layers that MXNet has kernels for.

    Args:
        function: A function without updates, or a Keras model, whose predictions are exported.
        prefix: The beginning of the paths: ``prefix-symbol.json`` and ``prefix-0000.params``.
        epoch: The number in the name of the parameters.

    Returns:
        The paths, and the names of inputs and outputs.

    Raises:
        GraphError: An operator, or the way that it depends on a size, is nothing that MXNet's
            graphs have; it is named.
        ArgumentError: The prefix is no path, or the epoch has more than four digits.
        FileError: The files cannot be written.

    >>> import ksym, os, tempfile
    >>> x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(np.ones((3, 2)), name="w")
    >>> f = ksym.function(x, ksym.tanh(x @ w))
    >>> files = export_mxnet(f, os.path.join(tempfile.mkdtemp(), "model"))
    >>> files.inputs, os.path.basename(files.params)
    (['x'], 'model-0000.params')

    In MXNet: ``mxnet.gluon.SymbolBlock.imports(files.symbol, files.inputs, files.params)``.
    """
    stem = path_text(prefix)
    if not isinstance(epoch, int) or not 0 <= epoch < 10_000:
        raise ArgumentError(
            f"epoch is {epoch!r}",
            remedy="give a whole number from 0 to 9999, the four digits in the file's name",
        )
    of = exported(function, "MXNet")
    writer = at_points(of, MXNET, lambda graphs: SymbolOf(of, graphs))
    text, tensors = writer.text, writer.variables
    with joined([of.function._group], "a function is exported").held():
        values = {name: variable._read() for name, variable in tensors.items()}
    values.update(writer.constants)
    auxiliary = writer.auxiliary()
    arrays = {f"{'aux' if n in auxiliary else 'arg'}:{n}": a for n, a in values.items()}
    symbol, params = f"{stem}-symbol.json", f"{stem}-{epoch:04d}.params"
    with replacing(symbol) as first, replacing(params) as second:
        first.write(text.encode())
        write_params(second, arrays, writer.numpy_shapes)
    return MXNetFiles(symbol, params, list(of.names), list(of.results), writer.numpy_shapes)


def _needs_training(node: Mapping[str, Any]) -> bool:
    """Return whether a native node computes something else when MXNet predicts."""
    attributes = node.get("attrs", {})
    kind = node["op"].removeprefix("_backward_")
    if kind == node["op"]:
        return kind == "BatchNorm" and attributes.get("use_global_stats") != "True"
    return kind in ("BatchNorm", "RNN") or attributes.get("pool_type") == "max"


class SymbolOf(Symbol):
    """Writes the graph that all points have in common.

    Attributes:
        variables: The variables that are parameters, by their names.
        text: The graph in JSON.
    """

    def __init__(self, of: Exported, graphs: Sequence[Sized]):
        super().__init__()
        self._of = of
        self._all = [lowered(sized) for sized in graphs]
        self._first = self._all[0]
        self._inputs = dict(zip(graphs[0].inputs, of.names, strict=True))
        self._entries: dict[Entry, Entry] = {}
        self._sources: dict[Varying, tuple[Entry, int]] = {}
        self._current = graphs[0].outputs[0].node
        self.variables: dict[str, Variable] = {}
        self.text = self._written()

    def refused(self, what: str, remedy: str) -> GraphError:
        """Return an error that names the operator that is being written."""
        error = GraphError(what, remedy=remedy)
        node = self._current
        error.located(node.operator.name, [t.spec for t in node.inputs], node.origin)
        return error

    def _written(self) -> str:
        self._check_structure()
        leaves = {name: tensor for tensor, name in self._first.graph.leaves.items()}
        needed = self._needed()
        for number, node in enumerate(self._first.graph.nodes):
            if number not in needed:
                continue
            self._current = self._first.made_by[number]
            entry = Entry(number, 0)
            if node["op"] != "null":
                self._operator(number, node)
                continue
            leaf = leaves.get(node["name"])
            if leaf is None:
                self._entries[entry] = self._constant(node["name"], number)
            elif isinstance(leaf, Variable):
                name = self.unique(leaf.name)
                self.variables[name] = leaf
                self._entries[entry] = self.parameter(name, leaf.shape, leaf.dtype)
            else:
                name = self._inputs[leaf]
                self._names[name] = 1
                attributes = {"__dtype__": str(TYPE_FLAGS[leaf.dtype])}
                self._entries[entry] = self.append("null", name, [], attributes)
            self._learn(entry)
        heads = [self._entries[head] for head in self._first.heads]
        # Each output has a name of its own, and none of them is an input.
        heads = [
            self.append("_copy", self.unique(name), [head], {})
            for name, head in zip(self._of.results, heads, strict=True)
        ]
        return self.to_json(heads)

    def _check_structure(self) -> None:
        """Refuse a graph whose nodes, and not only numbers in them, depend on sizes."""
        for other in self._all[1:]:
            pairs = zip(self._first.graph.nodes, other.graph.nodes, strict=False)
            for number, (a, b) in enumerate(pairs):
                if a["op"] != b["op"] or a["inputs"] != b["inputs"]:
                    self._current = self._first.made_by[number]
                    raise self.refused(
                        "which operators compute it depends on a size that is not known",
                        _GIVE_SIZE,
                    )

    def _needed(self) -> set[int]:
        """Return the numbers of the nodes that the outputs depend on."""
        found: set[int] = {
            number for number, node in enumerate(self._first.graph.nodes) if self._is_input(node)
        }
        stack = [head.node for head in self._first.heads]
        while stack:
            number = stack.pop()
            if number not in found or self._is_input(self._first.graph.nodes[number]):
                found.add(number)
                node = self._first.graph.nodes[number]
                stack += [source for source, _, _ in node["inputs"]]
                stack += node.get("control_deps", ())
        return found

    def _is_input(self, node: Mapping[str, Any]) -> bool:
        return node["op"] == "null" and node["name"].startswith(placeholder.name)

    def _learn(self, entry: Entry) -> None:
        """Note from which entries sizes can be read."""
        if entry in self._first.shapes:
            shape = self._shape(entry)
            self.numpy_shapes |= not shape or any(0 in side for side in shape)
            for axis, side in enumerate(shape):
                if varies(side):
                    self._sources.setdefault(side, (self._entries[entry], axis))

    def _shape(self, entry: Entry) -> list[Varying]:
        """Return the sizes of an entry at all points."""
        if any(entry not in low.shapes for low in self._all):
            raise self.refused(
                "it depends on a size that is not known in an unknown way",
                _GIVE_SIZE,
            )
        return list(zip(*(low.shapes[entry] for low in self._all), strict=True))

    def _operator(self, number: int, node: Mapping[str, Any]) -> None:
        every = [low.graph.nodes[number].get("attrs", {}) for low in self._all]
        sources = [Entry(source, output) for source, output, _ in node["inputs"]]
        inputs = [self._entries[source] for source in sources]
        # How many results a node has shows where they are read.
        read = {o for n in self._first.graph.nodes for s, o, _ in n["inputs"] if s == number}
        read.update(head.output for head in self._first.heads if head.node == number)
        if _needs_training(node):
            raise self.refused(
                f"it becomes MXNet's {node['op']}, which computes it in training mode only",
                "export the function that predicts; compute gradients with ksym",
            )
        changing = [key for key in every[0] if varies([attributes[key] for attributes in every])]
        entry = Entry(number, 0)
        if not changing:
            after = [self._entries[Entry(n, 0)].node for n in node.get("control_deps", ())]
            name = self.unique(node["op"].strip("_"))
            made = self.append(node["op"], name, inputs, every[0], after)
        else:
            made = self._general(node["op"], sources, inputs, every, changing)
        for output in read:
            result = Entry(made.node, output)
            if node["op"].startswith("_backward_") or node["op"] in WITHOUT_GRADIENT:
                # Gluon prepares the gradient of what it loads, and refuses operators without one,
                # even where no gradient is asked for; unless none gets to any of its results.
                result = self.emit("BlockGrad", result)
                if node["op"] in SECOND_UNREAD and 1 not in read:
                    nothing = self.emit("zeros_like", Entry(made.node, 1))
                    nothing = self.emit("sum", nothing, keepdims=True)
                    result = self.emit("broadcast_add", result, nothing)
            self._entries[Entry(number, output)] = result
            self._learn(Entry(number, output))
        self._entries.setdefault(entry, made)

    def _general(
        self,
        operator: str,
        sources: Sequence[Entry],
        inputs: Sequence[Entry],
        every: Sequence[Mapping[str, str]],
        changing: Sequence[str],
    ) -> Entry:
        """Write a node some of whose numbers depend on sizes."""
        (key, *others) = changing
        values = [numbers_of(attributes[key]) for attributes in every]
        if not others and None not in values and len({len(v) for v in values if v}) == 1:
            numbers: list[Varying] = list(zip(*(v for v in values if v is not None), strict=True))
            fixed = {k: v for k, v in every[0].items() if k != key}
            if key in ("newshape", "shape") and operator in ("_np_reshape", "Reshape"):
                return self._reshaped(inputs[0], sources[0], numbers)
            if operator == "_npi_broadcast_to":
                return self._broadcast(inputs[0], self._shape(sources[0]), numbers)
            if operator in ("slice", "slice_axis") and sources[0] in self._first.shapes:
                return self._sliced(operator, sources[0], inputs[0], fixed, key, numbers)
            if operator in ("_zeros", "_ones", "_full"):
                dtype = every[0].get("dtype", "float32")
                value = float(every[0].get("value", operator == "_ones"))
                filled = np.full([1] * len(numbers), value, dtype)
                return self._broadcast(
                    self.constant(filled), [(1,) * len(values)] * len(numbers), numbers
                )
            if key == "scalar" and operator.endswith("_scalar"):
                size = self._number(numbers[0], self._dtype())
                by, x = operator.removesuffix("_scalar"), inputs[0]
                reverse = by.startswith("_npi_r")  # subtractions and divisions from a number
                return self.emit(f"_npi_{by[6:]}", size, x) if reverse else self.emit(by, x, size)
        raise self.refused(
            f"it becomes MXNet's {operator}, whose {' and '.join(changing)} cannot depend on a "
            "size that is not known",
            _GIVE_SIZE,
        )

    def _dtype(self) -> str:
        return self._current.outputs[0].dtype

    def _reshaped(self, x: Entry, source: Entry, shape: Sequence[Varying]) -> Entry:
        places = [i for i, side in enumerate(shape) if varies(side)]
        if len(places) == 1:
            sides = [-1 if i in places else side[0] for i, side in enumerate(shape)]
            return self.emit("_np_reshape", x, newshape=tuple(sides))
        if source in self._first.shapes:
            codes = merging(self._shape(source), shape)
            if codes is not None:
                return self.emit("Reshape", x, shape=codes)
        # One size for all that vary first, which is then split as an entry's are that has them.
        for start, stop in runs_of(shape):
            like = self._with_sizes(shape[start:stop])
            if like is not None:
                entry, axis = like
                outer, inner = (
                    [side[0] for side in part] for part in (shape[:start], shape[stop:])
                )
                x = self.emit("_np_reshape", x, newshape=(*outer, -1, *inner))
                return self.emit(
                    "reshape_like",
                    x,
                    entry,
                    lhs_begin=start,
                    lhs_end=start + 1,
                    rhs_begin=axis,
                    rhs_end=axis + stop - start,
                )
        ones = self.constant(np.ones([1] * len(shape), "float32"))
        return self.emit(
            "reshape_like", x, self._broadcast(ones, [(1,) * len(shape[0])] * len(shape), shape)
        )

    def _with_sizes(self, sides: Sequence[Varying]) -> tuple[Entry, int] | None:
        """Return an entry, and the axis from which on it has sizes."""
        for entry in self._entries:
            if entry in self._first.shapes:
                shape = self._shape(entry)
                for axis in range(len(shape) - len(sides) + 1):
                    if shape[axis : axis + len(sides)] == list(sides):
                        return self._entries[entry], axis
        return None

    def _broadcast(self, x: Entry, own: Sequence[Varying], shape: Sequence[Varying]) -> Entry:
        """Stretch x; along each axis whose size is not known, to that of an entry that has it."""
        for _ in range(len(shape) - len(own)):
            x = self.emit("expand_dims", x, axis=0)
        own = [*[(1,) * len(shape[0])] * (len(shape) - len(own)), *own] if shape else own
        for axis, (old, side) in enumerate(zip(own, shape, strict=True)):
            if not varies(side) and old != side:
                x = self.emit("broadcast_axis", x, axis=(axis,), size=(side[0],))
        for axis, (old, side) in enumerate(zip(own, shape, strict=True)):
            if varies(side) and old != side:
                entry, at = self._source(side)
                x = self.emit("broadcast_like", x, entry, lhs_axes=(axis,), rhs_axes=(at,))
        return x

    def _source(self, side: Varying) -> tuple[Entry, int]:
        """Return an entry that has a size along an axis, and the axis."""
        if side not in self._sources:
            found = product_of(side, self._sources)
            if found is not None and found.factor.is_integer() and not found.inverse:
                x = self.constant(np.ones([*[1] * len(found.sizes), int(found.factor)], "float32"))
                for i, part in enumerate(found.sizes):
                    entry, at = self._sources[part]
                    x = self.emit("broadcast_like", x, entry, lhs_axes=(i,), rhs_axes=(at,))
                self._sources[side] = self.emit("_np_reshape", x, newshape=(-1,)), 0
        if side not in self._sources:
            line = self._line(side)
            if line is not None:
                self._sources[side] = line, 0
        if side not in self._sources:
            raise self.refused(
                "it has a size that no tensor has, and that is not known",
                _GIVE_SIZE,
            )
        return self._sources[side]

    def _line(self, side: Varying) -> Entry | None:
        """Write a vector of a size that is another one and a constant, as those of padding are."""
        for known, (entry, axis) in self._sources.items():
            more = [s - k for s, k in zip(side, known, strict=True)]
            if not varies(more):
                x = self.constant(np.ones(1, "float32"))
                x = self.emit("broadcast_like", x, entry, lhs_axes=(0,), rhs_axes=(axis,))
                if more[0] < 0:
                    return self.emit("slice_axis", x, axis=0, begin=0, end=more[0])
                beyond = self.constant(np.ones(more[0], "float32"))
                return self.emit("Concat", x, beyond, num_args=2, dim=0)
        return None

    def _sliced(
        self,
        operator: str,
        source: Entry,
        x: Entry,
        fixed: Mapping[str, str],
        key: str,
        numbers: Sequence[Varying],
    ) -> Entry:
        """Take a part whose bounds are the end of an axis, or before it."""
        shape = self._shape(source)
        if operator == "slice_axis":
            shape = [shape[int(fixed["axis"])]]
        bounds: list[int | None] = []
        for side, bound in zip(shape, numbers, strict=False):
            behind = tuple(b - s for b, s in zip(bound, side, strict=True))
            if not varies(bound):
                bounds.append(int(bound[0]))
            elif varies(behind) or behind[0] > 0:
                raise self.refused("its bounds are multiples of a size", _GIVE_SIZE)
            else:
                bounds.append(int(behind[0]) or None)
        given = bounds[0] if operator == "slice_axis" else tuple(bounds)
        return self.emit(operator, x, **{**fixed, key: given})

    def _number(self, values: Varying, dtype: str) -> Entry:
        """Return a number that depends on sizes, as a tensor of one element."""
        found = product_of(values, self._sources)
        if found is None:
            raise self.refused(
                "a number depends in an unknown way on a size that is not known",
                _GIVE_SIZE,
            )
        number = self.constant(np.array([found.factor], dtype))
        for side in found.sizes:
            entry, axis = self._source(side)
            size = self.emit("shape_array", entry)
            size = self.emit("slice_axis", size, axis=0, begin=axis, end=axis + 1)
            size = self.emit("Cast", size, dtype=dtype)
            by = "_npi_true_divide" if found.inverse else "_npi_multiply"
            number = self.emit(by, number, size)
        if not self._current.outputs[0].rank:
            self.numpy_shapes = True
            number = self.emit("_np_reshape", number, newshape=())
        return number

    def _constant(self, name: str, number: int) -> Entry:
        """Return a constant, whose shape or values may depend on sizes."""
        if name in self._first.graph.scratch:
            spec = self._first.graph.scratch[name]
            return self.constant(np.zeros([side or 0 for side in spec.shape], spec.dtype))
        every = [low.graph.constants[low.graph.nodes[number]["name"]] for low in self._all]
        first = every[0]
        if all(np.array_equal(first, a, equal_nan=a.dtype.kind == "f") for a in every[1:]):
            return self.constant(first)
        if all(a.size == 1 for a in every):
            values = tuple(a.reshape(-1)[0].item() for a in every)
            return self._number(values, first.dtype.name)
        shape: list[Varying] = list(zip(*(a.shape for a in every), strict=True))
        least = first[tuple(slice(0, 1 if varies(side) else None) for side in shape)]
        if not all(np.array_equal(np.broadcast_to(least, a.shape), a) for a in every):
            raise self.refused(
                "its values depend on a size that is not known",
                _GIVE_SIZE,
            )
        own = [(1,) * len(every) if varies(side) else side for side in shape]
        return self._broadcast(self.constant(least), own, shape)
