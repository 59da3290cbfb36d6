"""Gradients: of steps of the user's, and of functions whose gradient is the user's."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_ksym
import ksym


class Descent(keras.Model):
    """A model with a step of its own, as a user writes it."""

    def train_step(self, data):
        x, y = data
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        weights = self.trainable_weights
        self.optimizer.apply(keras_ksym.gradients(loss, weights), weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
        return {"loss": loss, "first": ops.sum(weights[0])}


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_step_of_the_users_trains_as_the_built_in_one(rows, eagerly):
    x, y = rows
    found = []
    for kind in (keras.Model, Descent):
        keras.utils.set_random_seed(3)
        inputs = layers.Input((4,))
        hidden = layers.Dense(8, "tanh")(inputs)
        model = kind(inputs, layers.Dense(1)(hidden))
        model.compile("adam", "mse", run_eagerly=eagerly)
        history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle=False)
        found.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-7)
    assert "first" in history.history


def test_outside_of_a_step_there_are_no_gradients():
    w = keras.Variable([1.0, 2.0])
    with pytest.raises(ksym.errors.GraphError, match=r"(?s)loss is a value.*train_step"):
        keras_ksym.gradients(ops.sum(w * w), [w])


def test_a_weight_that_the_loss_does_not_read_gets_zeros(rows):
    x, y = rows

    class Half(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = layers.Dense(1)
            self.spare = self.add_weight(shape=(3,), name="spare")

        def call(self, x):
            return self.used(x)

    model = Half()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.build((None, 4))
    spare = np.array(model.spare)
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(spare, model.spare)


class Own(layers.Layer):
    """A function of x with a gradient of the user's, times a weight."""

    def __init__(self, function):
        super().__init__()
        self.function = ops.custom_gradient(function)

    def build(self, shape):
        self.w = self.add_weight(shape=(4,), initializer="ones", name="w")

    def call(self, x):
        found = self.function(x * self.w)
        return found if not isinstance(found, tuple) else found[0] + 10.0 * found[1]


def rounded(x):
    return ops.round(x), lambda upstream: upstream


def sum_and_product(x):
    """Two results; the gradients are wrong on purpose: twice the one and thrice the other."""

    def grad(by_sum, by_product):
        return ops.expand_dims(2.0 * by_sum + 3.0 * by_product, -1) * ops.ones_like(x)

    return (ops.sum(x, -1), ops.prod(x, -1)), grad


@pytest.mark.parametrize(("function", "slope"), [(rounded, 1.0), (sum_and_product, 32.0)])
def test_a_gradient_of_the_users_is_taken(rows, function, slope):
    x, _ = rows
    layer = Own(function)
    model = keras.Sequential([layers.Input((4,)), layer])
    model.compile(keras.optimizers.SGD(1.0), lambda y, found: ops.sum(found, keepdims=True))
    y = np.zeros((32, 4) if function is rounded else 32)
    model.train_on_batch(x, y)
    np.testing.assert_allclose(1.0 - layer.get_weights()[0], slope * x.sum(0), rtol=1e-3)
    found = layer(x)
    product = x * layer.get_weights()[0]
    value = np.round(product)
    if function is sum_and_product:
        value = product.sum(-1) + 10.0 * product.prod(-1)
    np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4)


def test_a_gradient_of_another_shape_names_the_line_of_the_function(rows):
    x, y = rows
    model = keras.Sequential(
        [layers.Input((4,)), Own(lambda x: (ops.tanh(x), lambda upstream: ops.sum(upstream)))]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ksym.errors.GradientError, match=r"(?s)shape \(\).*test_gradients\.py"):
        model.train_on_batch(x, np.repeat(y, 4, 1))
