"""Files of models that one Keras writes and another reads.

    python tests/agreement/files.py write|check FOLDER [OPTIMIZER]

With the Keras and the backend that the environment names.  ``write`` trains a model for three
steps, saves it with its optimizer into FOLDER/BACKEND.h5, and puts what it predicts then, and the
losses of three more steps, into FOLDER/BACKEND.npz.  To be read on Theano, or written there, the
optimizer is sgd: Keras turns the kernels of such files round, but not the moments that Adam keeps.
``check`` loads every model in FOLDER, and fails if it predicts or trains on otherwise.

Runs in Python 3.7 too, for which Keras 2.3.1, TensorFlow 2.1, Theano 1.0.5 and h5py 2.10 were made;
with h5py 3, on other backends, ksym must be importable, whose shim for it is used.
"""

import glob
import os
import sys

import numpy as np


def build(keras, optimizer):
    """Make and compile a model with layers whose weights Keras converts between backends."""
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
    joined = layers.concatenate([x, y], name="joined")
    model = keras.models.Model(
        [image, series],
        [
            layers.Dense(3, activation="softmax", name="kind")(joined),
            layers.Dense(1, kernel_regularizer="l2", name="value")(joined),
        ],
    )
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


def write(keras, folder, optimizer="adam"):
    """Train, save, and note what the model does next."""
    name = keras.backend.backend().partition(".")[0]
    model = build(keras, optimizer)
    inputs, targets = batch()
    for _ in range(3):
        model.train_on_batch(inputs, targets)
    model.save(os.path.join(folder, f"{name}.h5"))
    np.savez(os.path.join(folder, f"{name}.npz"), **behaviour(model))


def check(keras, path):
    """Load a model, and compare what it does with what its writer did."""
    model = keras.models.load_model(path)
    found = behaviour(model)
    with np.load(path.replace(".h5", ".npz")) as expected:
        for name in expected.files:
            wanted = expected[name]
            scale = np.abs(wanted).max()
            np.testing.assert_allclose(found[name] / scale, wanted / scale, rtol=0, atol=1e-5)


def main():
    """Write or check with the Keras that is imported."""
    import h5py
    import keras

    if h5py.version.version_tuple[0] > 2 and "ksym" not in keras.backend.backend():
        # Elsewhere too, Keras 2.3.1 decodes text that h5py 3 has decoded already.
        from ksym.keras import shims

        shims._decode_attributes(h5py)
    what, folder, *optimizer = sys.argv[1:]
    me = f"{keras.backend.backend()}, h5py {h5py.__version__}"
    if what == "write":
        write(keras, folder, *optimizer)
        print(f"written by {me}")
        return
    for path in sorted(glob.glob(os.path.join(folder, "*.h5"))):
        check(keras, path)
        name = os.path.basename(path)
        print(f"{name} read by {me}: predicts the same, trains on the same")


if __name__ == "__main__":
    main()
