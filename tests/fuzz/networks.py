"""Random Keras models as plain data, and two steps of training them with any Keras 2.3.1.

    python networks.py ksym|tensorflow NETWORKS.json RESULTS.npz

trains the models of a file, in the environments of tests/agreement.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np

ACTIVATIONS = (
    *("linear", "relu", "tanh", "sigmoid", "elu", "selu", "softplus", "softsign"),
    *("hard_sigmoid", "exponential", "softmax"),
)
LOSSES = {
    "softmax": ("categorical_crossentropy", "kullback_leibler_divergence"),
    "sigmoid": ("binary_crossentropy", "poisson", "mean_squared_logarithmic_error"),
    "linear": ("mse", "mae", "logcosh", "hinge", "squared_hinge", "cosine_proximity", "mape"),
}
OPTIMIZERS = {
    "SGD": ({}, {"momentum": 0.9}, {"momentum": 0.5, "nesterov": True}, {"clipnorm": 0.5}),
    "RMSprop": ({}, {"rho": 0.5}),
    "Adagrad": ({},),
    "Adadelta": ({"rho": 0.8},),
    "Adam": ({}, {"amsgrad": True}, {"beta_1": 0.5, "clipvalue": 0.1}),
    "Adamax": ({},),
    "Nadam": ({},),
}
STEPS = 2


class Architecture:
    """Layers that are drawn one after the other, each for what the last one gives.

    Args:
        choose: Returns one of several options.
    """

    def __init__(self, choose):
        self.choose = choose
        self.rank = choose((1, 2, 3))
        self.shape = {1: [7], 2: [6, 3], 3: [7, 6, 3]}[self.rank]
        self.layers = []

    def add(self, name, **options):
        """Add a layer by its class's name and what it is made with."""
        self.layers.append([name, options])

    def drawn(self):
        """Return a model, with its data and its optimizer, as plain data."""
        for _ in range(self.choose(range(1, 5))):
            self._layer()
        if self.rank > 1:
            # Keras flattens no sequence with a mask.
            self.add(self.choose(("Flatten", f"GlobalMaxPooling{self.rank - 1}D")))
        last = self.choose(sorted(LOSSES))
        self.add("Dense", units=4, activation=last)
        optimizer = self.choose(sorted(OPTIMIZERS))
        return {
            "shape": self.shape,
            "layers": self.layers,
            "loss": self.choose(LOSSES[last]),
            "optimizer": [optimizer, self.choose(OPTIMIZERS[optimizer])],
            "batch": self.choose((1, 2, 5)),
            "seed": self.choose(range(1000)),
        }

    def _layer(self):
        if self.choose((False, False, True)):
            self._of_any_rank()
        else:
            (self._vector, self._sequence, self._image)[self.rank - 1]()

    def _of_any_rank(self):
        c = self.choose
        name = c(("Activation", "LeakyReLU", "ELU", "ThresholdedReLU", "ReLU", "PReLU"))
        name = c((name, "BatchNormalization", "ActivityRegularization"))
        options = {
            "Activation": {"activation": c(ACTIVATIONS)},
            "LeakyReLU": {"alpha": c((0.0, 0.3))},
            "ELU": {"alpha": c((0.5, 1.0))},
            "ThresholdedReLU": {"theta": c((0.25, 1.0))},
            "ReLU": {
                "max_value": c((None, 1.5)),
                "negative_slope": c((0.0, 0.25)),
                "threshold": c((0.0, 0.125)),
            },
            "PReLU": {"shared_axes": c((None, [1]))},
            "BatchNormalization": {
                "momentum": c((0.5, 0.99)),
                "epsilon": c((1e-3, 0.1)),
                "center": c((True, False)),
                "scale": c((True, False)),
            },
            "ActivityRegularization": {"l1": c((0.0, 0.01)), "l2": c((0.0, 0.02))},
        }
        self.add(name, **options[name])

    def _dense(self):
        c = self.choose
        return {
            "units": c((1, 4, 5)),
            "activation": c(ACTIVATIONS),
            "use_bias": c((True, False)),
            "kernel_regularizer": c((None, "l2")),
            "kernel_constraint": c((None, "MaxNorm", "NonNeg", "UnitNorm")),
        }

    def _vector(self):
        if self.choose((True, True, False)):
            self.add("Dense", **self._dense())
        else:
            self.add("RepeatVector", n=self.choose((1, 5)))
            self.rank = 2

    def _window(self, axes):
        c = self.choose
        dilated = c((False, False, True))
        return {
            "kernel_size": c((1, 2, 3)),
            "strides": 1 if dilated else c((1, 2)),
            "dilation_rate": 2 if dilated else 1,
            "padding": "same" if dilated else c(("same", "valid", "causal")[: 2 + (axes == 1)]),
            "activation": c(ACTIVATIONS),
            "use_bias": c((True, False)),
        }

    def _recurrent(self):
        c = self.choose
        name = c(("SimpleRNN", "GRU", "LSTM"))
        options = {
            "units": c((1, 4)),
            "return_sequences": c((True, False)),
            "go_backwards": c((True, False)),
            "unroll": c((False, False, True)),
            "use_bias": c((True, False)),
            "activation": c(("tanh", "tanh", "relu", "softsign")),
        }
        if name != "SimpleRNN":
            options["recurrent_activation"] = c(("sigmoid", "sigmoid", "hard_sigmoid"))
            options["implementation"] = c((1, 2))
        if name == "GRU":
            options["reset_after"] = c((True, False))
        if name == "LSTM":
            options["unit_forget_bias"] = c((True, False))
        return name, options

    def _sequence(self):
        c = self.choose
        kind = c(("conv", "recurrent", "recurrent", "wrapped", "pool", "move"))
        if kind == "conv":
            name = c(("Conv1D", "SeparableConv1D", "LocallyConnected1D"))
            options = self._window(1)
            if name == "LocallyConnected1D":
                options.update(padding="valid", kernel_size=1)
                options.pop("dilation_rate")
            if name == "SeparableConv1D":
                options.update(padding="same", strides=1)
            self.add(name, filters=c((1, 4)), **options)
        elif kind == "recurrent":
            if c((False, False, True)):
                self.add("Masking", mask_value=0.0)
            name, options = self._recurrent()
            self._returning(options)
            self.add(name, **options)
        elif kind == "wrapped":
            if c((True, False)):
                self.add("TimeDistributed", layer=["Dense", self._dense()])
            else:
                name, options = self._recurrent()
                self._returning(options)
                mode = c(("sum", "mul", "concat", "ave"))
                self.add("Bidirectional", layer=[name, options], merge_mode=mode)
        elif kind == "pool":
            padding = c(("same", "valid"))
            name = c(("MaxPooling1D", "AveragePooling1D"))
            self.add(name, pool_size=c((1, 2)), strides=1, padding=padding)
        else:
            name = c(("Permute", "ZeroPadding1D", "UpSampling1D"))
            option = {"Permute": [2, 1], "ZeroPadding1D": [1, 2], "UpSampling1D": 2}[name]
            key = {"Permute": "dims", "ZeroPadding1D": "padding", "UpSampling1D": "size"}[name]
            self.add(name, **{key: option})

    def _returning(self, options):
        if not options["return_sequences"]:
            self.rank = 1

    def _image(self):
        c = self.choose
        kind = c(("conv", "conv", "pool", "move"))
        if kind == "conv":
            name = c(("Conv2D", "SeparableConv2D", "DepthwiseConv2D", "Conv2DTranspose"))
            options = self._window(2)
            if name in ("Conv2DTranspose", "DepthwiseConv2D"):
                options["dilation_rate"] = 1
            if name == "SeparableConv2D":
                options["strides"] = 1
            if name in ("SeparableConv2D", "DepthwiseConv2D"):
                options["depth_multiplier"] = c((1, 2))
            if name != "DepthwiseConv2D":
                options["filters"] = c((1, 4))
            self.add(name, **options)
        elif kind == "pool":
            self.add(
                c(("MaxPooling2D", "AveragePooling2D")),
                pool_size=c((1, 2)),
                strides=c((1, 2)),
                padding="same",
            )
        else:
            name = c(("ZeroPadding2D", "UpSampling2D", "Permute", "UpSampling2D"))
            options = {
                "ZeroPadding2D": {"padding": [[1, 0], [2, 1]]},
                "UpSampling2D": {"size": 2, "interpolation": c(("nearest", "bilinear"))},
                "Permute": {"dims": [2, 1, 3]},
            }
            self.add(name, **options[name])


def made(keras, name, options):
    """Make a layer."""
    if "layer" in options:
        options = {**options, "layer": made(keras, *options["layer"])}
    return getattr(keras.layers, name)(**options)


def trained(keras, network, floatx):
    """Return what a model predicts before and after two steps, their losses, and its weights."""
    keras.backend.clear_session()
    keras.backend.set_floatx(floatx)
    rng = np.random.default_rng(network["seed"])
    x = keras.layers.Input(network["shape"])
    tensor = x
    for name, options in network["layers"]:
        tensor = made(keras, name, dict(options))(tensor)
    model = keras.Model(x, tensor)
    name, options = network["optimizer"]
    model.compile(getattr(keras.optimizers, name)(**options), network["loss"])
    weights = [np.abs(rng.normal(0, 0.4, w.shape)) + 0.1 for w in model.get_weights()]
    signs = [rng.choice([-1, 1], w.shape) if w.ndim > 1 else 1 for w in weights]
    model.set_weights([w * s for w, s in zip(weights, signs, strict=True)])
    batch = network["batch"]
    inputs = rng.normal(size=(batch, *network["shape"]))
    targets = rng.random((batch, 4))
    targets /= targets.sum(axis=1, keepdims=True)
    found = {"predicted": model.predict(inputs, batch_size=batch)}
    losses = [model.train_on_batch(inputs, targets) for _ in range(STEPS)]
    found["losses"] = np.array(losses)
    for position, weight in enumerate(model.get_weights()):
        found[f"weight {position}"] = weight
    found["predicted after"] = model.predict(inputs, batch_size=batch)
    return found


def main():
    """Train the models of a file, and write what came of it."""
    side, source, target = sys.argv[1:]
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agreement"))
    from side import load

    warnings.simplefilter("ignore")
    keras = load(side, "float64")
    arrays = {}
    for number, network in enumerate(json.loads(Path(source).read_text())):
        try:
            found = trained(keras, network, "float64")
        except Exception as error:  # noqa: BLE001 - compared with what the other one says
            found = {"error": np.array(f"{type(error).__name__}: {error}"[:300])}
        arrays.update({f"{number}|{name}": value for name, value in found.items()})
    np.savez(target, **arrays)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
