"""The declaration of a pass: a function over a whole graph, with a sample on which it fires."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, ParamSpec, TypeVar

from ksym.compiler.costs import DEFAULT, Costs
from ksym.compiler.specialize import specialize
from ksym.graph import Tensor, same

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Sample = Callable[[], Sequence[Tensor]]
Stage = Literal["graph", "plan"]


class DeclaredPass(Generic[Arguments, Result]):
    """A pass of the compiler; `graph_pass` and `planning_pass` declare one.

    Args:
        function: The pass itself.  Its name is that of the pass and of its flag.
        sample: Returns outputs of a graph that the pass changes: on which it *fires*.
        stage: ``"graph"`` for a function from outputs to outputs (and `costs`, if it has this
            parameter), which `optimize` runs; ``"plan"`` for one with other arguments, which
            `compile_graph` calls.
        fires: Returns whether the pass changes a graph.
        rounding: The reason why results may differ in their last places; empty if they are equal
            bit for bit.
        optional: Whether graphs can be computed without the pass, so that it has a flag.
    """

    def __init__(
        self,
        function: Callable[Arguments, Result],
        sample: Sample,
        stage: Stage,
        fires: Callable[[Sequence[Tensor]], bool],
        rounding: str,
        optional: bool,
    ):
        functools.update_wrapper(self, function)
        self.name = function.__name__
        self.stage = stage
        self.fires = fires
        self.rounding = rounding
        self.optional = optional
        self._function = function
        self._asks_costs = "costs" in inspect.signature(function).parameters
        self._sample = sample

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Run the pass."""
        return self._function(*args, **kwargs)

    def over_graph(self, outputs: Sequence[Tensor], costs: Costs) -> Any:
        """Run a pass of the stage ``"graph"``, with costs if it has this parameter."""
        function: Callable[..., Any] = self._function
        return function(outputs, costs=costs) if self._asks_costs else function(outputs)

    def __repr__(self) -> str:
        return f"<pass {self.name}>"

    def sample(self) -> list[Tensor]:
        """Return outputs of a graph of known shapes on which the pass fires."""
        return specialize(self._sample(), {})


Pass = DeclaredPass[..., Any]
"""A pass of any arguments, which depend on its stage."""


def graph_pass(
    *, sample: Sample, rounding: str = ""
) -> Callable[[Callable[Arguments, list[Tensor]]], DeclaredPass[Arguments, list[Tensor]]]:
    """Declare a function from outputs to outputs as a pass.

    A pass that decides by costs has a second parameter, `costs`, with the default
    `ksym.compiler.costs.DEFAULT`.

    Args:
        sample: Returns outputs of a graph that the pass changes, once it is specialised.
        rounding: The reason why results may differ in their last places, if they may.

    >>> from ksym.ops import placeholder
    >>> @graph_pass(sample=lambda: [placeholder((3,))])
    ... def leave(outputs):
    ...     "Return outputs as they are."
    ...     return list(outputs)
    >>> leave.name, leave.fires(leave.sample())
    ('leave', False)
    """

    def declare(
        function: Callable[Arguments, list[Tensor]],
    ) -> DeclaredPass[Arguments, list[Tensor]]:
        def changes(outputs: Sequence[Tensor]) -> bool:
            return not same(made.over_graph(outputs, DEFAULT), outputs)

        made = DeclaredPass(function, sample, "graph", changes, rounding, optional=True)
        return made

    return declare


def planning_pass(
    *,
    sample: Sample,
    fires: Callable[[Sequence[Tensor]], bool],
    rounding: str = "",
    optional: bool = True,
) -> Callable[[Callable[Arguments, Result]], DeclaredPass[Arguments, Result]]:
    """Declare a function that `compile_graph` calls as a pass.

    Args:
        sample: Returns outputs of a graph on which the pass fires.  If the graph has variables, the
            outputs are their new values.
        fires: Returns whether the pass does something on a graph.
        rounding: The reason why results may differ in their last places, if they may.
        optional: Whether graphs can be computed without the pass.
    """

    def declare(function: Callable[Arguments, Result]) -> DeclaredPass[Arguments, Result]:
        return DeclaredPass(function, sample, "plan", fires, rounding, optional)

    return declare
