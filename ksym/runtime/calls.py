"""Kernels and products as machine code, and tapes that call one after the other."""

from __future__ import annotations

import ctypes
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ksym.compiler.codegen.blocks import block_work
from ksym.compiler.codegen.finite import emit_finite
from ksym.compiler.codegen.llvm import emit
from ksym.compiler.codegen.tapes import FUNCTIONS, addresses_in, emit_block, emit_tapes
from ksym.compiler.costs import Costs
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Matrix, Product
from ksym.locking import unforked
from ksym.runtime import loading
from ksym.runtime.arrays import Arrays, DeviceArray
from ksym.runtime.jit import Code, kernel_code, load_functions, once
from ksym.runtime.settings import has_avx512
from ksym.runtime.subnormal import CONTROL


class Call(NamedTuple):
    """A call of compiled code: a function, and the table that is its argument.

    Attributes:
        code: The function, which stays in memory as long as a call refers to it.
        table: The words that the argument points to.
        addresses: The positions of the words that are addresses of elements of arrays.
        arrays: The arrays that it reads or writes, which must stay in memory.
        inner: The calls that it makes itself.
        tapes: Other memory that the table points to.
    """

    code: Code
    table: np.ndarray
    addresses: tuple[int, ...]
    arrays: tuple[DeviceArray, ...]
    inner: tuple[Call, ...] = ()
    tapes: tuple[np.ndarray, ...] = ()

    def parts(self) -> Iterator[Call]:
        """Yield the call, and all calls that it makes."""
        yield self
        for call in self.inner:
            yield from call.parts()


class Tape:
    """A list of calls as one call from Python, which runs them one after the other.

    All arrays must be in memory that the host can access (`DeviceArray.view`).
    """

    def __init__(self, calls: Sequence[Call]):
        used = [array for call in calls for part in call.parts() for array in part.arrays]
        self._in_blocks = [array for array in dict.fromkeys(used) if array.in_blocks]
        if len(calls) == 1:
            (call,) = calls
        else:
            call = _called("play", _tape(calls), len(calls), inner=calls)
        self._call = _called("flushed", call.code.address, call.table.ctypes.data, inner=[call])
        self._function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._call.code.address)
        self._argument = ctypes.c_void_p(self._call.table.ctypes.data)

    def run(self) -> None:
        """Run the calls on the contents of their arrays."""
        for array in self._in_blocks:
            array.settle()
        unforked(self._function, self._argument)


def kernel_calls(kernel: Kernel, arrays: Arrays, costs: Costs) -> list[Call]:
    """Return the calls that run a kernel.

    Args:
        kernel: The kernel.
        arrays: The array of each tensor that it reads or writes.
        costs: The costs that decide whether its code is optimised, and run on several threads.
    """
    calls, source = [], emit(kernel)
    elements = math.prod(kernel.shape)
    for write in kernel.writes:
        if write.reduction is not None:
            target = arrays[write.view.tensor]
            start = np.array(write.reduction.start, target.spec.dtype)
            (bits,) = start.reshape(1).view(f"int{8 * start.itemsize}")
            size = _view(target).size
            fill = f"fill_{target.spec.dtype}"
            calls.append(_called(fill, _address(target), size, bits, arrays=[target]))
    used = [arrays[view.tensor] for view in source.arrays]
    addresses = [_address(a, v.offset) for a, v in zip(used, source.arrays, strict=True)]
    call = Call(
        kernel_code(source.text, elements <= costs.unoptimised_elements),
        np.array([*source.numbers, *addresses], "int64"),
        tuple(range(len(source.numbers), len(source.numbers) + len(used))),
        tuple(used),
    )
    # The threads that MXNet's own kernels use: other threads would compete for the cores.
    threads = 1 if calls else loading.library().omp_get_max_threads()
    if threads > 1 and elements * len(kernel.instructions) >= costs.shared_instructions:
        call = _called("team", call.code.address, call.table.ctypes.data, threads, inner=[call])
    return [*calls, call]


def product_call(product: Product, arrays: Arrays, costs: Costs) -> Call:
    """Return the call that computes a product, by blocks or by BLAS.

    Args:
        product: The product.
        arrays: The array of each tensor that it reads or writes.
        costs: The costs that decide between blocks and BLAS.
    """
    matrices, dtype = (product.a, product.b), product.result.dtype
    used = [*(arrays[matrix.tensor] for matrix in matrices), arrays[product.result]]
    places = [_address(array, m.offset) for array, m in zip(used, matrices, strict=False)]
    rows, inner = _sides(product.a, product.transpose_a)
    columns = _sides(product.b, product.transpose_b)[1]
    sizes = (*places, _address(used[-1]), rows, columns, inner)
    threads = _threads(rows, columns, inner, dtype, costs)
    if threads:
        steps = (product.a.stride, 1)
        if product.transpose_a:
            steps = steps[::-1]
        table = np.array([*sizes, *steps, product.b.stride, columns], "int64")
        name, code = _block(dtype, product.transpose_b, _width())
        call = Call(code, table, addresses_in(name), tuple(used))
        if threads == 1:
            return call
        return _called("team", code.address, table.ctypes.data, threads, inner=[call])
    flags = (product.transpose_a, product.transpose_b)
    strides = (product.a.stride, product.b.stride, columns)
    return _called(f"product_{dtype}", *sizes, *flags, *strides, arrays=used)


def _threads(rows: int, columns: int, inner: int, dtype: str, costs: Costs) -> int:
    """Return the number of threads that compute a product by blocks; 0 if BLAS computes it."""
    if columns < costs.blocked_columns:
        return 0
    work, across = block_work(rows, columns, inner, dtype, _width())
    team: int = loading.library().omp_get_max_threads()
    # One thread computes a small product faster than BLAS starts its threads.
    if work <= costs.small_product // team:
        return 1
    # BLAS is as fast for larger ones, except on processors whose vectors it does not know.
    return team if has_avx512() and across >= team else 0


def _width() -> int:
    """Return the bytes of the vectors that compute blocks."""
    return 64 if has_avx512() else 32


@once
def _block(dtype: str, turn: bool, width: int) -> tuple[str, Code]:
    """Return the name of the function that computes products by blocks, and the function."""
    name, text = emit_block(dtype, turn, width)
    return name, load_functions(text, [name], hastily=False)[name]


@once
def _finite(dtype: str) -> Code:
    """Return the function that looks for elements that are not finite."""
    name, text = emit_finite(dtype)
    return load_functions(text, [name], hastily=False)[name]


def _sides(matrix: Matrix, transposed: bool) -> tuple[int, int]:
    sides = matrix.rows, matrix.columns
    return sides[::-1] if transposed else sides


def copy_call(to: DeviceArray, source: DeviceArray, position: int = 0) -> list[Call]:
    """Return the call that copies an array, or the part of it from a position in bytes on."""
    if to.view is None:  # empty
        return []
    view = _view(source)
    fits = 0 <= position <= view.nbytes - to.view.nbytes
    if to.spec.dtype != source.spec.dtype or not fits:
        raise AssertionError(f"{source.spec} is copied to {to.spec}")
    at = _address(source) + position
    return [_called("copy", _address(to), at, to.view.nbytes, arrays=[to, source])]


def finite_call(array: DeviceArray, found: np.ndarray) -> Call:
    """Return the call that looks for an element that is not finite.

    Args:
        array: The array, of floats.
        found: The int64 that becomes 1 if there is such an element, and else stays what it is.
    """
    words = [_address(array), _view(array).size, found.ctypes.data]
    table = np.array(words, "int64")
    return Call(_finite(array.spec.dtype), table, (0,), (array,), tapes=(found,))


class Move(NamedTuple):
    """A word of a table that is advanced after each step of a repetition.

    Attributes:
        word: The address of the word.
        by: The number that is added to it.
    """

    word: int
    by: int


class Slices(NamedTuple):
    """Slices of an array that are used instead of another array: at each step the next one.

    Attributes:
        old: The array in the place of which they come.
        new: The array that they are slices of.
        first: Where in it the slice for the first time begins, in bytes.
        by: How much further on that for the next time begins.
    """

    old: DeviceArray
    new: DeviceArray
    first: int
    by: int


def redirected(calls: Sequence[Call], slices: Sequence[Slices]) -> list[Move]:
    """Have calls use slices of other arrays instead of arrays.

    Args:
        calls: What reads or writes the arrays.
        slices: What is used instead of each; no two arrays share memory.
    """
    moves: list[Move] = []
    by_address = {_address(each.old): each for each in slices if each.old.view is not None}
    begins = sorted(by_address)
    for part in (part for call in calls for part in call.parts()):
        for position in part.addresses:
            found = bisect_right(begins, part.table[position])
            if not found:
                continue
            begin = begins[found - 1]
            old, new, first, by = by_address[begin]
            if part.table[position] < begin + _view(old).nbytes:
                part.table[position] += _address(new) + first - begin
                word = part.table.ctypes.data + position * part.table.itemsize
                moves.append(Move(word, by))
    return moves


def repeat(
    calls: Sequence[Call], steps: int, moves: Sequence[Move], arrays: Sequence[DeviceArray]
) -> Call:
    """Return one call that repeats other calls.

    Args:
        calls: The calls of one step.
        steps: The number of steps.
        moves: The words to advance after each step.
        arrays: The arrays that they read or write besides their own.
    """
    changes = np.array(moves, "int64").reshape(-1, 2)
    words = (_tape(calls), len(calls), steps, changes, len(moves))
    return _called("repeat", *words, arrays=arrays, inner=calls)


def _tape(calls: Sequence[Call]) -> np.ndarray:
    return np.array([(call.code.address, call.table.ctypes.data) for call in calls], "int64")


def _called(
    function: str,
    *words: Any,
    arrays: Sequence[DeviceArray] = (),
    inner: Sequence[Call] = (),
) -> Call:
    """Return a call of one of the functions in `ksym.compiler.codegen.tapes`."""
    tapes = tuple(word for word in words if isinstance(word, np.ndarray))
    numbers = [w.ctypes.data if isinstance(w, np.ndarray) else int(w) for w in words]
    return Call(
        _functions()[function],
        np.array(numbers, "int64"),
        addresses_in(function),
        tuple(arrays),
        tuple(inner),
        tapes,
    )


def _address(array: DeviceArray, offset: int = 0) -> int:
    """Return the address of an element of an array."""
    view = _view(array)
    return int(view.ctypes.data) + offset * view.itemsize


def _view(array: DeviceArray) -> np.ndarray:
    assert array.view is not None
    return array.view


@once
def _functions() -> Mapping[str, Code]:
    """Return the functions in `ksym.compiler.codegen.tapes`."""
    return load_functions(emit_tapes(CONTROL), FUNCTIONS, hastily=False)
