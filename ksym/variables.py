"""Variables: shared arrays that functions read, and write through updates."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ksym import dtypes, shapes
from ksym.errors import ArgumentError, DTypeError, GraphError, ShapeError
from ksym.graph import Node, Spec, Tensor
from ksym.locking import Group, joined, reentrant_lock
from ksym.operator.operands import cast_to, promoted
from ksym.ops.leaves import variable_leaf
from ksym.origin import current_origin, current_scope, warn


class Storage(Protocol):
    """An array on the device, as the runtime keeps it."""

    def read(self) -> np.ndarray:
        """Return a copy of the contents."""

    def write(self, value: np.ndarray) -> None:
        """Replace the contents by an array of the same shape and dtype."""


class _Names:
    """A source of unique names: ``kernel``, ``kernel_1``, ...

    Of names that end in a number it keeps the last number only, so that a program which makes
    variables without end does not collect their names.
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        """For each name the number that would make the next one of it."""
        self._lock = reentrant_lock()

    def unique(self, name: str) -> str:
        with self._lock:
            if not self._is_used(name):
                self._next[name] = 1
                return name
            number = self._next.get(name, 1)
            while self._is_used(f"{name}_{number}"):
                number += 1
            self._next[name] = number + 1
            return f"{name}_{number}"

    def _is_used(self, name: str) -> bool:
        if name in self._next:
            return True
        base, _, number = name.rpartition("_")
        # Only what `unique` writes is a number here: no leading zeros, and no more than it counts.
        is_number = number.isdecimal() and number.isascii() and number[0] != "0"
        return is_number and len(number) < 19 and int(number) < self._next.get(base, 1)

    def reset(self) -> None:
        with self._lock:
            self._next.clear()


NAMES = _Names()
"""The names given to variables in this process."""


class Variable(Tensor):
    """A tensor whose value is shared by the functions that use it, and kept between their calls.

    Args:
        value: The initial value; a number, an array, nested sequences, or another variable.
        dtype: Its dtype; by default that of the value, and float32 for Python floats.
        name: A name, made unique and put under the name scope in force.
        trainable: Whether an optimizer should change it; ksym itself does not read it.

    Raises:
        DTypeError: The value is not numeric, the dtype is not supported, or it is an integer type
            and the value is not among its numbers: it has a fraction, or does not fit.

    >>> counter = Variable(0, name="counter")
    >>> counter.set_value(3)
    >>> counter.get_value()
    array(3)
    """

    def __init__(
        self,
        value: Any,
        dtype: Any = None,
        name: str | None = None,
        trainable: bool = True,
    ):
        if isinstance(value, Tensor):
            if not isinstance(value, Variable):
                raise DTypeError(
                    f"{value!r} is symbolic, a variable starts from a value",
                    remedy="pass ksym.evaluate(tensor)",
                )
            value = value.get_value()
        if isinstance(value, tuple) and len(value) > 1 and all(type(n) is int for n in value):
            warn(
                f"Variable({value!r}) has the {len(value)} numbers {value!r} as its value, not as "
                "its shape",
                f"write Variable(np.zeros({value!r})) for zeros of that shape, or "
                f"Variable({list(value)!r}) for these numbers",
            )
        try:
            if dtype is None:
                array = dtypes.storable(value)
            else:
                array = dtypes.converted(value, dtypes.canonical(dtype))
        except DTypeError as error:
            raise error.located(
                f"the variable {name or ''}".strip(), (), current_origin()
            ) from None
        self._name = NAMES.unique(f"{current_scope()}/{name or 'variable'}".lstrip("/"))
        self.trainable = trainable
        self.group = Group()
        self._default_update: Tensor | None = None
        # The array stays on the host until a runtime copies it to the device.
        self.initial: np.ndarray | None = np.array(array)
        self.storage: Storage | None = None
        # Counts the changes of the value: whoever writes it adds one before, in the group's turn.
        self.version = 0
        spec = Spec(array.shape, dtypes.name_of(array))
        attributes = {"name": self._name, "shape": spec.shape, "dtype": spec.dtype}
        node = Node(variable_leaf, (), attributes, [spec], current_origin())
        super().__init__(node, 0, spec)
        node.outputs = (self,)

    @property
    def name(self) -> str:
        """The unique name, with its scope."""
        return self._name

    @property
    def default_update(self) -> Tensor | None:
        """The value that each function which uses the variable gives it, as in Theano; or None.

        A function carries it out unless it has another update of the variable, or is made with
        ``no_default_updates``; `evaluate` never does.  It counts when the function is made.

        Raises:
            DTypeError: When it is set: it is of a higher kind than the variable.
            ShapeError: When it is set: the shapes differ.

        >>> import ksym
        >>> calls = Variable(0)
        >>> calls.default_update = calls + 1
        >>> number = ksym.function([], calls)
        >>> int(number()), int(number())
        (0, 1)
        """
        return self._default_update

    @default_update.setter
    def default_update(self, value: Any) -> None:
        self._default_update = None if value is None else Update(self, value).value

    def get_value(self) -> np.ndarray:
        """Return a copy of the value, after waiting for a call that runs on another thread."""
        with self.group.held():
            return self._read()

    def _read(self) -> np.ndarray:
        if self.storage is not None:
            return self.storage.read()
        assert self.initial is not None
        return self.initial.copy()

    def set_value(self, value: Any) -> None:
        """Replace the value, after waiting for a call that is running on another thread.

        Raises:
            ShapeError: The value has another shape.
            DTypeError: The value is not numeric, or not among the numbers of an integer variable.
            GraphError: A call that uses the variable is running on this thread.
        """
        array = self._accepted(value)
        with self.group.held(f"the variable {self.name!r} is set"):
            self._write(array)

    def _accepted(self, value: Any) -> np.ndarray:
        """Return a value as an array of the variable's shape and dtype."""
        try:
            array = dtypes.fitting(value, self.dtype)
        except DTypeError as error:
            raise error.located(f"the variable {self.name!r}", (), self.node.origin) from None
        if array.shape != self.shape:
            raise ShapeError(
                f"the value has shape {array.shape}, the variable {self.name!r} {self.shape}",
                remedy="give a value of the same shape, or make a new variable",
            ).located(origin=self.node.origin)
        return dtypes.cast(array, self.dtype)

    def _write(self, array: np.ndarray) -> None:
        self.version += 1
        if self.storage is not None:
            self.storage.write(array)
        else:
            self.initial = np.array(array)

    def assign(self, value: Any) -> Update:
        """Return an update that gives the variable a new value when a function carries it out.

        Raises:
            DTypeError: The value is of a higher kind (bool < integer < float) than the variable.
            ShapeError: The shapes differ.
        """
        return Update(self, value)

    def assign_add(self, increment: Any) -> Update:
        """Return an update that adds to the variable; errors as of `assign`."""
        return Update(self, self + in_dtype_of(self, increment))

    def assign_sub(self, decrement: Any) -> Update:
        """Return an update that subtracts from the variable; errors as of `assign`."""
        return Update(self, self - in_dtype_of(self, decrement))

    def __reduce__(self) -> Any:
        # The default update, which may depend on the variable, is set when that is there.
        default = self._default_update
        state = None if default is None else {"_default_update": default}
        return _restore, (self.get_value(), self._name, self.trainable), state

    def __copy__(self) -> Variable:
        return _restore(self.get_value(), self._name, self.trainable)

    def __deepcopy__(self, memo: dict[int, Any]) -> Variable:
        memo[id(self)] = copied = self.__copy__()
        copied._default_update = copy.deepcopy(self._default_update, memo)
        return copied


def _restore(value: np.ndarray, name: str, trainable: bool) -> Variable:
    return Variable(value, name=name, trainable=trainable)


def in_dtype_of(variable: Variable, value: Any) -> Tensor:
    """Return a new value for a variable, or a change of it, as a tensor of the variable's dtype.

    Raises:
        DTypeError: The value is of a higher kind (bool < integer < float) than the variable, or
            is an integer that does not fit.
    """
    try:
        tensor = value if isinstance(value, Tensor) else promoted(variable, value)[1]
        if dtypes.kind(tensor.dtype) > dtypes.kind(variable.dtype):
            raise DTypeError(
                f"a value of {tensor.dtype} is not stored in the variable {variable.name!r} of "
                f"{variable.dtype}",
                remedy=f"round it if that is meant, and cast it: ksym.cast(value, "
                f"{variable.dtype!r}); or give the variable the dtype {tensor.dtype!r}",
            ).located(operands=[variable.spec, tensor.spec])
    except DTypeError as error:
        raise error.located("update", [variable.spec], current_origin()) from None
    return cast_to(tensor, variable.dtype)


def _check_variables(given: Any) -> None:
    """Check that variables are given.

    Raises:
        ArgumentError: It is no sequence, or has something else in it.
    """
    if not isinstance(given, Sequence) or not all(isinstance(v, Variable) for v in given):
        raise ArgumentError(
            f"{given!r} is no list of variables", remedy="give ksym.Variable objects in a list"
        )


def get_values(variables: Sequence[Variable]) -> list[np.ndarray]:
    """Return copies of the values of several variables at one moment.

    A call that updates several of them on another thread is seen with all of its updates or none.

    Raises:
        ArgumentError: It is no list of variables.

    >>> a, b = Variable(1.0), Variable(2.0)
    >>> [float(value) for value in get_values([a, b])]
    [1.0, 2.0]
    """
    _check_variables(variables)
    if not variables:
        return []
    with joined([v.group for v in variables], "variables are read together").held():
        return [variable._read() for variable in variables]


def set_values(values: Sequence[tuple[Variable, Any]]) -> None:
    """Replace the values of several variables at one moment; of none, if one value is refused.

    Raises:
        ArgumentError: It is no list of variables and values.
        ShapeError: A value has another shape than its variable.
        DTypeError: A value is not numeric, or not among the numbers of an integer variable.
        GraphError: A call that uses one of the variables is running on this thread.

    >>> a, b = Variable(1.0), Variable(2.0)
    >>> set_values([(a, 3), (b, 4)])
    >>> float(a.get_value()), float(b.get_value())
    (3.0, 4.0)
    """
    try:
        pairs = [(variable, value) for variable, value in values]
    except (TypeError, ValueError):
        raise ArgumentError(
            f"the values are {values!r}", remedy="give pairs, as in [(variable, new_value)]"
        ) from None
    _check_variables([variable for variable, _ in pairs])
    arrays = [(variable, variable._accepted(value)) for variable, value in pairs]
    if not arrays:
        return
    what = "variables are set together"
    with joined([v.group for v, _ in arrays], what).held(what):
        for variable, array in arrays:
            variable._write(array)


class Update:
    """A new value for a variable, to be computed and stored by a function's call.

    Args:
        variable: The variable to change.
        value: Its new value: a tensor or a constant, of the variable's shape.

    A float becomes one of the variable's float dtype, and so does an integer; an integer becomes
    one of the variable's integer dtype.

    Raises:
        GraphError: The first argument is not a variable.
        DTypeError: The value is of a higher kind (bool < integer < float) than the variable.
        ShapeError: The shapes differ.
    """

    def __init__(self, variable: Variable, value: Any):
        if not isinstance(variable, Variable):
            raise GraphError(
                f"{variable!r} cannot be updated: it is not a variable",
                remedy="only a ksym.Variable keeps a value between calls",
            ).located(origin=current_origin())
        tensor = in_dtype_of(variable, value)
        if tensor.rank == 0 and variable.rank:
            from ksym import ops

            tensor = ops.broadcast_to(tensor, variable.shape)
        if not shapes.compatible(tensor.shape, variable.shape):
            raise ShapeError(
                f"the new value has shape {tensor.shape}, the variable {variable.name!r} "
                f"{variable.shape}"
            ).located("update", [tensor.spec], current_origin())
        self.variable = variable
        self.value = tensor

    def __repr__(self) -> str:
        return f"<Update of {self.variable.name}>"


Updates = Iterable["Update | tuple[Variable, Any]"] | Mapping[Variable, Any]


def collect(updates: Updates | None) -> list[Update]:
    """Return updates given as a sequence of updates and pairs, or as a mapping.

    Raises:
        ArgumentError: They are no sequence and no mapping.
        GraphError: An item is neither, or one variable is to get two values.
    """
    items: Iterable[Any] = () if updates is None else updates
    if isinstance(updates, Mapping):
        items = updates.items()
    if not isinstance(items, Iterable) or isinstance(items, str):
        raise ArgumentError(
            f"the updates are {updates!r}",
            remedy="give a list, as in updates=[(variable, new_value)], or a mapping",
        )
    result: dict[Variable, Update] = {}
    for item in items:
        if isinstance(item, Update):
            update = item
        elif isinstance(item, Sequence) and len(item) == 2:
            update = Update(*item)
        else:
            raise GraphError(
                f"{item!r} is not an update",
                remedy="give what variable.assign returns, or a pair (variable, new value)",
            )
        before = result.get(update.variable)
        if before is not None and before.value is not update.value:
            raise GraphError(
                f"the variable {update.variable.name!r} is given two values in one call",
                remedy="add the two updates up into one",
            ).located(origin=update.value.node.origin)
        result[update.variable] = update
    return list(result.values())
