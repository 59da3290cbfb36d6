"""What users get wrong is said with their line, the layer, and what to do."""

import re

import keras
import numpy as np
import pytest
from keras import layers, ops

import ksym

HERE = re.escape(__file__)


class Custom(layers.Layer):
    """A layer that does what a function says, and looks like its input from outside."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def trained(function, x=None, **compiled):
    model = keras.Sequential([layers.Input((4,)), Custom(function, name="mine"), layers.Dense(1)])
    model.compile("sgd", "mse", **compiled)
    x = np.ones((8, 4), "float32") if x is None else x
    return model.train_on_batch(x, np.ones((len(x), 1), "float32"))


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x if ops.sum(x) > 0 else -x,
        lambda x: x * float(ops.sum(x)),
        lambda x: x * np.exp(np.asarray(x)),
        lambda x: x[: int(ops.sum(x))],
        lambda x: [x] * ops.cast(ops.sum(x), "int32").__index__() and x,
        lambda x: x * ops.sum(x).numpy(),
    ],
)
def test_a_value_that_is_asked_of_a_traced_tensor_is_refused_with_the_line_and_the_layer(look):
    message = (
        rf"(?s)not known while a function is traced.*made at: {HERE}:\d+.*mine"
        r".*to do: .*keras\.ops.*run_eagerly=True"
    )
    with pytest.raises(TypeError, match=message):
        trained(look)
    assert np.isfinite(trained(look, run_eagerly=True))  # what it says to do


def test_the_length_of_a_batch_is_refused_and_then_known():
    """The step is traced for each size then."""
    assert np.isfinite(trained(lambda x: x * len(x)))


def test_shapes_that_do_not_fit_name_the_line_and_the_layer():
    with pytest.raises(ksym.errors.ShapeError) as caught:
        trained(lambda x: ops.matmul(x, ops.ones((3, 4))))
    said = str(caught.value)
    assert re.search(rf"matmul.*made at: {HERE}:\d+ in <lambda>, under '.*mine", said, re.DOTALL)
    assert "(8, 4)" in said
    assert "(3, 4)" in said


def test_a_failure_at_the_call_names_the_line_and_the_layer():
    with pytest.raises(ksym.errors.ExecutionError) as caught:
        trained(lambda x: ops.cholesky(-ops.matmul(ops.transpose(x), x))[:1] * x)
    said = str(caught.value)
    assert re.search(rf"cholesky.*made at: {HERE}:\d+ in <lambda>, under '.*mine", said, re.DOTALL)


def test_eager_functions_name_the_line():
    with pytest.raises(ksym.errors.ShapeError, match=rf"(?s)add.*made at: {HERE}"):
        ops.add(np.ones((2, 3)), np.ones((2, 4)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.convert_to_tensor(1 + 2j), "complex128.*real and imaginary"),
        (lambda: ops.cast(np.ones(2), "complex64"), "complex64.*real and imaginary"),
        (lambda: ops.polar(np.ones(2), np.ones(2)), "complex64.*real and imaginary"),
        (lambda: ops.cast(np.ones(2), "float8_e4m3fn"), "float8_e4m3fn.*bfloat16"),
        (lambda: ops.add(np.array(["a"]), 1), "string.*vocabulary"),
        (lambda: ops.add(np.array([[1], [1, 2]], object), 1), "unequal.*dense"),
    ],
)
def test_dtypes_that_are_not_there_are_refused_by_name(make, message):
    with pytest.raises((TypeError, ValueError), match=rf"(?s){message}"):
        make()


def test_a_sparse_tensor_is_refused():
    with pytest.raises(ValueError, match=r"sparse=True.*ksym.*dense"):
        ops.convert_to_tensor(np.eye(2), sparse=True)
    with pytest.raises(ValueError, match=r"ragged=True.*ksym.*dense"):
        ops.convert_to_tensor(np.eye(2), ragged=True)


def test_a_layer_that_asks_for_sparse_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"`sparse=True` is not supported with the ksym backend"):
        layers.Input((4,), sparse=True)


def test_a_matrix_of_scipy_is_trained_on_as_it_would_be_dense():
    sparse = pytest.importorskip("scipy.sparse")
    x = np.eye(8, 4, dtype="float32")
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(sparse.csr_matrix(x), verbose=0), expected)
    assert np.isfinite(model.fit(sparse.csr_matrix(x), np.ones((8, 1)), verbose=0).history["loss"])


def test_a_symbolic_input_of_a_model_has_no_value():
    with pytest.raises((TypeError, ValueError), match=r"(?i)keras ?tensor"):
        np.asarray(ops.exp(layers.Input((4,))))


def test_data_of_the_wrong_shape_is_refused_by_keras():
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1, name="last")])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"(?i)incompatible|shape"):
        model.predict(np.ones((2, 5)), verbose=0)
    with pytest.raises(ValueError, match=r"(?i)cardinality|samples"):
        model.fit(np.ones((4, 4)), np.ones((3, 1)), verbose=0)


def test_a_model_is_not_exported_for_tensorflow(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(1)])
    with pytest.raises(NotImplementedError, match=r"model\.save"):
        model.export(str(tmp_path / "m"))
