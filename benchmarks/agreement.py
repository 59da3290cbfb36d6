"""The losses of a Keras CNN on ksym and of the same network in hybridized Gluon, step by step.

Both start from the same weights and see the same batches; there is no dropout.

    python benchmarks/agreement.py
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np

from ksym.runtime.interop import package

STEPS = 10
RATE = 0.05


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return batches of images (16, 12, 12, 3) and labels."""
    rng = np.random.default_rng(1)
    return [
        (rng.random((16, 12, 12, 3), dtype="float32"), rng.integers(0, 10, 16).astype("float32"))
        for _ in range(STEPS)
    ]


def weights() -> list[np.ndarray]:
    """Return kernels and biases, in Keras's layout."""
    rng = np.random.default_rng(2)
    shapes = [(3, 3, 3, 8), (8,), (3, 3, 8, 16), (16,), (144, 32), (32,), (32, 10), (10,)]
    return [rng.normal(0, 0.1, shape).astype("float32") for shape in shapes]


def ksym_losses() -> list[float]:
    """Train in Keras."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=(12, 12, 3)),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(3),
            layers.Flatten(),
            layers.Dense(32, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy")
    model.set_weights(weights())
    return [float(model.train_on_batch(x, y)) for x, y in batches()]


def gluon_losses() -> list[float]:
    """Train in Gluon, which has channels first and dense weights transposed."""
    mx = package()
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(8, 3, activation="relu", in_channels=3),
        nn.Conv2D(16, 3, padding=1, activation="relu", in_channels=8),
        nn.MaxPool2D(3),
        # Keras flattens with channels last.
        nn.HybridLambda(lambda native, x: native.transpose(x, (0, 2, 3, 1))),
        nn.Flatten(),
        nn.Dense(32, activation="tanh", in_units=144),
        nn.Dense(10, in_units=32),
    )
    net.initialize()
    for parameter, value in zip(net.collect_params().values(), weights(), strict=True):
        order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[value.ndim]
        parameter.set_data(mx.nd.from_numpy(np.ascontiguousarray(value.transpose(order))))
    net.hybridize(static_alloc=True, static_shape=True)
    loss_function = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": RATE})
    losses = []
    for x, y in batches():
        data = mx.nd.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        with mx.autograd.record():
            loss = loss_function(net(data), mx.nd.from_numpy(y))
        loss.backward()
        trainer.step(len(x))
        losses.append(float(loss.mean().asscalar()))
    return losses


def main() -> None:
    """Print both sequences and how far they are apart."""
    ours, theirs = ksym_losses(), gluon_losses()
    print("step    keras on ksym    gluon           relative difference")
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        print(f"{step:4d}    {a:.8f}       {b:.8f}      {abs(a - b) / b:.1e}")
    worst = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    print(f"largest relative difference {worst:.1e}")


if __name__ == "__main__":
    main()
