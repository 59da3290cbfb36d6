"""Train a recurrent cell of one's own by hand: a loop, its gradient, and an update rule.

The cell is a minimal gated unit: one gate decides how much of the state is replaced.  It learns to
remember the first number of a sequence while it reads eleven others, which are noise.  No step
function, gradient or optimizer comes from a library of layers.
"""

from __future__ import annotations

import numpy as np

import ksym

STEPS, BATCH, UNITS = 12, 32, 16
rng = np.random.default_rng(1)


def weights(*shape: int) -> ksym.Variable:
    """Return a variable with small random numbers."""
    return ksym.Variable((rng.standard_normal(shape) / np.sqrt(shape[0])).astype("float32"))


parameters = {
    "gate": weights(2 + UNITS, UNITS),
    "candidate": weights(2 + UNITS, UNITS),
    "readout": weights(UNITS, 1),
}


def cell(x: ksym.Tensor, state: ksym.Tensor) -> tuple[ksym.Tensor, ksym.Tensor]:
    """Return the new state, as the output of this step and for the next step."""
    gate = ksym.sigmoid(ksym.concatenate([x, state], axis=1) @ parameters["gate"])
    reset = ksym.concatenate([x, gate * state], axis=1)
    candidate = ksym.tanh(reset @ parameters["candidate"])
    state = (1.0 - gate) * state + gate * candidate
    return state, state


sequences = ksym.placeholder((STEPS, BATCH, 2), name="sequences")  # a number, and whether it counts
targets = ksym.placeholder((BATCH, 1), name="targets")
final = ksym.scan(cell, sequences, ksym.zeros((BATCH, UNITS))).states
loss = ksym.mean(ksym.square(final @ parameters["readout"] - targets))

updates = []  # gradient descent with momentum
for parameter in parameters.values():
    velocity = ksym.Variable(np.zeros(parameter.shape, "float32"))
    moved = 0.9 * velocity - 0.05 * ksym.gradients(loss, parameter)
    updates += [velocity.assign(moved), parameter.assign_add(moved)]
train = ksym.function([sequences, targets], loss, updates=updates)


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Return random sequences, and the first number of each."""
    x = np.zeros((STEPS, BATCH, 2), "float32")
    x[..., 0] = rng.uniform(-1.0, 1.0, (STEPS, BATCH))
    x[0, :, 1] = 1.0
    return x, x[0, :, :1]


losses = [float(train(*batch())) for _ in range(2000)]
for first in range(0, len(losses), 400):
    print(f"steps {first:4d} to {first + 399:4d}: mean loss {np.mean(losses[first:][:400]):.4f}")
print("it remembers:", np.mean(losses[-100:]) < 0.1 * np.mean(losses[:100]))
# -> it remembers: True
