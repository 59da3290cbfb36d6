"""Just-in-time compilation by LLVM: from code to the addresses of functions in memory."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from ksym.compiler.codegen.tapes import SYMBOLS
from ksym.locking import reentrant_lock
from ksym.runtime import loading

R = TypeVar("R")

_lock = reentrant_lock(awaited=True)


def once(make: Callable[..., R]) -> Callable[..., R]:
    """Cache the result of a function for each combination of arguments, as functools.cache does.

    Other threads wait while a result is computed.  So there is never a second LLVM engine: if one
    of two were dropped, the addresses of its functions would become invalid.
    """
    kept: dict[Any, R] = {}

    @functools.wraps(make)
    def made(*arguments: Any) -> R:
        if arguments not in kept:
            with _lock:
                if arguments not in kept:
                    # A signal handler may have computed it meanwhile, and its result is in use.
                    kept.setdefault(arguments, make(*arguments))
        return kept[arguments]

    return made


class _Compiler(NamedTuple):
    """LLVM for this machine.

    Attributes:
        binding: llvmlite's module.
        machine: The target machine for optimised code.
        hasty: The target machine for code that is not optimised.
        engine: The engine that loads code into memory.
    """

    binding: Any
    machine: Any
    hasty: Any
    engine: Any


@once
def _compiler() -> _Compiler:
    # Imported here: loading LLVM takes 0.1 s, and a program that only builds graphs needs none.
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
    """Compile code and return the addresses of its functions.

    Args:
        text: The code, in LLVM's assembly.
        names: The names of the functions.
        hastily: Whether not to optimise it.
    """
    llvm, machine, hasty, engine = _compiler()
    module = llvm.parse_assembly(text)
    if not hastily:
        options = llvm.create_pipeline_tuning_options(speed_level=3)
        options.loop_vectorization = True
        options.slp_vectorization = False
        # Interleaved or unrolled code takes half as long again to compile, and is no faster.
        options.loop_interleaving = False
        options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    # Of an object file only the code stays in memory; a module would stay with all its text.
    code = (hasty if hastily else machine).emit_object(module)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return {name: int(engine.get_function_address(name)) for name in names}
