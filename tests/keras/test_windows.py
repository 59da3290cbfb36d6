"""Windows that are larger than their input are refused where the layer is made."""

import numpy as np
import pytest

import ksym
from ksym.errors import ShapeError

keras = pytest.importorskip("keras")
L = keras.layers

TOO_LARGE = {
    "conv1d": (lambda **f: L.Conv1D(4, 7, **f), 1),
    "conv1d dilated": (lambda **f: L.Conv1D(4, 3, dilation_rate=3, **f), 1),
    "conv2d": (lambda **f: L.Conv2D(4, (1, 7), **f), 2),
    "conv3d": (lambda **f: L.Conv3D(4, (1, 7, 1), **f), 3),
    "depthwise_conv2d": (lambda **f: L.DepthwiseConv2D(7, **f), 2),
    "separable_conv1d": (lambda **f: L.SeparableConv1D(4, 7, **f), 1),
    "separable_conv2d": (lambda **f: L.SeparableConv2D(4, 7, **f), 2),
    "locally_connected1d": (lambda **f: L.LocallyConnected1D(4, 7), 1),
    "locally_connected2d": (lambda **f: L.LocallyConnected2D(4, 7, **f), 2),
    "max_pooling1d": (lambda **f: L.MaxPooling1D(7, **f), 1),
    "average_pooling2d": (lambda **f: L.AveragePooling2D(7, **f), 2),
    "max_pooling3d": (lambda **f: L.MaxPooling3D(7, **f), 3),
    "cropping1d": (lambda **f: L.Cropping1D((3, 3)), 1),
    "cropping2d": (lambda **f: L.Cropping2D(3, **f), 2),
    "cropping3d": (lambda **f: L.Cropping3D(3, **f), 3),
}


@pytest.mark.parametrize("case", TOO_LARGE)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_window_larger_than_its_input_is_refused_by_the_layers_name(case, data_format):
    make, axes = TOO_LARGE[case]
    first = data_format == "channels_first" and case not in ("locally_connected1d", "cropping1d")
    shape = (2, *[5] * axes) if first else (*[5] * axes, 2)
    x = L.Input(shape)
    with pytest.raises(ShapeError, match=case.split()[0]) as caught:
        make(data_format=data_format)(x)
    message = str(caught.value)
    assert "test_windows.py" in message
    assert "larger inputs" in message


@pytest.mark.parametrize("initializer", ["zeros", "random_normal", "he_normal", "lecun_uniform"])
def test_weights_of_a_negative_size_are_refused_whatever_draws_them(initializer):
    with pytest.raises(ShapeError, match="larger inputs") as caught:
        L.LocallyConnected1D(4, 7, kernel_initializer=initializer, name="wide")(L.Input((5, 2)))
    assert "wide" in str(caught.value)


def test_of_sizes_that_the_call_gives_the_call_says_it():
    x = L.Input((None, 2))
    model = keras.Model(x, L.Conv1D(4, 7, name="wide")(x))
    assert model.predict(np.ones((2, 7, 2))).shape == (2, 1, 4)
    with pytest.raises(ShapeError, match="does not fit") as caught:
        model.predict(np.ones((2, 5, 2)))
    assert "wide" in str(caught.value)


@pytest.mark.parametrize("layer", [L.MaxPooling2D, L.AveragePooling2D])
def test_a_pooling_layer_of_one_window_that_overhangs(layer):
    x = L.Input((2, 2, 1))
    model = keras.Model(x, layer(3, 2, "same")(x))
    values = np.arange(4.0).reshape(1, 2, 2, 1)
    expected = 3.0 if layer is L.MaxPooling2D else 1.5
    assert model.predict(values).tolist() == [[[[expected]]]]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ["max_pool", "average_pool"])
@pytest.mark.parametrize("mode", ["native", "interpret"])
def test_small_sides_in_large_windows(axes, name, mode):
    operator = getattr(ksym, name)
    rng = np.random.default_rng(0)
    for side in (1, 2, 3):
        for window, stride in [(2, 2), (3, 1), (3, 2), (3, 3), (4, 2), (5, 2), (5, 3)]:
            x = ksym.placeholder((1, 1, *[side] * axes))
            y = operator(x, window, stride, "same")
            value = rng.permutation(side**axes).reshape(x.shape).astype("float32")
            slope = ksym.gradients(ksym.sum(y * y), x)
            found, gradient = ksym.function([x], [y, slope], mode=mode)(value)

            def meaning(v, node=y.node):
                return node.operator.numpy(v, **node.attributes)

            np.testing.assert_allclose(found, meaning(value), rtol=1e-5)
            direction = np.cos(np.arange(side**axes)).reshape(x.shape)
            ahead, behind = ((meaning(value + h * direction) ** 2).sum() for h in (1e-4, -1e-4))
            derivative = (ahead - behind) / 2e-4
            np.testing.assert_allclose(
                (gradient * direction).sum(), derivative, rtol=1e-3, atol=1e-3
            )
