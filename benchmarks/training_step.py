"""Time per training step: Keras on ksym against hybridized Gluon, on the same machine and data.

Both train the same layers with the same optimizer on the same batches, in one process with the
same engine and threads.  Rounds are interleaved; medians and their ratio are printed.

    python benchmarks/training_step.py [--rounds 200] [--only mlp]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np

from ksym.runtime.interop import package

mx = package()
Step = Callable[[], float]
DIGITS = (32, 8, 8, 1)


def _batches(shape: tuple[int, ...], classes: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        (rng.random(shape, dtype="float32"), rng.integers(0, classes, shape[0]).astype("float32"))
        for _ in range(8)
    ]


def _cycle(batches: list[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        yield from batches


def keras_mlp() -> keras.Model:
    """An MLP of two hidden layers, in Keras."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(512, activation="relu", input_shape=(784,)),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def gluon_mlp() -> mx.gluon.HybridBlock:
    """The same in Gluon."""
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    net.add(nn.Dense(512, activation="relu"), nn.Dense(512, activation="relu"), nn.Dense(10))
    return net


def keras_digits(first: bool = False) -> keras.Model:
    """The classifier of examples/digits.py, in Keras."""
    layers = keras.layers
    options = {"data_format": "channels_first"} if first else {}
    shape = (1, 8, 8) if first else (8, 8, 1)
    conv = {"padding": "same", "activation": "relu", **options}
    return keras.Sequential(
        [
            layers.Conv2D(32, 3, input_shape=shape, **conv),
            layers.BatchNormalization(axis=1 if first else -1),
            layers.Conv2D(64, 3, **conv),
            layers.MaxPooling2D(**options),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


def gluon_digits() -> mx.gluon.HybridBlock:
    """The same in Gluon, which has channels first only."""
    nn = mx.gluon.nn
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(32, 3, padding=1, activation="relu"),
        nn.BatchNorm(momentum=0.99, epsilon=1e-3),
        nn.Conv2D(64, 3, padding=1, activation="relu"),
        nn.MaxPool2D(),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Dense(128, activation="relu"),
        nn.Dropout(0.5),
        nn.Dense(10),
    )
    return net


def keras_step(model: keras.Model, optimizer: str, batches: list, first: bool = False) -> Step:
    """Return a function that trains one batch and returns the loss."""
    chosen = {"sgd": keras.optimizers.SGD(0.01), "adam": keras.optimizers.Adam(0.001)}[optimizer]
    model.compile(chosen, "sparse_categorical_crossentropy")
    if first:
        batches = [(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y) for x, y in batches]
    source = _cycle(batches)
    return lambda: float(model.train_on_batch(*next(source)))


def gluon_step(net: mx.gluon.HybridBlock, optimizer: str, batches: list) -> Step:
    """Return a function that trains one batch and returns the loss."""
    context = mx.cpu()
    net.initialize(mx.init.Xavier(), ctx=context)
    net.hybridize(static_alloc=True, static_shape=True)
    loss_function = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    loss_function.hybridize(static_alloc=True, static_shape=True)
    rate = {"sgd": 0.01, "adam": 0.001}[optimizer]
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": rate})
    if batches[0][0].ndim == 4:
        batches = [(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y) for x, y in batches]
    source = _cycle(batches)

    def step() -> float:
        x, y = next(source)
        data, label = mx.nd.array(x, ctx=context), mx.nd.array(y, ctx=context)
        with mx.autograd.record():
            loss = loss_function(net(data), label)
        loss.backward()
        trainer.step(len(x))
        return float(loss.mean().asscalar())

    return step


def workloads() -> dict[str, dict[str, Callable[[], Step]]]:
    """For each workload the contestants."""
    mlp, digits = _batches((128, 784), 10), _batches(DIGITS, 10)
    table: dict[str, dict[str, Callable[[], Step]]] = {}
    for optimizer in ("sgd", "adam"):
        table[f"mlp 784-512-512-10, batch 128, {optimizer}"] = {
            "gluon": lambda o=optimizer: gluon_step(gluon_mlp(), o, mlp),
            "ksym": lambda o=optimizer: keras_step(keras_mlp(), o, mlp),
        }
        table[f"digits cnn, batch 32, {optimizer}"] = {
            "gluon": lambda o=optimizer: gluon_step(gluon_digits(), o, digits),
            "ksym": lambda o=optimizer: keras_step(keras_digits(), o, digits),
            "ksym, channels first": lambda o=optimizer: keras_step(
                keras_digits(True), o, digits, first=True
            ),
        }
    return table


def measure(contestants: dict[str, Step], rounds: int) -> dict[str, float]:
    """Return the median time of a step of each, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for step in contestants.values():
        for _ in range(10):
            step()
    for _ in range(rounds):
        for name, step in contestants.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) * 1e3 for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    print(
        f"threads {os.environ.get('OMP_NUM_THREADS')}, "
        f"engine {os.environ.get('MXNET_ENGINE_TYPE')}, "
        f"load {os.getloadavg()[0]:.1f}, {options.rounds} interleaved rounds"
    )
    for name, makers in workloads().items():
        if options.only not in name:
            continue
        medians = measure({who: make() for who, make in makers.items()}, options.rounds)
        print(name)
        for who, median in medians.items():
            print(f"  {who:22s} {median:8.3f} ms   {median / medians['gluon']:.2f} of gluon")


if __name__ == "__main__":
    main()
