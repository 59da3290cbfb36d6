"""Write a loop as a function of one step, and differentiate through it.

The loop is an exponential moving average of a series.  Its gradient by the decay says how the last
average changes if the decay does; a difference quotient confirms it.
"""

from __future__ import annotations

import numpy as np

import ksym

series = ksym.placeholder((None,), "float64", name="series")
decay = ksym.Variable(np.float64(0.5), name="decay")


def step(element: ksym.Tensor, average: ksym.Tensor) -> tuple[ksym.Tensor, ksym.Tensor]:
    """Return the output of one step, and the state for the next one."""
    average = decay * average + (1.0 - decay) * element
    return average, average


averages = ksym.scan(step, series, ksym.zeros((), "float64")).outputs
last = averages[-1]
smooth = ksym.function([series], [averages, ksym.gradients(last, decay)])

values = [4.0, 2.0, 6.0, 1.0, 3.0]
found, slope = smooth(values)
print("averages:", found.tolist())
# -> averages: [2.0, 2.0, 4.0, 2.5, 2.75]
print("derivative of the last one by the decay:", float(slope))
# -> derivative of the last one by the decay: -0.25

around = []
for moved in np.array([0.5 + 1e-6, 0.5 - 1e-6]):
    decay.set_value(moved)
    around.append(float(smooth(values)[0][-1]))
quotient = (around[0] - around[1]) / 2e-6
print(f"difference quotient: {quotient:.4f}")
# -> difference quotient: -0.2500
