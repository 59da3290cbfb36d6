"""Memory and time over many input shapes: do both stay flat, and is a shape that returns cheap?

A case is a model that is trained on batches of a new shape each, or a function.  `lengths` is the
exception: two epochs of an LSTM over 91 lengths, the second of which compiles nothing.

    python benchmarks/shapes.py [--cases lstm mlp] [--count 2000] [--keras tensorflow.keras]

Each case runs in a process of its own.  MiB are those of the process, now and at most so far; s are
of the processor.  With `--keras`, another Keras runs the same models.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("KERAS_BACKEND", "ksym.backend")
rng = np.random.default_rng(0)
Step = Callable[[], object]


def memory() -> tuple[float, float]:
    """Return the memory of this process, now and at most, in MiB."""
    status = Path("/proc/self/status").read_text()
    sizes = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+)", status))
    return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024


def _compiled(keras: Any, layers: list[Any], loss: str) -> Any:
    model = keras.Sequential(layers)
    model.compile("adam", loss)
    return model


def _trained(model: Any, x: np.ndarray, outputs: int = 1) -> Step:
    y = rng.integers(0, 2, (len(x), outputs)).astype("float32")
    return lambda: model.train_on_batch(x, y)


def _reader(keras: Any) -> Any:
    of = keras.layers
    layers = [of.Embedding(5000, 64), of.LSTM(64), of.Dense(1, activation="sigmoid")]
    return _compiled(keras, layers, "binary_crossentropy")


def lengths(keras: Any, count: int) -> Iterator[Step]:
    """Yield steps of an LSTM, two epochs over 91 lengths in a random order."""
    model = _reader(keras)
    for _ in range(2):
        for length in rng.permutation(np.arange(10, 101)):
            yield _trained(model, rng.integers(0, 5000, (32, length)))


def lstm(keras: Any, count: int) -> Iterator[Step]:
    """Yield steps of an LSTM over lengths and batch sizes."""
    model = _reader(keras)
    for k in range(count):
        yield _trained(model, rng.integers(0, 5000, (1 + k // 100, 10 + k % 100)))


def mlp(keras: Any, count: int) -> Iterator[Step]:
    """Yield steps of a perceptron over batch sizes."""
    of = keras.layers
    hidden = of.Dense(128, activation="relu", input_shape=(64,))
    model = _compiled(keras, [hidden, of.Dropout(0.2), of.Dense(10)], "mse")
    for k in range(count):
        yield _trained(model, rng.random((1 + k, 64), "float32"), 10)


def cnn(keras: Any, count: int) -> Iterator[Step]:
    """Yield steps of a convolutional network over sizes of images."""
    of = keras.layers
    layers = [
        of.Conv2D(8, 3, padding="same", activation="relu", input_shape=(None, None, 3)),
        of.BatchNormalization(),
        of.MaxPooling2D(),
        of.Conv2D(16, 3, padding="same", activation="relu"),
        of.GlobalAveragePooling2D(),
        of.Dense(1),
    ]
    model = _compiled(keras, layers, "mse")
    for k in range(count):
        yield _trained(model, rng.random((2, 16 + k % 50, 16 + k // 50, 3), "float32"))


def functions(keras: Any, count: int) -> Iterator[Step]:
    """Yield calls of a function of ksym's own over shapes of matrices, with a loop in it."""
    import ksym

    x = ksym.placeholder((None, None))
    total = ksym.Variable(0.0)
    total_of = ksym.foldl(lambda s, row: s * 0.5 + ksym.sum(row), x, ksym.constant(0.0))
    loss = ksym.mean(ksym.softmax(ksym.dot(x, ksym.transpose(x)), axis=-1)) + total_of
    gradient = ksym.gradients(loss, x)
    f = ksym.function([x], [loss, gradient], updates=[total.assign_add(loss)])
    for k in range(count):
        value = rng.random((1 + k % 50, 1 + k // 50), "float32")
        yield lambda value=value: f(value)


CASES = {each.__name__: each for each in (lengths, lstm, mlp, cnn, functions)}


def measure(case: str, count: int, keras: str) -> None:
    """Run a case in this process, and print eight times what it takes."""
    module = importlib.import_module(keras)
    steps = list(CASES[case](module, count)) if case == "lengths" else CASES[case](module, count)
    total = 182 if case == "lengths" else count
    every = 91 if case == "lengths" else max(1, count // 8)
    start, before = time.process_time(), time.process_time()
    for number, step in enumerate(steps, 1):
        step()
        if number % every == 0 or number == total:
            spent, before = time.process_time() - before, time.process_time()
            now, most = memory()
            print(
                f"{case:10} {number:5} shapes {now:7.0f} MiB, at most {most:7.0f}, {spent:7.2f} s",
                flush=True,
            )
    print(f"{case:10} in all {time.process_time() - start:.2f} s", flush=True)


def main() -> None:
    """Measure each case in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--keras", default="keras", help="the module of another Keras")
    parser.add_argument("--here", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    for case in arguments.cases:
        if arguments.here:
            measure(case, arguments.count, arguments.keras)
            continue
        given = ["--here", "--cases", case, "--count", str(arguments.count)]
        subprocess.run([sys.executable, __file__, *given, "--keras", arguments.keras], check=True)


if __name__ == "__main__":
    main()
