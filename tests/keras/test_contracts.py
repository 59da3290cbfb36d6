"""What users and clients of Keras rely on that its tests do not say, as TensorFlow's backend has it."""

import numpy as np
import pytest

import ksym

keras = pytest.importorskip("keras")
K = keras.backend
layers = keras.layers


# --- values of rank 0 ----------------------------------------------------------------------------


def scalars():
    v = K.variable(1.5)
    x = K.placeholder(())
    return {
        "a variable": (K.eval(v), np.float32(1.5)),
        "a tensor": (K.eval(v * 2), np.float32(3)),
        "a condition": (K.eval(v > 1), np.bool_(True)),
        "a position": (K.eval(K.argmax(K.constant([1, 2]))), np.int64(1)),
        "an update": (K.eval(K.update_add(v, 1)), np.float32(2.5)),
        "get_value": (K.get_value(v), np.float32(2.5)),
        "get_value of a tensor": (K.get_value(v + 1), np.float32(3.5)),
        "batch_get_value": (K.batch_get_value([v])[0], np.float32(2.5)),
        "batch_get_value of tensors": (K.batch_get_value([v + 1])[0], np.float32(3.5)),
        "a function": (K.function([x], [x + 1])([2])[0], np.float32(3)),
        "a function's update": (K.function([x], [K.update(v, x)])([2])[0], np.float32(2)),
        "float64": (K.eval(K.constant(2, "float64")), np.float64(2)),
        "float16": (K.eval(K.constant(2, "float16")), np.float16(2)),
        "a session": (K.get_session().run(x, {x: 1}), np.float32(1)),
        "a session's dict": (K.get_session().run({"x": x}, {x: 1})["x"], np.float32(1)),
        "no tensor": (K.eval(2.0), np.float64(2)),
    }


@pytest.mark.parametrize("name", scalars())
def test_values_of_rank_0_are_scalars_of_numpy(name):
    got, expected = scalars()[name]
    assert type(got) is type(expected)
    assert got == expected


def test_a_history_can_be_rounded():
    model = keras.Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["acc"])
    x, y = np.ones((10, 3)), np.zeros(10)
    history = model.fit(x, y, validation_data=(x, y), verbose=0).history
    assert set(history) == {"loss", "acc", "val_loss", "val_acc"}
    values = [v[0] for v in history.values()]
    values += [*model.train_on_batch(x, y), *model.test_on_batch(x, y), *model.evaluate(x, y)]
    for value in values:
        assert isinstance(value, float | np.floating)
        assert abs(round(value, 3) - value) <= 0.0005001


def test_values_with_axes_stay_arrays():
    (value,) = K.function([], [K.ones((1,))])([])
    assert type(value) is np.ndarray
    assert isinstance(ksym.evaluate(ksym.constant(1.0)), np.ndarray)  # ksym itself has no scalars
