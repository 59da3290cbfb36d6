"""Values that Keras's backend is given: in the dtype that waits for them, rounded once."""

import keras
import numpy as np
import pytest

from ksym.errors import DTypeError

K = keras.backend
WITNESS = 1 + 2**-11 + 2**-30  # a middle of float16 once it has been rounded to float32


@pytest.fixture(params=["float32", "float64", "float16"])
def floatx(request):
    K.set_floatx(request.param)
    yield request.param
    K.set_floatx("float32")


def _set(value, dtype):
    x = K.variable(0.0, dtype)
    K.set_value(x, value)
    return K.get_value(x)


def _batch_set(value, dtype):
    x = K.variable(0.0, dtype)
    K.batch_set_value([(x, value)])
    return K.get_value(x)


def _operand(apply):
    def entry(value, dtype):
        x = K.placeholder((2,), dtype=dtype)
        return K.function([x], [apply(x, value)])([[0, 0]])[0]

    return entry


ENTRIES = {
    "variable": lambda v, d: K.get_value(K.variable(v, d)),
    "constant": lambda v, d: K.eval(K.constant(v, d)),
    "constant of a shape": lambda v, d: K.eval(K.constant(v, d, shape=(2,)))[1],
    "set_value": _set,
    "batch_set_value": _batch_set,
    "argument": lambda v, d: (lambda x: K.function([x], [x * 1])([v])[0])(
        K.placeholder((), dtype=d)
    ),
    "update": lambda v, d: K.eval(K.update(K.variable(0.0, d), v)),
    "update_add": lambda v, d: K.eval(K.update_add(K.variable(0.0, d), v)),
    "update_sub": lambda v, d: -K.eval(K.update_sub(K.variable(0.0, d), v)),
    "moving_average": lambda v, d: K.eval(K.moving_average_update(K.variable(0.0, d), v, 0.0)),
}
FLOAT_ENTRIES = {
    "cast": lambda v, d: K.eval(K.cast(v, d)),
    "maximum": _operand(lambda x, v: K.maximum(x, v)[0]),
    "switch": _operand(lambda x, v: K.switch(x > 0, x, v)[0]),
    "concatenate": _operand(lambda x, v: K.concatenate([x, [v]], 0)[2]),
    "dot": _operand(lambda x, v: K.dot(K.reshape(x + 1, (1, 2)), np.array([[v], [0]]))[0, 0]),
    "bias_add": _operand(lambda x, v: K.bias_add(K.reshape(x, (1, 2)), np.array([v, 0]))[0, 0]),
    "foldl": _operand(lambda x, v: K.foldl(lambda a, b: a + b, x, v)),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("entry", [*ENTRIES, *FLOAT_ENTRIES])
def test_floats_are_rounded_once(entry, dtype, floatx):
    for value in (0.1, WITNESS, np.float64(WITNESS)):
        found = np.asarray({**ENTRIES, **FLOAT_ENTRIES}[entry](value, dtype))
        assert (found.dtype, found) == (dtype, np.array(value).astype(dtype))


@pytest.mark.parametrize("entry", ENTRIES)
def test_integers_that_do_not_fit_are_refused(entry):
    for dtype, value in (("uint8", 256), ("int8", 200), ("int32", 2**32 + 1), ("int64", 2**63)):
        with pytest.raises(DTypeError, match="does not fit"):
            ENTRIES[entry](value, dtype)
    with pytest.raises(DTypeError):
        ENTRIES[entry](1.5, "int32")


@pytest.mark.parametrize("entry", [name for name in ENTRIES if name != "moving_average"])
def test_integers_that_fit_are_taken(entry):
    for dtype, value in (("uint8", 255), ("int32", -(2**31) + 1), ("int64", 2**53 + 1)):
        if dtype != "uint8" or entry != "update_sub":
            found = np.asarray(ENTRIES[entry](value, dtype))
            assert (found.dtype, int(found)) == (dtype, value)


def test_a_cast_of_a_number_is_one():
    assert K.eval(K.cast(2.7, "int32")) == 2
    assert K.eval(K.cast(300, "uint8")) == 44


def test_the_rates_of_optimizers_have_the_precision_of_floatx():
    K.set_floatx("float64")
    try:
        adam = keras.optimizers.Adam(lr=0.001, decay=0.1)
        found = [K.get_value(v) for v in (adam.lr, adam.beta_1, adam.beta_2, adam.decay)]
        assert [float(v) for v in found] == [0.001, 0.9, 0.999, 0.1]
        model = keras.Sequential([keras.layers.Dense(1, use_bias=False, input_shape=(1,))])
        model.set_weights([np.zeros((1, 1))])
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.train_on_batch(np.ones((1, 1)), np.array([[0.3]]))
        assert model.get_weights()[0].item() == 0.1 * (2 * 0.3)
    finally:
        K.set_floatx("float32")


def test_accuracy_over_many_classes_in_float16():
    K.set_floatx("float16")
    try:
        truth, scores = K.placeholder((None, 1)), K.placeholder((None, 3000))
        f = K.function([truth, scores], [keras.metrics.sparse_categorical_accuracy(truth, scores)])
        classes = np.array([2999, 2500, 2001, 7])
        right = np.eye(3000)[classes]
        assert f([classes[:, None], right])[0].tolist() == [1.0] * 4
        assert f([classes[:, None], np.roll(right, 5, 1)])[0].tolist() == [0.0] * 4
    finally:
        K.set_floatx("float32")
