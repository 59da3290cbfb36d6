"""CTC against the values of TensorFlow's tests, which Keras's tests repeat."""

import numpy as np
import pytest

import ksym
from ksym.ops.nn.ctc_decoding import beam_search_decode, greedy_decode

PROBABILITIES = np.array(
    [
        [
            [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
            [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
            [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
            [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
            [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
        ],
        [
            [0.30176, 0.28562, 0.0831517, 0.0862751, 0.0816851, 0.161508],
            [0.24082, 0.397533, 0.0557226, 0.0546814, 0.0557528, 0.19549],
            [0.230246, 0.450868, 0.0389607, 0.038309, 0.0391602, 0.202456],
            [0.280884, 0.429522, 0.0326593, 0.0339046, 0.0326856, 0.190345],
            [0.423286, 0.315517, 0.0338439, 0.0393744, 0.0339315, 0.154046],
        ],
    ]
)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_loss_of_tensorflows_example(dtype):
    logits = ksym.as_tensor(np.log(PROBABILITIES.transpose(1, 0, 2)).astype(dtype))
    labels = np.array([[0, 1, 2, 1, 0], [0, 1, 1, 0, -1]])
    loss = ksym.ctc_loss(logits, labels, np.array([5, 5]), np.array([5, 4]), blank=-1)
    np.testing.assert_allclose(ksym.evaluate(loss), [3.34211, 5.42262], atol=1e-5)


def test_too_few_steps_give_infinity():
    logits = ksym.as_tensor(np.zeros((3, 3, 3), "float32"))
    labels = np.array([[1, 1], [1, 2], [1, 2]])
    loss = ksym.ctc_loss(logits, labels, np.array([2, 3, 0]), np.array([2, 2, 0]))
    found = ksym.evaluate(loss)
    assert np.isposinf(found[0])
    assert np.isfinite(found[1])
    assert found[2] == 0


def test_greedy_decoding_of_tensorflows_example():
    first = [[1, 0, 0, 0], [0, 0, 0.4, 0.6], [0, 0, 0.4, 0.6], [0, 0.9, 0.1, 0], [0] * 4, [0] * 4]
    second = [
        [0.1, 0.9, 0, 0],
        [0, 0.9, 0.1, 0],
        [0, 0, 0.1, 0.9],
        [0, 0.9, 0.1, 0.1],
        [0.9, 0.1, 0, 0],
        [0] * 4,
    ]
    with np.errstate(divide="ignore"):
        scores = np.log(np.stack([first, second], axis=1))
    labels, totals = greedy_decode(scores, [4, 5])
    np.testing.assert_array_equal(labels, [[0, 1, -1], [1, 1, 0]])
    expected = [[-np.log(1.0 * 0.6 * 0.6 * 0.9)], [-np.log(0.9**5)]]
    np.testing.assert_allclose(totals, expected)


def test_beam_search_of_tensorflows_example():
    scores = np.array(
        [
            [0.30999, 0.309938, 0.0679938, 0.0673362, 0.0708352, 0.173908],
            [0.215136, 0.439699, 0.0370931, 0.0393967, 0.0381581, 0.230517],
            [0.199959, 0.489485, 0.0233221, 0.0251417, 0.0233289, 0.238763],
            [0.279611, 0.452966, 0.0204795, 0.0209126, 0.0194803, 0.20655],
            [0.51286, 0.288951, 0.0243026, 0.0220788, 0.0219297, 0.129878],
        ]
    )[:, None]
    # As in the first versions of TensorFlow's test: its probabilities are taken as logarithms.
    labels, totals = beam_search_decode(np.log(scores), [5], beam_width=2, top_paths=2)
    assert len(labels) == 2
    assert totals.shape == (1, 2)
    assert totals[0, 0] >= totals[0, 1]


@pytest.mark.parametrize(("merge", "expected"), [(True, [0, 1]), (False, [0, 0, 1, 1])])
def test_beam_search_merges_repeated_labels_if_asked(merge, expected):
    path = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    scores = np.log(np.array(path)[:, None] + 1e-7)
    labels, _ = beam_search_decode(scores, [7], beam_width=1, merge_repeated=merge)
    np.testing.assert_array_equal(labels[0], [expected])


def test_a_wide_beam_finds_the_probability_that_the_loss_has(rng):
    scores = rng.standard_normal((4, 1, 3))
    labels, totals = beam_search_decode(scores, [4], beam_width=100, top_paths=5, blank=0)
    for path, total in zip(labels, totals[0], strict=True):
        length = np.array([path.shape[1]])
        loss = ksym.ctc_loss(ksym.as_tensor(scores), path, np.array([4]), length, blank=0)
        np.testing.assert_allclose(-ksym.evaluate(loss), [total], rtol=1e-9)


def test_more_paths_than_beams_are_refused():
    with pytest.raises(ValueError, match="top_paths"):
        beam_search_decode(np.zeros((1, 1, 2)), [1], beam_width=1, top_paths=2)
