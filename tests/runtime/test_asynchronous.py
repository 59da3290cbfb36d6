"""An asynchronous engine, as on a GPU: late errors, and kernels that report nothing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ksym
from ksym.compiler.codegen.nnvm import FUSIBLE, NativeGraph, lower
from ksym.compiler.plan import Target
from ksym.errors import ExecutionError
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray, copies
from ksym.testing import evaluate_numpy

ROOT = Path(__file__).parents[2]


def asynchronous(code):
    """Return what code prints in a process where MXNet's engine is asynchronous."""
    own = {"MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice", "KSYM_DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **own, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FAILING_TWICE = """
import numpy as np, ksym
from ksym.runtime.capi import invoke
from ksym.runtime.arrays import DeviceArray
a = ksym.placeholder((2, 2))
roots = ksym.cholesky(a), ksym.cholesky(2.0 * a)  # the second error is nobody's to hear of
w = ksym.Variable(0.0)
twice = ksym.function([a], sum(map(ksym.sum, roots)), updates=[w.assign_add(1.0)])
others = [ksym.function([a], ksym.sort(a) * 0.5, mode=mode) for mode in ("native", "interpret")]
for value in (np.eye(2), -np.eye(2), np.eye(2)):
    try:
        print(f"{twice(value):.3f}")
    except ksym.KsymError as error:
        print(error.operator, error.origin.line)
    print(w.get_value(), *(other(value).tolist() for other in others))
"""


def test_an_error_is_reported_once_and_by_its_own_call():
    assert asynchronous(FAILING_TWICE).split("\n") == [
        "4.828",
        "1.0 [[0.0, 0.5], [0.0, 0.5]] [[0.0, 0.5], [0.0, 0.5]]",
        "cholesky 6",
        "1.0 [[-0.5, -0.0], [-0.5, -0.0]] [[-0.5, -0.0], [-0.5, -0.0]]",
        "4.828",
        "2.0 [[0.0, 0.5], [0.0, 0.5]] [[0.0, 0.5], [0.0, 0.5]]",
        "",
    ]


FAILING_ELSEWHERE = """
import numpy as np, ksym
from ksym.runtime import loading
from ksym.runtime.arrays import DeviceArray, copies
x = ksym.placeholder((3,))
w = ksym.Variable(np.zeros(3, "float32"))
y = ksym.random_uniform((3,), stream=ksym.RandomStream(1))
f = ksym.function([x], [x * 2.0, y], updates=[w.assign_add(x + y)])
first = f([1, 2, 3])[1]
checks = iter([1, 0])
def wait_for_all(before, wait=loading.wait_for_all):
    loading._failures += next(checks)  # another thread was told of an error meanwhile
    wait(before)
loading.wait_for_all = wait_for_all
for _ in range(2):
    doubled, drawn = f([1, 2, 3])
    print(doubled.tolist(), bool((drawn != first).all()))
    first += drawn
print(np.abs(w.get_value() - (first + [3, 6, 9])).max() < 1e-6)
"""


def test_a_call_that_another_thread_disturbs_gives_its_results_all_the_same():
    assert asynchronous(FAILING_ELSEWHERE).split("\n") == ["[2.0, 4.0, 6.0] True"] * 2 + [
        "True",
        "",
    ]


def test_failures_are_counted():
    before = loading.failures()
    with pytest.raises(loading.NativeError):
        loading.check_wait(1)
    assert loading.failures() == before + 1
    loading.check_undisturbed(before + 1)
    with pytest.raises(loading.NativeError, match="another thread"):
        loading.check_undisturbed(before)


@pytest.fixture
def for_device(monkeypatch):
    """Have functions compiled as for a GPU, and run on the CPU."""
    # The package's `function` is the function of that name.
    monkeypatch.setattr(sys.modules["ksym.function"], "target", lambda costs: Target(False, costs))
    monkeypatch.setattr("ksym.runtime.interpreter.is_direct", lambda: False)


SILENT = {"_npi_cholesky": "_copy", "_npi_inv": "_copy", "_npi_solve": "_npi_subtract"}
"""Operators in the place of those that fail on a CPU, and on a GPU give any numbers."""


@pytest.mark.usefixtures("for_device")
@pytest.mark.parametrize(
    ("make", "bad", "problem"),
    [
        (ksym.cholesky, -np.eye(2), "not positive definite"),
        (ksym.inv, np.ones((2, 2)), "singular"),
        (lambda a: ksym.solve(a, a), np.zeros((2, 2)), "singular"),
    ],
    ids=["cholesky", "inv", "solve"],
)
def test_kernels_that_report_nothing_are_checked(make, bad, problem, monkeypatch):
    a, w = ksym.placeholder((None, 2, 2)), ksym.Variable(np.zeros((2, 2), "float32"))
    f = ksym.function([a], make(a), updates=[w.assign_add(ksym.sum(make(a), 0))])
    to_json = NativeGraph.to_json

    def silent(graph):
        text = to_json(graph)
        for name, other in SILENT.items():
            text = text.replace(f'"op":"{name}"', f'"op":"{other}"')
        return text

    monkeypatch.setattr(NativeGraph, "to_json", silent)
    good = np.stack([np.eye(2), 3.0 * np.eye(2)])
    f(good)
    before = w.get_value()
    with pytest.raises(ExecutionError, match=problem) as caught:
        f(np.stack([np.eye(2), bad]))
    assert caught.value.operator in ("cholesky", "inv", "solve")
    assert caught.value.origin.filename == __file__
    np.testing.assert_array_equal(w.get_value(), before)
    f(np.stack([np.eye(2), np.full((2, 2), np.nan)]))  # LAPACK factorises it, too
    assert np.isnan(w.get_value()).any()


@pytest.mark.usefixtures("for_device")
@pytest.mark.parametrize("mode", ["native", "interpret"])
@pytest.mark.parametrize("make", [lambda a: ksym.eigh(a)[0], lambda a: ksym.svd(a)[1]])
def test_what_is_required_holds_for_good_matrices(make, mode, rng):
    a = ksym.placeholder((3, 3))
    y = make(a)
    f = ksym.function([a], y, mode=mode)
    value = rng.normal(size=(3, 3)).astype("float32")
    value += value.T
    (expected,) = evaluate_numpy([y], {a: value})
    np.testing.assert_allclose(f(value), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ExecutionError):
        f(np.full((3, 3), np.nan))


def heads(*tensors, on_host=False):
    graph = lower(tensors, on_host=on_host)
    return [(graph.nodes[head.node]["op"], head.output) for head in graph.heads]


def test_cudnn_writes_the_first_result_of_a_batch_normalisation():
    x = ksym.placeholder((4, 2, 3, 3))
    y, mean, _ = ksym.batch_norm(x, np.ones(2), np.zeros(2))
    for on_host in (False, True):
        assert heads(mean, on_host=on_host) == [("BatchNorm", 1), ("BatchNorm", 0)]
        assert heads(mean, y * 2.0, on_host=on_host)[0] == ("BatchNorm", 1)
        assert ("BatchNorm", 0) not in heads(mean, y * 2.0, on_host=on_host)
    (by_gamma,) = ksym.gradients(ksym.sum(ksym.square(y)), [x])
    assert heads(by_gamma) == heads(by_gamma, on_host=True)


def test_relu_keeps_nan_whatever_cudnn_does():
    x = ksym.placeholder((1, 2, 4, 4))
    y = ksym.relu(ksym.convolution(x, np.ones((2, 2, 1, 1), "float32")))
    names = [{n["op"] for n in lower([y], on_host=on).nodes} for on in (True, False)]
    assert "LeakyReLU" in names[0]
    assert not names[1] & {"LeakyReLU", "Activation"}
    assert "_npi_maximum_scalar" in names[1]


POINTWISE = ("exp", "sqrt", "square", "tanh", "negative", "abs", "floor", "log1p", "sin")


def fusible(*tensors):
    return {node["op"] for node in lower(tensors, on_host=False, fusible=True).nodes} - {"null"}


def test_operators_have_the_names_that_the_fusion_knows():
    x, y = ksym.placeholder((3, 4)), ksym.placeholder((3, 4))
    names = fusible(2.0 * x + y / (1.0 - x) - 3.0, *(getattr(ksym, n)(x) for n in POINTWISE))
    assert not {name for name in names if name.startswith("_np")}
    assert names <= {*FUSIBLE.values(), "Activation", "_copy"}
    # Nothing is fused that broadcasts, or that numbers of float32 would round.
    wide = ksym.placeholder((3, 4), "float64")
    assert fusible(x + ksym.placeholder((4,)), wide * 2.0) <= {"_npi_add", "_npi_multiply_scalar"}


@pytest.mark.parametrize("shape", [(3, 4), ()])
def test_values_are_the_same_by_either_name(shape, rng, monkeypatch):
    x, y = ksym.placeholder(shape), ksym.placeholder(shape)
    outputs = [2.0 * x + y / (1.0 - x) - 3.0, *(getattr(ksym, n)(x) for n in POINTWISE)]
    values = [rng.uniform(0.1, 0.9, shape).astype("float32") for _ in range(2)]
    found = []
    for fuses in (False, True):
        monkeypatch.setattr(
            *(sys.modules["ksym.function"], "target"),
            lambda costs, fuses=fuses: Target(False, costs, fuses),
        )
        found.append(ksym.function([x, y], outputs)(*values))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=3e-7)


@pytest.mark.usefixtures("for_device")
def test_a_mask_for_a_device_is_a_byte_for_each_element():
    x, w = ksym.placeholder((30, 40)), ksym.Variable(np.ones((30, 40), "float32"))
    loss = ksym.sum(ksym.dropout(x * w, 0.25, stream=5))
    update = w.assign_sub(ksym.gradients(loss, w))
    found = []
    for flags in ("", "draw_masks=0"):
        w.set_value(np.ones((30, 40), "float32"))
        ksym.random_streams([loss])[0].set_state(ksym.RandomStream(5).get_state())
        f = ksym.function([x], loss, updates=[update], flags=flags)
        found.append([f(np.ones((30, 40))) for _ in range(3)] + [w.get_value()])
        (drawn,) = f.last_plan().drawn
        assert drawn.outputs[0].dtype == ("int32" if flags else "bool")
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


TRAINING = """
import os
os.environ["KERAS_BACKEND"] = "ksym.backend"
import keras, ksym, numpy as np
np.random.seed(1)
ksym.seed(1)
cells = [keras.layers.GRU(4, return_sequences=True), keras.layers.LSTM(3, recurrent_dropout=0.3)]
layers = [keras.layers.Masking(input_shape=(6, 3)), *cells, keras.layers.Dropout(0.5)]
model = keras.Sequential([*layers, keras.layers.Dense(1)])
model.compile("adam", "mse", metrics=["mae"])
x = np.random.rand(8, 6, 3)
x[::2, 4:] = 0
for _ in range(3):
    print(*model.train_on_batch(x, x[:, 0, :1]))
print(*model.predict(x).ravel(), *model.get_weights()[0].ravel())
"""


def test_a_model_trains_as_on_the_host():
    found = np.array(asynchronous(TRAINING).split(), float)
    host = {name: value for name, value in os.environ.items() if name != "MXNET_ENGINE_TYPE"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING],
        env={**host, "KSYM_DEVICE": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    np.testing.assert_allclose(found, np.array(done.stdout.split(), float), rtol=1e-4, atol=1e-5)


def test_one_call_copies_all_new_values():
    shapes = [(), (3,), (2, 3), (0, 2), (1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 2)]
    values = [np.zeros(shape, "float32") for shape in shapes]
    values += [np.zeros(2, dtype) for dtype in ("float64", "int64", "bool")]
    pairs = [(DeviceArray.of(value), DeviceArray.of(value)) for value in values]
    for number, (_, source) in enumerate(pairs):
        source.fill(number % 5 + 1)
    calls = copies(pairs)
    assert len(calls) == 1 + 4
    with loading.numpy_shapes():
        for call in calls:
            call()
    for target, source in pairs:
        np.testing.assert_array_equal(target.read(), source.read())


THREADS = """
import threading
import numpy as np, ksym
a = ksym.placeholder((20, 20), "float64")
def work(seed):
    w, good, wrong = ksym.Variable(np.float64(0)), 0, 0
    size = ksym.sum(ksym.cholesky(a))
    f = ksym.function([a], [size, ksym.sum(ksym.sort(a))], updates=[w.assign_add(size)])
    for bad in np.random.default_rng(seed).random(40) < 0.15 * seed:
        try:
            results = f(np.eye(20) * (-1 if bad else 1))
            wrong += bad or results != [20, 20]
            good += 1
        except ksym.KsymError as error:
            wrong += not bad or error.operator != "cholesky"
    print(f"{wrong} {w.get_value() == 20 * good}\\n", end="")  # in one piece
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_whose_calls_fail_do_not_disturb_each_other():
    assert asynchronous(THREADS).split("\n") == ["0 True"] * 3 + [""]
