import numpy as np
import pytest

import ksym
from ksym import ops
from ksym.errors import GradientError
from ksym.testing import verify_gradient


def value(tensor, feeds=None):
    return ksym.evaluate(tensor, feeds)


def test_gradient_of_a_sum_of_squares():
    x = ksym.Variable([1.0, -2.0, 3.0])
    g = ksym.gradients(ksym.sum(x * x), x)
    assert value(g).tolist() == [2, -4, 6]


def test_a_list_gives_a_list_and_a_tensor_a_tensor():
    x, y = ksym.Variable(2.0), ksym.Variable(3.0)
    loss = x * y
    gx, gy = ksym.gradients(loss, [x, y])
    assert (value(gx), value(gy)) == (3, 2)
    assert isinstance(ksym.gradients(loss, x), ksym.Tensor)


def test_a_loss_that_is_no_scalar_counts_as_its_sum():
    x = ksym.Variable([1.0, 2.0])
    assert value(ksym.gradients(x * 3.0, x)).tolist() == [3, 3]


def test_several_losses_add_up():
    x = ksym.Variable(2.0)
    assert value(ksym.gradients([x * x, 3.0 * x], x)) == 7


def test_known_output_gradients():
    x = ksym.Variable([1.0, 2.0])
    g = ksym.gradients(x * x, x, output_gradients=ksym.constant([10.0, 100.0]))
    assert value(g).tolist() == [20, 400]
    with pytest.raises(GradientError, match="does not match"):
        ksym.gradients(x * x, x, output_gradients=ksym.constant(1.0))
    with pytest.raises(GradientError, match="2 output gradients for 1"):
        ksym.gradients(x * x, x, output_gradients=[None, None])


def test_gradients_by_something_in_between():
    x = ksym.Variable(3.0)
    y = x * x
    z = y * y
    gy, gx = ksym.gradients(z, [y, x])
    assert (value(gy), value(gx)) == (18, 108)


def test_stop_gradient_as_an_operator_and_as_an_argument():
    x = ksym.Variable(3.0)
    assert value(ksym.gradients(x * ksym.stop_gradient(x), x)) == 3
    y = x * x
    assert value(ksym.gradients(y * x, x, stop_gradients=[y])) == 9


def test_orders_without_end():
    x = ksym.Variable(2.0)
    y = x**5.0
    expected = [80.0, 160.0, 240.0, 240.0, 120.0]
    for number in expected:
        y = ksym.gradients(y, x)
        assert value(y) == pytest.approx(number)


def test_a_gradient_may_be_used_and_differentiated_like_any_tensor():
    w = ksym.Variable(np.array([[0.3, -0.2], [0.1, 0.5]]))
    x = ksym.constant(np.array([[1.0, 2.0]]))
    g = ksym.gradients(ksym.sum(ksym.tanh(x @ w)), w)
    penalty = ksym.sum(ksym.square(g))
    assert ksym.gradients(penalty, w).shape == (2, 2)


def test_second_order_through_convolution_normalisation_and_pooling(rng):
    w = rng.normal(size=(3, 2, 3, 3))

    def build(x, gamma):
        y = ksym.convolution(x, ksym.constant(w), padding="same")
        y = ksym.batch_norm(y, gamma, ksym.constant(np.zeros(3)))[0]
        return ksym.max_pool(ksym.tanh(y), 2)

    verify_gradient(build, [rng.normal(size=(2, 2, 4, 4)), rng.normal(size=3)], order=2)


def test_disconnected_inputs_by_policy():
    x, y = ksym.Variable(1.0), ksym.Variable([1.0, 2.0])
    with pytest.raises(GradientError, match="not computed from"):
        ksym.gradients(x * x, y)
    assert ksym.gradients(x * x, [y], disconnected="none") == [None]
    assert value(ksym.gradients(x * x, y, disconnected="zero")).tolist() == [0, 0]
    with pytest.raises(GradientError, match="disconnected is"):
        ksym.gradients(x, x, disconnected="maybe")


def test_a_cut_path_is_explained():
    x = ksym.Variable([1.0, 2.0])
    chosen = ksym.argmax(x * 2.0)
    loss = ksym.cast(chosen, "float32") * 3.0
    with pytest.raises(GradientError) as caught:
        ksym.gradients(loss, x)
    text = str(caught.value)
    assert "argmax" in text
    assert f"{__file__}:" in text
    assert "through tanh" in ksym.explain_gradient(ksym.sum(ksym.tanh(x)), x)
    assert "cut at stop_gradient" in ksym.explain_gradient(ksym.stop_gradient(x) * 2.0, x)


def test_only_cuts_that_matter_are_explained():
    x = ksym.placeholder((None, 3))
    explained = ksym.explain_gradient(ksym.mean(ksym.stop_gradient(x)), x)
    assert explained.startswith("cut at stop_gradient")
    assert "\n" not in explained  # the mean divides by a number of elements, which x has no part in
    of_shape = ksym.cast(ksym.shape_of(x)[0], "float32")
    assert "which gives int64" in ksym.explain_gradient(of_shape, x)


def test_integers_and_booleans_have_no_gradient():
    with pytest.raises(GradientError, match="only floats"):
        ksym.gradients(ksym.Variable(1.0), ksym.Variable(1))
    with pytest.raises(GradientError, match="not a tensor"):
        ksym.gradients(3.0, ksym.Variable(1.0))


def test_the_gradient_has_the_dtype_of_what_it_is_for():
    x = ksym.Variable(np.float16(2.0))
    g = ksym.gradients(ksym.cast(x, "float64") * 3.0, x)
    assert g.dtype == "float16"


def test_broadcast_operands_get_gradients_of_their_own_shape():
    x, row, scalar = (ksym.placeholder(s, "float64") for s in ((None, 3), (3,), ()))
    unknown = ksym.placeholder((None, 1), "float64")
    loss = ksym.sum(x * row + scalar * unknown)
    f = ksym.function([x, row, scalar, unknown], ksym.gradients(loss, [x, row, scalar, unknown]))
    found = f(np.ones((4, 3)), np.arange(3.0), 2.0, np.ones((4, 1)))
    assert [g.shape for g in found] == [(4, 3), (3,), (), (4, 1)]
    assert found[1].tolist() == [4, 4, 4]
    assert found[2] == 12  # the product with the column is stretched over three columns
    assert found[3].tolist() == [[6]] * 4


def test_both_unknown_sizes_may_turn_out_to_be_stretched():
    x, y = ksym.placeholder((None,), "float64"), ksym.placeholder((None,), "float64")
    f = ksym.function([x, y], ksym.gradients(ksym.sum(x * y), [x, y]))
    gx, gy = f([1.0, 2.0, 3.0], [5.0])
    assert gx.tolist() == [5, 5, 5]
    assert gy.tolist() == [6]


def test_a_zero_gradient_connects():
    x = ksym.Variable([1.0, -1.0])
    first = ksym.gradients(ksym.sum(ksym.relu(x)), x)
    assert value(ksym.gradients(ksym.sum(first), x)).tolist() == [0, 0]


def test_the_branch_not_taken_costs_nothing():
    x = ksym.placeholder((2,), name="x")
    w = ksym.Variable([1.0, 2.0])
    phase = ksym.placeholder((), "bool", default=False, static=True)
    y = ksym.where(phase, ksym.exp(x * w), ksym.tanh(x * w))
    f = ksym.function([x, phase], ksym.gradients(ksym.sum(y), w))
    f([0.5, 0.5], True)
    used = {node.operator.name for node in f.last_graph()}
    assert "exp" in used
    assert "tanh" not in used
    np.testing.assert_allclose(
        f([0.5, 0.5], False), 0.5 * (1 - np.tanh([0.5, 1.0]) ** 2), rtol=1e-6
    )


def test_a_deep_chain_is_differentiated_without_recursion(shallow_stack):
    x = ksym.placeholder((2,))
    y = x
    for _ in range(5_000):
        y = ops.copy(y) * 1.0
    g = ksym.gradients(y, x)
    assert g.shape == (2,)


def test_verify_gradient_notices_a_wrong_rule():
    verify_gradient(lambda x: ksym.exp(x), [np.array([0.1, 0.2])])
    with pytest.raises(GradientError, match="order 1"):
        verify_gradient(lambda x: x * ksym.stop_gradient(x), [np.array([0.5, 2.0])])
    with pytest.raises(GradientError, match="order 2"):
        verify_gradient(_wrong_second_order, [np.array([0.5, 2.0])])


def _wrong_second_order(x):
    # Its first gradient is 2 x, as it should be; that of the gradient is cut.
    y = ksym.stop_gradient(x)
    return 2.0 * y * x - ksym.stop_gradient(y * x)
