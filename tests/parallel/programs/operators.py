"""What the operators that communicate give on each rank."""

import numpy as np
import writing

import ksym

rank, size = ksym.rank(), ksym.size()
own = np.arange(6.0).reshape(2, 3) + 10 * rank
total = sum(np.arange(6.0).reshape(2, 3) + 10 * r for r in range(size))
found = {}

for options in ({}, {"mode": "interpret"}, {"flags": "check=1"}, {"flags": "nan=1"}):
    for dtype in ("float16", "float32", "float64", "int32", "int64"):
        x = ksym.placeholder((2, 3), dtype)
        value = ksym.function([x], ksym.all_reduce(x), **options)(own.astype(dtype))
        assert value.dtype == dtype
        np.testing.assert_array_equal(value, total)

# Arrays that are sent on their own, small ones that share a buffer, and one without elements.
shapes = [(1200, 1000), (3,), (), (0, 4), (70, 1000)]
xs = [ksym.placeholder(shape) for shape in shapes]
values = [np.full(shape, rank + 1.0) for shape in shapes]
f = ksym.function(xs, list(ksym.all_reduce(xs)))
for _ in range(3):
    for value, shape in zip(f(*values), shapes, strict=True):
        np.testing.assert_array_equal(value, np.full(shape, sum(range(1, size + 1))))

# The gradient of the sum of all ranks' losses.
x, w = ksym.placeholder((3,)), ksym.Variable([1.0, 2.0, 3.0])
loss = ksym.sum(ksym.square(ksym.all_reduce(x * w)))
gradient = ksym.function([x], ksym.gradients(loss, w))(np.full(3, rank + 1.0))
sums = np.array([1.0, 2.0, 3.0]) * sum(range(1, size + 1))
np.testing.assert_allclose(gradient, size * 2 * sums * (rank + 1.0))

for root in range(size):
    y = ksym.broadcast(x * w, root)
    value, gradient = ksym.function([x], [y, ksym.gradients(ksym.sum(y), w)])([rank + 1.0] * 3)
    np.testing.assert_allclose(value, np.array([1.0, 2.0, 3.0]) * (root + 1))
    np.testing.assert_allclose(gradient, [size * (root + 1.0) * (rank == root)] * 3)

# What is constant on one rank only keeps no communication from being done on all.
y = ksym.all_reduce(x) * float(rank) + ksym.all_reduce(x * float(rank == 0))
np.testing.assert_allclose(
    ksym.function([x], y)([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]) * (size * rank + 1.0)
)
unused = ksym.function([x], [x + 1.0, 0.0 * rank * ksym.all_reduce(x)])
assert np.all(unused([1.0, 2.0, 3.0])[1] == 0)

# Sums that do not wait for each other are one message; one that waits comes behind.
a, b = ksym.all_reduce(x), ksym.all_reduce(x * 2.0)
f = ksym.function([x], [a, b, ksym.all_reduce(a * b)])
f([1.0, 2.0, 3.0])
found["messages"] = [n.attributes["count"] for n in f.last_graph() if n.operator is ksym.all_reduce]

# Dynamic sizes behind a sum.
y = ksym.all_reduce(x)
value = ksym.function([x], ksym.boolean_mask(y, y > float(size)))([1.0, 2.0, 3.0])
np.testing.assert_allclose(value, np.array([2.0, 3.0]) * size)

rows = np.arange(7)
found["shard"] = [part.tolist() for part in ksym.shard(rows, rows * 2)]
writing.write(found)
