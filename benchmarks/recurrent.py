"""Time per training step of recurrent layers, by sequence length: is it linear, and how soon is it?

A Keras layer on 32 samples of 32 features, RMSprop, a loss on the last output.  Rounds of all
lengths are interleaved; medians are printed, and the time from building the model to the end of its
first step.

    python benchmarks/recurrent.py [--lengths 20 80 400] [--rounds 10]
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

from ksym.runtime import loading

loading.load()  # it settles the threads, which are printed
Step = Callable[[], float]
UNITS, FEATURES, SAMPLES = 128, 32, 32


def contestant(layer: type, length: int) -> tuple[Step, float]:
    """Return a function that trains one batch, and how long the first one took from scratch."""
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, length, FEATURES), dtype="float32")
    y = rng.random((SAMPLES, 1), dtype="float32")
    start = time.perf_counter()
    model = keras.Sequential([layer(UNITS, input_shape=(length, FEATURES)), keras.layers.Dense(1)])
    model.compile("rmsprop", "mse")
    model.train_on_batch(x, y)
    return lambda: float(model.train_on_batch(x, y)), time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 80, 400])
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print(f"threads {os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}")
    for layer in (keras.layers.SimpleRNN, keras.layers.GRU, keras.layers.LSTM):
        steps = {length: contestant(layer, length) for length in options.lengths}
        times: dict[int, list[float]] = {length: [] for length in options.lengths}
        for _ in range(options.rounds):
            for length, (step, _) in steps.items():
                start = time.perf_counter()
                step()
                times[length].append(time.perf_counter() - start)
        for length, (_, first) in steps.items():
            median = statistics.median(times[length]) * 1e3
            print(
                f"{layer.__name__:10s} {length:5d} steps: {median:8.2f} ms, "
                f"{median / length * 1e3:6.1f} us a time step, first step after {first:.2f} s"
            )


if __name__ == "__main__":
    main()
