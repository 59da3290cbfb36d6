"""What depends on constants only is computed at once."""

import pytest

import ksym
from ksym.compiler.passes.fold import fold
from ksym.testing import assert_same_graph


@pytest.fixture
def x():
    return ksym.placeholder((2, 3))


def test_constants_are_computed_at_once(x):
    c = ksym.constant(2.0) * 3.0 + 1.0
    assert_same_graph(fold([x * c]), [x * 7.0])


def test_large_constants_and_random_numbers_are_left_to_the_call(x):
    large = ksym.broadcast_to(ksym.constant(1.0), (100, 100))
    assert fold([large]) == [large]
    random = ksym.ops.standard_uniform((2,))
    assert fold([random]) == [random]
