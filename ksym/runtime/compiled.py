"""Loops as machine code, compiled when they are needed; llvmlite is an optional dependency."""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ksym.compiler.llvm import ENTRY, emit
from ksym.compiler.loops import Loop, is_sum
from ksym.graph import Tensor
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray, is_direct

THREADS_FROM = 1 << 23
"""From how many elements and steps on a loop is worth waking other threads."""


class CompiledLoop:
    """A loop's code over fixed arrays, ready to run.

    All arrays must be in memory that the host can touch (`DeviceArray.view`).

    Args:
        loop: What to do.
        arrays: The array of each tensor that it reads or writes.
    """

    def __init__(self, loop: Loop, arrays: Mapping[Tensor, DeviceArray]):
        source = emit(loop)
        used = [arrays[view.tensor] for view in source.arrays]
        self._in_blocks = [array for array in dict.fromkeys(used) if array.in_blocks]
        self._arrays = used  # their memory is to stay
        addresses = [
            _memory(array).ctypes.data + view.offset * _memory(array).itemsize
            for array, view in zip(used, source.arrays, strict=True)
        ]
        self._table = np.array([*source.numbers, *addresses], "int64")
        table = ctypes.c_void_p(self._table.ctypes.data)
        code = _compiled(source.text)
        self._sums = [_memory(arrays[v.tensor]) for _, v in loop.writes if is_sum(loop, v)]
        threads = 1 if self._sums else loading.library().omp_get_max_threads()
        if threads > 1 and math.prod(loop.shape) * len(loop.steps) >= THREADS_FROM:
            # The team that MXNet's own kernels use: two teams would fight over the cores.
            self._call: Any = loading.library().GOMP_parallel
            self._arguments: tuple[Any, ...] = (
                ctypes.c_void_p(code),
                table,
                ctypes.c_uint(threads),
                ctypes.c_uint(0),
            )
        else:
            self._call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code)
            self._arguments = (table,)

    def run(self) -> None:
        """Compute the results from what the arrays hold."""
        for array in self._in_blocks:
            array.settle()
        for view in self._sums:
            view.fill(0)
        self._call(*self._arguments)


def _memory(array: DeviceArray) -> np.ndarray:
    assert array.view is not None
    return array.view


@functools.cache
def is_available() -> bool:
    """Whether loops can be compiled: llvmlite is there and the host can touch arrays."""
    if not is_direct():
        return False
    try:
        _engine()
        return hasattr(loading.library(), "GOMP_parallel")
    except (ImportError, OSError, AttributeError, RuntimeError):
        return False


@functools.cache
def _engine() -> tuple[Any, Any, Any]:
    """LLVM's binding, what describes this machine, and what loads code."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )
    for name in ("omp_get_thread_num", "omp_get_num_threads"):
        address = ctypes.cast(getattr(loading.library(), name), ctypes.c_void_p).value
        llvm.add_symbol(name, address)
    return llvm, machine, llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


_numbers = itertools.count()


@functools.cache
def _compiled(text: str) -> int:
    """Return the address of a loop's code, which is kept as long as the process lives."""
    llvm, machine, engine = _engine()
    name = f"{ENTRY}{next(_numbers)}"
    module = llvm.parse_assembly(text.replace(f"@{ENTRY}(", f"@{name}("))
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    engine.add_module(module)
    engine.finalize_object()
    return int(engine.get_function_address(name))
