"""Functions that tests pickle, save and load: one of each kind of what a graph can hold."""

import numpy as np

import ksym


def training():
    x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(np.ones((3, 2), "float32"))
    loss = ksym.mean(ksym.square(ksym.tanh(x @ w)))
    updates = [w.assign_sub(0.1 * ksym.gradients(loss, w))]
    return ksym.function([x], loss, updates), [np.ones((2, 3))]


def loop():
    x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(np.full(3, 0.5, "float32"))
    made = ksym.scan(lambda e, s: (ksym.relu(e * w), s + e * w), x, np.zeros(3, "float32"))
    slope = ksym.gradients(ksym.sum(made.outputs), w)
    return ksym.function(x, [made.outputs, made.states, slope]), [np.ones((4, 3))]


def loops_in_loops():
    x = ksym.placeholder((None, 3), name="x")
    rows = ksym.map_fn(lambda row: ksym.foldl(lambda s, e: s * 0.5 + e, row, 0.0), x)
    return ksym.function(x, rows), [np.arange(6.0).reshape(2, 3)]


def branch():
    x = ksym.placeholder((3,), name="x")
    y = ksym.cond(ksym.sum(x) > 0, lambda: ksym.exp(x), lambda: x * 2.0)
    z = ksym.while_loop(lambda s: s < 10.0, lambda s: s * 2.0, ksym.sum(ksym.abs(x)))
    return ksym.function([x], [y, *(z if isinstance(z, list | tuple) else [z])]), [[1.0, 2, -1]]


def noise():
    x = ksym.placeholder((None,), name="x")
    drawn = ksym.random_normal(ksym.shape_of(x), stream=5)
    steps = ksym.scan(lambda e, s: (s, s + ksym.random_uniform((), stream=7)), x, 0.0)
    return ksym.function([x], [x + drawn, steps.outputs, ksym.random_permutation(4)]), [[1.0, 2.0]]


def named():
    x = ksym.placeholder((None,), "int32", name="x")
    factor = ksym.placeholder((), "int32", name="factor", static=True)
    outputs = {"twice": x * factor, "sums": ksym.cumsum(x)[::-1], "rest": x[1:]}
    f = ksym.function([x, factor], outputs, name="named", flags="merge=0", specializations=3)
    return f, [[1, 2, 3], 2]


def dynamic():
    x = ksym.placeholder((None,), name="x")
    n = ksym.placeholder((), "int64", name="n")
    return ksym.function([x, n], [ksym.boolean_mask(x, x > 0), x[:n] * 2.0]), [[1.0, -1.0, 2.0], 2]


def layers():
    x = ksym.placeholder((None, 2, 6, 6), name="x")
    rng = np.random.RandomState(0)
    k = ksym.Variable(rng.randn(4, 2, 3, 3).astype("float32"), name="kernel")
    y = ksym.max_pool(ksym.relu(ksym.convolution(x, k)), (2, 2))
    flat = ksym.reshape(y, (-1, 16))
    return ksym.function(x, ksym.softmax(flat)), [rng.randn(2, 2, 6, 6)]


GRAPHS = {
    made.__name__.replace("_", " "): made
    for made in (training, loop, loops_in_loops, branch, noise, named, dynamic, layers)
}


def same_results(first, second):
    """Two results of functions are equal bit by bit, and of one form."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        first, second = list(first.values()), list(second.values())
    for a, b in zip(first, second, strict=True) if isinstance(first, list) else [(first, second)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
