"""One peer with one workload in a process of its own, which does what it is told over a pipe.

Run by `peers.py` in the peer's environment; commands and replies are lines of JSON on the standard
input and output.  Whatever the peer prints goes to the standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from contest.workload import Batch, Workload
from contest.workloads import WORKLOADS

Step = Callable[[Batch], Any]
STEPS = 10
"""After so many training steps the loss is reported, to see that all peers learn alike."""


class Keras:
    """A model as users train it, batch by batch."""

    module = "keras"

    def __init__(self, workload: Workload) -> None:
        self.model = workload.build(importlib.import_module(self.module))

    @staticmethod
    def prepare() -> None:
        """Import what is needed, so that neither times nor memory of the model include it."""
        keras = importlib.import_module(Keras.module)
        with contextlib.suppress(AttributeError):
            keras.backend.backend()

    def train(self, batch: Batch) -> float:
        """Train a batch and return the loss."""
        return float(self.model.train_on_batch(*batch))

    def predict(self, batch: Batch) -> np.ndarray:
        """Return predictions for a batch."""
        return np.asarray(self.model.predict_on_batch(batch[0]))

    def reset(self) -> None:
        """Start a new average, where the loss that is returned is one over the last steps."""

    def finish(self) -> None:
        """Wait for what still runs in the background."""


class Ksym(Keras):
    """Keras on ksym, which would load MXNet only when it is needed."""

    @staticmethod
    def prepare() -> None:
        Keras.prepare()
        importlib.import_module("ksym.runtime.loading").library()


class Ksym3(Ksym):
    """Keras 3 on ksym, which has to be imported first."""

    @staticmethod
    def prepare() -> None:
        importlib.import_module("keras_ksym")
        Ksym.prepare()


class MXNet(Keras):
    """keras-mxnet, whose updates go on when the loss is there."""

    def finish(self) -> None:
        sys.modules["mxnet"].nd.waitall()


class TensorFlow(Keras):
    """tf.keras without its data handling: the compiled steps are fed with arrays."""

    module = "tensorflow.keras"

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        tensorflow, model = importlib.import_module("tensorflow"), self.model
        self._train = tensorflow.function(lambda x, y: model.train_step((x, y))["loss"])
        self._predict = tensorflow.function(lambda x: model(x, training=False))
        self.reset = model.reset_metrics

    @staticmethod
    def prepare() -> None:
        importlib.import_module("tensorflow").keras.Sequential  # noqa: B018, it is loaded late

    def train(self, batch: Batch) -> float:
        return float(self._train(*batch))

    def predict(self, batch: Batch) -> np.ndarray:
        return self._predict(batch[0]).numpy()


class JAX(Keras):
    """Keras 3 as its `fit` goes: the state goes from step to step without being put back."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(workload)
        self._state: list[Any] | None = None
        self._ready = importlib.import_module("jax").block_until_ready

    def train(self, batch: Batch) -> float:
        if self._state is None:
            loss = float(self.model.train_on_batch(*batch))
            model = self.model
            parts = (
                model.trainable_variables,
                model.non_trainable_variables,
                model.optimizer.variables,
                model.metrics_variables,
            )
            self._state = [[variable.value for variable in part] for part in parts]
            model.make_predict_function()
            return loss
        logs, state = self.model.train_function(tuple(self._state), iter([(*batch, None)]))
        self._state = list(state)
        return float(logs["loss"])

    def predict(self, batch: Batch) -> np.ndarray:
        assert self._state is not None
        state = tuple(self._state[:2])
        outputs, state = self.model.predict_function(state, iter([(batch[0],)]))
        self._state[:2] = state
        return np.asarray(outputs)

    def reset(self) -> None:
        self._state[3] = [value * 0 for value in self._state[3]]

    def finish(self) -> None:
        self._ready(self._state)


class Floor:
    """The native kernels alone."""

    def __init__(self, workload: Workload) -> None:
        from contest import floor

        name = next(name for name, each in WORKLOADS.items() if each is workload)
        self._train, self._predict = floor.steps(name)

    @staticmethod
    def prepare() -> None:
        importlib.import_module("contest.floor")

    def train(self, batch: Batch) -> float:
        """Run the kernels of a training step."""
        self._train()
        return float("nan")

    def predict(self, batch: Batch) -> None:
        """Run the kernels of a prediction."""
        self._predict()

    def reset(self) -> None:
        """There is no loss."""

    def finish(self) -> None:
        """Nothing runs in the background."""


DRIVERS: dict[str, type] = {
    "keras": Keras,
    "ksym": Ksym,
    "ksym3": Ksym3,
    "mxnet": MXNet,
    "tensorflow": TensorFlow,
    "jax": JAX,
    "floor": Floor,
}


def peak_memory() -> float:
    """Return the most memory this process has had at a time, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def first_row(batch: Batch) -> Batch:
    """Return a batch of the first sample."""
    x, y = batch
    return [each[:1] for each in x] if isinstance(x, list) else x[:1], y[:1]


class Worker:
    """Does the commands, one method each; what a method returns is the reply."""

    def __init__(self, driver: str, workload: str) -> None:
        self._kind, self._workload = DRIVERS[driver], WORKLOADS[workload]
        self._batches = self._workload.batches()
        self._count = 0

    def load(self) -> dict[str, float]:
        """Import the peer."""
        start = time.perf_counter()
        self._kind.prepare()
        return {"import": time.perf_counter() - start, "baseline": peak_memory()}

    def build(self) -> dict[str, float]:
        """Build the model and train its first step."""
        start, work = time.perf_counter(), time.process_time()
        self._contestant = self._kind(self._workload)
        self._contestant.train(self._batches[0])
        return {"first": time.perf_counter() - start, "first cpu": time.process_time() - work}

    def warm(self, seconds: float) -> dict[str, float]:
        """Train up to step `STEPS`, if the time allows, and return the loss on the first batch."""
        start, loss, done = time.perf_counter(), float("nan"), 1
        while done < STEPS and time.perf_counter() - start < seconds:
            self._contestant.reset()
            loss = self._contestant.train(self._batches[0])
            done += 1
        return {"loss": loss, "steps": done}

    def train(self, seconds: float) -> dict[str, float]:
        """Time training steps."""
        return self._time(self._contestant.train, seconds)

    def predict(self, seconds: float) -> dict[str, float]:
        """Time predictions."""
        return self._time(self._contestant.predict, seconds)

    def one(self, seconds: float) -> dict[str, float]:
        """Time predictions for a single sample."""
        return self._time(lambda batch: self._contestant.predict(first_row(batch)), seconds)

    def memory(self) -> dict[str, float]:
        """Return the peak so far."""
        return {"peak": peak_memory()}

    def _time(self, step: Step, seconds: float) -> dict[str, float]:
        """Return the milliseconds of a step, of the clock and of all processors together.

        Steps are repeated for at least `seconds`.  One before that brings caches and clocks back
        after the other peers' turns.
        """
        step(self._next())
        self._contestant.finish()
        clock, work, count = time.perf_counter(), time.process_time(), 0
        while count == 0 or time.perf_counter() - clock < seconds:
            step(self._next())
            count += 1
        self._contestant.finish()
        return {
            "ms": (time.perf_counter() - clock) / count * 1e3,
            "cpu": (time.process_time() - work) / count * 1e3,
        }

    def _next(self) -> Batch:
        self._count += 1
        return self._batches[self._count % len(self._batches)]


def obey(make: Callable[[], Any]) -> None:
    """Do commands, which name a method and its arguments, until the pipe is closed.

    Args:
        make: Returns the object whose methods they are.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = make()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            reply = getattr(worker, command.pop("do"))(**command)
        except Exception as error:  # noqa: BLE001, any failure of a peer is its result
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        replies.write(json.dumps(reply) + "\n")


if __name__ == "__main__":
    obey(lambda: Worker(*sys.argv[1:3]))
