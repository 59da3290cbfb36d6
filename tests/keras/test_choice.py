"""`in_train_phase` and `switch` return what is chosen as it is: nothing is broadcast."""

import numpy as np
import pytest

import ksym

keras = pytest.importorskip("keras")
K = keras.backend

WIDE, NARROW = np.arange(6, dtype="float32").reshape(2, 3), np.ones((2, 1), "float32")


def outputs(z, x, y):
    return [z, *K.gradients(K.sum(K.square(z)), [x, y])]


@pytest.mark.parametrize("lazy", [True, False])
def test_branches_of_different_shapes(lazy):
    x, y = K.placeholder((None, 3)), K.placeholder((None, None))
    c = K.placeholder((), dtype="bool")
    choices = (lambda: x * 1.0, lambda: y * 1.0) if lazy else (x * 1.0, y * 1.0)
    phase = K.learning_phase()
    cases = [(K.in_train_phase(*choices), phase)]
    if not lazy:
        cases.append((K.switch(c, *choices), c))
    for z, condition in cases:
        f = ksym.function([x, y, condition], outputs(z, x, y))
        for chosen in (True, False, True):
            value, for_x, for_y = f(WIDE, NARROW, chosen)
            np.testing.assert_array_equal(value, WIDE if chosen else NARROW)
            np.testing.assert_array_equal(for_x, 2 * WIDE * chosen)
            np.testing.assert_array_equal(for_y, 2 * NARROW * (not chosen))


@pytest.mark.parametrize("chosen", [True, False])
def test_a_condition_that_is_a_constant(chosen):
    x, y = K.placeholder((2, 3)), K.placeholder((2, 1))
    for condition in (K.constant(chosen, dtype="bool"), ksym.constant(chosen)):
        z = K.switch(condition, x, y)
        assert K.int_shape(z) == ((2, 3) if chosen else (2, 1))
        value, for_x, for_y = ksym.function([x, y], outputs(z, x, y))(WIDE, NARROW)
        np.testing.assert_array_equal(value, WIDE if chosen else NARROW)
        np.testing.assert_array_equal(for_x, 2 * WIDE * chosen)
        np.testing.assert_array_equal(for_y, 2 * NARROW * (not chosen))


@pytest.mark.parametrize("lazy", [True, False])
def test_a_choice_by_shapes_does_not_need_the_other_one(lazy):
    x = K.placeholder((None, 3))
    some = K.shape(x)[0] > 0
    if lazy:
        z = K.switch(some, lambda: x[0], lambda: K.zeros((3,)) * 1.0)
    else:
        z = K.switch(some, x[0], K.zeros((3,)) * 1.0)
    f = K.function([x], [z, *K.gradients(K.sum(z), [x])])
    value, slope = f([WIDE[:0]])
    assert value.tolist() == [0, 0, 0]
    assert slope.shape == (0, 3)
    value, slope = f([WIDE])
    assert value.tolist() == [0, 1, 2]
    assert slope.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_choices_of_different_ranks_are_refused():
    x, c = K.placeholder((None, 3)), K.placeholder((), dtype="bool")
    with pytest.raises(ksym.errors.ShapeError, match="ranks differ"):
        K.switch(c, x, K.sum(x))
