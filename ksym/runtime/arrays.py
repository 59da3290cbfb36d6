"""Arrays on the device: allocate, read and write them.

On CPU the host can access an array as soon as a call returns, so reading and writing are plain
copies between buffers; on a GPU, or if the user has asked for an asynchronous engine, they go
through MXNet's engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes, shapes
from ksym.compiler.plan import Plan
from ksym.errors import ExecutionError
from ksym.graph import Spec, Tensor, topological_order
from ksym.ops.leaves import is_constant
from ksym.runtime import capi, device, loading
from ksym.runtime.capi import NDArray
from ksym.variables import Variable


def is_direct() -> bool:
    """Return whether the host can access the memory of arrays as soon as a call returns."""
    on_cpu = device.get_device().kind == "cpu"
    return on_cpu and loading.engine() is not loading.Engine.ASYNCHRONOUS


class DeviceArray:
    """An MXNet NDArray of a fixed shape and dtype.

    Implements `ksym.variables.Storage`.

    Attributes:
        view: Its memory as a NumPy array; None if the host cannot access it.
        in_blocks: Whether oneDNN may have left the contents in a layout of its own.
    """

    def __init__(self, native: NDArray, spec: Spec, in_blocks: bool = False):
        self.native = native
        self.spec = spec
        self.in_blocks = in_blocks
        self._address = 0
        self.view = self._memory() if is_direct() and 0 not in spec.shape else None

    @classmethod
    def empty(cls, spec: Spec) -> DeviceArray:
        """Return an array with arbitrary contents.

        Raises:
            ExecutionError: MXNet cannot allocate it.
        """
        context = device.context()
        try:
            with loading.numpy_shapes():
                native = NDArray.empty(shapes.known(spec.shape), spec.dtype, context)
        except loading.NativeError as error:
            size = (shapes.size(spec.shape) or 0) * np.dtype(spec.dtype).itemsize
            raise ExecutionError(
                f"MXNet cannot allocate {spec}, {size / 2**20:.1f} MiB",
                details=[str(error).strip().splitlines()[-1]] if str(error).strip() else (),
                remedy="use smaller batches, or drop functions and variables that are not needed",
            ) from None
        return cls(native, spec)

    @classmethod
    def of(cls, value: np.ndarray) -> DeviceArray:
        """Return an array with the contents of a NumPy array."""
        array = cls.empty(Spec(value.shape, dtypes.name_of(value)))
        array.write(value)
        return array

    @property
    def nbytes(self) -> int:
        """The bytes of the elements."""
        return (shapes.size(self.spec.shape) or 0) * np.dtype(self.spec.dtype).itemsize

    def _memory(self) -> np.ndarray:
        """Return a NumPy view of the array's memory."""
        shape = shapes.known(self.spec.shape)
        self._address = self.native.address()
        buffer: Any = (ctypes.c_char * self.nbytes).from_address(self._address)
        return np.ndarray(shape, np.dtype(self.spec.dtype), buffer)

    def read(self) -> np.ndarray:
        """Return a copy of the contents."""
        if self.view is not None:
            self.settle()
            return self.view.copy()
        value = np.empty(shapes.known(self.spec.shape), self.spec.dtype)
        if value.size:
            with loading.running:
                self.native.read_into(value)
        return value

    def write(self, value: np.ndarray) -> None:
        """Replace the contents by an array of the same shape; its dtype is converted."""
        if self.view is not None:
            if dtypes.CASTS_WARN and value.dtype.itemsize > self.view.itemsize:
                with np.errstate(over="ignore"):
                    self.view[...] = value
            else:
                self.view[...] = value
        elif 0 not in self.spec.shape:
            value = np.asarray(dtypes.cast(value, self.spec.dtype), order="C")
            with loading.running:
                self.native.write(value)

    def copy_from(self, other: DeviceArray) -> None:
        """Replace the contents by those of another array of the same shape and dtype."""
        if other.spec != self.spec:
            raise AssertionError(f"{other.spec} is copied to {self.spec}")
        if self.view is not None and other.view is not None:
            other.settle()
            self.view[...] = other.view
        elif 0 not in self.spec.shape:
            with loading.numpy_shapes():
                other.native.copy_to(self.native)

    def load(self, stack: DeviceArray, position: int) -> None:
        """Replace the contents by one slice of another array along its first axis."""
        if self.view is not None and stack.view is not None:
            stack.settle()
            self.view[...] = stack.view[position]
        elif 0 not in self.spec.shape:
            with loading.numpy_shapes():
                stack.native[position].copy_to(self.native)

    def store(self, position: int, value: DeviceArray) -> None:
        """Replace one slice along the first axis."""
        if self.view is not None and value.view is not None:
            value.settle()
            self.view[position] = value.view
        elif 0 not in self.spec.shape:
            with loading.numpy_shapes():
                value.native.copy_to(self.native[position])

    def fill(self, value: float) -> None:
        """Make all elements equal."""
        self.write(
            np.broadcast_to(np.asarray(value, self.spec.dtype), shapes.known(self.spec.shape))
        )

    def wait(self) -> None:
        """Wait until the contents are computed, and raise the error if that failed."""
        if self.view is None:
            with loading.running:
                self.native.wait()

    def settle(self) -> None:
        """Convert the contents from oneDNN's own layout to row-major order, if need be."""
        # Memory of another size is elsewhere.
        if self.in_blocks and self.native.address() != self._address and self.view is not None:
            self.view = self._memory()


def copies(pairs: Sequence[tuple[DeviceArray, DeviceArray]]) -> list[Callable[[], None]]:
    """Return as few calls as possible that copy arrays to others of the same shapes and dtypes.

    Inside of `loading.numpy_shapes`, for arrays that the host cannot access.

    Args:
        pairs: Targets and sources, none of which is a target.
    """
    with loading.numpy_shapes():
        joined = [pair for pair in pairs if _has_joined_copy(pair[0].spec)]
        calls = [capi.copies([(_with_axis(a), _with_axis(b)) for a, b in joined])] if joined else []
    for target, source in pairs:
        if 0 not in target.spec.shape and not _has_joined_copy(target.spec):
            calls.append(functools.partial(source.native.copy_to, target.native))
    return calls


def _has_joined_copy(spec: Spec) -> bool:
    """Return whether one call of MXNet copies several such arrays; on CPU it is oneDNN's."""
    return spec.dtype == "float32" and 0 not in spec.shape and len(spec.shape) <= _MOST_AXES


_MOST_AXES = 5
"""Those that oneDNN's layouts are tested with; others are copied one by one."""


def _with_axis(array: DeviceArray) -> NDArray:
    return array.native if array.spec.shape else array.native.reshaped((1,))


def copying(pairs: Sequence[tuple[DeviceArray, DeviceArray]]) -> Callable[[], None]:
    """Return a call that copies arrays to others: all of them, also if that is interrupted.

    Args:
        pairs: Targets and sources, none of which is a target; the host cannot access them.
    """
    return functools.partial(_copy_all, copies(pairs))


def _copy_all(copies: Sequence[Callable[[], None]]) -> None:
    """Make all of some calls, which may be repeated, also if that is interrupted."""
    interruption: BaseException | None = None
    while True:
        try:
            with loading.numpy_shapes():
                for copy in copies:
                    copy()
        except (KeyboardInterrupt, MemoryError) as error:
            if isinstance(interruption, MemoryError):
                raise  # there is none the second time either
            interruption = error
        else:
            break
    if interruption is not None:
        raise interruption


@contextlib.contextmanager
def made_for(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Have an error inside of the context name the operator of the largest of some tensors.

    Args:
        tensors: Tensors of known shapes, for which arrays are allocated inside.
    """
    try:
        yield
    except ExecutionError as error:
        if not tensors:
            raise
        node = max(tensors, key=lambda tensor: shapes.size(tensor.shape) or 0).node
        operands = [tensor.spec for tensor in node.inputs]
        raise error.located(node.operator.name, operands, node.origin) from None


Arrays = Mapping[Tensor, DeviceArray]
"""The array of each tensor."""


def storage_of(variable: Variable) -> DeviceArray:
    """Return the array of a variable, which the first call allocates on the device.

    The caller holds the variable's group, or two threads would allocate it twice.
    """
    if variable.storage is None:
        assert variable.initial is not None
        with made_for([variable]):
            variable.storage = DeviceArray.of(variable.initial)
        variable.initial = None
    assert isinstance(variable.storage, DeviceArray)
    return variable.storage


def feeds_for(plan: Plan, placeholders: Iterable[Tensor]) -> dict[Tensor, DeviceArray | None]:
    """Return an array for each placeholder that a plan reads, None for the others."""
    read = {node for node in topological_order(plan.tensors) if not node.inputs}
    feeds: dict[Tensor, DeviceArray | None] = {}
    for tensor in placeholders:
        is_read = tensor.node in read and not is_constant(tensor)
        with made_for([tensor]):
            feeds[tensor] = DeviceArray.empty(tensor.spec) if is_read else None
    return feeds
