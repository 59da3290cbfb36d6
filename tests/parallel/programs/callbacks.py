"""What callbacks, files and random numbers do on each rank."""

import sys

import keras
import numpy as np
import writing
from keras import layers

import ksym

ksym.data_parallel()

np.random.seed(ksym.rank())  # ranks that do not agree get the state of rank 0 at each epoch
x, y = np.random.RandomState(0).rand(60, 4), np.random.RandomState(1).rand(60, 1)
ksym.seed(3)
model = keras.Sequential(
    [
        layers.Dense(64, input_shape=(4,)),
        layers.Dropout(0.5),
        layers.Dense(1, kernel_initializer="ones"),
    ]
)
model.compile("sgd", "mse")
callbacks = [
    keras.callbacks.ModelCheckpoint("best.h5", save_best_only=True),
    keras.callbacks.CSVLogger("log.csv"),
    keras.callbacks.EarlyStopping(patience=2, min_delta=10.0),
    keras.callbacks.ReduceLROnPlateau(patience=1, min_delta=10.0),
]
history = model.fit(
    x, y, batch_size=20, epochs=9, validation_split=0.1, callbacks=callbacks, verbose=2
)
model.save_weights("weights.h5")
found = {
    "epochs": len(history.epoch),
    "weights": [w.ravel().tolist() for w in model.get_weights()],
    "rate": float(keras.backend.get_value(model.optimizer.lr)),
    "logs": {name: list(map(float, values)) for name, values in history.history.items()},
}

# Dropout: other rows of a batch are dropped on each rank.
drop = keras.Sequential(
    [layers.Dropout(0.5, input_shape=(8,)), layers.Dense(1, kernel_initializer="ones")]
)
drop.compile(keras.optimizers.SGD(0.0), "mse")
drop.train_on_batch(np.ones((2, 8)), np.zeros((2, 1)))
stream = ksym.random_streams(drop.train_function.compiled.results.values())[0]
found["stream"] = stream.draw("uniform", (3,), "float32").tolist()

# A stop that one rank asks for.
stopped = keras.Sequential([layers.Dense(1, input_shape=(4,))])
stopped.compile("sgd", "mse")


class StopOnRank1(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = ksym.rank() == 1 and epoch == 1


found["stopped"] = len(stopped.fit(x, y, epochs=5, callbacks=[StopOnRank1()], verbose=0).epoch)


# A file is read by all ranks as soon as rank 0 has written it.
for _ in range(3):
    stopped.save("last.h5")
    stopped = keras.models.load_model("last.h5")
if ksym.rank() == 0:
    stopped.save("last.h5")  # nobody waits for this one


# A generator, which gives the same batches on all ranks.
def batches():
    while True:
        yield x[:10], y[:10]


found["generated"] = stopped.fit_generator(batches(), 3, epochs=2, verbose=0).history["loss"]
found["generated"] = list(map(float, found["generated"]))
writing.write(found)
sys.stdout.flush()
