"""Values that depend on variables only, and are computed when one of these has changed."""

from __future__ import annotations

import weakref
from collections.abc import Hashable

from ksym.compiler.plan import Folded
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.runnable import Bind, Runnable

BOUND_BYTES = 1 << 22
"""The bytes of values up to which the program that computes them stays bound to its arrays.

It takes about as much memory as the values.  Binding it again is estimated to take a fraction of
the time of computing values that are larger than this.
"""


class FoldedValues:
    """The arrays of values that depend on variables only.

    Args:
        folded: The values.
        bind: A function that binds their plan to arrays.

    Attributes:
        arrays: The array of each value.
    """

    def __init__(self, folded: Folded, bind: Bind):
        self.arrays = [DeviceArray.empty(leaf.spec) for leaf in folded.leaves]
        for array, leaf in zip(self.arrays, folded.leaves, strict=True):
            array.in_blocks = leaf.node.attributes["in_blocks"]
        self._plan = folded.plan
        self._variables = folded.variables
        self._bind = bind
        self._program: Runnable | None = None
        # The versions that the values were computed from; None if there are no values.
        self._versions: list[int] | None = None

    def refresh(self) -> None:
        """Compute the values if a variable has changed; the caller holds the variables' group."""
        versions = [variable.version for variable in self._variables]
        if versions == self._versions:
            return
        self._versions = None
        program, self._program = self._program, None
        if program is None:
            program = self._bind(self._plan, {})
        program.run()
        for array, computed in zip(self.arrays, program.outputs, strict=True):
            array.settle()
            array.copy_from(computed)
        for array in self.arrays:
            array.wait()
        if sum(array.nbytes for array in self.arrays) <= BOUND_BYTES:
            self._program = program
        self._versions = versions


_shared: weakref.WeakValueDictionary[Hashable, FoldedValues] = weakref.WeakValueDictionary()


def folded_values(folded: Folded, bind: Bind) -> FoldedValues:
    """Return the arrays of values; plans of the same values of the same variables share them.

    Functions that share a variable are in one group, so no two of them use the arrays at once.
    Values of constants only are not shared: any two functions may have those.

    Args:
        folded: The values.
        bind: A function that binds their plan to arrays.
    """
    if folded.key is None:
        return FoldedValues(folded, bind)
    found = _shared.get(folded.key)
    if found is None:
        found = _shared[folded.key] = FoldedValues(folded, bind)
    return found
