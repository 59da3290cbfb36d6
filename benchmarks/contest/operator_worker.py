"""One peer in a process of its own, which takes the times of operators as it is told over a pipe.

What is timed is the sum of an operator's result times fixed numbers, and, as *gradient*, that with
the sum of squares of its gradients by all inputs and weights: so each element is computed, and
only a number comes back.  Inputs are arrays of NumPy.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from contest.cases import CASES, Case, Shape
from contest.worker import obey

Step = Callable[..., Any]
LAST, FIRST = "channels_last", "channels_first"


def _turned(shape: Shape) -> Shape:
    """Return the shape of an image with its channels first."""
    return (shape[0], shape[-1], *shape[1:-1])


class Keras:
    """A model of one operator, and the functions that are timed."""

    module = "keras"

    def __init__(self, case: Case, size: int, layout: str) -> None:
        self.keras = importlib.import_module(self.module)
        rng = np.random.default_rng(0)
        shapes = [_turned(s) if layout == FIRST else s for s in case.sizes[size]]
        self.arrays = [
            rng.integers(0, case.integers, shape).astype("int32")
            if case.integers
            else rng.standard_normal(shape, dtype="float32")
            for shape in shapes
        ]
        self.keras.backend.set_image_data_format(layout)
        dtype = "int32" if case.integers else "float32"
        inputs = [self.keras.layers.Input(batch_shape=shape, dtype=dtype) for shape in shapes]
        result = case.build(self.keras, inputs)
        self.inputs, self.result = inputs, result
        self.model = self.keras.models.Model(inputs, result)
        self.differentiable = not case.integers
        self.factors = rng.standard_normal(
            tuple(int(side) for side in result.shape), dtype="float32"
        )
        self.prepare()

    def prepare(self) -> None:
        """Make the two functions."""
        raise NotImplementedError

    def forward(self) -> Any:
        """Compute the result."""
        raise NotImplementedError

    def gradient(self) -> Any:
        """Compute the gradients too."""
        raise NotImplementedError


class Ksym(Keras):
    """Keras 2.3.1 on ksym."""

    def prepare(self) -> None:
        backend = self.keras.backend
        total = backend.sum(self.result * backend.variable(self.factors))
        by = [*(self.inputs if self.differentiable else []), *self.model.trainable_weights]
        squares = [backend.sum(backend.square(backend.gradients(total, [x])[0])) for x in by]
        phase = [backend.learning_phase()]
        forward = backend.function([*self.inputs, *phase], [total])
        gradient = backend.function([*self.inputs, *phase], [total, *squares])
        self.forward = lambda: forward([*self.arrays, 0])
        self.gradient = lambda: gradient([*self.arrays, 1])


class TensorFlow(Keras):
    """tf.keras, compiled as a function."""

    module = "tensorflow.keras"

    def prepare(self) -> None:
        tf = importlib.import_module("tensorflow")
        factors, model = tf.constant(self.factors), self.model

        def total(given: Sequence[Any], training: bool) -> Any:
            return tf.reduce_sum(model(given, training=training) * factors)

        @tf.function
        def forward(*given: Any) -> Any:
            return total(list(given), False)

        @tf.function
        def gradient(*given: Any) -> Any:
            with tf.GradientTape() as tape:
                if self.differentiable:
                    tape.watch(given)
                value = total(list(given), True)
            by = [*(given if self.differentiable else ()), *model.trainable_weights]
            return value, [self._square(tf, g) for g in tape.gradient(value, by)]

        self.forward = lambda: forward(*self.arrays).numpy()
        self.gradient = lambda: [each.numpy() for each in gradient(*self.arrays)[1]]

    @staticmethod
    def _square(tf: Any, g: Any) -> Any:
        """Return the sum of squares of a gradient, of its rows if it is sparse."""
        return tf.reduce_sum(tf.square(tf.convert_to_tensor(g)))


class JAX(Keras):
    """Keras 3 on JAX."""

    def prepare(self) -> None:
        jax = importlib.import_module("jax")
        jnp, model = jax.numpy, self.model
        factors = jnp.asarray(self.factors)
        rest = [v.value for v in model.non_trainable_variables]
        weights = [v.value for v in model.trainable_variables]

        def total(weights: Any, given: Any, training: bool) -> Any:
            return jnp.sum(
                model.stateless_call(weights, rest, given, training=training)[0] * factors
            )

        def both(weights: Any, given: Any) -> Any:
            by = (0, 1) if self.differentiable else 0
            value, found = jax.value_and_grad(total, by)(weights, given, True)
            return value, [jnp.sum(jnp.square(g)) for g in jax.tree_util.tree_leaves(found)]

        forward, gradient = jax.jit(lambda w, x: total(w, x, False)), jax.jit(both)
        self.forward = lambda: float(forward(weights, list(self.arrays)))
        self.gradient = lambda: jax.block_until_ready(gradient(weights, list(self.arrays)))


class Torch(Keras):
    """Keras 3 on torch."""

    def prepare(self) -> None:
        torch = importlib.import_module("torch")
        factors, model = torch.from_numpy(self.factors), self.model
        weights = [v.value for v in model.trainable_variables]

        def forward() -> Any:
            with torch.no_grad():
                given = [torch.from_numpy(array) for array in self.arrays]
                return float((model(given, training=False) * factors).sum())

        def gradient() -> Any:
            given = [torch.from_numpy(array) for array in self.arrays]
            by = [*(x.requires_grad_() for x in given if self.differentiable), *weights]
            value = (model(given, training=True) * factors).sum()
            found = torch.autograd.grad(value, by)
            return [float(value), *(float((g * g).sum()) for g in found)]

        self.forward, self.gradient = forward, gradient


DRIVERS: dict[str, type[Keras]] = {
    "ksym": Ksym,
    "tensorflow": TensorFlow,
    "jax": JAX,
    "torch": Torch,
}


class Worker:
    """Does the commands, one method each; what a method returns is the reply."""

    def __init__(self, driver: str) -> None:
        self._kind = DRIVERS[driver]

    def build(self, case: str, size: int, layout: str) -> dict[str, Any]:
        """Make an operator, and compute it and its gradients once."""
        self._case = self._kind(CASES[case], size, layout)
        value = self._case.forward()
        self._case.gradient()
        return {"value": float(np.asarray(value).reshape(-1)[0])}

    def time(self, what: str, seconds: float) -> dict[str, float]:
        """Return the milliseconds of a call, of all processors together."""
        step = getattr(self._case, what)
        step()
        start, work, count = time.perf_counter(), time.process_time(), 0
        while count == 0 or time.perf_counter() - start < seconds:
            step()
            count += 1
        return {"ms": (time.process_time() - work) / count * 1e3}


if __name__ == "__main__":
    obey(lambda: Worker(sys.argv[1]))
