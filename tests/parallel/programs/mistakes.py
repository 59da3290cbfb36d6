"""Mistakes of scripts: ``mistakes.py MISTAKE``."""

import sys

import keras
import numpy as np
from keras import layers

import ksym

mistake = sys.argv[1]
if mistake != "compiled before":
    ksym.data_parallel(
        batches=["global", "local"][ksym.rank()] if mistake == "settings" else "global",
        sync_batch_norm=mistake == "synchronised",
    )

wide = 8 + (mistake == "models" and ksym.rank())
model = keras.Sequential([layers.Dense(wide, input_shape=(4,)), layers.Dense(1)])
model.compile("adam" if mistake == "optimizers" and ksym.rank() else "sgd", "mse")
if mistake == "compiled before":
    ksym.data_parallel()
x, y = np.ones((8, 4)), np.ones((8, 1))
if mistake == "small batch":
    model.train_on_batch(x[:1], y[:1])
elif mistake == "small last batch":
    model.fit(x[:5], y[:5], batch_size=4)
elif mistake == "batches":
    model.train_on_batch(x + ksym.rank(), y)
elif mistake == "epochs":
    model.fit(x, y, epochs=1 + ksym.rank())
elif mistake == "evaluating on one rank":
    if ksym.rank() == 0:
        model.evaluate(x, y)
elif mistake == "evaluating other rows":
    model.evaluate(x[: 8 - ksym.rank()], y[: 8 - ksym.rank()])
elif mistake == "one rank":
    if ksym.rank() == 0:
        model.fit(x, y)
else:
    model.train_on_batch(x, y)
