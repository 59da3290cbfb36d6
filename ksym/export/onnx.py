"""Exporting to ONNX, which many runtimes and tools read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.errors import GraphError, KsymError
from ksym.export.inference import Exported, Format, Sized, at_points, exported
from ksym.export.onnx_common import Common, Written, WrittenBody
from ksym.export.onnx_graph import OnnxGraph, has_onnx
from ksym.export.sizes import varies
from ksym.graph import Tensor
from ksym.locking import joined
from ksym.output import path_text, replacing
from ksym.variables import Variable

OPSET = 18
"""The version of ONNX's operators that is written."""

IR_VERSION = 8
"""The version of ONNX's files that is written."""

MOST_BYTES = 2**31 - 2**20
"""The room for parameters in a file of ONNX."""

ONNX = Format("ONNX", merges_axes=False, has_loops=True, has=has_onnx)


class OnnxFile(NamedTuple):
    """The file that `export_onnx` wrote.

    Attributes:
        path: The path.
        inputs: The names of the inputs.
        outputs: The names of the outputs, in their order.
    """

    path: str
    inputs: list[str]
    outputs: list[str]


def export_onnx(function: Any, path: Any) -> OnnxFile:
    """Write a function as a file of ONNX.

    Sizes that are not known stay so: a batch of any size can be computed.  The extra
    ``ksym[onnx]`` installs what is needed.

    Args:
        function: A function without updates, or a Keras model, whose predictions are exported; for
            a part of a model, a function of that part.
        path: The path of the file, which usually ends with ``.onnx``.

    Returns:
        The path, and the names of inputs and outputs.

    Raises:
        GraphError: An operator, or the way that it depends on a size, is nothing that ONNX has; it
            is named.
        ArgumentError: The path is none.
        FileError: The file cannot be written.
        KsymError: The package onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise KsymError(
            "the package onnx is not installed", remedy='run: pip install "ksym[onnx]"'
        ) from None
    text = path_text(path)
    of = exported(function, "ONNX")
    written = at_points(of, ONNX, lambda graphs: ModelOf(of, graphs))
    with joined([of.function._group], "a function is exported").held():
        values = {name: variable._read() for name, variable in written.variables.items()}
    model = _model(onnx, of, written, values)
    with replacing(text) as file:
        file.write(model.SerializeToString())
    return OnnxFile(text, list(of.names), list(of.results))


class ModelOf:
    """The graph of a function as it is written.

    Attributes:
        common: The nodes and constants.
        variables: The variables that are parameters, by their names.
        inputs: For each input its sizes; names for those that are not known.
        outputs: For each output its sizes; names, or None, for those that are not known.
    """

    def __init__(self, of: Exported, sized: Sequence[Sized]):
        graphs = [OnnxGraph(each) for each in sized]
        values = graphs[0].values
        names = {values[t]: name for t, name in zip(sized[0].inputs, of.names, strict=True)}
        self.variables: dict[str, Variable] = {}
        reserved = {*of.names, *of.results}
        for tensor, value in values.items():
            if isinstance(tensor, Variable):
                taken = tensor.name in reserved
                names[value] = f"{tensor.name}_value" if taken else tensor.name
                self.variables[names[value]] = tensor
        self.common = Common(graphs, names, of.results)
        for tensor, name in zip(sized[0].outputs, of.results, strict=True):
            self.common.nodes.append(("Identity", [self.common.name(values[tensor])], [name], {}))
        by_size = {tuple(s.sizes[name] for s in sized): name for name in sized[0].sizes}

        def named(tensors: Sequence[Tensor]) -> list[list[int | str | None]]:
            shapes = [self.common.shape(values[tensor]) for tensor in tensors]
            return [[by_size.get(s) if varies(s) else s[0] for s in shape] for shape in shapes]

        self.inputs, self.outputs = named(sized[0].inputs), named(sized[0].outputs)


def _model(onnx: Any, of: Exported, written: ModelOf, variables: dict[str, np.ndarray]) -> Any:
    """Return the model in the form of ONNX's package."""
    helper = onnx.helper

    def kind(dtype: Any) -> int:
        number: int = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return number

    def attribute(value: Any) -> Any:
        if isinstance(value, WrittenBody):
            names = [*value.inputs, *value.outputs]
            described = [
                helper.make_tensor_value_info(name, kind(dtype), [None] * rank)
                for name, (dtype, rank) in zip(names, value.kinds, strict=True)
            ]
            inner, count = list(map(node, value.nodes)), len(value.inputs)
            return helper.make_graph(inner, "body", described[:count], described[count:])
        return kind(value) if isinstance(value, np.dtype) else value

    def node(made: Written) -> Any:
        operator, inputs, outputs, given = made
        attributes = {key: attribute(value) for key, value in given.items()}
        return helper.make_node(operator, inputs, outputs, **attributes)

    nodes = list(map(node, written.common.nodes))
    values = {**variables, **written.common.constants}
    size = sum(array.nbytes for array in values.values())
    if size > MOST_BYTES:
        raise GraphError(
            f"the parameters take {size / 2**30:.1f} GiB, a file of ONNX holds 2",
            remedy="export it in parts, or to MXNet",
        )
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in values.items()]
    inputs, outputs = (
        [
            helper.make_tensor_value_info(name, kind(tensor.dtype), sides)
            for name, tensor, sides in zip(*described, strict=True)
        ]
        for described in (
            (of.names, of.function._slots, written.inputs),
            (of.results, of.function._graph, written.outputs),
        )
    )
    graph = helper.make_graph(nodes, of.function.name, inputs, outputs, tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    model.producer_name = "ksym"
    return model
