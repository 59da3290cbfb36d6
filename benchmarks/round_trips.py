"""Calls of MXNet and bytes between host and device in a warm step of training.

    python benchmarks/round_trips.py [MODEL ...]

It runs on whatever device ksym uses, and without a GPU in its emulation: MXNet's engine is
asynchronous, and the host leaves arrays to it.  Counted are the calls of MXNet's C library in one
call of `train_on_batch`, as they are made from Python.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

os.environ["KERAS_BACKEND"] = "ksym.backend"
os.environ.setdefault("MXNET_ENGINE_TYPE", "ThreadedEnginePerDevice")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import numpy as np
from keras import layers as kl

from ksym.runtime import loading

SIZES = {"MXNDArraySyncCopyFromCPU": "written", "MXNDArraySyncCopyToCPU": "read"}
KINDS = {
    "MXExecutorForward": "graphs",
    "MXNDArraySyncCopyFromCPU": "writes",
    "MXNDArraySyncCopyToCPU": "reads",
    "MXNDArrayWaitToRead": "waits",
    "MXNDArrayWaitAll": "waits",
    "MXImperativeInvokeEx": "operators",
}
COLUMNS = ("graphs", "writes", "reads", "waits", "operators", "other")


def _classes(count: int) -> np.ndarray:
    return np.eye(count, dtype="float32")[np.random.randint(count, size=128)]


def mlp(rate: float = 0.0) -> Any:
    """Return a perceptron, and a batch."""
    inner = [kl.Dropout(rate)] if rate else []
    layers = [kl.Dense(512, activation="relu", input_shape=(784,)), *inner]
    layers += [kl.Dense(512, activation="relu"), *inner[:0], *([kl.Dropout(rate)] if rate else [])]
    return [*layers, kl.Dense(10, activation="softmax")], np.random.rand(128, 784), _classes(10)


def cnn() -> Any:
    """Return a convolutional network, and a batch."""
    layers = [
        kl.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)),
        kl.BatchNormalization(),
        kl.Conv2D(64, 3, activation="relu"),
        kl.MaxPooling2D(),
        kl.Dropout(0.25),
        kl.Flatten(),
        kl.Dense(128, activation="relu"),
        kl.Dropout(0.5),
        kl.Dense(10, activation="softmax"),
    ]
    return layers, np.random.rand(128, 28, 28, 1), _classes(10)


def recurrent(layer: Any, masked: bool = False) -> Any:
    """Return a recurrent network over 40 steps, and a batch."""
    mask = [kl.Masking(input_shape=(40, 16))] if masked else [kl.InputLayer((40, 16))]
    layers = [*mask, layer, kl.Dense(4, activation="softmax")]
    return layers, np.random.rand(32, 40, 16), _classes(4)[:32]


MODELS: dict[str, Callable[[], Any]] = {
    "mlp": mlp,
    "mlp-dropout": lambda: mlp(0.5),
    "cnn": cnn,
    "lstm": lambda: recurrent(kl.LSTM(64, recurrent_activation="sigmoid")),
    "lstm-hard": lambda: recurrent(kl.LSTM(64, recurrent_activation="hard_sigmoid")),
    "lstm-dropout": lambda: recurrent(kl.LSTM(64, recurrent_dropout=0.2)),
    "lstm-masked": lambda: recurrent(kl.LSTM(64, recurrent_activation="sigmoid"), masked=True),
    "gru-default": lambda: recurrent(kl.GRU(64)),
}


@contextmanager
def counted() -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Count the calls of MXNet's C library by their kind, and the bytes that they copy."""
    library = loading.library()
    calls: Counter[str] = Counter()
    copied: Counter[str] = Counter()
    before = {n: f for n, f in vars(library).items() if n.startswith(("MX", "NN"))}

    def counting(name: str, function: Any) -> Any:
        def called(*arguments: Any) -> Any:
            if name != "MXGetLastError":
                calls[KINDS.get(name, "other")] += 1
            if name in SIZES:
                copied[SIZES[name]] += arguments[2] * item[arguments[0]]
            return function(*arguments)

        return called

    item = _ItemSizes(before["MXNDArrayGetDType"])
    try:
        for name, function in before.items():
            setattr(library, name, counting(name, function))
        yield calls, copied
    finally:
        for name, function in before.items():
            setattr(library, name, function)


class _ItemSizes:
    """The bytes of an element of an array, by its handle."""

    def __init__(self, ask: Any):
        self._ask = ask

    def __getitem__(self, handle: Any) -> int:
        import ctypes

        from ksym.runtime.capi import DTYPES

        number = ctypes.c_int()
        self._ask(handle, ctypes.byref(number))
        return np.dtype(DTYPES[number.value]).itemsize


def measured(build: Callable[[], Any]) -> tuple[Counter[str], Counter[str], float]:
    """Return the calls and bytes of a step, and its milliseconds."""
    layers, x, y = build()
    model = keras.Sequential(layers)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    for _ in range(3):
        model.train_on_batch(x, y)
    # The function of the graph holds on to the library's function: it is counted by name.
    with counted() as (calls, copied):
        _rebind_forward(model)
        model.train_on_batch(x, y)
    _rebind_forward(model)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        model.train_on_batch(x, y)
        times.append(time.perf_counter() - start)
    return calls, copied, float(np.median(times)) * 1e3


def _rebind_forward(model: Any) -> None:
    """Have the native graphs of a model call the library's function as it is now."""
    from ksym.runtime.parts import NativeRun

    forward = loading.library().MXExecutorForward
    program = model.train_function.compiled._programs.last[1]
    waiting = list(program.parts)
    while waiting:
        part = waiting.pop()
        if isinstance(part, NativeRun):
            part.executable._forward = forward
        for inner in ("_body", "_test"):
            waiting += getattr(getattr(part, inner, None), "parts", ())


def main() -> None:
    """Print a row for each model."""
    print("| model |", " | ".join(COLUMNS), "| all | written | read | ms |")
    print("|---|" + "---|" * (len(COLUMNS) + 4))
    for name in sys.argv[1:] or MODELS:
        keras.backend.clear_session()
        np.random.seed(0)
        calls, copied, milliseconds = measured(MODELS[name])
        numbers = [calls[column] for column in COLUMNS]
        print(
            f"| {name} | {' | '.join(map(str, numbers))} | {sum(numbers)} | "
            f"{copied['written']:,} | {copied['read']:,} | {milliseconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
