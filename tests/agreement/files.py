"""Files of models that one Keras writes and another reads.

    python tests/agreement/files.py write|check FOLDER CASE ...

With the Keras and the backend that the environment names.  ``write`` trains the model of each case
for three steps, saves it with its optimizer into FOLDER/CASE/BACKEND.h5, and puts what it predicts
then, and the losses of three more steps, into FOLDER/CASE/BACKEND.npz.  ``check`` loads every file
of these cases; it prints the largest difference in what each predicts and of the losses when it
trains on, relative to the largest value, and fails if one is over 1e-5.

A case is a model and an optimizer, such as images-sgd.  `exchange.py` says which Keras takes which.

Runs in Python 3.7 too, for which Keras 2.3.1, TensorFlow 2.1, Theano 1.0.5 and h5py 2.10 were made;
with h5py 3, on other backends, ksym must be importable, whose shim for it is used.
"""

import glob
import importlib
import os
import sys

import numpy as np

TOLERANCE = 1e-5


def images(keras):
    """Make a model with layers whose weights Keras converts between backends."""
    layers = keras.layers
    image, series = layers.Input((8, 8, 3), name="image"), layers.Input((6, 2), name="series")
    x = layers.Conv2D(4, 3, activation="relu", padding="same", name="plain")(image)
    x = layers.BatchNormalization(name="normalised")(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, name="transposed")(x)
    x = layers.SeparableConv2D(4, 3, strides=2, activation="tanh", name="separable")(x)
    x = layers.GlobalAveragePooling2D(name="averages")(x)
    y = layers.Conv1D(3, 2, name="steps")(series)
    y = layers.Bidirectional(layers.GRU(3, reset_after=False), name="there_and_back")(y)
    y = layers.LSTM(4, name="memory")(layers.RepeatVector(3, name="again")(y))
    return _with_heads(layers, [image, series], layers.concatenate([x, y], name="joined"))


def series(keras):
    """Make a model without convolutions, of the same inputs."""
    layers = keras.layers
    image, series = layers.Input((8, 8, 3), name="image"), layers.Input((6, 2), name="series")
    x = layers.Dense(4, activation="tanh", name="plain")(layers.Flatten(name="flat")(image))
    x = layers.BatchNormalization(name="normalised")(x)
    y = layers.Bidirectional(
        layers.GRU(3, reset_after=False, return_sequences=True), name="there_and_back"
    )(series)
    y = layers.TimeDistributed(layers.Dense(3, activation="relu"), name="each")(y)
    y = layers.LSTM(4, name="memory")(y)
    return _with_heads(layers, [image, series], layers.concatenate([x, y], name="joined"))


def _with_heads(layers, inputs, joined):
    return inputs, [
        layers.Dense(3, activation="softmax", name="kind")(joined),
        layers.Dense(1, kernel_regularizer="l2", name="value")(joined),
    ]


def build(keras, case):
    """Make and compile the model of a case."""
    name, optimizer = case.split("-")
    inputs, outputs = {"images": images, "series": series}[name](keras)
    model = keras.models.Model(inputs, outputs)
    model.compile(optimizer, ["categorical_crossentropy", "mse"], loss_weights=[1.0, 0.5])
    return model


def batch():
    """Return inputs and targets."""
    rng = np.random.RandomState(5)
    inputs = [rng.normal(size=(6, 8, 8, 3)), rng.normal(size=(6, 6, 2))]
    return inputs, [np.eye(3)[rng.randint(0, 3, 6)], rng.normal(size=(6, 1))]


def behaviour(model):
    """Return what a model predicts, and the losses of three steps of training."""
    inputs, targets = batch()
    predicted = model.predict(inputs)
    losses = [model.train_on_batch(inputs, targets) for _ in range(3)]
    return {"kind": predicted[0], "value": predicted[1], "losses": np.array(losses)}


def write(keras, folder, case):
    """Train, save, and note what the model does next."""
    name = keras.backend.backend().partition(".")[0]
    model = build(keras, case)
    inputs, targets = batch()
    for _ in range(3):
        model.train_on_batch(inputs, targets)
    os.makedirs(os.path.join(folder, case), exist_ok=True)
    model.save(os.path.join(folder, case, name + ".h5"))
    np.savez(os.path.join(folder, case, name + ".npz"), **behaviour(model))


def difference(model, path):
    """Return by how much a model that was read from a file differs from what its writer did."""
    found = behaviour(model)
    with np.load(path.replace(".h5", ".npz")) as expected:
        gaps = {n: np.abs(found[n] - v).max() / np.abs(v).max() for n, v in expected.items()}
    return max(gaps["kind"], gaps["value"]), gaps["losses"]


class Text(str):
    """A text that can be decoded once more."""

    __slots__ = ()

    def decode(self, encoding="utf-8"):
        return str(self)


def decode_twice(h5py):
    """Let Keras 2.3.1 decode text that h5py 3 has decoded already.

    ksym has a shim for that, but the environments of other backends lack what ksym is made of.
    """
    original = h5py.AttributeManager.__getitem__

    def getitem(self, name):
        value = original(self, name)
        if isinstance(value, str):
            return Text(value)
        if isinstance(value, np.ndarray) and value.dtype == object:
            return np.array([Text(v) for v in value.flat], object).reshape(value.shape)
        return value

    h5py.AttributeManager.__getitem__ = getitem


def main():
    """Write or check with the Keras that is imported."""
    import h5py

    if "KERAS_2_3_1" in os.environ:
        importlib.import_module("keras_on_tensorflow")
    keras = importlib.import_module("keras")
    me = keras.backend.backend().partition(".")[0]
    if h5py.version.version_tuple[0] > 2 and me != "ksym":
        decode_twice(h5py)
    what, folder, *cases = sys.argv[1:]
    worst = 0.0
    for case in cases:
        if what == "write":
            write(keras, folder, case)
            continue
        for path in sorted(glob.glob(os.path.join(folder, case, "*.h5"))):
            predictions, losses = difference(keras.models.load_model(path), path)
            worst = max(worst, predictions, losses)
            writer = os.path.basename(path)[:-3]
            print(case, writer, me, f"{predictions:.1e}", f"{losses:.1e}", flush=True)
    if not worst <= TOLERANCE:
        sys.exit(f"a difference of {worst:.1e}, with h5py {h5py.__version__}")


if __name__ == "__main__":
    main()
