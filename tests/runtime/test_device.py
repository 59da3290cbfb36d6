import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ksym
from ksym.errors import DeviceError
from ksym.runtime import device, library, loading, settings
from ksym.runtime.device import Device, Gpu

ROOT = Path(__file__).parents[2]


def run(code, **environment):
    """Run code in a fresh process and return it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KSYM", "MXNET", "OMP", "KERAS"))
    }
    inherited["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


TRAIN = """
import numpy as np, ksym
x = ksym.placeholder((None, 2))
w = ksym.Variable([[1.0], [1.0]])
loss = ksym.sum(ksym.square(x @ w))
f = ksym.function([x], loss, updates=[w.assign_sub(0.1 * ksym.gradients(loss, w))])
print([float(f(np.ones((n, 2)))) for n in (1, 2, 1)], w.get_value().ravel().tolist())
"""


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not settled on a device, with two GPUs as they might be."""
    monkeypatch.setattr(device, "_current", None)
    monkeypatch.setattr(device, "_requested", None)
    monkeypatch.delenv(device.ENVIRONMENT, raising=False)
    monkeypatch.setattr(device, "gpus", lambda: [Gpu("H200", (9, 0)), Gpu("A100", (8, 0))])
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cpu", Device("cpu")),
        ("cpu:0", Device("cpu")),
        ("GPU", Device("gpu")),
        ("gpu:1", Device("gpu", 1)),
    ],
)
def test_names_of_devices(name, expected):
    assert device.parse(name) == expected


@pytest.mark.parametrize("name", ["tpu", "cpu:1", "gpu:x", "", "gpu:-1"])
def test_what_is_no_device(name):
    with pytest.raises(DeviceError, match="not a device"):
        device.parse(name)


def test_a_cpu_build_runs_on_the_cpu(fresh):
    fresh.setattr(device, "has_cuda_build", lambda: False)
    with pytest.raises(DeviceError, match="CPU build"):
        device.set_device("gpu:0")
    assert device.get_device() == Device("cpu")


def test_a_cuda_build_takes_the_first_gpu_it_has_code_for(fresh):
    fresh.setattr(device, "has_cuda_build", lambda: True)
    assert device.get_device() == Device("gpu", 1)


def test_a_gpu_without_code_is_refused_with_the_reason(fresh):
    fresh.setattr(device, "has_cuda_build", lambda: True)
    with pytest.raises(DeviceError, match=r"capability 9\.0.*5\.0 to 8\.9"):
        device.set_device("gpu:0")
    with pytest.raises(DeviceError, match=r"reports 2 GPU\(s\)"):
        device.set_device("gpu:2")
    device.set_device("gpu:1")
    assert device.get_device() == Device("gpu", 1)


def test_the_environment_decides_and_a_call_overrules_it(fresh):
    fresh.setattr(device, "has_cuda_build", lambda: True)
    fresh.setenv(device.ENVIRONMENT, "cpu")
    assert device.get_device() == Device("cpu")
    fresh.setattr(device, "_current", None)
    device.set_device("gpu:1")
    assert device.get_device() == Device("gpu", 1)


def test_the_device_is_chosen_once():
    ksym.evaluate(ksym.constant(1.0))
    ksym.set_device("cpu")  # the one in use may be named again
    with pytest.raises(DeviceError):
        ksym.set_device("gpu:0")


def test_a_device_that_is_not_there_is_named_at_the_first_value():
    result = run("import ksym; print(ksym.evaluate(ksym.constant(1.0)))", KSYM_DEVICE="gpu:0")
    assert result.returncode != 0
    assert "gpu:0 cannot be used" in result.stderr
    result = run("import ksym; print(ksym.evaluate(ksym.constant(1.0)))", KSYM_DEVICE="tpu")
    assert "'tpu' is not a device" in result.stderr


def test_both_engines_give_the_same():
    quick = run(TRAIN)
    threaded = run(TRAIN, MXNET_ENGINE_TYPE="ThreadedEnginePerDevice")
    assert quick.returncode == threaded.returncode == 0, quick.stderr + threaded.stderr
    assert quick.stdout == threaded.stdout


SCALARS = """
import numpy as np, ksym
x, count = ksym.placeholder(()), ksym.Variable(0.0)
halved = ksym.while_loop(lambda s: s > 1.0, lambda s: s / 2.0, x)
summed = ksym.scan(lambda s: ((), s + x), states=0.0, steps=4).states
chosen = ksym.cond(x > 2.0, lambda: x * 10.0, lambda: x)
f = ksym.function([x], [halved, summed, chosen], updates=[count.assign_add(x)])
print([[float(v) for v in f(number)] for number in (3.0, 1.0)], float(count.get_value()))
m = ksym.placeholder((None, None))
cholesky, kept = ksym.function([m], ksym.cholesky(m)), ksym.Variable(np.eye(2))
update = ksym.function([m], [], updates=[kept.assign(ksym.inv(m)), count.assign_add(1.0)])
for value in (np.eye(2), -np.eye(2), 4.0 * np.eye(2), np.zeros((2, 2)), np.eye(3) * 9.0):
    for call in (cholesky, update):
        try:
            print(np.asarray(call(value)).tolist(), count.get_value())
        except ksym.KsymError as error:
            print(type(error).__name__, error.operator, str(error.origin).split(':')[-1])
print(kept.get_value().tolist())
"""
TRAIN_KERAS = """
import os
os.environ['KERAS_BACKEND'] = 'ksym.backend'
import keras, numpy as np
np.random.seed(1)
layers = [keras.layers.Dense(3, input_shape=(4,)), keras.layers.BatchNormalization()]
model = keras.Sequential([*layers, keras.layers.Dense(1)])
model.compile('adam', 'mse', metrics=['mae'])
x = np.random.rand(8, 4)
for _ in range(3):
    print(*model.train_on_batch(x, x[:, :1]))
print(*model.predict(x).ravel(), model.optimizer.get_weights()[0])
"""


@pytest.mark.parametrize("code", [SCALARS, TRAIN_KERAS], ids=["scalars and failures", "keras"])
def test_both_engines_do_scalars_failures_and_training(code):
    quick = run(code)
    threaded = run(code, MXNET_ENGINE_TYPE="ThreadedEnginePerDevice", KSYM_DEVICE="cpu")
    assert quick.returncode == threaded.returncode == 0, quick.stderr + threaded.stderr
    loops = run(code, KSYM_FLAGS="fuse_loops=0,fuse_updates=0")
    assert threaded.stdout == loops.stdout
    if code is SCALARS:
        assert quick.stdout == loops.stdout
        assert quick.stdout.count("ExecutionError cholesky 10") == 2
    else:
        found, expected = (np.array(p.stdout.split(), float) for p in (quick, loops))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["NaiveEngine", "ThreadedEnginePerDevice"])
def test_functions_can_be_called_while_the_process_exits(engine):
    code = """
import atexit, ksym
atexit.register(lambda: print(f(), ksym.evaluate(ksym.sort(w))))
w = ksym.Variable([2.0, 1.0])
f = ksym.function([], ksym.sort(w), [w.assign_add([1.0, 1.0])])
f()
"""
    result = run(code, MXNET_ENGINE_TYPE=engine)
    assert result.stdout.strip() == "[2. 3.] [3. 4.]", result.stderr


def test_threads_and_engine_are_set_where_the_user_has_not():
    ask = (
        "import os, ksym; ksym.evaluate(ksym.constant(1.0));"
        "names = 'OMP_NUM_THREADS', 'MXNET_ENGINE_TYPE', 'MXNET_MKLDNN_CACHE_NUM'\n"
        "print(*map(os.environ.get, names))"
    )
    chosen = [str(settings.available_processors()), "NaiveEngine", str(settings.CACHED)]
    assert run(ask).stdout.split() == chosen
    users = {"OMP_NUM_THREADS": "1", "MXNET_ENGINE_TYPE": "ThreadedEngine"}
    own = run(ask, **users, MXNET_MKLDNN_CACHE_NUM="9")
    assert own.stdout.split() == ["1", "ThreadedEngine", "9"]


def test_openblas_uses_the_vector_instructions_there_are():
    ask = (
        "import ctypes, os; from ksym.runtime import loading; core = loading.library()\n"
        "core.openblas_get_corename.restype = ctypes.c_char_p\n"
        "print(core.openblas_get_corename().decode(), 'OPENBLAS_CORETYPE' in os.environ)"
    )
    expected = settings.blas_core()
    core, left = run(ask).stdout.split()
    assert left == "False"  # other copies of OpenBLAS may know the processor better
    assert expected in (None, core)
    assert run(ask, OPENBLAS_CORETYPE="Nehalem").stdout.split() == ["Nehalem", "True"]


def test_threads_do_not_spin_for_long_unless_the_user_says_so():
    ask = (
        "import os, ksym; ksym.evaluate(ksym.constant(1.0)); print('GOMP_SPINCOUNT' in os.environ)"
    )

    def spins(**own):
        done = run(ask, OMP_DISPLAY_ENV="VERBOSE", **own)
        return re.search(r"GOMP_SPINCOUNT = '(\w+)'", done.stderr)[1], done.stdout.strip()

    assert spins() == (str(settings.SPINS), "False")
    assert spins(GOMP_SPINCOUNT="77") == ("77", "True")
    assert spins(OMP_WAIT_POLICY="passive") == ("0", "False")


def test_nothing_is_printed_and_nothing_is_loaded_before_it_is_needed():
    result = run(
        "import sys, ksym; from ksym.runtime.library import find, is_loaded\n"
        "x = ksym.exp(ksym.Variable(1.0)); ksym.gradients(x, ksym.Variable(2.0), "
        "disconnected='zero'); print(is_loaded(find().path))\n"
        "ksym.evaluate(x); print(is_loaded(find().path), 'mxnet' in sys.modules)"
    )
    assert result.stdout.split() == ["False", "True", "False"], result.stderr
    result = run("import ksym; ksym.evaluate(ksym.constant(1.0))")
    assert result.stdout == result.stderr == ""


def test_the_report():
    result = subprocess.run(
        [sys.executable, "-m", "ksym"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for expected in (
        f"ksym {ksym.__version__}",
        f"MXNet: {library.find()}",
        "device in use: cpu",
        "OMP_NUM_THREADS=",
        "GPU",
    ):
        assert expected in result.stdout


def test_the_report_without_a_usable_device():
    result = run("import runpy; runpy.run_module('ksym', run_name='__main__')", KSYM_DEVICE="gpu:0")
    assert "cannot be used" in result.stdout


def test_the_report_says_why_a_gpu_cannot_be_used(fresh):
    from ksym.__main__ import report

    fresh.setattr(device, "has_cuda_build", lambda: True)
    fresh.setattr(loading, "library", lambda **_: None)
    lines = "\n".join(report())
    assert "GPU 0: H200, compute capability 9.0" in lines
    assert "cannot be used: H200 has compute capability 9.0" in lines
    assert "GPU 1: A100" in lines
    assert "can be used" in lines
    assert "libcudart.so.11.0: not found" in lines
