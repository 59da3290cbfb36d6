"""The ways to compute a graph, and a value with its gradient in one of them."""

import numpy as np

import ksym

MODES = {"compiled": {}, "native": {"flags": "fuse_loops=0"}, "interpreted": {"mode": "interpret"}}


def value_and_gradient(build, x, dtype, options):
    x = np.asarray(x, dtype)
    operand = ksym.placeholder(x.shape, dtype)
    y = build(operand)
    return ksym.function([operand], [y, ksym.gradients(ksym.sum(y), operand)], **options)(x)
