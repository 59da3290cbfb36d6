"""Time per training step of recurrent layers, by sequence length: is it linear, and how soon is it?

A Keras layer on 32 samples of 32 features, RMSprop, a loss on the last output; on MXNet's recurrent
kernel and as a loop.  Rounds of all lengths are interleaved; medians are printed, and the time from
building the model to the end of its first step.

    python benchmarks/recurrent.py [--lengths 20 80 400] [--rounds 10] [--layers LSTM GRU SimpleRNN]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np

from ksym.loops.recognition import kept_as_loops
from ksym.runtime import loading

loading.library()  # it settles the threads, which are printed
Step = Callable[[], float]
UNITS, FEATURES, SAMPLES = 128, 32, 32


LAYERS = {
    "SimpleRNN": keras.layers.SimpleRNN,
    # The kind whose reset gate acts after the product; the other one has no kernel.
    "GRU": functools.partial(keras.layers.GRU, reset_after=True),
    "LSTM": keras.layers.LSTM,
}
WAYS = {"kernel": contextlib.nullcontext, "loop": kept_as_loops}


def contestant(name: str, way: str, length: int) -> tuple[Step, float]:
    """Return a function that trains one batch, and how long the first one took from scratch."""
    rng = np.random.default_rng(0)
    x = rng.random((SAMPLES, length, FEATURES), dtype="float32")
    y = rng.random((SAMPLES, 1), dtype="float32")
    start = time.perf_counter()
    with WAYS[way]():
        layer = LAYERS[name](UNITS, input_shape=(length, FEATURES))
        model = keras.Sequential([layer, keras.layers.Dense(1)])
        model.compile("rmsprop", "mse")
    model.train_on_batch(x, y)
    return lambda: float(model.train_on_batch(x, y)), time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 80, 400])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    print(f"threads {os.environ.get('OMP_NUM_THREADS')}, load {os.getloadavg()[0]:.1f}")
    for name in options.layers:
        cases = [(way, length) for length in options.lengths for way in options.ways]
        steps = {case: contestant(name, *case) for case in cases}
        times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
        for _ in range(options.rounds):
            for case, (step, _) in steps.items():
                start = time.perf_counter()
                step()
                times[case].append(time.perf_counter() - start)
        for (way, length), (_, first) in steps.items():
            median = statistics.median(times[way, length]) * 1e3
            print(
                f"{name:10s} {way:6s} {length:5d} steps: {median:8.2f} ms, "
                f"{median / length * 1e3:6.1f} us a time step, first step after {first:.2f} s"
            )


if __name__ == "__main__":
    main()
