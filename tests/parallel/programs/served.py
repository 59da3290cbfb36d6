"""Trainings with parameter servers: ``served.py``, with dist_async or with --compression."""

import keras
import numpy as np
import writing
from keras import layers

import ksym
from ksym.parallel import engine

ksym.data_parallel()

np.random.seed(0)
x = np.random.rand(200, 8).astype("float32")
y = x @ np.random.rand(8, 1).astype("float32")
model = keras.Sequential(
    [
        layers.Dense(16, activation="relu", input_shape=(8,)),
        layers.BatchNormalization(),
        layers.Dense(1),
    ]
)
model.compile(keras.optimizers.SGD(0.02), "mse", metrics=["mae"])
decay = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=10.0)
history = model.fit(x, y, batch_size=20, epochs=6, verbose=0)
again = model.fit(x, y, batch_size=20, epochs=3, callbacks=[decay], verbose=0)

# A sum is exact, whatever happens to gradients.
exact = ksym.function([], ksym.all_reduce(ksym.constant([0.1, 3.0])))()
compressed = ksym.function([], ksym.all_reduce(ksym.constant([0.1, 3.0]), compressible=True))()
writing.write(
    {
        "engine": engine.current().name,
        "losses": [float(v) for v in [*history.history["loss"], *again.history["loss"]]],
        "rate": float(keras.backend.get_value(model.optimizer.lr)),
        "weights": [w.ravel().tolist() for w in model.get_weights()],
        "exact": exact.tolist(),
        "compressed": compressed.tolist(),
    }
)
