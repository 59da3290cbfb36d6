"""Operators on the operands that `tools/reference.py` draws of their declarations."""

import reference

import ksym
from ksym.graph import OPERATORS


def applied(name):
    """Return placeholders, their arrays, and the outputs of an operator on its example."""
    operator = OPERATORS[name]
    sample = operator.sample(reference._Example())
    static = operator.static_operands
    operands = [
        ksym.constant(a) if i in static else ksym.placeholder(a.shape, a.dtype.name)
        for i, a in enumerate(sample.operands)
    ]
    fed = [(t, a) for t, a in zip(operands, sample.operands, strict=True) if t.value is None]
    made = operator.apply(*operands, **sample.attributes)
    outputs = [made] if isinstance(made, ksym.Tensor) else list(made)
    return [t for t, _ in fed], [a for _, a in fed], outputs


def example(name):
    """Return a function of an operator on its example, and the arguments."""
    inputs, arguments, outputs = applied(name)
    return ksym.function(inputs, outputs, on_unused_input="ignore"), arguments
