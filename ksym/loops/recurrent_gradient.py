"""The gradients of recurrent layers, on MXNet's fused kernels.

The gradient of a gradient is computed by a loop that equals the layer, so that there are gradients
of every order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ksym.autodiff import gradients
from ksym.graph import Node, Spec, Tensor
from ksym.loops.body import Body
from ksym.loops.cells import CELLS, as_scan
from ksym.loops.recurrent_kernel import (
    NativeLayer,
    check_operands,
    draw_operands,
    lacks_kernel,
    layer_flops,
)
from ksym.loops.view import parted
from ksym.operator.declaration import Operator
from ksym.operator.emitter import Emitter
from ksym.operator.operands import promoted
from ksym.operator.sampling import Draw, Sample
from ksym.ops.leaves import placeholder
from ksym.ops.nn.windows import check_meets


class _RecurrentGradient(Operator):
    """The gradient.  Operands: the gradients of all results of the layer, then its operands."""

    internal = "a part of the gradients of recurrent layers"
    half = False
    repeats = ("simple_rnn", "lstm", "gru")

    def prepare(self, *operands: Any, cell: str) -> tuple[Sequence[Tensor], dict[str, Any]]:
        return promoted(*operands), {"cell": cell}

    def infer(self, *operands: Tensor, cell: str) -> tuple[Spec, ...]:
        gs, given = self._separated(operands, cell)
        (steps, *_), state, *_ = shapes_known = check_operands(CELLS[cell], *given)
        for g, shape in zip(gs, [(steps, *state), *[state] * CELLS[cell].states], strict=True):
            check_meets(g, shape, given[0].dtype)
        return tuple(Spec(shape, given[0].dtype) for shape in shapes_known)

    def flops(self, node: Node) -> float:
        cell = node.attributes["cell"]
        return 2.0 * layer_flops(CELLS[cell], self._separated(node.inputs, cell)[1])

    def _separated(self, operands: Sequence[Any], cell: str) -> tuple[Sequence[Any], Sequence[Any]]:
        gs, given = parted(operands, 1 + CELLS[cell].states)
        return gs, given

    def _as_loop(self, operands: Sequence[Tensor], cell: str) -> list[Tensor]:
        gs, given = self._separated(operands, cell)
        results = as_scan(CELLS[cell], given)
        return gradients(results, given, output_gradients=gs, disconnected="zero")

    def numpy(self, *operands: Any, cell: str) -> Any:
        parameters = [placeholder(a.shape, a.dtype.name) for a in operands]
        return tuple(Body(parameters, self._as_loop(parameters, cell)).numpy(operands))

    def is_composed(self, node: Node) -> bool:
        return lacks_kernel(node)

    def expand(self, node: Node) -> Sequence[Tensor]:
        return self._as_loop(node.inputs, node.attributes["cell"])

    def differentiable_form(self, node: Node) -> Sequence[Tensor]:
        return self._as_loop(node.inputs, node.attributes["cell"])

    def lower(self, emit: Emitter, node: Node, *values: Any) -> Any:
        mode = node.attributes["cell"]
        gs, own = self._separated(values, mode)
        _, given = self._separated(node.inputs, mode)
        # The same calls as in the forward pass, so the emitter returns its existing nodes.
        native = NativeLayer(emit, mode, given, own)
        outputs, *lasts = native.outputs
        operands = [native.x, native.weights, native.states[0], outputs, gs[0]]
        operands += [lasts[0], native.stacked(gs[1])]
        for first, last, g in zip(native.states[1:], lasts[1:], gs[2:], strict=True):
            operands += [first, last, native.stacked(g)]
        dtype = given[0].dtype
        _, initial, _ = parted(given, 1, len(lasts))
        layers = [Spec((1, *t.shape), dtype) for t in initial]
        dx, dweights, *dstates = emit.backward(
            "_backward_RNN",
            *operands,
            of=outputs,
            results=[given[0].spec, Spec((native.size,), dtype), *layers],
            **native.attributes,
        )
        return dx, *map(native.single, dstates), *native.unpacked(dweights)

    def sample(self, draw: Draw) -> Sample:
        mode = draw.choose(sorted(CELLS))
        operands = draw_operands(draw, mode)
        (steps, *_), state = operands[0].shape, operands[1].shape
        gs = [draw.array(s) for s in ((steps, *state), *[state] * CELLS[mode].states)]
        return Sample(*gs, *operands, attributes={"cell": mode})


recurrent_gradient = _RecurrentGradient(
    "recurrent_gradient",
    doc="""The gradients of a `simple_rnn`, `lstm` or `gru` by all of its operands.

    Its own gradient is that of a loop.

    Args:
        operands: The gradients of all results, then the operands of the layer.
        attributes: The ``cell``: ``"rnn_tanh"``, ``"rnn_relu"``, ``"lstm"`` or ``"gru"``.
    """,
)
