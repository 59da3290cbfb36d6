"""A step of a model's is one function of ksym's, traced as seldom as can be."""

import keras
import numpy as np
import pytest
from keras import layers

import ksym
from keras_ksym.src import step as steps


class Counting(layers.Layer):
    """A layer that counts how often its Python code runs."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return keras.ops.tanh(x)


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def functions(monkeypatch):
    """All functions that steps compile, as (name, how often it was called)."""
    made = []

    def function(*args, **kwargs):
        compiled = ksym.function(*args, **kwargs)
        calls = [0]
        made.append((kwargs["name"], calls))

        def call(*arrays):
            calls[0] += 1
            return compiled(*arrays)

        return call

    class Watched:
        def __getattr__(self, name):
            return getattr(ksym, name)

    watched = Watched()
    watched.function = function
    monkeypatch.setattr(steps, "ksym", watched)
    return made


def build(*hidden, **compiled):
    model = keras.Sequential([layers.Input((4,)), *hidden, layers.Dense(1)])
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


def test_a_step_is_one_function(rows, functions):
    x, y = rows
    model = build(
        layers.Dense(8, "relu"), layers.Dropout(0.5), layers.BatchNormalization(), metrics=["mae"]
    )
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    # Forward, loss, gradients, optimizer, metrics, averages and seeds together.
    assert functions == [("train_step", [8])]
    model.evaluate(x, y, batch_size=16, verbose=0)
    model.predict(x, batch_size=16, verbose=0)
    assert functions[1:] == [("test_step", [2]), ("predict_step", [2])]


def test_a_step_is_traced_once_for_batches_of_all_sizes(rows, counting, functions):
    x, y = rows
    model = build(layers.Dense(8), counting)
    model.fit(x, y, batch_size=32, verbose=0)
    before = counting.calls
    for size in (16, 7, 1):  # 7 leaves a batch of 4, too
        model.fit(x, y, batch_size=size, verbose=0)
    assert counting.calls == before
    assert len(functions) == 1


def test_a_step_of_another_kind_of_data_is_traced_anew(rows, functions):
    x, y = rows
    model = build(layers.Dense(8))
    kinds = [(x, y), (x.astype("float64"), y), (x, y[:, 0]), (x, y, np.ones(32, "float32"))]
    for kind in kinds * 2:
        model.train_on_batch(*kind)
    assert [calls for _, calls in functions] == [[2]] * len(kinds)


def test_a_second_array_need_not_have_the_size_of_the_batch(rows, counting):
    class Halves(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)
            self.counting = counting

        def call(self, x):
            return self.counting(self.dense(x))

        def train_step(self, data):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
            found = self(x, training=True)
            return {"loss": keras.ops.mean(found) + keras.ops.sum(y)}

    model = Halves()
    model.compile("sgd", "mse")
    x, y = rows
    model.build((None, 4))
    before = counting.calls
    for size in (32, 32, 30, 32):
        model.reset_metrics()
        logs = model.train_function or model.make_train_function()
        found = logs([(x[:size], y[: size // 2])])
        expected = np.tanh(x[:size] @ model.dense.get_weights()[0]).mean() + y[: size // 2].sum()
        np.testing.assert_allclose(found["loss"], expected, rtol=1e-5, atol=1e-5)
    assert counting.calls == before + 2  # for a y of 16 rows, and of 15


class Unrolled(layers.Layer):
    """A layer whose Python code needs the number of rows."""

    calls = 0

    def call(self, x):
        self.calls += 1
        rows = [x[i] * float(i + 1) for i in range(x.shape[0])]
        return keras.ops.stack(rows)

    def compute_output_shape(self, shape):
        return shape


def test_a_step_that_needs_the_size_as_a_number_is_traced_for_each(rows, functions):
    x, _ = rows
    unrolled = Unrolled()
    model = keras.Sequential([unrolled])
    model.compile("sgd", "mse")
    for size in (3, 2, 3, 2):
        found = model.predict_on_batch(x[:size])
        np.testing.assert_allclose(found, x[:size] * np.arange(1.0, size + 1)[:, None], rtol=1e-6)
    assert [calls for _, calls in functions] == [[2], [2]]


def test_only_so_many_traced_steps_are_kept(rows, functions, monkeypatch):
    monkeypatch.setattr(steps, "STEPS", 2)
    x, _ = rows
    model = keras.Sequential([Unrolled()])
    model.compile("sgd", "mse")
    for size in (1, 2, 3, 1):
        model.predict_on_batch(x[:size])
    assert len(functions) == 4


class Root(layers.Layer):
    """The Cholesky factor of a matrix of the batch, which may have none."""

    calls = 0

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        self.calls += 1
        return keras.ops.cholesky(keras.ops.matmul(keras.ops.transpose(x), x) * self.scale)[:1]

    def compute_output_shape(self, shape):
        return (1, shape[-1])


def test_what_fails_while_it_runs_is_not_traced_again(rows):
    """A matrix without a factor is found at the call, where no second trace can help."""
    x, _ = rows
    root = Root()
    model = keras.Sequential([layers.Input((4,)), root, layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    y = np.ones((1, 1), "float32")
    model.test_on_batch(x, y)
    before, weights = root.calls, model.get_weights()
    with pytest.raises(ksym.errors.ExecutionError, match="not positive definite"):
        model.train_on_batch(np.zeros_like(x), y)
    assert root.calls == before + 1
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    first = model.train_on_batch(x, y)
    assert model.train_on_batch(x, y) < first
    assert root.calls == before + 1


class Fails(layers.Layer):
    """A layer that is wrong for any batch, until it is mended."""

    wrong = True
    calls = 0

    def call(self, x):
        self.calls += 1
        if self.wrong:
            raise KeyError("the user's own")
        return x


def test_an_error_of_the_users_comes_as_it_is_and_is_forgotten(rows):
    x, y = rows
    fails = Fails()
    fails.wrong = False
    model = build(layers.Dense(4), fails)
    model.test_on_batch(x, y)
    fails.wrong = True
    for _ in range(2):
        with pytest.raises(KeyError, match="the user's own") as caught:
            model.train_on_batch(x, y)
        assert caught.value.__context__ is None  # not the error of an attempt before it
    fails.wrong = False
    before = fails.calls
    for size in (32, 16, 8):
        model.train_on_batch(x[:size], y[:size])
    assert fails.calls == before + 1  # one trace, for all sizes


def test_several_steps_for_one_call_are_the_same_steps(rows):
    x, y = rows
    found = []
    for several in (1, 3):
        keras.utils.set_random_seed(1)
        model = build(layers.Dense(8, "tanh"), optimizer="adam", steps_per_execution=several)
        history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False)
        found.append([*history.history["loss"], *map(np.sum, model.get_weights())])
    np.testing.assert_array_equal(*found)


def test_run_eagerly_shows_values_and_trains_the_same(rows):
    x, y = rows
    seen = []

    class Looks(layers.Layer):
        def call(self, x):
            if self.looks:
                seen.append(float(np.asarray(x).sum()))
                assert bool(keras.ops.sum(x * x) > 0)
            return x

    found = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(1)
        looks = Looks()
        looks.looks = False
        model = build(layers.Dense(8, "tanh"), looks, optimizer="adam", run_eagerly=eagerly)
        looks.looks = eagerly
        losses = [model.train_on_batch(x, y) for _ in range(3)]
        found.append([*losses, *map(np.sum, model.get_weights())])
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)
    assert len(set(seen)) >= 3  # another value at each step


def test_a_layer_that_is_frozen_later_is_not_trained(rows):
    x, y = rows
    model = build(layers.Dense(8, name="first"))
    model.train_on_batch(x, y)
    model.get_layer("first").trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.train_on_batch(x, y)
    changed = [(a != b).any() for a, b in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, True, True]


def test_the_structure_of_the_data_may_be_nested(rows):
    x, y = rows
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    outputs = {"sum": layers.Dense(1)(layers.add([a, b])), "a": layers.Dense(1)(a)}
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile("sgd", {"sum": "mse", "a": "mae"})
    data = {"a": x, "b": -x}
    first = model.train_on_batch(data, {"sum": y, "a": y})[0]
    for _ in range(20):
        last = model.train_on_batch(data, {"sum": y, "a": y})[0]
    assert last < first
    found = model.predict({"b": -x, "a": x}, verbose=0)
    assert sorted(found) == ["a", "sum"]
    np.testing.assert_allclose(found["sum"], np.repeat(found["sum"][:1], 32, 0), atol=1e-6)
