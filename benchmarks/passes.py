"""What each pass of the compiler saves: the time of a training step with it turned off.

For each workload a Keras model is compiled once with all passes, and once without each of them;
rounds are interleaved.  A ratio above 1 is what the pass saves; one of 1.00 or a bit less is noise,
or a pass that this workload has no use for.

    python benchmarks/passes.py [--rounds 30] [--only mlp] [--off merge]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np

from ksym.compiler import flags
from ksym.runtime import compiled, loading

loading.load()  # it settles the threads, which are printed
layers = keras.layers
Step = Callable[[], object]


def _trained(model: keras.Model, optimizer: str, loss: str, shape: tuple, classes: int) -> Step:
    """Return a function that trains one batch, after the first one."""
    rng = np.random.default_rng(0)
    x = rng.random(shape, dtype="float32")
    y = rng.integers(0, classes, shape[0]) if classes else rng.random((shape[0], 1))
    model.compile(optimizer, loss)
    model.train_on_batch(x, y)
    return lambda: model.train_on_batch(x, y)


def tiny() -> Step:
    """MLP 64-32-10, batch 32, Adam."""
    model = keras.Sequential(
        [
            layers.Dense(32, activation="relu", input_shape=(64,)),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, "adam", "sparse_categorical_crossentropy", (32, 64), 10)


def mlp() -> Step:
    """MLP 784-512-512-10 with dropout, batch 128, RMSprop."""
    model = keras.Sequential(
        [
            layers.Dense(512, activation="relu", input_shape=(784,)),
            layers.Dropout(0.2),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, "rmsprop", "sparse_categorical_crossentropy", (128, 784), 10)


def cnn() -> Step:
    """Convolutions, batch normalisation and pooling, channels last, batch 32, Adam."""
    model = keras.Sequential(
        [
            layers.Conv2D(32, 3, activation="relu", input_shape=(16, 16, 3)),
            layers.BatchNormalization(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return _trained(model, "adam", "sparse_categorical_crossentropy", (32, 16, 16, 3), 10)


def lstm() -> Step:
    """LSTM(128) over 20 steps, batch 32, RMSprop."""
    model = keras.Sequential([layers.LSTM(128, input_shape=(20, 32)), layers.Dense(1)])
    return _trained(model, "rmsprop", "mse", (32, 20, 32), 0)


WORKLOADS = (tiny, mlp, cnn, lstm)


def variants(make: Callable[[], Step], off: str) -> dict[str, Step]:
    """Return the step with all passes (by the name ""), and without each one."""
    found = {}
    for name in ("", *flags.names()):
        if off in name or not name:
            os.environ[flags.ENVIRONMENT] = f"{name}=0" if name else ""
            keras.backend.clear_session()
            found[name] = make()
    return found


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Return the times of each step in interleaved rounds, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    order = list(steps.items())
    shuffle = np.random.default_rng(0).shuffle
    for _ in range(rounds):
        shuffle(order)  # none is always the first, or always behind the same one
        for name, step in order:
            start = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="a part of a workload's name")
    parser.add_argument("--off", default="", help="a part of the names of passes to measure")
    options = parser.parse_args()
    print(
        f"threads {os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}, "
        f"{options.rounds} interleaved rounds, "
        f"loops {'compiled' if compiled.is_available() else 'on NumPy: llvmlite is missing'}"
    )
    for make in WORKLOADS:
        if options.only not in make.__name__:
            continue
        times = measure(variants(make, options.off), options.rounds)
        every = times.pop("")
        print(f"{make.__name__}: {make.__doc__}  {statistics.median(every):.3f} ms")
        for name, without in times.items():
            # Neighbours in time are compared, so that what else the machine does hits both.
            ratio = statistics.median(a / b for a, b in zip(without, every, strict=True))
            print(f"  without {name:20s} {statistics.median(without):8.3f} ms   {ratio:.2f}")


if __name__ == "__main__":
    main()
