"""Train unmodified Keras on scikit-learn's handwritten digits, through ksym.

Run by `make demo`.  It trains a convolutional classifier, tests it, saves and reloads it, trains a
little further from the reloaded optimizer state, and leaves pictures of the training curves and of
some predictions in a folder.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEED = 7


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return training and test images (n, 8, 8, 1) in [0, 1], and their labels."""
    digits = load_digits()
    images = (digits.images / 16.0).astype("float32")[..., None]
    x, x_test, y, y_test = train_test_split(
        images, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target
    )
    return x, x_test, y, y_test


def build() -> keras.Model:
    """Return a small convolutional classifier."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(32, 3, padding="same", activation="relu", input_shape=(8, 8, 1)),
            layers.BatchNormalization(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def draw(
    history: dict[str, list[float]], images: np.ndarray, labels: np.ndarray, found: np.ndarray
) -> plt.Figure:
    """Return a picture of the training curves above some digits with their predictions.

    Wrongly classified digits come first, their predictions in red.
    """
    figure = plt.figure(figsize=(10, 7), layout="constrained")
    curves, digits = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    for axes, name in zip(curves.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[name]) + 1)
        axes.plot(epochs, history[name], label="training")
        axes.plot(epochs, history[f"val_{name}"], label="test")
        axes.set(xlabel="epoch", title=name)
        axes.grid(alpha=0.3)
        axes.legend()
    order = np.argsort(found == labels, kind="stable")
    for axes, i in zip(digits.subplots(2, 10).flat, order, strict=False):
        axes.imshow(images[i, ..., 0], cmap="gray_r")
        axes.set_axis_off()
        colour = "black" if found[i] == labels[i] else "red"
        axes.set_title(f"{found[i]} ({labels[i]})", color=colour, fontsize=9)
    digits.suptitle("predictions (true labels)")
    return figure


def main() -> None:
    """Run everything and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("demo-output"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)

    np.random.seed(SEED)  # Keras seeds its layers from NumPy's global state
    x, x_test, y, y_test = load()
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    print(f"{len(x)} digits to train on, {len(x_test)} to test")

    model = build()
    start = time.perf_counter()
    history = model.fit(
        x, y, batch_size=32, epochs=options.epochs, validation_data=(x_test, y_test)
    )
    seconds = time.perf_counter() - start
    accuracy = float(model.evaluate(x_test, y_test, verbose=0)[1])
    print(f"test accuracy {accuracy:.2%} after {seconds:.1f} s of training")

    path = options.output / "digits.h5"
    model.save(str(path))
    again = keras.models.load_model(str(path))
    before, after = model.predict(x_test), again.predict(x_test)
    print(f"saved to {path}; the reloaded model predicts the same: {np.array_equal(before, after)}")
    # -> saved to demo-output/digits.h5; the reloaded model predicts the same: True

    steps = int(keras.backend.get_value(again.optimizer.iterations))
    further = again.fit(x, y, batch_size=32, epochs=2, verbose=0)
    print(
        f"trained on from optimizer step {steps}: "
        f"loss {', '.join(f'{loss:.4f}' for loss in further.history['loss'])}"
    )

    picture = options.output / "digits.png"
    draw(history.history, x_test, y_test, before.argmax(axis=1)).savefig(picture, dpi=120)
    print(f"picture in {picture}")
    if accuracy < 0.98:
        raise SystemExit(f"the test accuracy is {accuracy:.2%}, at least 98% was expected")


if __name__ == "__main__":
    main()
