"""Plans: data that is made, looked at and printed without MXNet."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ksym
from ksym.compiler.compile import compile_graph
from ksym.compiler.fusion.kernel import Kernel
from ksym.compiler.fusion.products import Product
from ksym.compiler.mode import mode_of
from ksym.compiler.plan import CondWork, FrozenGraph, HostWork, ScanWork, Target, WhileWork

ROOT = Path(__file__).parents[2]


def plan_of(*tensors, variables=(), given=None, kernels=True, mode="native", flags=None):
    graph = FrozenGraph(tensors, variables, mode_of(mode, flags), Target(kernels))
    return compile_graph(graph, given or {})


def works(plan):
    return [type(part.work).__name__ for part in plan.parts]


def test_a_dense_layer_is_a_product_and_a_kernel():
    x, w, b = ksym.placeholder((4, 3)), ksym.placeholder((3, 5)), ksym.placeholder((5,))
    y = ksym.tanh(x @ w + b)
    plan = plan_of(y)
    assert works(plan) == ["Product", "Kernel"]
    assert plan.is_compiled
    assert works(plan_of(y, kernels=False)) == ["NativeGraph"]
    assert works(plan_of(y, mode="interpret")) == ["StepByStep"]
    assert not plan_of(y, kernels=False).is_compiled


def test_updates_end_as_kernels_that_write_the_variables():
    w = ksym.Variable(np.ones((4, 3), "float32"))
    count = ksym.Variable(0)
    x = ksym.placeholder((4, 3))
    updates = [w - 0.1 * x, count + 1]
    plan = plan_of(ksym.sum(w * x), *updates, variables=(w, count))
    (kernel,) = plan.kernels
    assert kernel.results == [w]
    assert list(plan.copies) == [count]
    assert not plan_of(*updates, variables=(w, count), flags="fuse_updates=0").kernels


def test_what_runs_on_its_own_is_a_part_of_its_own():
    x = ksym.placeholder((5,))
    loop = ksym.scan(lambda e, s: (s + e, s * e), x, 0.0)
    turn = ksym.while_loop(lambda s: s < 9.0, lambda s: s * 2.0, x[0])
    branch = ksym.cond(x[0] > 0.0, lambda: x * 2.0, lambda: x)
    plan = plan_of(loop.outputs, turn, branch)
    found = [part.work for part in plan.parts]
    (scan,) = (work for work in found if isinstance(work, ScanWork))
    assert scan.view.length == 5
    assert scan.body.is_compiled
    (repeated,) = (work for work in found if isinstance(work, WhileWork))
    assert repeated.test.is_compiled
    (chosen,) = (work for work in found if isinstance(work, CondWork))
    assert works(chosen.branch(True)) == ["Kernel"]
    assert works(chosen.branch(False)) == ["Copies"]


def test_a_loop_computes_no_more_than_is_asked_of_it():
    x = ksym.placeholder((5,))
    loop = ksym.scan(lambda e, s, t: ((s, ksym.exp(t)), (s + e, t * e)), x, (0.0, 1.0))
    (work,) = (p.work for p in plan_of(loop.outputs[0]).parts if isinstance(p.work, ScanWork))
    assert len(work.view.new) == 1
    assert work.results == [("stacked", 0)]


def test_a_loop_of_no_steps_has_no_plan():
    x = ksym.placeholder((0, 3))
    last = ksym.scan(lambda e, s: ((), s + e), x, np.zeros(3, "float32")).states
    (work,) = (p.work for p in plan_of(last * 1.0).parts if isinstance(p.work, ScanWork))
    assert work.body is None


def test_dynamic_results_end_a_plan_and_the_rest_is_compiled_for_their_sizes():
    x = ksym.placeholder((6,))
    plan = plan_of(ksym.sum(ksym.boolean_mask(x, x > 0.0) * 2.0))
    assert any(isinstance(part.work, HostWork) for part in plan.parts)
    sizes = [tensor.shape if None not in tensor.shape else (4,) for tensor in plan.outputs]
    rest = compile_graph(plan.rest.graph, plan.rest.given(sizes))
    assert rest.rest is None
    assert [tensor.shape for tensor in rest.outputs] == [()]


def test_kernels_and_products_are_told_apart_in_print():
    x, w = ksym.placeholder((4, 3), name="x"), ksym.placeholder((3, 5), name="w")
    start = np.zeros(3, "float32")
    step = ksym.scan(lambda e, s: (ksym.exp(s + e), s + e), x, start, reverse=True)
    text = str(plan_of(ksym.sum(ksym.tanh(x @ w)), step.outputs))
    for line in (
        "product: (4, 3) @ (3, 5)",
        "kernel over (4, 5): tanh, sum",
        "why    elementwise work in one pass over memory",
        "reads  given: x, given: w",
        "scan: 4 step(s), from the last to the first",
        "kernel over (3,): add",
    ):
        assert line in text
    assert f"from   {__file__}:" in text
    assert {type(part.work) for part in plan_of(x @ w).parts} == {Product}
    assert {type(part.work) for part in plan_of(x * 2.0).parts} == {Kernel}


@pytest.mark.host_access
def test_a_called_function_shows_its_plan():
    x, w = ksym.placeholder((None,), name="x"), ksym.Variable([1.0, 2.0], name="shown")
    f = ksym.function([x], ksym.sum(x * w), updates=[w.assign(w + x)])
    f([1, 2])
    text = str(f.last_plan())
    assert "one call of compiled code" in text
    assert "update of shown float32 (2,): kernel over (2,): add" in text


COMPILE = """
import sys
sys.modules['mxnet'] = sys.modules['llvmlite'] = None  # cannot be imported
import ksym
from ksym.compiler.compile import compile_graph
from ksym.compiler.mode import mode_of
from ksym.compiler.plan import FrozenGraph, Target
x, w = ksym.placeholder((4, 3)), ksym.Variable([1.0, 2.0, 3.0])
loss = ksym.sum(ksym.softmax(x * w))
new = w - 0.1 * ksym.gradients(loss, w)
for kernels in (True, False):
    graph = FrozenGraph([loss, new], [w], mode_of('native'), Target(kernels))
    print(len(str(compile_graph(graph, {})).splitlines()) > 3)
"""


def test_compiling_needs_no_mxnet():
    result = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["True", "True"], result.stderr


TRAIN = """
import numpy as np
import ksym
x = ksym.placeholder((4, 6))
w, b = ksym.Variable(np.ones((6, 5), "float32")), ksym.Variable(np.zeros(5, "float32"))
h = ksym.tanh(x @ w + b)
loss = ksym.mean(ksym.square(ksym.softmax(h)) - ksym.exp(h) * 0.1)
updates = [v.assign_sub(0.1 * g) for v, g in zip((w, b), ksym.gradients(loss, [w, b]))]
f = ksym.function([x], [loss, h], updates=updates)
f(np.ones((4, 6)))
print(f.last_plan())
"""


def test_the_same_program_has_the_same_plan_in_every_process():
    command = [sys.executable, "-c", TRAIN]
    plans = {subprocess.check_output(command, cwd=ROOT, text=True) for _ in range(3)}
    assert len(plans) == 1
