"""The statistics of random operators, and what repeats and what does not.

Seeds are fixed, so a threshold of 1e-4 is passed for good or not at all.
"""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

import ksym
from ksym.errors import DTypeError, GradientError, GraphError, ShapeError

COUNT = 20_000


def drawn(tensor, feeds=None):
    return ksym.evaluate(tensor, feeds)


CONTINUOUS = {
    "uniform": (
        lambda dtype: ksym.random_uniform((COUNT,), dtype, 1, -1.0, 3.0),
        stats.uniform(-1, 4),
    ),
    "normal": (lambda dtype: ksym.random_normal((COUNT,), dtype, 2, 0.5, 2.0), stats.norm(0.5, 2)),
    "truncated": (
        lambda dtype: ksym.random_truncated_normal((COUNT,), dtype, 3, 1.0, 0.5),
        stats.truncnorm(-2, 2, 1.0, 0.5),
    ),
    "exponential": (
        lambda dtype: ksym.random_exponential((COUNT,), dtype, 4, 2.0),
        stats.expon(scale=2),
    ),
    "laplace": (
        lambda dtype: ksym.random_laplace((COUNT,), dtype, 5, 1.0, 0.5),
        stats.laplace(1, 0.5),
    ),
    "gumbel": (
        lambda dtype: ksym.random_gumbel((COUNT,), dtype, 6, 1.0, 0.5),
        stats.gumbel_r(1, 0.5),
    ),
    "gamma": (
        lambda dtype: ksym.random_gamma((COUNT,), 2.5, 2.0, dtype, 7),
        stats.gamma(2.5, scale=0.5),
    ),
    "gamma below 1": (
        lambda dtype: ksym.random_gamma((COUNT,), 0.4, 1.0, dtype, 8),
        stats.gamma(0.4),
    ),
    "symbolic gamma": (
        lambda dtype: ksym.random_gamma((COUNT,), ksym.Variable(2.5), 2.0, dtype, 9),
        stats.gamma(2.5, scale=0.5),
    ),
    "symbolic gamma below 1": (
        lambda dtype: ksym.random_gamma((COUNT,), ksym.Variable(0.4), 1.0, dtype, 10),
        stats.gamma(0.4),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_distributions(name, dtype):
    build, meant = CONTINUOUS[name]
    values = drawn(build(dtype))
    assert values.dtype == dtype
    assert stats.kstest(values.astype("float64"), meant.cdf).pvalue > 1e-4
    deviation = meant.std() / np.sqrt(COUNT)
    assert abs(values.mean(dtype="float64") - meant.mean()) < 4 * deviation
    assert abs(values.std(dtype="float64") / meant.std() - 1) < 0.05


@pytest.mark.parametrize("name", CONTINUOUS)
def test_moments_in_float16(name):
    build, meant = CONTINUOUS[name]
    values = drawn(build("float16"))
    assert values.dtype == "float16"
    assert abs(values.mean(dtype="float64") - meant.mean()) < 5 * meant.std() / np.sqrt(COUNT)


def test_uniform_float16_never_reaches_one():
    values = drawn(ksym.random_uniform((200_000,), "float16", 1))
    assert values.min() >= 0
    assert values.max() < 1


def fits(values, probabilities):
    counts = np.bincount(np.asarray(values, int), minlength=len(probabilities))
    assert len(counts) == len(probabilities)
    return stats.chisquare(counts, len(values) * np.asarray(probabilities)).pvalue > 1e-4


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_discrete_distributions(dtype):
    p = ksym.Variable(0.3, dtype)
    assert fits(drawn(ksym.random_bernoulli((COUNT,), p, dtype, 1)), [0.7, 0.3])
    expected = stats.binom(4, drawn(p).astype("float64")).pmf(np.arange(5))
    assert fits(drawn(ksym.random_binomial((COUNT,), 4, p, dtype, 2)), expected)
    chances = np.array([0.1, 0.2, 0.3, 0.4])
    logits = ksym.Variable(np.log(chances), "float64")
    assert fits(drawn(ksym.random_categorical(logits, COUNT, stream=3)), chances)
    assert fits(drawn(ksym.random_integers((COUNT,), -2, 3, stream=4)) + 2, [0.2] * 5)


def test_multinomial_counts():
    chances = np.array([[0.1, 0.9], [0.5, 0.5]])
    counts = drawn(ksym.random_multinomial(ksym.Variable(chances), 5000, stream=5))
    assert counts.sum(-1).tolist() == [5000, 5000]
    assert (np.abs(counts / 5000 - chances) < 0.03).all()


def test_every_order_of_a_permutation_is_equally_likely():
    order = ksym.function([], ksym.random_permutation(3, stream=6))
    numbers = {(0, 1, 2): 0, (0, 2, 1): 1, (1, 0, 2): 2, (1, 2, 0): 3, (2, 0, 1): 4, (2, 1, 0): 5}
    assert fits([numbers[tuple(order())] for _ in range(3000)], [1 / 6] * 6)


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (COUNT,)])
def test_integers_of_all_32_bits_are_spread_over_them(shape):
    values = drawn(ksym.random_integers(shape, -(2**31), 2**31, "int32", 5))
    assert values.shape == shape
    assert values.dtype == "int32"
    if values.size == COUNT:
        tenths = np.histogram(values, np.linspace(-(2.0**31), 2.0**31, 11))[0]
        assert fits(np.repeat(np.arange(10), tenths), [0.1] * 10)
        assert abs(np.mean(values & 1) - 0.5) < 4 * 0.5 / COUNT**0.5


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.97, 1 - 1e-12])
def test_dropout_drops_the_share_it_is_asked_for(rate):
    values = drawn(ksym.dropout(np.ones(COUNT), rate, stream=6))
    share = np.mean(values == 0.0)
    assert abs(share - rate) <= 4 * (rate * (1 - rate) / COUNT) ** 0.5
    np.testing.assert_allclose(values[values != 0.0], 1 / (1 - rate))


def test_small_random_integers_are_drawn_anew_too():
    f = ksym.function([], ksym.random_integers((8,), 0, 1000, stream=1))
    assert not np.array_equal(f(), f())


def test_shuffling_keeps_rows_together_and_streams_of_a_seed_in_step():
    x = ksym.placeholder((None, 2), "float64")
    a, b = ksym.random_shuffle(x, 7), ksym.random_shuffle(x[:, 0], 7)
    f = ksym.function([x], [a, b])
    value = np.arange(20.0).reshape(10, 2)
    rows, column = f(value)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, value))
    assert (rows != value).any()
    np.testing.assert_array_equal(rows[:, 0], column)


def test_parameters_may_be_tensors_that_broadcast():
    mean = ksym.placeholder((None, 1), "float64")
    shape = (ksym.ops.shape_of(mean)[0], 5000)
    f = ksym.function([mean], ksym.random_normal(shape, "float64", 8, mean=mean))
    np.testing.assert_allclose(f([[0.0], [10.0]]).mean(1), [0, 10], atol=0.1)
    with pytest.raises(ShapeError, match="mean of shape"):
        ksym.random_normal((3,), mean=ksym.constant([1.0, 2.0]))


def test_streams_are_independent():
    ksym.seed(0)
    a, b = (drawn(ksym.random_normal((COUNT,), "float64")) for _ in range(2))
    assert stats.pearsonr(a, b).pvalue > 1e-4
    assert abs(stats.pearsonr(a[1:], a[:-1]).statistic) < 4 / np.sqrt(COUNT)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_both_modes_draw_the_same_at_every_call(name):
    runs = []
    for mode in ("native", "interpret"):
        f = ksym.function([], CONTINUOUS[name][0]("float64"), mode=mode)
        runs.append((f(), f()))
    np.testing.assert_allclose(runs[0], runs[1], rtol=1e-12)
    assert not np.array_equal(runs[0][0], runs[0][1])


def test_a_stream_can_be_kept_and_resumed():
    stream = ksym.RandomStream(3)
    loss = ksym.random_normal((4,), stream=stream) + ksym.random_uniform((4,), stream=stream)
    assert ksym.random_streams([loss]) == [stream]
    f = ksym.function([], loss)
    f()
    state, twin = stream.get_state(), pickle.loads(pickle.dumps(stream))
    first = f()
    stream.set_state(state)
    np.testing.assert_array_equal(f(), first)
    np.testing.assert_array_equal(
        twin.draw("normal", (9,), "float32"), stream_after(state).draw("normal", (9,), "float32")
    )
    with pytest.raises(GraphError, match="not the state"):
        stream.set_state({"bit_generator": "MT19937"})


def stream_after(state):
    stream = ksym.RandomStream(0)
    stream.set_state(state)
    return stream


def test_gradients_reach_parameters_through_the_numbers_drawn():
    mean, stddev = ksym.Variable(np.array(1.0)), ksym.Variable(np.array(2.0))
    sample = ksym.random_normal((5,), "float64", 1, mean, stddev)
    f = ksym.function([], [sample, *ksym.gradients(ksym.sum(sample), [mean, stddev])])
    values, by_mean, by_stddev = f()
    assert by_mean == 5
    assert by_stddev == pytest.approx(((values - 1) / 2).sum())
    x = ksym.Variable(np.ones(100))
    y = ksym.dropout(x, 0.5, stream=2)
    dropped, slope = ksym.function([], [y, ksym.gradients(ksym.sum(y), x)])()
    np.testing.assert_array_equal(dropped, slope)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("random_bernoulli", lambda p: ksym.random_bernoulli((3,), p, stream=1)),
        ("random_binomial", lambda p: ksym.random_binomial((3,), 2, p, stream=1)),
        (
            "random_categorical",
            lambda p: ksym.random_categorical(ksym.stack([p, p]), 2, "float32", 1),
        ),
        ("symbolic_gamma", lambda p: ksym.random_gamma((3,), p, stream=1)),
    ],
)
def test_where_there_is_no_gradient_asking_names_the_operator(name, build):
    p = ksym.Variable(0.5)
    with pytest.raises(GradientError, match=f"cut at {name}"):
        ksym.gradients(ksym.sum(build(p)), p)


def test_dropout_drops_together_what_noise_shape_says():
    x = ksym.placeholder((4, 50))
    f = ksym.function([x], ksym.dropout(x, 0.5, (4, 1), 1))
    for row in f(np.ones((4, 50))):
        assert len(set(row)) == 1


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda: ksym.random_uniform((-1,)), ShapeError),
        (lambda: ksym.random_uniform((2,), "int32"), DTypeError),
        (lambda: ksym.random_integers((2,), 3, 3), GraphError),
        (lambda: ksym.random_integers((2,), 0, 300, "uint8"), GraphError),
        (lambda: ksym.random_integers((2,), 0.5, 3), DTypeError),
        (lambda: ksym.random_bernoulli((2,), 1.5), GraphError),
        (lambda: ksym.random_binomial((2,), -1, 0.5), GraphError),
        (lambda: ksym.random_gamma((2,), -1.0), GraphError),
        (lambda: ksym.random_gamma((2,), np.ones(3)), ShapeError),
        (lambda: ksym.random_categorical(ksym.constant(1.0), 2), ShapeError),
        (lambda: ksym.random_shuffle(ksym.constant(1.0)), ShapeError),
        (lambda: ksym.dropout(ksym.constant(1.0), 1.0), GraphError),
        (lambda: ksym.RandomStream(-1), GraphError),
    ],
)
def test_bad_arguments(build, error):
    with pytest.raises(error):
        build()


def train(seed):
    """A network with convolution, dropout, shuffling and three optimizers; the final weights."""
    ksym.seed(seed)
    starts = [(4, 1, 3, 3), (4 * 6 * 6, 16), (16, 3)]
    weights = [
        ksym.Variable(drawn(ksym.random_normal(shape, stddev=0.1)), name=f"w{i}")
        for i, shape in enumerate(starts)
    ]
    x, y = ksym.placeholder((None, 1, 8, 8)), ksym.placeholder((None,), "int64")
    stream = ksym.RandomStream()
    twin = stream_after(stream.get_state())
    images, labels = ksym.random_shuffle(x, stream)[:16], ksym.random_shuffle(y, twin)[:16]
    hidden = ksym.relu(ksym.convolution(images, weights[0]))
    hidden = ksym.reshape(ksym.dropout(hidden, 0.25), (16, -1))
    hidden = ksym.dropout(ksym.tanh(hidden @ weights[1]), 0.5)
    scores = ksym.log_softmax(hidden @ weights[2])
    loss = -ksym.mean(ksym.sum(scores * ksym.one_hot(labels, 3), -1))
    slopes = ksym.gradients(loss, weights)
    speed = ksym.Variable(np.zeros(starts[1], "float32"))
    square = ksym.Variable(np.zeros(starts[2], "float32"))
    faster = 0.9 * speed - 0.1 * slopes[1]
    grown = 0.9 * square + 0.1 * ksym.square(slopes[2])
    updates = [
        weights[0].assign_sub(0.1 * slopes[0]),
        (speed, faster),
        (weights[1], weights[1] + faster),
        (square, grown),
        (weights[2], weights[2] - 0.01 * slopes[2] / (ksym.sqrt(grown) + 1e-6)),
    ]
    step = ksym.function([x, y], loss, updates=updates)
    rng = np.random.default_rng(0)
    data, targets = rng.normal(size=(24, 1, 8, 8)), rng.integers(0, 3, 24)
    losses = [float(step(data, targets)) for _ in range(10)]
    return b"".join([np.array(losses).tobytes(), *[w.get_value().tobytes() for w in weights]])


def test_a_seed_repeats_a_training_run_bit_for_bit():
    first = train(5)
    assert train(5) == first
    assert train(6) != first
    program = "import sys, test_random; sys.stdout.buffer.write(test_random.train(5))"
    other = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.path.dirname(__file__)},
    )
    assert other.stdout == first
