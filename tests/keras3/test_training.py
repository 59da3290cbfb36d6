"""What `compile` and `fit` take, and that it does what it says."""

import keras
import numpy as np
import pytest
from keras import layers, ops


def build(**compiled):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((4,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


def weights_of(model):
    return np.concatenate([np.asarray(w, "float64").ravel() for w in model.trainable_weights])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains_in_float32_weights(rows, policy):
    x, y = rows
    keras.mixed_precision.set_dtype_policy(policy)
    model = build(optimizer=keras.optimizers.Adam(0.01))
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert {w.dtype for w in model.trainable_weights} == {"float32"}
    assert model.predict(x, verbose=0).dtype.name == policy.removeprefix("mixed_")


def test_a_loss_that_overflows_halves_the_scale_and_changes_no_weight(rows):
    x, y = rows
    inner = keras.optimizers.SGD(0.1)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**15)
    model = build(optimizer=optimizer)
    before = weights_of(model)
    model.train_on_batch(x, np.full_like(y, 1e38))
    np.testing.assert_array_equal(weights_of(model), before)
    assert float(optimizer.dynamic_scale) == 2.0**14
    model.train_on_batch(x, y)
    assert (weights_of(model) != before).any()


def test_the_scale_of_the_loss_does_not_change_the_step(rows):
    x, y = rows
    found = []
    for optimizer in (
        keras.optimizers.SGD(0.1),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=1024.0),
    ):
        model = build(optimizer=optimizer)
        for _ in range(3):
            model.train_on_batch(x, y)
        found.append(weights_of(model))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)


def test_gradients_are_accumulated_over_steps(rows):
    """Four batches of 8 with accumulation are one of 32."""
    x, y = rows
    whole = build(optimizer=keras.optimizers.SGD(0.1))
    whole.train_on_batch(x, y)
    parts = build(optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=4))
    start = weights_of(parts)
    for i in range(4):
        np.testing.assert_array_equal(weights_of(parts), start)
        parts.train_on_batch(x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8])
    np.testing.assert_allclose(weights_of(parts), weights_of(whole), rtol=1e-5, atol=1e-7)


def test_the_average_of_weights_is_put_in_their_place(rows):
    x, y = rows
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = build(optimizer=optimizer)
    seen = [weights_of(model)]
    see = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(weights_of(model))
    )
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False, callbacks=[see])
    average = seen[1]  # the first step starts it
    for later in seen[2:]:
        average = 0.5 * average + 0.5 * later
    np.testing.assert_allclose(weights_of(model), average, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"clipnorm": 0.01}, {"global_clipnorm": 0.01}, {"clipvalue": 0.01}]
)
def test_gradients_are_clipped(rows, settings):
    x, y = rows
    model = build(optimizer=keras.optimizers.SGD(1.0, **settings))
    before = [np.array(w) for w in model.trainable_weights]
    model.train_on_batch(x, y)
    steps = [np.asarray(w) - b for w, b in zip(model.trainable_weights, before, strict=True)]
    norms = [np.sqrt((s**2).sum()) for s in steps]
    bound = 0.01 * (1 + 1e-4)
    if "clipnorm" in settings:
        assert max(norms) <= bound
    elif "global_clipnorm" in settings:
        assert np.sqrt(np.square(norms).sum()) <= bound
    else:
        assert max(np.abs(s).max() for s in steps) <= bound


def test_class_and_sample_weights_weigh(rows):
    x, _ = rows
    y = (x[:, :1] > 0).astype("float32")
    by_class = build(loss="binary_crossentropy")
    by_sample = build(loss="binary_crossentropy")
    weights = {0: 1.0, 1: 3.0}
    by_class.fit(x, y[:, 0], class_weight=weights, verbose=0, shuffle=False)
    by_sample.fit(x, y, sample_weight=np.where(y[:, 0] > 0, 3.0, 1.0), verbose=0, shuffle=False)
    np.testing.assert_allclose(weights_of(by_class), weights_of(by_sample), rtol=1e-6)


def test_validation_callbacks_and_schedules(rows):
    x, y = rows
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    model = build(optimizer=keras.optimizers.SGD(schedule), metrics=["mae"])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10.0)
    history = model.fit(
        x, y, batch_size=8, epochs=9, validation_split=0.25, callbacks=[stop], verbose=0
    ).history
    assert set(history) == {"loss", "mae", "val_loss", "val_mae"}
    assert len(history["loss"]) == 2
    np.testing.assert_allclose(
        float(model.optimizer.learning_rate), 0.1 * 0.5 ** (6 / 4), rtol=1e-5
    )
    found = model.evaluate(x[24:], y[24:], verbose=0, return_dict=True)
    np.testing.assert_allclose(found["mae"], history["val_mae"][-1], rtol=1e-5)


def test_losses_of_layers_are_added(rows):
    x, y = rows

    class Penalty(layers.Layer):
        def call(self, x):
            self.add_loss(2.0 * ops.mean(ops.square(x)))
            return x

    keras.utils.set_random_seed(1)
    model = keras.Sequential([layers.Input((4,)), Penalty(), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    found = model.train_on_batch(x, y)
    expected = np.mean((model.predict(x, verbose=0) - y) ** 2) + 2.0 * np.mean(x**2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["generator", "dataset"])
def test_data_may_come_in_batches(rows, kind):
    x, y = rows

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

    def generate():
        for i in range(4):
            yield x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]

    model, other = build(), build()
    model.fit(generate() if kind == "generator" else Batches(), verbose=0, shuffle=False)
    other.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_array_equal(weights_of(model), weights_of(other))


def test_adapted_weights_are_trained_alone(rows):
    x, y = rows
    model = build()
    model.layers[0].enable_lora(2)
    model.compile("adam", "mse")
    kernel = np.array(model.layers[0]._kernel)
    first = model.train_on_batch(x, y)
    for _ in range(10):
        last = model.train_on_batch(x, y)
    assert last < first
    np.testing.assert_array_equal(kernel, model.layers[0]._kernel)


def test_a_quantised_model_predicts_nearly_the_same(rows):
    x, _ = rows
    model = build()
    before = model.predict(x, verbose=0)
    model.quantize("int8")
    np.testing.assert_allclose(model.predict(x, verbose=0), before, atol=0.05)
