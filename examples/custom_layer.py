"""Write a layer for unmodified Keras, train a model with it, and save and load the model.

The layer is a bank of radial basis functions: each unit answers to inputs near its centre.  It is
written with `keras.backend` only, so it is a layer for any backend of Keras 2.3; the file separates
two rings, which no linear layer can.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "ksym.backend"

import keras
import numpy as np
from keras import backend as K  # noqa: N812


class RadialBasis(keras.layers.Layer):
    """Answer with exp(-width * squared distance) to the centre of each unit."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Make the weights, when the size of the input is known."""
        size = input_shape[-1]
        self.centres = self.add_weight("centres", (self.units, size), initializer="random_normal")
        self.width = self.add_weight("width", (self.units,), initializer="ones")
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Return the answers, (batch, units), to inputs of (batch, size)."""
        distances = K.sum(K.square(K.expand_dims(inputs, 1) - self.centres), axis=-1)
        return K.exp(-self.width * distances)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the output."""
        return (input_shape[0], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer, with which Keras makes it again from a file."""
        return {**super().get_config(), "units": self.units}


np.random.seed(3)
radius = np.repeat([0.5, 1.5], 100) + 0.1 * np.random.randn(200)
angle = np.random.uniform(0, 2 * np.pi, 200)
points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
labels = np.repeat([0, 1], 100)

model = keras.Sequential(
    [RadialBasis(8, input_shape=(2,)), keras.layers.Dense(1, activation="sigmoid")]
)
model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
model.fit(points, labels, batch_size=50, epochs=40, verbose=0)
accuracy = float(model.evaluate(points, labels, verbose=0)[1])
print(f"accuracy: {accuracy:.0%}")
# -> accuracy: 100%

with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "rings.h5")
    model.save(path)
    again = keras.models.load_model(path, custom_objects={"RadialBasis": RadialBasis})
same = np.array_equal(model.predict(points), again.predict(points))
print("the loaded model predicts the same:", same)
# -> the loaded model predicts the same: True
