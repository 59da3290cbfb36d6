"""Callbacks for Keras's training: profiling, and logs for TensorBoard."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import keras
import numpy as np

from ksym.errors import FileError, InputError
from ksym.extras import require
from ksym.inspection.layers import Statistics, inspect
from ksym.inspection.subject import subject_of
from ksym.inspection.tensorboard import graph_definition
from ksym.output import path_text
from ksym.profiling.profile import Profile


class ProfileTraining(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that profiles some batches of the training, and prints what took how long.

    The training function is compiled anew when the profile begins and when it ends; training goes
    on from where it was.

    Args:
        first: The number of the first batch that is profiled, counted from 0 over all epochs.
            Earlier ones are slower, as they start threads and allocate memory.
        batches: How many batches are profiled.
        trace: A file for the trace that Chrome and Perfetto open; None for none.
        picture: A file for the picture; None for none.
        file: Where the tables by operator and by layer are printed, by default ``sys.stdout``.

    Attributes:
        profile: The profile, from the first batch on: `ksym.profiling.profile.Profile`.

    Raises:
        InputError: There would be no batch to profile.
    """

    def __init__(
        self,
        first: int = 3,
        batches: int = 10,
        trace: Any = None,
        picture: Any = None,
        file: TextIO | None = None,
    ):
        super().__init__()
        whole = isinstance(first, int) and isinstance(batches, int)
        if not whole or first < 0 or batches < 1:
            raise InputError(
                f"{batches!r} batches from batch {first!r} on cannot be profiled",
                remedy="count from 0, and give at least one batch",
            )
        self.profile: Profile | None = None
        self._range = range(first, first + batches)
        self._trace, self._picture, self._file = trace, picture, file
        self._seen = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Count the batches from 0."""
        self._seen = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Begin the profile."""
        if self._seen == self._range.start:
            self.profile = self.model.train_function.compiled.start_profile()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """End the profile, and show it."""
        self._seen += 1
        if self._seen == self._range.stop:
            self._end()

    def on_train_end(self, logs: Any = None) -> None:
        """End a profile of more batches than there were."""
        if self._range.start < self._seen < self._range.stop:
            self._end()

    def _end(self) -> None:
        profile = self.profile
        assert profile is not None
        file = self._file or sys.stdout
        print(f"\n{profile.table('operator')}\n\n{profile.table('layer')}", file=file)
        if self._trace is not None:
            profile.save_trace(self._trace)
        if self._picture is not None:
            profile.plot(self._picture)
        self.model.train_function.compiled.stop_profile()


class TensorBoard(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback that logs scalars, histograms and the graph for TensorBoard, without TensorFlow.

    ``pip install 'ksym[tensorboard]'`` installs what writes them, tensorboardX; ``tensorboard
    --logdir logs`` shows them.

    Args:
        log_dir: The folder of the logs; other files in it stay.
        histogram_freq: The number of epochs after which there are histograms of the weights; 0 for
            none.
        write_graph: Whether the training function's graph is written.
        update_freq: ``"epoch"``, ``"batch"``, or a number of batches: how often the loss and
            metrics of batches are written, besides those of epochs.
        batch: A batch (x, y) for histograms of activations, gradients and updates too, as for
            `ksym.inspect`.

    Raises:
        ArgumentError: `log_dir` is no path.
        FileError: When the training begins: the folder cannot be written to.
        InputError: `update_freq` or `histogram_freq` is none of these.
        MissingPackageError: tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str = "./logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        update_freq: str | int = "epoch",
        batch: Any = None,
    ):
        super().__init__()
        named: dict[Any, Any] = {"epoch": 0, "batch": 1}
        every = named.get(update_freq, update_freq)
        if not isinstance(every, int) or every < 0 or (every == 0 and update_freq != "epoch"):
            raise InputError(
                f"update_freq is {update_freq!r}",
                remedy='give "epoch", "batch", or a number of batches',
            )
        if not isinstance(histogram_freq, int) or histogram_freq < 0:
            raise InputError(
                f"histogram_freq is {histogram_freq!r}", remedy="give a number of epochs, or 0"
            )
        self._module = require("tensorboardX", "tensorboard", "the callback TensorBoard")
        self._events = require("tensorboardX.proto.event_pb2", "tensorboard", "TensorBoard")
        self.log_dir = path_text(log_dir)
        self._every, self._histograms = every, histogram_freq
        self._write_graph, self._batch = write_graph, batch
        self._writer: Any = None
        self._batches = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Open the log, and write the graph."""
        try:
            self._writer = self._module.SummaryWriter(self.log_dir, write_to_disk=True)
        except OSError as error:
            raise FileError(
                f"no log can be written into {self.log_dir!r}: {error.strerror or error}",
                remedy="give a folder, which is made if it is not there, that may be written to",
            ) from error
        self._batches = 0
        if self._write_graph:
            roots = [*subject_of(self.model.train_function).roots.values()]
            text = graph_definition(roots).SerializeToString()
            self._writer.file_writer.event_writer.add_event(self._events.Event(graph_def=text))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write the loss and metrics of a batch."""
        self._batches += 1
        if self._every and self._batches % self._every == 0:
            known = {k: v for k, v in (logs or {}).items() if k not in ("batch", "size")}
            self._scalars(known, self._batches, "batch_")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write the loss and metrics of an epoch, and the histograms."""
        self._scalars(logs or {}, epoch, "epoch_")
        if self._histograms and epoch % self._histograms == 0:
            if self._batch is None:
                for layer in self.model.layers:
                    for weight in layer.weights:
                        found = Statistics.of(weight.get_value())
                        self._histogram(weight.name, found, epoch)
            else:
                self._inspected(epoch)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Close the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _scalars(self, values: Any, step: int, prefix: str) -> None:
        for name, value in values.items():
            if np.ndim(value) == 0:
                self._writer.add_scalar(prefix + name, float(value), step)

    def _inspected(self, epoch: int) -> None:
        for layer in inspect(self.model, self._batch).layers:
            self._histogram(f"{layer.name}/activations", layer.activations, epoch)
            self._histogram(f"{layer.name}/activations_gradient", layer.gradient, epoch)
            for weight in layer.weights:
                self._histogram(weight.name, weight.value, epoch)
                self._histogram(f"{weight.name}_gradient", weight.gradient, epoch)
                self._histogram(f"{weight.name}_update", weight.update, epoch)

    def _histogram(self, name: str, found: Statistics | None, step: int) -> None:
        if found is None or not found.counts.sum():
            return
        count = int(found.counts.sum())
        self._writer.add_histogram_raw(
            name,
            min=found.low,
            max=found.high,
            num=count,
            sum=found.mean * count,
            sum_squares=found.rms**2 * count,
            bucket_limits=found.edges[1:].tolist(),
            bucket_counts=found.counts.tolist(),
            global_step=step,
        )
