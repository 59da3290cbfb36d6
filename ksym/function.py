"""Functions: graphs that are called with values; a call is followed from arguments to results."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ksym import dtypes, shapes
from ksym.arguments import (
    Givens,
    Outputs,
    default_updates,
    inputs_of,
    listed,
    named,
    opened,
    report_unused_givens,
    report_unused_inputs,
    variables_in,
    with_givens,
)
from ksym.arraylike import EVALUATORS
from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.mode import Flags, mode_of
from ksym.compiler.plan import FrozenGraph, Plan, Source
from ksym.errors import ArgumentError, DTypeError, GraphError, InputError, KsymError
from ksym.graph import Node, Spec, Tensor, collection_paused, topological_order
from ksym.locking import Group, busy, joined
from ksym.operator.operands import as_tensor
from ksym.ops.leaves import constant, placeholder
from ksym.profiling.profile import Profile, profile_of
from ksym.profiling.program import kind_of
from ksym.runtime.program import Prepared, Program, target
from ksym.runtime.specializations import SPECIALIZATIONS, Compiled, Specializations
from ksym.variables import Update, Updates, Variable, collect


class CacheInfo(NamedTuple):
    """The use of a function's specialisations, as counts."""

    hits: int
    misses: int
    kept: int
    limit: int


def function(
    inputs: Tensor | Sequence[Tensor],
    outputs: Outputs = None,
    updates: Updates | None = None,
    givens: Givens | None = None,
    *,
    no_default_updates: bool | Sequence[Variable] = False,
    on_unused_input: Literal["warn", "ignore", "raise"] = "warn",
    name: str | None = None,
    mode: Literal["native", "interpret"] = "native",
    specializations: int = SPECIALIZATIONS,
    flags: Flags | None = None,
    profile: bool | None = None,
) -> Function:
    """Make a function that computes outputs from inputs, and carries out updates.

    All outputs are computed with the values that variables have before the call.  All updates are
    computed from them too and take effect together when everything has been computed; a call that
    fails changes nothing.  A call runs one native MXNet graph, or several around loops and
    operators on the host, compiled when a combination of input shapes is first seen.

    Args:
        inputs: Tensors to be given at the call: placeholders, or any others, whose own computation
            is then left out.  A single one needs no list.
        outputs: The tensors to return: one, a sequence, a mapping of names to tensors, or none.
        updates: The variables to change: `ksym.Update` objects, pairs (variable, new value), or a
            mapping.
        givens: Tensors to be replaced by other tensors or by values before compiling.
        no_default_updates: Variables whose `Variable.default_update` is not carried out; True for
            all.
        on_unused_input: What happens if nothing depends on an input: ``"warn"``, ``"ignore"`` or
            ``"raise"``.
        name: A name for messages.
        mode: ``"native"``, or ``"interpret"`` to run node by node for debugging.
        specializations: The number of combinations of input shapes to keep compiled, and of shapes
            that results turn out to have; the one used least recently makes room.  Of large graphs
            fewer are kept, and of those that take much memory fewer have arrays; these are bound
            again, in some milliseconds.
        flags: Passes to turn off, checking and guarding, as a mapping or a text:
            ``{"merge": False}``, ``"merge=0,check=1"``, ``"nan=1"``.  On top of the environment
            variable KSYM_FLAGS; see `ksym.compiler.mode`.
        profile: Whether the parts of each call are timed: ``print(f.profile)`` shows what took how
            long.  By default, the environment variable KSYM_PROFILE decides.

    Raises:
        ArgumentError: The inputs, outputs, updates or givens are nothing of the kind.
        GraphError: The graph depends on placeholders that are not given, an input is repeated or
            not used, a variable would get two values, or there is no such flag.

    >>> x = placeholder((None,))
    >>> total = Variable(0.0)
    >>> accumulate = function([x], [x * 2.0], updates=[total.assign_add(x[0])])
    >>> accumulate([1, 2])[0].tolist(), float(total.get_value())
    ([2.0, 4.0], 1.0)
    """
    return Function(
        inputs,
        outputs,
        updates,
        givens,
        name,
        mode,
        specializations,
        flags,
        no_default_updates=no_default_updates,
        on_unused_input=on_unused_input,
        profile=profile,
    )


def evaluate(tensor: Any, feeds: Mapping[Tensor, Any] | None = None) -> Any:
    """Return the value of a tensor, or carry out an update and return the variable's new value.

    Variables keep their values: their default updates are not carried out.

    Args:
        tensor: The tensor to compute, several as `function` takes outputs, or the update to carry
            out.
        feeds: Values for the placeholders it depends on.

    Raises:
        ArgumentError: It is no tensor, or `feeds` is no mapping.
        GraphError: The tensor depends on a placeholder that is given no value.
    """
    feeds = {} if feeds is None else feeds
    if not isinstance(feeds, Mapping):
        raise ArgumentError(
            f"the values of placeholders are {feeds!r}",
            remedy="give a mapping, as in tensor.eval({placeholder: array})",
        )
    if isinstance(tensor, Update):
        function(list(feeds), [], [tensor], no_default_updates=True)(*feeds.values())
        return tensor.variable.get_value()
    if isinstance(tensor, Variable):
        return tensor.get_value()
    results, _, _ = listed(tensor, "evaluate")
    for node in topological_order([as_tensor(result) for result in results], until=feeds):
        leaf = node.outputs[0]
        if node.operator is placeholder and node.attributes["default"] is None and not leaf.loop:
            raise GraphError(
                f"what is evaluated depends on {leaf.name}, a placeholder without a value",
                remedy="give one, as in tensor.eval({placeholder: array})",
            ).located(origin=node.origin)
    return function(list(feeds), tensor, no_default_updates=True)(*feeds.values())


EVALUATORS[:] = [evaluate]

_OF_THIS_PROCESS = {
    *("_inputs", "profile", "_programs", "_accepted", "_static", "_calls", "_misses", "_group"),
}
"""The attributes that `Function._start` sets, which are neither pickled nor copied."""


class Function:
    """A compiled function, as `function` makes it: called with one value for each input, in order.

    It may be called from several threads.  Each call is as if it were alone: calls of functions
    that share a variable wait for each other, and so do `Variable.get_value` and
    `Variable.set_value`.  A signal handler or a finalizer that calls it in the middle of such a
    call gets an error.

    It can be pickled and copied (`copy.deepcopy`): see docs/saving.md.

    Tests and benchmarks compile one for other `costs` than those of the machine.

    Attributes:
        name: The name for messages.
        profile: What took how long since it is profiled; None if it is not.
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Outputs,
        updates: Updates | None,
        givens: Givens | None,
        name: str | None,
        mode: str,
        specializations: int,
        flags: Flags | None,
        costs: Costs = DEFAULT,
        no_default_updates: bool | Sequence[Variable] = False,
        on_unused_input: str = "warn",
        profile: bool | None = None,
    ):
        self.name = name or "function"
        self._mode = mode_of(mode, flags)
        self._costs = costs
        results, self._form, self._keys = listed(outputs, self.name)
        changes = collect(updates)
        self._variables = [update.variable for update in changes]
        self._count = len(results)
        before = [as_tensor(r) for r in results] + [update.value for update in changes]
        given = inputs_of(inputs, self.name)
        # A generator of pairs is read once.
        replaced = list(givens) if isinstance(givens, Iterator) else givens
        graph = with_givens(before, replaced)
        while True:
            self._slots, self._graph = opened(given, graph, self.name)
            read = variables_in(self._graph, self._variables)
            # What these compute may depend on further variables.
            more = default_updates(read, self._variables, no_default_updates)
            if not more:
                break
            self._variables += [update.variable for update in more]
            before += [update.value for update in more]
            graph = with_givens(before, replaced)
        report_unused_givens(before, replaced)
        report_unused_inputs(given, graph, on_unused_input, self.name)
        self._start(given, specializations, profile)

    def _start(
        self, inputs: Sequence[Tensor], specializations: int, profile: bool | None = None
    ) -> None:
        """Start without anything compiled, in a group with the functions that share variables."""
        self._inputs = inputs
        self.profile = profile_of(self.name, profile)
        self._programs: Specializations[Program] = Specializations(specializations)
        # For each argument the dtype and shape of the last array that needed no conversion.
        self._accepted: list[Any] = [None for _ in self._slots]
        # The arguments whose values are compiled in, and not only their shapes.
        self._static = [k for k, s in enumerate(self._slots) if s.node.attributes["static"]]
        self._calls = self._misses = 0
        self._group = joined(
            (Group(), *(v.group for v in variables_in(self._graph, self._variables))),
            f"{self.name} is made",
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what the function is made of, without what is compiled for this process.

        Pickled or copied deeply, a function gets variables and random streams of its own; others
        that go into the same pickle share them with it, as they did before.  Copied by `copy.copy`
        it keeps those that it has.
        """
        kept = {name: value for name, value in vars(self).items() if name not in _OF_THIS_PROCESS}
        return {**kept, "specializations": self._programs.limit}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._start(self._slots, vars(self).pop("specializations"))

    def __repr__(self) -> str:
        takes = ", ".join(str(slot.spec) for slot in self._slots)
        return (
            f"<Function {self.name} of ({takes}), {self._count} output(s), "
            f"{len(self._variables)} update(s)>"
        )

    def __call__(self, *arguments: Any) -> Any:
        """Compute the outputs and carry out the updates.

        Args:
            arguments: A value for each input: numbers, NumPy arrays, MXNet NDArrays or nested
                sequences, converted to the input's dtype.

        Returns:
            NumPy arrays: one, a list if outputs was a sequence, or a dictionary.

        Raises:
            InputError: There are too many or too few arguments, or one has a wrong shape.
            DTypeError: An argument is not numeric, or holds fractions where integers are expected,
                or integers that do not fit.
            KsymError: The graph cannot be computed with these shapes, or fails.
            GraphError: A signal handler or a finalizer calls it in the middle of a call of a
                function that it shares variables with.
        """
        if len(arguments) != len(self._slots):
            raise InputError(
                f"{self.name} takes {len(self._slots)} argument(s), {len(arguments)} were given",
                details=[f"expected: {', '.join(slot.name for slot in self._slots)}"],
            )
        values = [self._convert(position, value) for position, value in enumerate(arguments)]
        me = threading.get_ident()
        if me in busy:  # a signal handler or a finalizer
            with self._group.held(f"{self.name} is called"):
                results = self._computed(values)
        else:
            group = self._group
            while True:
                with group.lock:
                    if group.joined_to is None:
                        try:
                            busy.add(me)
                            group.owner = me
                            results = self._computed(values)
                            break
                        finally:
                            group.owner = 0
                            busy.discard(me)
                group = self._group = group.root()
        if not self._form:
            return results
        return results[0] if self._keys is None else dict(zip(self._keys, results, strict=True))

    def _computed(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute the outputs and carry out the updates, with the group's lock held."""
        feeds, program = self._program(values)
        try:
            return program(feeds, values)
        except KsymError as error:
            if error.breaks:
                self._programs.drop_last()
            raise

    def _convert(self, position: int, value: Any) -> np.ndarray:
        if type(value) is np.ndarray and (value.dtype, value.shape) == self._accepted[position]:
            return value
        slot = self._slots[position]
        if isinstance(value, Tensor):
            raise InputError(
                f"argument {position} of {self.name} is the symbolic {value!r}, not a value",
                remedy="give an array, or put the tensor in place with givens",
            )
        try:
            array = dtypes.fitting(value, slot.dtype)
        except DTypeError as error:
            raise error.located(
                f"argument {position} ({slot.name}) of {self.name}", origin=slot.node.origin
            ) from None
        if not shapes.compatible(array.shape, slot.shape):
            raise InputError(
                f"argument {position} ({slot.name}) of {self.name} has shape {array.shape}, "
                f"expected is {Spec(slot.shape, slot.dtype)}",
                remedy="reshape it, or add the missing batch axis",
            ).located(origin=slot.node.origin)
        if array is value and (
            dtypes.is_float(slot.dtype) or np.can_cast(array.dtype, slot.dtype, "safe")
        ):
            self._accepted[position] = value.dtype, value.shape
        return array  # converted while it is copied to the device

    def _program(self, values: Sequence[np.ndarray]) -> Prepared:
        key: list[Any] = [value.shape for value in values]
        for position in self._static:
            whole = dtypes.cast(values[position], self._slots[position].dtype)
            key[position] = key[position], whole.tobytes()
        self._calls += 1
        return self._programs.get(tuple(key), lambda known: self._prepared(values, known))

    def _prepared(self, values: Sequence[np.ndarray], known: Compiled | None) -> Prepared:
        """Return a specialisation, compiled for the shapes of values unless its plan is known."""
        last = self._programs.last
        shared = None if last is None else last[1]
        kind = kind_of(self._mode.check, self._mode.nan, self.profile is not None)
        limit = self._programs.limit
        with collection_paused():
            if known is not None:
                made = kind.bound(*known, shared, limit)
            else:
                self._misses += 1
                given = self._given(values)
                made = kind.prepare(self.frozen(), given, values, shared, limit)
        if self.profile is not None:
            self.profile.add(made[1])
        return made

    def _given(self, values: Sequence[np.ndarray]) -> dict[Tensor, Tensor]:
        """Return for each placeholder one of the shape of its value, or a constant."""
        given: dict[Tensor, Tensor] = {}
        for slot, value in zip(self._slots, values, strict=True):
            if slot.node.attributes["static"]:
                given[slot] = constant(dtypes.cast(value, slot.dtype))
            elif slot.shape == value.shape:
                given[slot] = slot
            else:
                given[slot] = placeholder(value.shape, slot.dtype, name=slot.name)
        return given

    def start_profile(self) -> Profile:
        """Time the parts of each call from now on, and return the profile that the times go to.

        The next call compiles anew.  `stop_profile` ends it; the profile stays.

        >>> f = function([], constant(1.0) + 1.0)
        >>> profile = f.start_profile()
        >>> f().tolist(), profile.calls
        (2.0, 1)
        """
        return self._profiled(Profile(self.name))

    def stop_profile(self) -> Profile | None:
        """Run as fast as ever from now on, and return the profile, if there was one."""
        return self._profiled(None)

    def _profiled(self, profile: Any) -> Any:
        with self._group.held(f"{self.name} is profiled"):
            before, self.profile = self.profile, profile
            self._programs.clear()
        return profile or before

    def frozen(self) -> FrozenGraph:
        """Return the graph that is compiled for each combination of input shapes."""
        return FrozenGraph(self._graph, self._variables, self._mode, target(self._costs))

    @property
    def inputs(self) -> dict[Tensor, Tensor]:
        """The inputs as they were given, and the placeholder that stands for each in the graph."""
        return dict(zip(self._inputs, self._slots, strict=True))

    @property
    def results(self) -> dict[str, Tensor]:
        """The outputs, and the new value of each variable that is updated, by their names."""
        names = [f"output {i}" for i in range(self._count)] if self._keys is None else self._keys
        names = [*map(str, names), *(f"update of {v.name}" for v in self._variables)]
        return named(names, self._graph)

    @property
    def last_source(self) -> Source | None:
        """The graph and the shapes that the last call was compiled from; None before any call."""
        last = self._programs.last
        return None if last is None else last[1].source

    def last_plan(self) -> Plan:
        """Return the plan of what ran at the last call; printed, it says what its parts do.

        Raises:
            GraphError: The function has not been called yet.
        """
        last = self._programs.last
        if last is None:
            raise GraphError(f"{self.name} has not been called yet, so nothing is compiled")
        return last[1].plan

    def last_graph(self) -> list[Node]:
        """Return the nodes that ran at the last call, after specialisation and all passes."""
        return topological_order(self.last_plan().whole)

    def cache_info(self) -> CacheInfo:
        """Return how many calls found their shapes compiled, and how many specialisations exist."""
        hits, kept = self._calls - self._misses, len(self._programs)
        return CacheInfo(hits, self._misses, kept, self._programs.limit)
