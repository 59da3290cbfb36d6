"""Evaluations of which each rank computes some batches."""

import keras
import numpy as np
import writing
from keras import layers

import ksym
from ksym.keras.execution import KerasFunction

ksym.data_parallel()

calls = []
original = KerasFunction.__call__


def counting(self, inputs):
    if inputs:
        calls.append(len(inputs[0]))
    return original(self, inputs)


KerasFunction.__call__ = counting


class Largest(keras.metrics.Metric):
    """A metric that keeps no sum."""

    def __init__(self):
        super().__init__("largest")
        self.kept = self.add_weight("kept", (), initializer="zeros")

    def update_state(self, expected, found, sample_weight=None):
        return keras.backend.update(
            self.kept, keras.backend.maximum(self.kept, keras.backend.max(found))
        )

    def result(self):
        return self.kept + 0.0


def of_batch(expected, found):
    """A metric that is one number for a batch, and no mean over rows."""
    return keras.backend.max(found)


def made(*metrics, loss="mse", **options):
    np.random.seed(0)
    model = keras.Sequential([layers.Dense(4, input_shape=(3,)), layers.Dense(1)])
    model.compile("sgd", loss, metrics=list(metrics), **options)
    return model


class Batches(keras.utils.Sequence):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return x[index * 10 : index * 10 + 7 + index], y[index * 10 : index * 10 + 7 + index]


x, y = np.random.RandomState(1).rand(61, 3), np.random.RandomState(2).randint(0, 2, (61, 1))
weights = np.random.RandomState(3).rand(61)
found, counts = {}, {}


def note(name, values):
    found[name] = [float(v) for v in (values if isinstance(values, list) else [values])]
    counts[name] = len(calls)
    calls.clear()


counted = made("mae", of_batch, keras.metrics.AUC(), weighted_metrics=["mape"])
note("arrays", counted.evaluate(x, y, batch_size=20, sample_weight=weights, verbose=0))
note("again", counted.evaluate(x, y, batch_size=7, verbose=0))
note("one batch", counted.evaluate(x[:1], y[:1], verbose=0))
note("generator", counted.evaluate_generator(Batches(), workers=0))
note("no metrics", made().evaluate(x, y, batch_size=20, verbose=0))
summed = keras.losses.MeanSquaredError(reduction=keras.losses.losses_utils.Reduction.SUM)
note("summed", made("mae", loss=summed).evaluate(x, y, batch_size=20, verbose=0))
note("largest", made(Largest()).evaluate(x, y, batch_size=20, verbose=0))


class Watching(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        seen.append(float(logs["loss"]))


seen = []
watching = [Watching()] if ksym.rank() == ksym.size() - 1 else []
note("watched", counted.evaluate(x, y, batch_size=20, callbacks=watching, verbose=0))
if watching:
    assert len(seen) == 4
    assert min(seen) > 0

history = counted.fit(x, y, batch_size=20, epochs=2, validation_split=0.5, verbose=0)
for name, values in history.history.items():
    if name != "of_batch":  # of a batch of which each rank trains on some rows
        found[name] = list(map(float, values))
writing.write({"found": found, "counts": counts})
