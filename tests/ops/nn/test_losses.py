"""Cross entropies: classes masked by minus infinity, and entropies of probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym

nan, inf = np.nan, np.inf
MODES = {"compiled": {}, "native": {"flags": "fuse_loops=0"}, "interpreted": {"mode": "interpret"}}


def sparse(logits, axis):
    return ksym.sparse_softmax_cross_entropy(ksym.constant(np.array([1, 2])), logits, axis)


def dense(logits, axis):
    labels = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], logits.dtype)
    return ksym.softmax_cross_entropy(
        ksym.constant(labels if axis else labels.T.copy()), logits, axis
    )


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("loss", [sparse, dense])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_masked_class_has_no_part_in_the_loss_and_no_gradient(axis, loss, dtype, options):
    values = np.array([[-inf, 0.0, 0.0], [0.0, -inf, 0.0]])
    x = ksym.placeholder(values.shape if axis else values.T.shape, dtype)
    y = loss(x, axis)
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y), x)], **options)
    found, slope = f(values if axis else values.T)
    np.testing.assert_allclose(found, np.log([2.0, 2.0]), rtol=1e-3)
    meant = np.array([[0.0, -0.5, 0.5], [0.5, 0.0, -0.5]])
    np.testing.assert_allclose(slope, meant if axis else meant.T, atol=1e-3)


@pytest.mark.parametrize("options", MODES.values(), ids=MODES)
def test_the_loss_of_a_masked_class_is_infinite_and_that_of_nan_is_nan(options):
    x = ksym.placeholder((2, 3))
    f = ksym.function([x], sparse(x, 1), **options)
    found = f([[0.0, -inf, 0.0], [nan, 0.0, 0.0]])
    assert found[0] == inf
    assert np.isnan(found[1])


def test_labels_have_the_gradient_of_the_scores():
    labels, x = ksym.placeholder((1, 3)), ksym.placeholder((1, 3))
    slope = ksym.gradients(ksym.softmax_cross_entropy(labels, x), labels)
    found = ksym.function([labels, x], slope)([[0.0, 1.0, 0.0]], [[0.0, 0.0, -inf]])
    np.testing.assert_allclose(found, [[np.log(2.0), np.log(2.0), 0.0]], rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"flags": "fuse_loops=0"}, {"mode": "interpret"}])
def test_the_shares_of_log_softmax_add_up_to_one(options):
    x = ksym.placeholder((64, 100))
    values = np.random.default_rng(0).normal(size=x.shape).astype("float32")
    found = ksym.function([x], ksym.log_softmax(x), **options)(values)
    # The rounding of numbers of up to 8; oneDNN's kernel alone is 4e-6 off, in all of a row.
    np.testing.assert_allclose(np.exp(found.astype("float64")).sum(axis=1), 1.0, rtol=1e-6)


# --- of probabilities ----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 1)), min_size=1, max_size=6))
def test_entropies_of_probabilities_are_those_of_logits(pairs):
    logits = ksym.placeholder((None,), "float64")
    labels = [label for _, label in pairs]
    shares = np.array(labels) / max(sum(labels), 1.0)
    losses = [
        ksym.binary_cross_entropy(labels, ksym.sigmoid(logits)),
        ksym.sigmoid_cross_entropy(labels, logits),
        ksym.cross_entropy(shares, ksym.softmax(logits)),
        ksym.softmax_cross_entropy(shares, logits),
    ]
    results = losses + [ksym.gradients(loss, logits) for loss in losses]
    found = ksym.function(logits, results)([logit for logit, _ in pairs])
    for of_probabilities, of_logits in zip(found[::2], found[1::2], strict=True):
        np.testing.assert_allclose(of_probabilities, of_logits, rtol=1e-9, atol=1e-10)


def test_probabilities_of_zero_and_one():
    labels = [1.0, 0.0, 1.0, 0.0]
    p = ksym.placeholder((4,))
    loss = ksym.binary_cross_entropy(labels, p)
    of_classes = ksym.cross_entropy([[0.0, 1.0], [1.0, 0.0]], ksym.reshape(p, (2, 2)))
    found = ksym.function(p, [loss, of_classes])([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(found[0], [0.0, 0.0, np.inf, np.inf])
    np.testing.assert_array_equal(found[1], [np.inf, np.inf])


def test_labels_of_another_kind_say_how_to_make_them():
    p = ksym.placeholder((None, 3))
    with pytest.raises(ksym.ShapeError, match=r"ksym.one_hot\(labels, classes\)"):
        ksym.cross_entropy(ksym.placeholder((None,)), p)
