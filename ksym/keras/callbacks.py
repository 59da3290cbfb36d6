"""Callbacks for Keras's training: profiling."""

from __future__ import annotations

import sys
from typing import Any, TextIO

import keras

from ksym.errors import InputError
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
        if first < 0 or batches < 1:
            raise InputError(
                f"{batches} batches from batch {first} on cannot be profiled",
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
