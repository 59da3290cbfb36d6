"""Computing tensors by one compiled loop, whatever it costs."""

from __future__ import annotations

import numpy as np

from ksym.compiler.costs import DEFAULT
from ksym.compiler.fusion.kernel import describe
from ksym.graph import topological_order
from ksym.runtime import calls
from ksym.runtime.arrays import DeviceArray
from ksym.runtime.subnormal import FlushedSubnormals


def run(outputs, values, costs=DEFAULT):
    """Compute outputs, all of one shape, by one loop."""
    nodes = {node for node in topological_order(outputs) if node.inputs}
    arrays = {tensor: DeviceArray.of(value) for tensor, value in values.items()}
    arrays.update((tensor, DeviceArray.empty(tensor.spec)) for tensor in outputs)
    calls.Tape(calls.kernel_calls(describe(nodes, outputs), arrays, costs)).run()
    return [arrays[tensor].read() for tensor in outputs]


def flushed(x):
    """The numbers as loops see them: with zeros for subnormal ones."""
    with FlushedSubnormals():
        return x * np.ones((), x.dtype) if x.dtype.kind == "f" else x
