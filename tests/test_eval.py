import numpy as np
import pytest

import ksym


def test_the_value_of_a_tensor_for_values_of_placeholders():
    x, y = ksym.placeholder((None,)), ksym.placeholder((), default=3.0)
    w = ksym.Variable(2.0)
    assert (x * w * y).eval({x: [1, 2]}).tolist() == [6.0, 12.0]
    assert (x * w * y).eval({x: [1, 2], y: 1.0}).tolist() == [2.0, 4.0]
    assert w.eval() == 2.0
    assert (w + 1.0).eval() == 3.0


def test_an_inner_tensor_can_be_given():
    x = ksym.placeholder((2,))
    inner = ksym.exp(x)
    assert (inner + 1.0).eval({inner: [1, 2]}).tolist() == [2.0, 3.0]


def test_mistakes_say_what_to_do():
    x = ksym.placeholder((2,), name="x")
    with pytest.raises(ksym.GraphError, match=r"eval\(\{placeholder: array\}\)"):
        ksym.evaluate(x * 2.0)  # with Keras loaded, `eval` is that of its backend
    with pytest.raises(ksym.InputError, match=r"shape \(3,\)"):
        (x * 2.0).eval({x: np.ones(3)})
