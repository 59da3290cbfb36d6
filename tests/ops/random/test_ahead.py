"""Numbers that are drawn before they are asked for are those of the sequence."""

import copy
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym import ops
from ksym.background import in_background
from ksym.ops.random.streams import RandomStream

KINDS = st.sampled_from([("uniform", (3,), "float32"), ("normal", (2, 2), "float64")])
STEPS = st.lists(st.tuples(st.sampled_from(["draw", "ahead", "state", "copy"]), KINDS), max_size=12)


@given(STEPS)
def test_the_sequence_stays(steps):
    stream, plain = RandomStream(7), RandomStream(7)
    for what, arguments in steps:
        if what == "draw":
            np.testing.assert_array_equal(stream.draw(*arguments), plain.draw(*arguments))
        elif what == "ahead":
            stream.draw_ahead(*arguments)
        elif what == "state":
            stream.set_state(stream.get_state())
        else:
            stream = copy.deepcopy(stream)
    np.testing.assert_equal(stream.get_state(), plain.get_state())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_keeps_what_was_drawn_ahead():
    stream, plain = RandomStream(7), RandomStream(7)
    kind = "normal", (50_000,), "float64"
    expected = [plain.draw(*kind) for _ in range(2)]
    stream.draw_ahead(*kind)
    child = os.fork()
    if child == 0:
        same = np.array_equal(stream.draw(*kind), expected[0])
        stream.draw_ahead(*kind)  # in a thread of the child's own
        os._exit(0 if same and np.array_equal(stream.draw(*kind), expected[1]) else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(stream.draw(*kind), expected[0])


def test_an_error_of_the_thread_is_that_of_the_call():
    def fail():
        raise ValueError("so it is")

    with pytest.raises(ValueError, match="so it is"):
        in_background(fail).result()
    assert in_background(sum, [1, 2]).result() == 3


def test_masks_are_comparisons_of_the_same_integers():
    integers = ksym.random_integers((4, 5), -8, 8, "int32", stream=3) >= np.int32(2)
    compared = ksym.function([], integers)
    drawn = ksym.function([], ops.random_mask((4, 5), -8, 8, 2, stream=3))
    for _ in range(3):
        np.testing.assert_array_equal(drawn(), compared())
