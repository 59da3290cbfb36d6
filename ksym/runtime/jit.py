"""Just-in-time compilation by LLVM: from code to functions in memory.

A `Code` owns the memory of its function.  Whatever calls the function refers to the `Code`, and the
last reference to it frees the memory.  Equal code is loaded once.  The code that was asked for
last is kept for some time without any reference, so that functions which are made and dropped in a
loop are not compiled each time.

Each kernel is a module of its own, so it is shared, kept on disk and freed by itself.  One module
for all would save little: seven kernels take 141 ms one by one, and 127 ms as one.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple, TypeVar

from ksym.compiler.codegen.llvm import ENTRY
from ksym.compiler.codegen.tapes import SYMBOLS
from ksym.errors import ExecutionError
from ksym.locking import reentrant_lock
from ksym.runtime import loading
from ksym.runtime.cache import DiskCache, folder

R = TypeVar("R")

_lock = reentrant_lock(awaited=True)


def once(make: Callable[..., R]) -> Callable[..., R]:
    """Cache the result of a function for each combination of arguments, as functools.cache does.

    Other threads wait while a result is computed.
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


class Code:
    """A compiled function in memory, which is freed with the last reference to it.

    Attributes:
        address: The address of the function, which is valid as long as the object.
    """

    __slots__ = ("__weakref__", "_memory", "address")

    def __init__(self, address: int, memory: object):
        self.address = address
        self._memory = memory


class _Memory:
    """The memory of the functions that were compiled from one text.

    A finalizer can run anywhere, also while another thread compiles or forks, and must not wait.
    So what is not needed any more is only noted here, and freed before more is loaded.
    """

    def __init__(self, engine: Any):
        self.finalizer = weakref.finalize(self, _dropped.append, engine)
        # Code may still be running on a daemon thread when the process exits.
        self.finalizer.atexit = False


KEPT = 256
"""The number of the last requests for code whose results are kept; 44 KiB each, measured."""

LEVEL = 3
"""The level at which code is optimised, unless hastily."""

OPTIONS = {
    "loop_vectorization": True,
    "slp_vectorization": False,
    # Interleaved or unrolled code takes half as long again to compile, and is no faster.
    "loop_interleaving": False,
    "loop_unrolling": False,
}
"""The options of LLVM's passes."""

_dropped: deque[Any] = deque()
_alive: weakref.WeakValueDictionary[tuple[str, bool], Code] = weakref.WeakValueDictionary()
_kept: deque[Code] = deque(maxlen=KEPT)


class _Compiler(NamedTuple):
    """LLVM for this machine.

    Attributes:
        binding: llvmlite's module.
        machine: The target machine for optimised code.
        hasty: The target machine for code that is not optimised.
        make_machine: The function that makes one; each engine needs one of its own.
    """

    binding: Any
    machine: Any
    hasty: Any
    make_machine: Callable[[int], Any]


@once
def _compiler() -> _Compiler:
    # Imported here: loading LLVM takes 0.1 s, and a program that only builds graphs needs none.
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()

    def make_machine(level: int) -> Any:
        return target.create_target_machine(cpu=cpu, features=features, opt=level, jit=True)

    for name in ("omp_get_thread_num", "omp_get_num_threads", *SYMBOLS):
        address = ctypes.cast(getattr(loading.library(), name), ctypes.c_void_p).value
        llvm.add_symbol(name, address)
    return _Compiler(llvm, make_machine(LEVEL), make_machine(0), make_machine)


def kernel_code(text: str, hastily: bool) -> Code:
    """Return the function of a kernel, compiled unless it is in memory.

    Args:
        text: The code, as `ksym.compiler.codegen.llvm.emit` writes it.
        hastily: Whether not to optimise it.

    Raises:
        ExecutionError: So many functions are in use that the process would run out of mappings.
    """
    code = _alive.get((text, hastily))
    if code is None:
        with _lock:
            code = _alive.get((text, hastily))
            if code is None:
                code = load_functions(text, [ENTRY], hastily)[ENTRY]
                _alive[text, hastily] = code
    _kept.append(code)
    return code


@once
def _limit() -> int:
    """Return the number of kernels that may be in memory: each takes two mappings of the process.

    Beyond Linux's limit of mappings LLVM fails with a segmentation fault.  Half of them are left to
    others.
    """
    try:
        with open("/proc/sys/vm/max_map_count") as file:
            return int(file.read()) // 4
    except OSError:
        return 1 << 14


def load_functions(text: str, names: Sequence[str], hastily: bool) -> dict[str, Code]:
    """Compile code and return its functions.

    Args:
        text: The code, in LLVM's assembly.
        names: The names of the functions.
        hastily: Whether not to optimise it.

    Raises:
        ExecutionError: So many functions are in use that the process would run out of mappings.
    """
    with _lock:
        while _dropped:
            _dropped.popleft().close()
        if len(_alive) >= _limit():
            raise ExecutionError(
                f"{len(_alive)} loops of different code are compiled and in use; one more could "
                "take more memory mappings than a process may have",
                remedy="drop functions that are not needed any more, raise vm.max_map_count, or "
                'make functions with flags={"fuse_loops": False}, which compile no loops',
            )
        llvm, make_machine = _compiler().binding, _compiler().make_machine
        code = _object(text, hastily)
        # An engine of its own, as it can only be freed as a whole.  It loads an object file: with a
        # module it would keep all the text.
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), make_machine(0))
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        memory = _Memory(engine)
        return {name: Code(int(engine.get_function_address(name)), memory) for name in names}


def _object(text: str, hastily: bool) -> bytes:
    """Return the object file of code: from the cache on disk, if it is there."""
    cache = _disk()
    found = None if cache is None else cache.read(text, hastily)
    if found is not None:
        return found
    llvm, machine, hasty, _ = _compiler()
    module = llvm.parse_assembly(text)
    if not hastily:
        _optimise(module)
    code: bytes = (hasty if hastily else machine).emit_object(module)
    if cache is not None:
        cache.write(text, hastily, code)
    return code


@once
def _disk() -> DiskCache | None:
    """Return the cache of compiled code on disk, None if there is to be none."""
    place = folder()
    if place is None:
        return None
    llvm, machine, _, _ = _compiler()
    processor = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    versions = llvm.llvm_version_info, version("llvmlite"), machine.triple
    return DiskCache(place, repr((*processor, *versions, LEVEL, OPTIONS)))


def _optimise(module: Any) -> None:
    """Run LLVM's passes over a module."""
    llvm, machine, _, _ = _compiler()
    options = llvm.create_pipeline_tuning_options(LEVEL)
    for name, value in OPTIONS.items():
        setattr(options, name, value)
    # Each run adds callbacks to its builder, which refer to that run: a builder is used once.
    builder = llvm.create_pass_builder(machine, options)
    manager = builder.getModulePassManager()
    try:
        manager.run(module, builder)
    finally:
        # Of the two methods of this name that llvmlite's class inherits, the first one in its
        # order of bases frees nothing; 98 KiB would stay.
        llvm.newpassmanagers.NewPassManager._dispose(manager)
        manager.detach()
