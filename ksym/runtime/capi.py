"""MXNet's NDArrays, operators and executors, over its C library.

An object owns the thing that its handle stands for: the library frees it when the object is
deleted.  Nothing here knows of ksym's graphs.  Scalars, and arrays without elements, need
`loading.numpy_shapes` around all but copies to and from the host.
"""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_uint, c_void_p
from typing import Any, NamedTuple

import numpy as np

from ksym.runtime.library import MONITOR
from ksym.runtime.loading import check, check_wait, library, running

DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
"""The names of the dtypes by MXNet's numbers (mshadow's base.h)."""


class Context(NamedTuple):
    """A device as MXNet counts them, for example ``cpu(1)``."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}({self.number})"

    @property
    def words(self) -> tuple[int, int]:
        """The kind as MXNet's number for it, and the number of the device."""
        return {"cpu": 1, "gpu": 2}[self.kind], self.number


class NDArray:
    """An array that MXNet allocates, in row-major order unless oneDNN has left it in blocks.

    Args:
        handle: The library's handle of it, which the object comes to own.
    """

    __slots__ = ("_free", "handle")

    def __init__(self, handle: int | None):
        self.handle = handle
        self._free = library().MXNDArrayFree  # module globals may be gone when the process ends

    def __del__(self) -> None:
        if hasattr(self, "_free"):  # an interrupt may come before
            self._free(self.handle)

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: str, context: Context) -> NDArray:
        """Return an array with arbitrary contents.

        Raises:
            NativeError: There is not enough memory, or there are 2^31 elements or more.
        """
        sides = (c_int64 * len(shape))(*shape)
        words = *context.words, False, DTYPES.index(dtype)  # memory is allocated at once
        handle = c_void_p()
        check(library().MXNDArrayCreateEx64(sides, len(shape), *words, byref(handle)))
        return cls(handle.value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The length of each axis."""
        rank, sides = c_int(), POINTER(c_int)()
        check(library().MXNDArrayGetShapeEx(self.handle, byref(rank), byref(sides)))
        return tuple(sides[: rank.value])

    @property
    def dtype(self) -> str:
        """The name of the dtype of the elements."""
        number = c_int()
        check(library().MXNDArrayGetDType(self.handle, byref(number)))
        return DTYPES[number.value]

    def address(self) -> int:
        """Return the address of the first element, after putting all in row-major order."""
        pointer = c_void_p()
        check(library().MXNDArrayGetData(self.handle, byref(pointer)))
        return pointer.value or 0

    def read_into(self, array: np.ndarray) -> None:
        """Copy the elements to a NumPy array of the same shape and dtype, in row-major order."""
        check_wait(library().MXNDArraySyncCopyToCPU(self.handle, array.ctypes.data, array.size))

    def write(self, array: np.ndarray) -> None:
        """Copy the elements of a NumPy array of the same shape and dtype, in row-major order."""
        check_wait(library().MXNDArraySyncCopyFromCPU(self.handle, array.ctypes.data, array.size))

    def copy_to(self, other: NDArray) -> None:
        """Copy the elements to another array of the same shape and dtype, on any device."""
        invoke("_copyto", [self], {}, into=[other])

    def __getitem__(self, index: int) -> NDArray:
        """Return a slice along the first axis, in the same memory; of a vector, of shape (1,)."""
        handle = c_void_p()
        check(library().MXNDArrayAt(self.handle, index, byref(handle)))
        return NDArray(handle.value)

    def reshaped(self, shape: Sequence[int]) -> NDArray:
        """Return the array in another shape, in the same memory."""
        handle = c_void_p()
        sides = (c_int64 * len(shape))(*shape)
        check(library().MXNDArrayReshape64(self.handle, len(shape), sides, False, byref(handle)))
        return NDArray(handle.value)

    def wait_for_readers(self) -> None:
        """Wait until nothing reads or writes the elements any more."""
        check_wait(library().MXNDArrayWaitToWrite(self.handle))

    def wait(self) -> None:
        """Wait until the elements are computed.

        Raises:
            NativeError: The operator that computes them has failed.
        """
        check_wait(library().MXNDArrayWaitToRead(self.handle))


def _handles(arrays: Sequence[NDArray]) -> Any:
    return (c_void_p * len(arrays))(*(array.handle for array in arrays))


def _texts(texts: Sequence[str]) -> Any:
    return (c_char_p * len(texts))(*(text.encode() for text in texts))


@functools.cache
def _operator(name: str) -> c_void_p:
    """Return the handle of an operator, which the library owns."""
    handle = c_void_p()
    check(library().NNGetOpHandle(name.encode(), byref(handle)))
    return handle


def invoke(
    operator: str,
    inputs: Sequence[NDArray],
    attributes: Mapping[str, Any],
    into: Sequence[NDArray] = (),
) -> list[NDArray]:
    """Apply an operator to arrays, and return the results.

    Args:
        operator: MXNet's name of it.
        inputs: The arrays that it reads.
        attributes: Its attributes; each is given to MXNet as Python prints it.
        into: Arrays to write the results to; without them new ones are made.

    Raises:
        NativeError: There is no such operator, or it refuses the arrays or attributes, or fails.
    """
    count, results = c_int(len(into)), POINTER(c_void_p)()
    if into:
        results = ctypes.cast(_handles(into), POINTER(c_void_p))
    storage = POINTER(c_int)()
    with running:
        check(
            library().MXImperativeInvokeEx(
                _operator(operator),
                *(len(inputs), _handles(inputs), byref(count), byref(results), len(attributes)),
                *(_texts([*attributes]), _texts([str(value) for value in attributes.values()])),
                byref(storage),
            )
        )
    return list(into) or [NDArray(handle) for handle in results[: count.value]]


def copies(pairs: Sequence[tuple[NDArray, NDArray]]) -> Callable[[], None]:
    """Return a call that copies arrays of float32, with an axis or more, to others of their shapes.

    MXNet has one operator that copies several arrays: it casts all to the widest of their dtypes.

    Args:
        pairs: Targets and sources, which the call refers to.
    """
    into, inputs = zip(*pairs, strict=True)
    handles, count = _handles(into), c_int(len(into))
    names, values = _texts(["num_outputs"]), _texts([str(len(into))])
    operator, storage = _operator("amp_multicast"), POINTER(c_int)()
    sources, results = _handles(inputs), ctypes.cast(handles, POINTER(c_void_p))
    arguments = (operator, len(into), sources, byref(count), byref(results), 1, names, values)

    def run(_alive: object = (into, inputs)) -> None:
        with running:
            check(library().MXImperativeInvokeEx(*arguments, byref(storage)))

    return run


@contextmanager
def train_mode() -> Iterator[None]:
    """Have single operators compute as in training, on this thread and inside the block only."""
    before = c_int()
    undo = functools.partial(library().MXAutogradSetIsTraining, 0, byref(c_int()))
    try:
        library().MXAutogradSetIsTraining(1, byref(before))
        yield
    finally:
        if not before.value:
            undo()


class Executor:
    """A graph of MXNet that is bound to arrays, with its memory planned.

    Args:
        graph: The graph, as JSON.
        arrays: The array of each argument and each auxiliary state, by name.
        context: The device of all arrays.
        shared: Another executor, which never runs at the same time: both use one working memory.

    Attributes:
        handle: The library's handle of it.
        outputs: The arrays of all results, which are the same at each run.

    Raises:
        NativeError: MXNet refuses the graph.
    """

    def __init__(
        self,
        graph: str,
        arrays: Mapping[str, NDArray],
        context: Context,
        shared: Executor | None = None,
    ):
        lib = library()
        self._free = lib.MXExecutorFree
        self.handle: int | None = None
        symbol, handle = c_void_p(), c_void_p()
        check(lib.MXSymbolCreateFromJSON(graph.encode(), byref(symbol)))
        try:
            arguments = [arrays[name] for name in _listed(lib.MXSymbolListArguments, symbol)]
            states = [arrays[name] for name in _listed(lib.MXSymbolListAuxiliaryStates, symbol)]
            count = len(arguments)
            check(
                lib.MXExecutorBindEX(
                    symbol,
                    *context.words,
                    *(0, None, None, None),
                    # MXNet is to compute no gradients: no arrays for them, and of kind 0
                    *(count, _handles(arguments), (c_void_p * count)(), (c_uint * count)()),
                    *(len(states), _handles(states)),
                    None if shared is None else shared.handle,
                    byref(handle),
                )
            )
        finally:
            lib.NNSymbolFree(symbol)
        self.handle = handle.value
        size, heads = c_uint(), POINTER(c_void_p)()
        check(lib.MXExecutorOutputs(self.handle, byref(size), byref(heads)))
        self.outputs = [NDArray(head) for head in heads[: size.value]]

    def __del__(self) -> None:
        if self.handle is not None:
            self._free(self.handle)

    def memory(self) -> int:
        """Return the bytes of its working memory, in whole MiB: MXNet says it in text only."""
        text = c_char_p()
        check(library().MXExecutorPrint(self.handle, byref(text)))
        found = re.search(rb"Total (\d+) MB allocated", text.value or b"")
        return int(found[1]) * 2**20 if found else 0

    def watch(self, callback: Callable[[str], None]) -> None:
        """Call a function with the name of each result as soon as it is computed."""
        lib = library()

        def called(name: bytes, array: int, _: Any) -> None:
            callback(name.decode())
            lib.MXNDArrayFree(array)

        self._watching = MONITOR(called)  # which MXNet does not keep
        check(lib.MXExecutorSetMonitorCallback(self.handle, self._watching, None))

    def forward(self, training: bool) -> None:
        """Compute the outputs, or begin to, if the engine is asynchronous.

        Args:
            training: Whether operators compute as in training.

        Raises:
            NativeError: An operator fails.
        """
        check(library().MXExecutorForward(self.handle, training))


def _listed(function: Any, symbol: c_void_p) -> list[str]:
    """Return the names that a function of the library lists for a graph."""
    count, names = c_uint(), POINTER(c_char_p)()
    check(function(symbol, byref(count), byref(names)))
    return [(name or b"").decode() for name in names[: count.value]]
