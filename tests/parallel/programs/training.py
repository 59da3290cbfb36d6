"""The losses of models on batches that ranks share: ``training.py MODELS OPTIMIZERS [sync]``."""

import sys

import keras
import numpy as np
import writing
from keras import layers, regularizers

import ksym

ksym.data_parallel(sync_batch_norm="sync" in sys.argv)

ROWS, BATCH = 107, 30  # the last batch of an epoch has 17 rows


def dense():
    return [layers.Dense(16, activation="relu", input_shape=(8,))]


def regularised():
    penalties = {
        "kernel_regularizer": regularizers.l2(0.01),
        "activity_regularizer": regularizers.l1(0.001),
    }
    return [layers.Dense(16, activation="relu", input_shape=(8,), **penalties)]


def convolutional():
    return [
        layers.Reshape((4, 2, 1), input_shape=(8,)),
        layers.Conv2D(8, 3, padding="same", activation="relu"),
        layers.MaxPooling2D((2, 1)),
        layers.Flatten(),
    ]


def recurrent():
    return [layers.Reshape((4, 2), input_shape=(8,)), layers.Masking(), layers.LSTM(8)]


def normalised():
    return [
        layers.Dense(16, input_shape=(8,), use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("relu"),
    ]


def of_batch(expected, found):
    """A metric that is one number for a batch."""
    return keras.backend.mean(found[:, 0])


def trained(make, optimizer, loss):
    np.random.seed(1)
    x = np.random.rand(ROWS, 8).astype("float32")
    y = keras.utils.to_categorical(np.random.randint(0, 3, ROWS), 3)
    model = keras.Sequential([*make(), layers.Dense(3, activation="softmax")])
    if optimizer == "clipped":
        optimizer = keras.optimizers.SGD(0.5, clipnorm=0.05)
    model.compile(optimizer, loss, metrics=["accuracy", of_batch], weighted_metrics=["mse"])
    losses = []
    note = keras.callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs: losses.append(float(logs["loss"]))
    )
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=13,
        sample_weight=np.random.rand(ROWS),
        validation_data=(x[:20], y[:20]),
        callbacks=[note],
        verbose=0,
    )
    logs = {name: list(map(float, values)) for name, values in history.history.items()}
    return {
        "losses": losses,
        "logs": logs,
        "weights": [w.astype("float64").ravel().tolist() for w in model.get_weights()],
    }


cross = "categorical_crossentropy"
found = {}
for name in sys.argv[1].split(","):
    for optimizer in sys.argv[2].split(","):
        found[f"{name}, {optimizer}"] = trained(globals()[name], optimizer, cross)
total = keras.losses.CategoricalCrossentropy(reduction=keras.losses.losses_utils.Reduction.SUM)
found["summed"] = trained(dense, "sgd", total)
writing.write(found)
