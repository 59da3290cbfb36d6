"""LLVM as a just-in-time compiler: from code to the addresses of functions in memory."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ksym.compiler.codegen.tapes import SYMBOLS
from ksym.runtime import loading

R = TypeVar("R")

_lock = threading.RLock()


def once(make: Callable[..., R]) -> Callable[..., R]:
    """Keep what a function returns for each combination of arguments, as functools.cache does.

    Other threads wait while it is made.  Two engines would not do: with the one that is dropped go
    the addresses of the code in it.
    """
    kept: dict[Any, R] = {}

    @functools.wraps(make)
    def made(*arguments: Any) -> R:
        if arguments not in kept:
            with _lock:
                if arguments not in kept:
                    # What a signal handler has made meanwhile is in use already.
                    kept.setdefault(arguments, make(*arguments))
        return kept[arguments]

    return made


class _Compiler(NamedTuple):
    """LLVM for this machine.

    Attributes:
        binding: llvmlite's module.
        machine: What optimised code is written for.
        hasty: The same without optimisation.
        engine: What loads code.
    """

    binding: Any
    machine: Any
    hasty: Any
    engine: Any


@once
def _compiler() -> _Compiler:
    # Not with the module: to load LLVM takes 0.1 s, which who only builds graphs does not need.
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    machine, hasty = (
        target.create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=level,
            jit=True,
        )
        for level in (3, 0)
    )
    for name in ("omp_get_thread_num", "omp_get_num_threads", *SYMBOLS):
        address = ctypes.cast(getattr(loading.library(), name), ctypes.c_void_p).value
        llvm.add_symbol(name, address)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    return _Compiler(llvm, machine, hasty, engine)


def load_functions(text: str, names: Sequence[str], hastily: bool) -> dict[str, int]:
    """Compile code and return the addresses of functions in it."""
    llvm, machine, hasty, engine = _compiler()
    module = llvm.parse_assembly(text)
    if not hastily:
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        options.slp_vectorization = False
        # More of the same code takes half as long again to compile, and runs no faster.
        options.loop_interleaving = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    # As an object the code is all that stays in memory; a module would stay with all its text.
    code = (hasty if hastily else machine).emit_object(module)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return {name: int(engine.get_function_address(name)) for name in names}
