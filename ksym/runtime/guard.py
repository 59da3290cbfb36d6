"""The guard: a call whose results are not all finite fails, and says which node made the first.

While all is well, the results and new values are looked at, in one call of compiled code.  If one
is not finite, the call is computed again node by node, with the same inputs, random numbers and
values of variables, which have not changed yet: `fuse_updates`, which would write new values to
variables as they are computed, is off (`compiler/mode.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ksym import dtypes
from ksym.compiler.plan import FrozenGraph
from ksym.errors import ExecutionError
from ksym.graph import Tensor, topological_order
from ksym.loops.body import bodies_of
from ksym.ops.leaves import is_constant
from ksym.ops.random.streams import RandomStream
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.calls import Tape, finite_call
from ksym.runtime.checking import streams_in
from ksym.runtime.nonfinite import Search, Value, is_finite
from ksym.runtime.program import Program
from ksym.variables import Variable


class GuardedProgram(Program):
    """A program whose calls fail before they change a variable if a result is not finite."""

    _call: tuple[Sequence[np.ndarray], list[tuple[RandomStream, Any]]] | None = None

    def __call__(
        self, feeds: Sequence[DeviceArray | None], values: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the outputs computed from values, and carry out the updates.

        Raises:
            NonFiniteError: A result or a new value is not finite; no variable has changed then.
            ExecutionError: MXNet fails; no variable has changed then.
        """
        self._call = values, [(stream, stream.get_state()) for stream in self._inside]
        try:
            return super().__call__(feeds, values)
        finally:
            self._call = None

    @functools.cached_property
    def _inside(self) -> list[RandomStream]:
        """The streams that loops draw from, step by step."""
        order = topological_order(() if self.source is None else self.source.graph.tensors)
        bodies = [body for node in order for body in bodies_of(node).values()]
        return streams_in([tensor for body in bodies for tensor in body.outputs])

    def commit(self) -> None:
        """Write the new values of the variables, unless one or an output is not finite.

        Raises:
            NonFiniteError: One is not finite.
        """
        if self._call is None:  # what a program is continued by: that one looks at both
            super().commit()
            return
        last = self._final
        assert isinstance(last, GuardedProgram)
        if not last._is_finite():
            self._explain()
        super().commit()

    def _is_finite(self) -> bool:
        """Return whether all elements of the outputs and of the new values are finite."""
        if self._look is None:
            return all(map(is_finite, [*self.outputs, *self._new]))
        tape, found = self._look
        found[()] = 0
        tape.run()
        return not found

    @functools.cached_property
    def _look(self) -> tuple[Tape, np.ndarray] | None:
        """The call that looks at all results, and what it finds; None where it cannot be."""
        if not self.plan.target.kernels:
            return None
        found = np.zeros((), "int64")
        arrays = dict.fromkeys(
            array
            for array in (*self.outputs, *self._new)
            if dtypes.is_float(array.spec.dtype) and array.view is not None
        )
        return Tape([finite_call(array, found) for array in arrays]), found

    def _explain(self) -> None:
        """Raise the error that names the node; return if what is not finite is meant to be so.

        Raises:
            NonFiniteError: A node made it.
        """
        assert self._call is not None
        assert self.source is not None
        values, states = self._call
        graph, given = self.source
        inputs = dict(zip(given, values, strict=True))
        after = [(stream, stream.get_state()) for stream, _ in states]
        try:
            meant = self._searched(graph.tensors, inputs, states, graph)
            # A pass may have made it: then the graph that ran shows it.
            if not meant and self.plan.rest is None:
                ran = {given[slot]: value for slot, value in inputs.items()}
                meant = self._searched(self.plan.whole, ran, states, graph)
        finally:
            for stream, state in after:
                stream.set_state(state)
        if not meant:
            raise ExecutionError(
                "a result is not finite, and node by node all are",
                remedy='run with flags="check=1", and report it',
            )

    def _searched(
        self,
        tensors: Sequence[Tensor],
        inputs: Mapping[Tensor, np.ndarray],
        states: Sequence[tuple[RandomStream, Any]],
        graph: FrozenGraph,
    ) -> bool:
        """Compute a graph node by node, and raise the error if it has a cause.

        Returns:
            Whether a result is not finite there.
        """
        for stream, state in states:
            stream.set_state(state)
        search = Search(self._drawn())
        found = search.run(tensors, _given(search, inputs))
        causes = [(v.cause.number, i) for i, v in enumerate(found) if v.cause is not None]
        if causes:
            _, position = min(causes)
            cause = found[position].cause
            assert cause is not None
            raise cause.error(_named(position, len(tensors), graph.variables))
        return not all(value.finite for value in found)

    def _drawn(self) -> Iterator[tuple[RandomStream, np.ndarray]]:
        """Yield what the call drew before it ran."""
        program: Program | None = self
        while program is not None:
            for node, array in program._draws:
                yield node.attributes["stream"], array.read()
            program = program._continued_by


def _given(search: Search, inputs: Mapping[Tensor, np.ndarray]) -> dict[Tensor, Value]:
    """Return the values of the inputs."""
    arrays = {
        tensor: DeviceArray.of(np.asarray(value, tensor.dtype)) for tensor, value in inputs.items()
    }
    return {t: search.leaf(t, array) for t, array in arrays.items() if not is_constant(t)}


def _named(position: int, count: int, variables: Sequence[Variable]) -> str:
    """Return a result of a function in words."""
    outputs = count - len(variables)
    if position < outputs:
        return f"output {position}"
    return f"the update of {variables[position - outputs].name}"
