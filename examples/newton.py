"""Find a root with a Jacobian and a minimum with a Hessian: Newton's method, twice.

Both derivatives are tensors of the graph, so a whole Newton step, linear solve included, is one
function that updates a variable.
"""

from __future__ import annotations

import numpy as np

import ksym

# A root: where the circle of radius 2 meets the curve y = exp(x) - 1.
point = ksym.Variable(np.array([1.0, 1.0]), name="point")
x, y = point[0], point[1]
residual = ksym.stack([x**2 + y**2 - 4.0, ksym.exp(x) - 1.0 - y])
step = ksym.solve(ksym.jacobian(residual, point), residual)
improve = ksym.function([], ksym.norm(residual), updates=[point.assign_sub(step)])

for _ in range(6):
    print(f"residual {improve():.1e}")
print("root:", np.round(point.get_value(), 6).tolist())
# -> root: [1.004169, 1.729637]

# A minimum: Rosenbrock's valley, whose lowest point is (1, 1).
place = ksym.Variable(np.array([-1.2, 1.0]), name="place")
a, b = place[0], place[1]
height = (1.0 - a) ** 2 + 100.0 * (b - a**2) ** 2
direction = ksym.solve(ksym.hessian(height, place), ksym.gradients(height, place))
descend = ksym.function([], height, updates=[place.assign_sub(direction)])

heights = [float(descend()) for _ in range(7)]
print("heights:", ", ".join(f"{value:.1e}" for value in heights))
print("minimum:", np.round(place.get_value(), 6).tolist(), "after", len(heights), "steps")
# -> minimum: [1.0, 1.0] after 7 steps
