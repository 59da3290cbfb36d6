"""A user's own mxnet beside ksym, in both orders: one library, one engine, and values both ways."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MXNET = """
import warnings
warnings.simplefilter("ignore")
import numpy as np
np.bool = np.bool_  # MXNet's package reads the name, which NumPy 1.24 dropped
import mxnet
"""
USED = "mxnet.nd.ones((2,)).asnumpy()\n"
TRAIN = """
import numpy as np
import ksym
x, w = ksym.placeholder((None, 4)), ksym.Variable(np.eye(4))
k = ksym.Variable(np.ones((1, 1, 3, 3), "float32"))
images = ksym.reshape(ksym.cast(x, "float32"), (-1, 1, 2, 2))
images = ksym.convolution(images, k, padding="same")
loss = ksym.sum(ksym.tanh(x @ w)) + ksym.sum(ksym.square(images))
last = ksym.sort(x, axis=1)[:, 0]
updates = [v.assign_sub(0.01 * g) for v, g in zip((w, k), ksym.gradients(loss, [w, k]))]
f = ksym.function([x], [loss, last], updates)
for n in (2, 3, 2, 2):
    found = f(np.arange(4.0 * n).reshape(n, 4) / 8)
print(*found[0].ravel(), *found[1], *w.get_value().ravel(), *k.get_value().ravel())
"""
ENGINE = "from ksym.runtime import loading; print(loading.engine().name)\n"
ONE = """
print(sum("libmxnet.so" in line and "r-xp" in line for line in open("/proc/self/maps")))
"""


def run(code, **environment):
    """Return what code prints in a fresh process, which must succeed and warn of nothing."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("KSYM", "MXNET", "OMP"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    usual = ("start using engine", "Using ksym.backend")
    lines = done.stderr.splitlines()
    assert not [line for line in lines if not any(text in line for text in usual)]
    return done.stdout.split()


@functools.cache
def reason_without():
    """Why MXNet's package cannot be imported here, None if it can."""
    done = subprocess.run(
        [sys.executable, "-c", MXNET], capture_output=True, text=True, check=False
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


@pytest.fixture(autouse=True)
def _package():
    if reason_without():
        pytest.skip(f"MXNet's Python package cannot be imported: {reason_without()}")


ORDERS = {
    "mxnet is imported first": (MXNET, "SYNCHRONOUS"),
    "ksym is imported first": (f"import ksym\n{MXNET}", "SYNCHRONOUS"),
    "ksym is used first": (f"import ksym\nksym.evaluate(ksym.ones(2))\n{MXNET}", "SYNCHRONOUS"),
    "mxnet is used first": (f"{MXNET}{USED}", "AWAITED"),
    "mxnet is used between": (f"import ksym\n{MXNET}{USED}", "AWAITED"),
}


@pytest.mark.parametrize("order", ORDERS)
def test_both_orders_share_a_library_and_compute_the_same_as_fast(order):
    before, engine = ORDERS[order]
    *found, name, libraries = run(f"{before}{TRAIN}{ENGINE}{USED}{ONE}")
    assert name == engine  # both write to memory directly, and run compiled loops
    assert libraries == "1"
    np.testing.assert_allclose(np.array(found, float), np.array(run(TRAIN), float), rtol=1e-5)


def test_plans_are_the_same_whichever_engine_there_is():
    ask = f"{TRAIN}print('parts', *(type(part.work).__name__ for part in f.last_plan().parts))"
    plans = [run(before + ask) for before in ("", f"{MXNET}{USED}")]
    first, second = (printed[printed.index("parts") :] for printed in plans)
    assert first == second
    assert {"NativeGraph", "Kernel"} <= {*first}


def test_an_engine_that_was_asked_for_is_used_as_such():
    asked = {"MXNET_ENGINE_TYPE": "ThreadedEngine"}
    assert run(f"import ksym\n{ENGINE}", **asked) == ["ASYNCHRONOUS"]
    assert run(f"{MXNET}{USED}{ENGINE}", **asked) == ["ASYNCHRONOUS"]


def test_threads_are_as_many_whoever_loads_the_library():
    ask = "from ksym.runtime import loading; print(loading.library().omp_get_max_threads())\n"
    assert run(f"{MXNET}{ask}") == run(ask)
    assert run(f"{MXNET}{ask}", OMP_NUM_THREADS="1") == ["1"]


def test_failures_name_the_operator_whichever_engine_there_is():
    failing = """
import ksym
x, w = ksym.placeholder((2, 2)), ksym.Variable(1.0)
f = ksym.function([x], ksym.cholesky(x), [w.assign_add(1)])
for value in (-np.eye(2), np.eye(2)):
    try:
        f(value)
    except ksym.ExecutionError as error:
        print(error.operator)
print(w.get_value())
"""
    assert run(f"{MXNET}{USED}{failing}") == ["cholesky", "2.0"]


def test_a_user_of_mxnet_is_not_disturbed():
    story = """
def gradient():
    x = mxnet.nd.array([[1.0, -2.0]])
    x.attach_grad()
    with mxnet.autograd.record():
        y = (mxnet.nd.Dropout(x, p=0.5) * 0 + x * x).sum()
    y.backward()
    return x.grad.asnumpy().tolist(), mxnet.is_np_shape(), mxnet.autograd.is_training()
before = gradient()
import ksym
try:
    ksym.function([], ksym.cholesky(ksym.constant(-np.eye(2))), mode="interpret")()
except ksym.ExecutionError:
    pass
ksym.evaluate(ksym.sum(ksym.constant(3.0)))
print(gradient() == before == ([[2.0, -4.0]], False, False))
with mxnet.autograd.train_mode():
    ksym.function([], ksym.cholesky(ksym.constant(np.eye(2))), mode="interpret")()
    print(mxnet.autograd.is_training())
"""
    assert run(f"{MXNET}{story}") == ["True", "True"]


VALUES = """
import ksym
def same(array, expected):
    expected = np.asarray(expected)
    return array.dtype == expected.dtype and np.array_equal(array.asnumpy(), expected)
x, i = ksym.placeholder((None, 2)), ksym.placeholder((2,), "int32")
f = ksym.function([x, i], {"twice": x * 2.0, "total": ksym.sum(x), "i": [i][0]})
given = mxnet.nd.array([[1, 2], [3, 4]])
found = f(given, mxnet.nd.array([5, 6], dtype="int64"))
made = ksym.to_mxnet(found)
kind = mxnet.np.ndarray if mxnet.is_np_array() else mxnet.nd.NDArray
"""


@pytest.mark.parametrize("semantics", ["", "mxnet.npx.set_np()\n"], ids=["nd", "np"])
def test_arrays_pass_in_and_out(semantics):
    story = """
print(all(type(array) is kind for array in made.values()))
total = found["total"] if mxnet.is_np_array() else found["total"].reshape(1)
print(same(made["twice"], np.array([[2, 4], [6, 8]], "float32")), same(made["total"], total))
print(same(made["i"], np.array([5, 6], "int32")))
made["twice"][:] = 0
kept = ksym.to_mxnet(f(np.ones((2, 2)), [1, 2])["twice"])
f(given, [3, 4])
print(same(kept, np.full((2, 2), 2, "float32")), found["twice"].sum())
double = given.astype("float64")
variable = ksym.Variable(double)
variable.set_value(double * 2)
print(variable.dtype, same(ksym.to_mxnet(variable), [[2.0, 4.0], [6.0, 8.0]]))
print(ksym.evaluate(ksym.constant(double) + double).dtype, ksym.Variable([given, given]).shape)
step = ksym.function([x], ksym.sum(x), {variable: ksym.to_mxnet(variable.get_value())})
listed, (pair, _) = ksym.to_mxnet([np.ones(2), (np.ones(3), 1)])
print(listed.shape, pair.shape)
for dtype in ksym.dtypes.SUPPORTED:
    value = np.ones((2, 3), dtype)
    assert same(ksym.to_mxnet(value), value) and ksym.Variable(ksym.to_mxnet(value)).dtype == dtype
"""
    expected = "True True True True True 20.0 float64 True float64 (2, 2, 2) (2,) (3,)"
    assert run(f"{MXNET}{semantics}{VALUES}{story}") == expected.split()


def test_keras_takes_arrays_of_mxnet():
    pytest.importorskip("keras")
    story = """
import os
os.environ["KERAS_BACKEND"] = "ksym.backend"
import keras
from keras import backend as K
model = keras.Sequential([keras.layers.Dense(3, input_shape=(4,))])
model.compile("sgd", "mse")
kernel = mxnet.nd.array(np.arange(12).reshape(4, 3))
model.set_weights([kernel, mxnet.nd.ones((3,))])
x = mxnet.nd.ones((2, 4))
print(*model.predict(x)[0], *model.predict_on_batch(x)[1], *K.eval(K.constant(x))[0, :1])
y = mxnet.nd.array([[19, 23, 27]] * 2)
print(*K.get_value(K.variable(kernel))[1], model.train_on_batch(x, y))
"""
    expected = "19.0 23.0 27.0 19.0 23.0 27.0 1.0 3.0 4.0 5.0 0.0"
    assert run(f"{MXNET}{story}")[-11:] == expected.split()


def test_values_without_an_array_are_refused():
    story = """
import ksym
for value, error in [
    (np.zeros((0, 3)), ksym.ShapeError), ("text", ksym.DTypeError),
    (ksym.placeholder((2,)), ksym.DTypeError),
]:
    try:
        ksym.to_mxnet(value)
    except error as found:
        print(type(found).__name__)
mxnet.npx.set_np()
print(ksym.to_mxnet(np.zeros((0, 3))).shape)
"""
    expected = ["ShapeError", "DTypeError", "DTypeError", "(0,", "3)"]
    assert run(f"{MXNET}{story}") == expected


def test_a_package_that_cannot_be_imported_says_why():
    story = """
import ksym, sys
ksym.evaluate(ksym.ones(2))
sys.modules["mxnet"] = None
try:
    ksym.to_mxnet(1.0)
except ksym.MissingMXNetError as error:
    print(error)
"""
    assert "MXNet's Python package cannot be imported" in " ".join(run(story))
