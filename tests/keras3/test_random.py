"""Random numbers are functions of a seed, eagerly and in steps; the state is the model's."""

import keras
import numpy as np
import pytest
from keras import layers, random
from test_values import computed_in_a_step

DRAWS = {
    "normal": lambda seed: random.normal((64,), 1.0, 2.0, seed=seed),
    "uniform": lambda seed: random.uniform((64,), -1.0, 3.0, seed=seed),
    "randint": lambda seed: random.randint((64,), 0, 10, seed=seed),
    "truncated_normal": lambda seed: random.truncated_normal((64,), seed=seed),
    "gamma": lambda seed: random.gamma((64,), 2.0, seed=seed),
    "beta": lambda seed: random.beta((64,), 2.0, 3.0, seed=seed),
    "binomial": lambda seed: random.binomial((64,), 10, 0.3, seed=seed),
    "categorical": lambda seed: random.categorical(np.zeros((2, 5), "float32"), 32, seed=seed),
    "shuffle": lambda seed: random.shuffle(np.arange(64), seed=seed),
    "dropout": lambda seed: random.dropout(np.ones(64, "float32"), 0.5, seed=seed),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_gives_the_same_numbers_everywhere(name):
    draw = DRAWS[name]
    first = np.asarray(draw(1337))
    np.testing.assert_array_equal(first, draw(1337))
    np.testing.assert_array_equal(first, computed_in_a_step(lambda x: draw(1337), np.ones(1)))
    assert (first != np.asarray(draw(1338))).any()


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_gives_other_numbers_each_time(name):
    generator = keras.random.SeedGenerator(7)
    drawn = [np.asarray(DRAWS[name](generator)) for _ in range(2)]
    assert (drawn[0] != drawn[1]).any()
    again = keras.random.SeedGenerator(7)
    for value in drawn:
        np.testing.assert_array_equal(value, DRAWS[name](again))


def test_the_numbers_have_the_distribution():
    x = np.asarray(random.normal((20000,), 3.0, 2.0, seed=1))
    assert abs(x.mean() - 3.0) < 0.1
    assert abs(x.std() - 2.0) < 0.1
    u = np.asarray(random.uniform((20000,), 2.0, 4.0, seed=1))
    assert 2.0 <= u.min() < 2.01
    assert 3.99 < u.max() < 4.0
    i = np.asarray(random.randint((20000,), 0, 4, seed=1))
    assert sorted(set(i.tolist())) == [0, 1, 2, 3]
    g = np.asarray(random.gamma((20000,), 3.0, seed=1))
    assert abs(g.mean() - 3.0) < 0.1


def noisy():
    model = keras.Sequential(
        [layers.Input((4,)), layers.Dropout(0.5, seed=3), layers.GaussianNoise(0.1, seed=4)]
    )
    model.add(layers.Dense(1))
    model.compile("sgd", "mse")
    return model


def test_each_step_drops_something_else_and_a_model_repeats_itself(rows):
    x, y = rows
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        model = noisy()
        model.compile(keras.optimizers.SGD(0.0), "mse")  # only what is drawn changes the loss
        found.append([model.train_on_batch(x, y) for _ in range(4)])
    assert len(set(found[0])) == 4
    assert found[0] == found[1]


def test_nothing_is_drawn_at_prediction(rows):
    x, _ = rows
    model = noisy()
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_layer_that_is_called_eagerly_draws_as_the_step_does():
    layer = layers.Dropout(0.5, seed=11)
    x = np.ones((4, 8), "float32")
    eager = np.asarray(layer(x, training=True))
    layer.seed_generator.state.assign(np.array([11, 0], "uint32"))
    inputs = layers.Input((8,))

    class Drawn(keras.Model):
        def predict_step(self, data):
            return layer(data[0], training=True)

    drawn = Drawn(inputs, layer(inputs))
    drawn.compile()
    np.testing.assert_array_equal(drawn.predict_on_batch(x), eager)
    assert (drawn.predict_on_batch(x) != eager).any()  # the state has gone on
