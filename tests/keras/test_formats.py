"""Data formats, causal padding and resizing, against values computed by hand or in NumPy."""

import keras
import numpy as np
import pytest

import ksym

K = keras.backend


@pytest.mark.parametrize("operator", [ksym.max_pool, ksym.average_pool])
def test_pooling_knows_both_data_formats(operator, rng):
    x = rng.standard_normal((2, 3, 5, 4))
    first = ksym.evaluate(operator(ksym.as_tensor(x), 2, 2, "same"))
    moved = ksym.as_tensor(np.moveaxis(x, 1, -1).copy())
    last = ksym.evaluate(operator(moved, 2, 2, "same", data_format="channels_last"))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)


def test_convolution_knows_both_data_formats(rng):
    x, w = rng.standard_normal((2, 3, 5, 4)), rng.standard_normal((2, 3, 2, 2))
    first = ksym.evaluate(ksym.convolution(ksym.as_tensor(x), w))
    moved = ksym.as_tensor(np.moveaxis(x, 1, -1).copy())
    last = ksym.evaluate(ksym.convolution(moved, w, data_format="channels_last"))
    np.testing.assert_allclose(np.moveaxis(last, -1, 1), first)


def test_causal_padding_looks_at_nothing_later():
    x = ksym.as_tensor(np.array([[[1.0, 2.0, 3.0, 4.0]]]))
    y = ksym.convolution(x, np.array([[[1.0, 10.0]]]), padding="causal", dilation=2)
    np.testing.assert_array_equal(ksym.evaluate(y), [[[10.0, 20.0, 31.0, 42.0]]])


@pytest.mark.parametrize(
    ("method", "coordinates", "expected"),
    [
        ("nearest", "asymmetric", [1, 1, 2, 2]),
        ("bilinear", "asymmetric", [1, 1.5, 2, 2]),
        ("bilinear", "half_pixel", [1, 1.25, 1.75, 2]),
        ("bilinear", "align_corners", [1, 4 / 3, 5 / 3, 2]),
    ],
)
def test_resizing_places_elements_as_tensorflow_does(method, coordinates, expected):
    x = ksym.as_tensor(np.array([[[1.0, 2.0]]]))
    y = ksym.resize(x, (4,), method, coordinates)
    np.testing.assert_allclose(ksym.evaluate(y), [[expected]])


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_local_convolution_of_keras(data_format, rng):
    x = rng.standard_normal((2, 3, 5, 4)).astype("float32")
    if data_format == "channels_last":
        x = np.moveaxis(x, 1, -1).copy()
    kernel = rng.standard_normal((2 * 3, 3 * 4, 2)).astype("float32")
    found = K.eval(
        K.local_conv2d(
            K.constant(x), K.constant(kernel), (2, 2), (2, 1), (2, 3), data_format=data_format
        )
    )
    for place, (i, j) in enumerate(np.ndindex(2, 3)):
        rows, columns = slice(2 * i, 2 * i + 2), slice(j, j + 2)
        last = data_format == "channels_last"
        window = x[:, rows, columns] if last else x[:, :, rows, columns]
        expected = window.reshape(2, -1) @ kernel[place]
        here = found[:, i, j] if last else found[:, :, i, j]
        np.testing.assert_allclose(here, expected, rtol=1e-5, atol=1e-5)


def test_local_convolution_of_keras_in_one_dimension(rng):
    x = rng.standard_normal((2, 7, 3)).astype("float32")
    kernel = rng.standard_normal((3, 3 * 3, 2)).astype("float32")
    found = K.eval(K.local_conv1d(K.constant(x), K.constant(kernel), (3,), (2,)))
    for i in range(3):
        expected = x[:, 2 * i : 2 * i + 3].reshape(2, -1) @ kernel[i]
        np.testing.assert_allclose(found[:, i], expected, rtol=1e-5, atol=1e-5)
