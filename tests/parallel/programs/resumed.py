"""A training that is killed in its third epoch, and resumed: ``resumed.py [killed]``."""

import os
import signal
import sys

import keras
import numpy as np
import writing
from keras import layers

import ksym

ksym.data_parallel()

EPOCHS = 5
x, y = np.random.RandomState(0).rand(40, 4), np.random.RandomState(1).rand(40, 1)
first = 0
if os.path.exists("last.h5"):
    model = keras.models.load_model("last.h5")
    first = int(keras.backend.get_value(model.optimizer.iterations)) // 4
else:
    np.random.seed(0)
    model = keras.Sequential(
        [layers.Dense(8, activation="tanh", input_shape=(4,)), layers.Dense(1)]
    )
    model.compile("adam", "mse")


class Kill(keras.callbacks.Callback):
    def on_batch_end(self, batch, logs=None):
        done = int(keras.backend.get_value(self.model.optimizer.iterations))
        if "killed" in sys.argv and done == 10 and ksym.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


history = model.fit(
    x,
    y,
    batch_size=10,
    epochs=EPOCHS,
    initial_epoch=first,
    shuffle=False,
    callbacks=[keras.callbacks.ModelCheckpoint("last.h5"), Kill()],
    verbose=0,
)
writing.write({"first": first, "losses": list(map(float, history.history["loss"]))})
