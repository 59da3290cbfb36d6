"""Find out why a weight has no gradient: `explain_gradient` names the operator that cuts the path.

The loss rounds a prediction to a class number before it is compared.  No gradient passes that
conversion.  `gradients` refuses to go on, and the explanation says where the path ends; the repair
is to compare the prediction itself.
"""

from __future__ import annotations

import numpy as np

import ksym

x = ksym.placeholder((None, 3), name="x")
target = ksym.placeholder((None,), name="target")
w = ksym.Variable(np.zeros(3, "float32"), name="w")
prediction = x @ w

classes = ksym.cast(ksym.round(prediction), "int32")
wrong = ksym.mean(ksym.square(ksym.cast(classes, "float32") - target))
try:
    ksym.gradients(wrong, w)
except ksym.GradientError as error:
    print(error)
print(ksym.explain_gradient(wrong, w))
# -> cut at cast, which gives int32, made at

right = ksym.mean(ksym.square(prediction - target))
print(ksym.explain_gradient(right, w))
# -> through matmul, made at

step = ksym.function([x, target], right, updates=[w.assign_sub(0.5 * ksym.gradients(right, w))])
inputs = np.random.default_rng(0).standard_normal((64, 3))
for _ in range(60):
    step(inputs, inputs @ [1.0, -2.0, 0.5])
print("w:", np.round(w.get_value(), 3).tolist())
# -> w: [1.0, -2.0, 0.5]
