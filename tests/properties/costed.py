"""Functions that are compiled for other costs than those of the machine."""

from ksym.function import SPECIALIZATIONS, Function


def function(costs, inputs, outputs, updates=None, mode="native"):
    """Return a function as `ksym.function` does, compiled for costs."""
    return Function(inputs, outputs, updates, None, None, mode, SPECIALIZATIONS, None, costs)
