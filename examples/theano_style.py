"""Train as one did with Theano: data in shared variables, minibatches by index, givens.

The data are put on the device once.  A call passes the number of a minibatch only; `givens` replace
the symbolic inputs by rows of the shared data.
"""

from __future__ import annotations

import numpy as np

import ksym

rng = np.random.default_rng(0)
SIZE, FEATURES, CLASSES, BATCH = 600, 20, 3, 30
centres = 2.0 * rng.standard_normal((CLASSES, FEATURES))
labels = rng.integers(0, CLASSES, SIZE)
data = centres[labels] + rng.standard_normal((SIZE, FEATURES))

shared_x = ksym.Variable(data.astype("float32"), name="shared_x")
shared_y = ksym.Variable(labels.astype("int32"), name="shared_y")

x = ksym.placeholder((None, FEATURES), name="x")
y = ksym.placeholder((None,), "int32", name="y")
w = ksym.Variable(np.zeros((FEATURES, CLASSES), "float32"), name="w")
b = ksym.Variable(np.zeros(CLASSES, "float32"), name="b")

logits = x @ w + b
cost = ksym.mean(ksym.sparse_softmax_cross_entropy(y, logits)) + 1e-3 * ksym.sum(w**2)
mistakes = ksym.mean(ksym.cast(ksym.not_equal(ksym.argmax(logits, axis=1), y), "float32"))

number = ksym.placeholder((), "int64", name="number")
rows = number * BATCH + ksym.arange(BATCH)  # a slice's size must not depend on data
minibatch = {x: ksym.take(shared_x, rows, axis=0), y: ksym.take(shared_y, rows, axis=0)}
updates = [(v, v - 0.05 * ksym.gradients(cost, v)) for v in (w, b)]
train = ksym.function([number], cost, updates=updates, givens=minibatch)
test = ksym.function([], mistakes, givens={x: shared_x, y: shared_y})

print(f"before: {test():.0%} mistakes")
for epoch in range(3):
    costs = [float(train(k)) for k in range(SIZE // BATCH)]
    print(f"epoch {epoch}: mean cost {np.mean(costs):.3f}")
print(f"after: {test():.0%} mistakes")
# -> after: 0% mistakes
