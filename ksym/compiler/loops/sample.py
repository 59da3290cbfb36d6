"""The sample graph of the passes over loops: a recurrent cell and its gradient."""

from __future__ import annotations

from ksym import ops
from ksym.autodiff import gradients
from ksym.graph import Tensor
from ksym.loops.api import scan
from ksym.loops.recognition import kept_as_loops
from ksym.ops.leaves import placeholder


def recurrence() -> list[Tensor]:
    """Return the last state of a cell over five steps, and its gradients by both weights."""
    x, h, w, u = map(placeholder, ((5, 2, 3), (2, 4), (3, 4), (4, 4)))

    def step(element: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        new = ops.tanh(element @ w + state @ u)
        return ops.exp(new), new

    with kept_as_loops():
        state = scan(step, x, h).states
        return [state, *gradients(ops.sum_(ops.square(state)), [w, u])]
