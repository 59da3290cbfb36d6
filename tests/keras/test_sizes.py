"""Shapes as values: sizes that other tensors have, and sizes that a call gives."""

import numpy as np
import pytest

import ksym

keras = pytest.importorskip("keras")
K = keras.backend

X = np.arange(1, 13, dtype="float32").reshape(4, 3) / 10


def marks(x):
    return K.cast(x[:, 0] * 10, "int32") // 3


MARKS = np.array([0, 1, 2, 3])

# The result, of x and of an integer n that is x's number of rows or given by the call; and its
# meaning.
CASES = {
    "zeros": (lambda x, n: K.zeros((n, 2)), lambda x, n: np.zeros((n, 2))),
    "ones": (lambda x, n: K.ones([n, 2]), lambda x, n: np.ones((n, 2))),
    "ones of a stack": (lambda x, n: K.ones(K.stack([n, 2, n])), lambda x, n: np.ones((n, 2, n))),
    "zeros of joined shapes": (
        lambda x, n: K.zeros(K.concatenate([K.shape(x)[1:], K.stack([n])], 0)),
        lambda x, n: np.zeros((3, n)),
    ),
    "ones of a shape and a list": (
        lambda x, n: K.ones(K.concatenate([K.shape(x)[:1], [2]], 0)),
        lambda x, n: np.ones((4, 2)),
    ),
    "ones of a shape": (lambda x, n: K.ones(K.shape(x)), lambda x, n: np.ones((4, 3))),
    "ones of a scalar": (lambda x, n: K.ones(n), lambda x, n: np.ones(n)),
    "constant": (lambda x, n: K.constant(2.0, shape=(n, 2)), lambda x, n: np.full((n, 2), 2.0)),
    "eye": (lambda x, n: K.eye(n), lambda x, n: np.eye(n)),
    "eye of two sides": (lambda x, n: K.eye((n, 3)), lambda x, n: np.eye(n, 3)),
    "one_hot": (
        lambda x, n: K.one_hot(marks(x), n),
        lambda x, n: (MARKS[:, None] == np.arange(n)) * 1.0,
    ),
    "repeat": (lambda x, n: K.repeat(x, n), lambda x, n: np.repeat(x[:, None], n, 1)),
    "repeat_elements": (
        lambda x, n: K.repeat_elements(x, n, 1),
        lambda x, n: np.repeat(x, n, 1),
    ),
    "repeat by a vector": (
        lambda x, n: ksym.repeat(x, K.stack([n, 0, 1, n]), 0),
        lambda x, n: np.repeat(x, [n, 0, 1, n], 0),
    ),
    "slice up to": (lambda x, n: K.slice(x, [0, 1], [n, 2]), lambda x, n: x[:n, 1:]),
    "slice from": (lambda x, n: K.slice(x, [n, 0], [-1, 2]), lambda x, n: x[n:, :2]),
    "slice of static size": (
        lambda x, n: K.slice(x, [0, n - n + 1], [-1, 2]),
        lambda x, n: x[:, 1:3],
    ),
    "slice by vectors": (
        lambda x, n: K.slice(x, K.stack([n - 1, 1]), K.stack([1, n - n + 2])),
        lambda x, n: x[n - 1 : n, 1:3],
    ),
    "index": (lambda x, n: x[:, n - n : n - n + 2], lambda x, n: x[:, :2]),
    "index up to": (lambda x, n: x[:n], lambda x, n: x[:n]),
    "arange": (lambda x, n: K.arange(n, dtype="float32"), lambda x, n: np.arange(n)),
    "tile": (lambda x, n: K.tile(x, [n, 1]), lambda x, n: np.tile(x, [n, 1])),
    "tile by a vector": (lambda x, n: K.tile(x, K.stack([1, n])), lambda x, n: np.tile(x, [1, n])),
    "reshape": (
        lambda x, n: K.reshape(K.tile(x, [n, 1]), (n, -1)),
        lambda x, n: np.tile(x, [n, 1]).reshape(n, -1),
    ),
    "gather": (lambda x, n: K.gather(x, K.arange(n) % 4), lambda x, n: x[np.arange(n) % 4]),
    "pad": (
        lambda x, n: ksym.pad(x, [(0, n), (n, 0)], constant_values=2.0),
        lambda x, n: np.pad(x, [(0, n), (n, 0)], constant_values=2),
    ),
    "linspace": (
        lambda x, n: ksym.linspace(x[0], x[1], n),
        lambda x, n: np.linspace(x[0], x[1], n),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", ["a shape", "the call"])
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_a_size_is_a_value_of_the_graph(case, source, mode):
    build, meaning = CASES[case]
    x, n = K.placeholder((None, 3)), K.placeholder((), dtype="int32")
    y = build(x, K.shape(x)[0] if source == "a shape" else n)
    loss = K.sum(K.square(y * x[0, 0]))
    f = ksym.function([x, n], [y, ksym.gradients(loss, x), loss], mode=mode)
    for count in (4,) if source == "a shape" else (4, 2, 1):
        value, slope, _ = f(X, count)
        expected = meaning(X, count)
        assert value.shape == expected.shape
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        direction = np.cos(np.arange(12)).reshape(4, 3).astype("float32")
        if "one_hot" not in case:
            ahead, behind = (
                float(
                    (meaning(X + h * direction, count) ** 2).sum() * (X + h * direction)[0, 0] ** 2
                )
                for h in (0.003, -0.003)
            )
            derivative = (ahead - behind) / 0.006
            np.testing.assert_allclose((slope * direction).sum(), derivative, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda x, n: K.slice(x, [0, n], [-1, 2]), (None, 2)),
        (lambda x, n: x[:, n : n + 2], (None, 2)),
        (lambda x, n: K.repeat(x, n), (None, None, 3)),
        (lambda x, n: K.ones((n, 5)), (None, 5)),
        (lambda x, n: K.tile(x, [n, 1]), (None, 3)),
        (lambda x, n: K.eye((n, 2)), (None, 2)),
    ],
)
def test_what_is_known_of_a_size_stays_known(build, shape):
    x, n = K.placeholder((None, 3)), K.placeholder((), dtype="int32")
    assert K.int_shape(build(x, n)) == shape


def test_a_size_that_is_none_is_refused_at_the_call():
    n = K.placeholder((), dtype="int32")
    for y in (K.ones((n, 2)), K.eye(n), K.repeat(K.ones((2, 2)), n)):
        with pytest.raises(ksym.errors.ShapeError, match="negative"):
            K.function([n], [y])([-1])


def test_a_model_trains_on_a_window_at_a_place_that_is_given():
    x, place = keras.layers.Input((5, 4)), keras.layers.Input((1,), dtype="int32")

    def window(tensors):
        start = tensors[1][0, 0]
        return tensors[0][:, start : start + 2]

    part = keras.layers.Lambda(window, output_shape=(2, 4))([x, place])
    out = keras.layers.Dense(1)(keras.layers.Flatten()(part))
    model = keras.Model([x, place], out)
    model.compile("sgd", "mse")
    values = np.arange(60, dtype="float32").reshape(3, 5, 4) / 60
    w, b = model.get_weights()
    for start in (0, 3, 1):
        found = model.predict([values, np.full((3, 1), start)])
        expected = values[:, start : start + 2].reshape(3, 8) @ w + b
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    before = model.train_on_batch([values, np.full((3, 1), 2)], np.ones((3, 1)))
    assert model.train_on_batch([values, np.full((3, 1), 2)], np.ones((3, 1))) < before
