"""Convolutions whose padding is given by Theano's names."""

import numpy as np
import pytest
from scipy.signal import correlate

import ksym


def arrays(*window):
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, 1, *(7 for _ in window))), rng.standard_normal((1, 1, *window))


@pytest.mark.parametrize("window", [(3,), (1,), (3, 4), (2, 3, 2)])
def test_full_padding_meets_each_element_at_all_places_of_the_window(window):
    x, w = arrays(*window)
    found = ksym.convolution(x, w, padding="full").eval()
    np.testing.assert_allclose(found[0, 0], correlate(x[0, 0], w[0, 0], "full"), rtol=1e-6)


def test_half_padding_keeps_the_size_for_odd_windows_and_adds_one_for_even_ones():
    x, _ = arrays(1, 1)
    for window in (1, 2, 3, 4, 5):
        w = np.ones((1, 1, window, window))
        found = ksym.convolution(x, w, padding="half").eval()
        assert found.shape[2] == 7 + (window + 1) % 2
        explicit = ksym.convolution(x, w, padding=window // 2)
        np.testing.assert_array_equal(found, explicit.eval())


@pytest.mark.parametrize("name", ["full", "half"])
def test_the_names_count_the_places_between_dilated_elements(name):
    x, w = arrays(2, 3)
    spread = np.zeros((1, 1, 3, 5))
    spread[:, :, ::2, ::2] = w
    found = ksym.convolution(x, w, padding=name, dilation=2)
    assert found.shape[2:] == ((9, 11) if name == "full" else (7, 7))
    expected = ksym.convolution(x, spread, padding=name)
    np.testing.assert_allclose(found.eval(), expected.eval(), rtol=1e-6)


def test_the_transpose_and_the_depthwise_form_take_the_names():
    x, w = arrays(3, 3)
    y = ksym.convolution(x, w, padding="full")
    back = ksym.convolution_transpose(y, w, (7, 7), padding="full")
    source = ksym.as_tensor(x)
    expected = ksym.gradients(
        ksym.convolution(source, w, padding="full"), source, output_gradients=y
    )
    np.testing.assert_allclose(back.eval(), expected.eval(), rtol=1e-6)
    alone = ksym.depthwise_convolution(x, w, padding="full")
    np.testing.assert_allclose(alone.eval(), y.eval(), rtol=1e-6)
    mixed = ksym.separable_convolution(x, w, np.ones((1, 1)), padding="full")
    np.testing.assert_allclose(mixed.eval(), y.eval(), rtol=1e-6)


def test_gradients_flow_through_named_paddings():
    x = ksym.placeholder((1, 1, 5, 5))
    w = np.ones((1, 1, 3, 3))
    total = ksym.sum(ksym.convolution(x, w, padding="full"))
    np.testing.assert_array_equal(ksym.gradients(total, x).eval({x: np.zeros((1, 1, 5, 5))}), 9.0)


def test_a_window_of_unknown_size_has_no_half():
    x, w = ksym.placeholder((1, 1, 5)), ksym.placeholder((1, 1, None))
    with pytest.raises(ksym.ShapeError, match="needs a window of known size"):
        ksym.convolution(x, w, padding="half")
    with pytest.raises(ksym.ShapeError, match="padding 'halb' is not known"):
        ksym.convolution(x, np.ones((1, 1, 3)), padding="halb")
