"""Compute all cases with one Keras, and write the arrays to a file.

python side.py ksym|tensorflow|tf.keras FLOATX OUTPUT KIND...
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]


def load(side: str, floatx: str) -> Any:
    """Import the Keras of a side, set to a dtype."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["KERAS_BACKEND"] = {"ksym": "ksym.backend"}.get(side, "keras_tensorflow")
    if side == "tf.keras":
        keras = importlib.import_module("tensorflow").keras
    else:
        if side == "tensorflow":
            importlib.import_module("keras_on_tensorflow")
        keras = importlib.import_module("keras")
        if side == "tensorflow":
            # Keras hands this on for the name "tensorflow" only.
            importlib.import_module("tensorflow.python.keras.backend").set_floatx(floatx)
            known = importlib.import_module("keras.backend.tensorflow_backend")
            keras.backend.clear_session = known.clear_session
    keras.backend.set_floatx(floatx)
    return keras


def weights_of(model: Any) -> list[Any]:
    """Return weights in the order of get_weights; those of Keras 2.3.1 have another."""
    return [variable for layer in model.layers for variable in layer.weights]


def weights_for(model: Any) -> list[np.ndarray]:
    """Return values for a model's weights; variances and scales are positive."""
    rng = np.random.default_rng(7)
    values = []
    for variable, value in zip(weights_of(model), model.get_weights(), strict=True):
        drawn = rng.normal(0, 0.4, value.shape)
        above_zero = "variance" in variable.name or "gamma" in variable.name
        values.append(np.abs(drawn) + 0.5 if above_zero else drawn)
    return values


def optimizer(keras: Any, name: str, options: dict[str, Any]) -> Any:
    """Make an optimizer; tf.keras keeps those of Keras 2.3 in a room of their own."""
    legacy = getattr(keras.optimizers, "legacy", None)
    if legacy is None:
        return getattr(keras.optimizers, name)(**options)
    options = {{"clipnorm": "global_clipnorm"}.get(k, k): v for k, v in options.items()}
    if name == "Adagrad":
        options["initial_accumulator_value"] = 0.0
    return getattr(legacy, name)(**options)


def gradients_in_a_graph(keras: Any, model: Any, feeds: list[np.ndarray]) -> list[np.ndarray]:
    """Differentiate the loss of a compiled model of Keras 2.3.1."""
    K = keras.backend
    inputs = model._feed_inputs + model._feed_targets + model._feed_sample_weights
    phase = K.learning_phase()
    found = [
        K.reshape(gradient, K.int_shape(variable))  # dense, where TensorFlow's is not
        for variable, gradient in zip(
            model.trainable_weights,
            K.gradients(model.total_loss, model.trainable_weights),
            strict=True,
        )
    ]
    return K.function([*inputs, phase], found)([*feeds, 1.0])


def gradients_on_a_tape(case: Any, model: Any) -> list[np.ndarray]:
    """Differentiate the loss of a compiled model of tf.keras."""
    tf = importlib.import_module("tensorflow")
    inputs = [tf.constant(x) for x in case.inputs]
    with tf.GradientTape() as tape:
        predicted = model(inputs[0] if len(inputs) == 1 else inputs, training=True)
        predicted = predicted if isinstance(predicted, list) else [predicted]
        loss = model.compiled_loss(
            [tf.constant(t) for t in case.targets],
            predicted,
            None if case.sample_weight is None else tf.constant(case.sample_weight),
            regularization_losses=model.losses,
        )
    found = tape.gradient(loss, model.trainable_weights)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def _forget_states(model: Any) -> None:
    for layer in model.layers:
        if getattr(layer, "stateful", False):
            layer.reset_states()


def run_model(keras: Any, side: str, case: Any, steps: int) -> Arrays:
    """Return predictions, gradients, and losses and weights of the training of a case."""
    keras.backend.clear_session()
    model = case.build(keras)
    name, options = case.optimizer
    # Compiling takes tf.keras longer than these few steps.
    eagerly = {"run_eagerly": True} if side == "tf.keras" else {}
    model.compile(optimizer(keras, name, dict(options)), case.loss, **case.compiled, **eagerly)
    initial = weights_for(model)
    model.set_weights(initial)
    weighted = {} if case.sample_weight is None else {"sample_weight": case.sample_weight}
    batch = len(case.inputs[0])
    arrays = {}
    inputs = list(case.inputs)
    predicted = model.predict(inputs, batch_size=batch)
    predicted = predicted if isinstance(predicted, list) else [predicted]
    targets = list(case.targets) or [np.zeros_like(value) for value in predicted]
    for position, value in enumerate(predicted):
        arrays[f"forward|{position}"] = value
    _forget_states(model)
    if side == "tf.keras":
        found = gradients_on_a_tape(case, model)
    else:
        feeds = model._standardize_user_data(inputs, targets, **weighted)
        found = gradients_in_a_graph(keras, model, [array for part in feeds for array in part])
    for variable, value in zip(model.trainable_weights, found, strict=True):
        arrays[f"gradients|{len(arrays)} {variable.name}"] = value
    _forget_states(model)
    model.set_weights(initial)  # a tape moves the averages of batch normalisation
    losses = [model.train_on_batch(inputs, targets, **weighted) for _ in range(steps)]
    arrays["training|losses"] = np.array(losses)
    for position, (variable, value) in enumerate(
        zip(weights_of(model), model.get_weights(), strict=True)
    ):
        arrays[f"training|{position} {variable.name}"] = value
    return arrays


def run_layer(keras: Any, side: str, case: Any) -> Arrays:
    """Return what `run_model` does, and the predictions after the model was saved and loaded."""
    arrays = run_model(keras, side, case, steps=3)
    if side != "ksym":
        return {**arrays, "saved|0": arrays["forward|0"]}
    model = case.build(keras)
    model.set_weights(weights_for(model))
    file = io.BytesIO()
    model.save(file, include_optimizer=False)
    file.seek(0)
    # The layers of the oldest kind are no longer known by their names.
    legacy = {name: getattr(keras.layers, name) for name in ("Highway", "MaxoutDense")}
    again = keras.models.load_model(file, custom_objects=legacy, compile=False)
    arrays["saved|0"] = again.predict(list(case.inputs), batch_size=len(case.inputs[0]))
    return arrays


def run_function(keras: Any, side: str, call: Any, floatx: str) -> Arrays:
    """Return the value and the gradients of a function, and its value for unknown shapes."""
    K = keras.backend
    K.clear_session()
    values = [array.astype(floatx) for array in call.arrays]
    inputs = [K.placeholder(array.shape) for array in values]
    result = call.make(K, *inputs)
    value = K.function([*inputs, K.learning_phase()], [result])([*values, 1.0])[0]
    arrays = {"forward|0": np.asarray(value)}
    if call.differentiable:
        weights = np.random.default_rng(3).normal(size=np.shape(value)).astype(floatx)
        loss = K.sum(result * K.constant(weights))
        found = K.gradients(loss, [inputs[i] for i in call.differentiable])
        zeros = [inputs[i] * 0.0 for i in call.differentiable]
        found = [
            zero if gradient is None else K.reshape(gradient, K.shape(zero))
            for gradient, zero in zip(found, zeros, strict=True)
        ]
        computed = K.function([*inputs, K.learning_phase()], found)([*values, 1.0])
        arrays.update({f"gradients|{i}": array for i, array in enumerate(computed)})
    arrays["unknown|0"] = arrays["forward|0"]
    if side == "ksym" and not call.needs_shapes:
        inputs = [K.placeholder([None] * array.ndim) for array in values]
        result = call.make(K, *inputs)
        arrays["unknown|0"] = K.function([*inputs, K.learning_phase()], [result])([*values, 1.0])[0]
    return arrays


def everything(keras: Any, side: str, floatx: str) -> dict[str, Callable[[], Arrays]]:
    """Return what computes each case that can be compared with a side."""
    models = importlib.import_module("models")
    jobs: dict[str, Callable[[], Arrays]] = {}
    if side != "tf.keras":  # the same Keras, with all its functions and layers
        functions, layers = importlib.import_module("functions"), importlib.import_module("layers")
        for name, call in functions.CALLS.items():
            if side not in call.apart and f"{side} {floatx}" not in call.apart:
                jobs[f"functions|{name}"] = partial(run_function, keras, side, call, floatx)
        for name, case in layers.CASES.items():
            if f"{side} {floatx}" not in case.apart:
                jobs[f"layers|{name}"] = partial(run_layer, keras, side, case)
    for name, case in models.CASES.items():
        if side not in case.apart and f"{side} {floatx}" not in case.apart:
            jobs[f"models|{name}"] = partial(run_model, keras, side, case, models.STEPS)
    return jobs


def main() -> None:
    """Compute and write everything; what fails is written as its traceback."""
    side, floatx, output, *kinds = sys.argv[1:]
    warnings.simplefilter("ignore")
    keras = load(side, floatx)
    arrays: Arrays = {}
    for name, compute in everything(keras, side, floatx).items():
        if name.partition("|")[0] not in kinds:
            continue
        try:
            found = compute()
        except Exception:  # noqa: BLE001 - said in the table, and the others go on
            found = {"error": np.array(traceback.format_exc())}
        arrays.update({f"{name}|{key}": value for key, value in found.items()})
    np.savez(output, **arrays)


if __name__ == "__main__":
    main()
