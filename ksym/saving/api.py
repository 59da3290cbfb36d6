"""Saving functions to files, and loading them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ksym.coercion import as_function
from ksym.compiler.mode import CHECK, names
from ksym.errors import FileError, GraphError
from ksym.function import Function
from ksym.graph import Tensor
from ksym.locking import joined
from ksym.ops.random.streams import RandomStream
from ksym.saving.container import read_file, write_file
from ksym.saving.encoding import Decoder, Encoder, expect, items, position, text
from ksym.variables import Update, Variable


def save(function: Any, path: Any) -> None:
    """Write a function with its variables and random streams to a file.

    The file holds the graph and the values at one moment, no code: `load` makes the function anew
    in another process.  An older file at the path is replaced when the new one is complete, not
    before.  docs/saving.md has the format.

    Args:
        function: A function that `ksym.function` or ``K.function`` made, or a Keras model, of
            which the function that predicts is written; or a mapping of names to such functions,
            which share variables and streams afterwards as they do now.
        path: The path of the file.

    Raises:
        FileError: The file cannot be written.
        GraphError: It is none of these, or an operator has an attribute that files do not hold.

    >>> import ksym, os, tempfile
    >>> w = ksym.Variable(2.0)
    >>> count = ksym.function([], w, updates=[w.assign_add(1.0)])
    >>> path = os.path.join(tempfile.mkdtemp(), "count.ksym")
    >>> ksym.save(count, path)
    >>> again = ksym.load(path)
    >>> float(count()), float(again()), float(again())
    (2.0, 2.0, 3.0)
    """
    many = isinstance(function, Mapping)
    chosen = {
        name: as_function(each) for name, each in (function if many else {"": function}).items()
    }
    for name in chosen:
        if not isinstance(name, str):
            raise GraphError(f"a function has the name {name!r}", remedy="use text as names")
    if not chosen:
        raise GraphError("there is no function to save")
    what = "functions are saved"
    with joined([f._group for f in chosen.values()], what).held(what):
        header, arrays = _written(chosen)
    write_file(path, {**header, "many": many}, arrays)


def _written(functions: Mapping[str, Function]) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return the header and the arrays of a file."""
    encoder = Encoder()
    described = [_described(name, f, encoder) for name, f in functions.items()]
    variables = [[v.name, v.trainable] for v in encoder.variables]
    values = [v._read() for v in encoder.variables]
    header = {
        "functions": described,
        "variables": variables,
        "streams": [_state(stream) for stream in encoder.streams],
        "origins": [list(origin) for origin in encoder.origins],
        "nodes": encoder.nodes,
    }
    return header, [*values, *encoder.arrays]


def _described(name: str, function: Function, encoder: Encoder) -> dict[str, Any]:
    graph = function._graph
    encoder.add([*function._slots, *function._variables, *graph])
    keys = function._keys
    return {
        "key": name,
        "name": function.name,
        "mode": [function._mode.kind, sorted(function._mode.off), function._mode.check],
        "limit": function._programs.limit,
        "form": function._form,
        "keys": None if keys is None else [encoder.value(key) for key in keys],
        "inputs": [encoder.reference(t) for t in function._slots],
        "outputs": [encoder.reference(t) for t in graph[: function._count]],
        "updates": [
            [encoder.variables[variable], encoder.reference(value)]
            for variable, value in zip(function._variables, graph[function._count :], strict=True)
        ],
    }


def _state(stream: RandomStream) -> list[int]:
    state = stream.get_state()
    words = [int(word) for word in state["state"]["state"]]
    return [*words, int(state["has_uint32"]), int(state["uinteger"])]


def load(path: Any) -> Any:
    """Return the function that `save` wrote, or the mapping of functions.

    It has variables and random streams of its own, with the values that were saved; variables
    whose names are taken get new ones.  No code of the file is run, and a file that is damaged or
    made up is refused, in time and memory that its size limits.

    Args:
        path: The path of the file.

    Raises:
        FileError: The file cannot be read, is none of ksym's, of a newer version, or damaged.
    """
    header, arrays = read_file(path)
    try:
        return _read(header, arrays)
    except Exception as error:
        raise FileError(
            f"{str(path)!r} does not hold a function: {error!s:.600}",
            remedy="save the function anew; if it was saved by a newer ksym, or has operators of "
            "your own, install that, or import the module that declares them",
        ) from error


def _read(header: Mapping[str, Any], arrays: Sequence[np.ndarray]) -> Any:
    described = items(header["variables"], "the variables")
    count = len(described)
    expect(count <= len(arrays), "there are more variables than arrays")
    variables = [
        _variable(item, value) for item, value in zip(described, arrays[:count], strict=True)
    ]
    streams = [_stream(item) for item in items(header["streams"], "the streams")]
    decoder = Decoder(arrays[count:], variables, streams)
    decoder.add(header["nodes"], header["origins"])
    found = {}
    for item in items(header["functions"], "the functions"):
        expect(isinstance(item, dict), "a function is no object")
        found[text(item["key"], "a name")] = _function(item, decoder, variables)
    if header["many"] is True:
        return found
    expect(len(found) == 1, "there is not one function")
    return next(iter(found.values()))


def _variable(item: Any, value: np.ndarray) -> Variable:
    name, trainable = items(item, "a variable", 2)
    return Variable(value, name=text(name, "a name"), trainable=trainable is not False)


def _stream(item: Any) -> RandomStream:
    numbers = items(item, "the state of a stream", 6)
    expect(all(type(n) is int and 0 <= n < 2**64 for n in numbers), "it is no state of a stream")
    stream = RandomStream(0)
    words = np.array(numbers[:4], np.uint64)
    state = {**stream.get_state(), "state": {"state": words}}
    stream.set_state({**state, "has_uint32": numbers[4], "uinteger": numbers[5]})
    return stream


def _function(item: Mapping[str, Any], decoder: Decoder, variables: Sequence[Variable]) -> Function:
    results: Any = [decoder.tensor(t) for t in items(item["outputs"], "the outputs")]
    if item["keys"] is not None:
        keys = [
            decoder.value(key) for key in items(item["keys"], "the names of outputs", len(results))
        ]
        results = dict(zip(keys, results, strict=True))
    elif item["form"] is True:
        (results,) = results
    updates = []
    for update in items(item["updates"], "the updates"):
        variable, value = items(update, "the parts of an update", 2)
        at = position(variable, len(variables), "a variable")
        updates.append(Update(variables[at], decoder.tensor(value)))
    kind, off, check = items(item["mode"], "the mode", 3)
    known = {name: False for name in items(off, "the flags") if name in names()}
    inputs: list[Tensor] = [decoder.tensor(t) for t in items(item["inputs"], "the inputs")]
    return Function(
        inputs,
        results,
        updates,
        None,
        text(item["name"], "a name"),
        kind,
        position(item["limit"], 1 << 20, "the number of specialisations"),
        {**known, CHECK: True} if check is True else known,
        on_unused_input="ignore",
    )
