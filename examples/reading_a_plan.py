"""Read what a function has become: its parts, its nodes, and what a pass of the compiler does.

`last_plan` is what ran at the last call: the parts in order, with what each computes, why it is a
part, and the lines of the user's code it stands for.  `last_graph` has its nodes after all passes.
"""

from __future__ import annotations

import numpy as np

import ksym

x = ksym.placeholder((None, 4), name="x")
w = ksym.Variable(np.ones((4, 3), "float32"), name="w")
hidden = ksym.tanh(x @ w) * 1.0
loss = ksym.mean(ksym.square(hidden)) + 0.1 * ksym.sum(ksym.square(w))
updates = [w.assign_sub(0.1 * ksym.gradients(loss, w))]

step = ksym.function([x], loss, updates=updates, name="step")
step(np.ones((2, 4)))
step(np.ones((5, 4)))  # another shape: specialised and compiled once more
step(np.ones((5, 4)))
print(step)
print(step.cache_info())
# -> CacheInfo(hits=1, misses=2, kept=2, limit=256)

print(step.last_plan())
# -> part 1: product: (5, 4) @ (4, 3)
for node in step.last_graph():
    print(f"{node.operator.name:12s} {node.outputs[0].spec}  made at {node.origin}")

# The same without a pass: the product by 1 is an identity, which `simplify` takes out.
plain = ksym.function([x], hidden, flags="simplify=0")
simplified = ksym.function([x], hidden)
for f in (plain, simplified):
    f(np.ones((2, 4)))
names = [[node.operator.name for node in f.last_graph()] for f in (plain, simplified)]
print("a product without simplify:", "multiply" in names[0], "and with it:", "multiply" in names[1])
# -> a product without simplify: True and with it: False
