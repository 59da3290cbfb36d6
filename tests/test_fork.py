"""Forked processes compute: each story runs in a process of its own, with two threads."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

BEGIN = """
import multiprocessing, os, threading
import numpy as np
import ksym

rng = np.random.default_rng(0)
a = rng.random((900, 900), dtype="float32")
context = multiprocessing.get_context("fork")

def network():
    "A step with products of BLAS, loops on several threads, and MXNet's own kernels."
    w = ksym.Variable(rng.random((900, 900), dtype="float32") * 0.01)
    x = ksym.placeholder((None, 900))
    y = ksym.tanh(x @ w)
    loss = ksym.mean(ksym.square(y)) + ksym.mean(ksym.exp(ksym.sin(x)) / 3.0)
    slope = ksym.gradients(loss, w)
    outputs = [loss, ksym.sort(y, axis=1)[0, :3]]
    return ksym.function([x], outputs, [w.assign(w - slope)]), w

def in_child(work):
    "Return what work returns in a forked process."
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(work()))
    child.start()
    assert receiver.poll(30), "the child hangs"
    result = receiver.recv()
    child.join(30)
    assert child.exitcode == 0, child.exitcode
    return result

step, w = network()
"""

STORIES = {
    "a child computes and trains as its parent": """
        step(a)
        child = in_child(lambda: (step(a), w.get_value()))
        parent = step(a)
        np.testing.assert_allclose(child[0][0], parent[0], rtol=1e-6)
        np.testing.assert_allclose(child[1], w.get_value(), rtol=1e-5)
        """,
    "a child compiles what its parent has not": """
        step(a)
        fresh, _ = network()
        child = in_child(lambda: fresh(a[:500]))
        np.testing.assert_allclose(child[0], fresh(a[:500])[0], rtol=1e-6)
        """,
    "a child of a child": """
        step(a)
        def child():
            first = step(a)[0]
            return first, in_child(lambda: step(a)[0])
        first, second = in_child(child)
        np.testing.assert_allclose((first, second), (step(a)[0], step(a)[0]), rtol=1e-6)
        """,
    "a pool of four": """
        step(a)
        def scored(number):
            return float(scores(a * number))
        x = ksym.placeholder((None, 900))
        scores = ksym.function([x], ksym.sum(ksym.tanh(x @ w)))
        direct = [scored(number) for number in range(12)]
        with context.Pool(4) as pool:
            found = pool.map_async(scored, range(12)).get(60)
        np.testing.assert_allclose(found, direct, rtol=1e-5)
        """,
    "a child that is forked before anything is computed": """
        child = in_child(lambda: step(a)[0])
        np.testing.assert_allclose(child, step(a)[0], rtol=1e-6)
        """,
    "a child that is forked while another thread computes": """
        step(a)
        other, _ = network()
        stop = threading.Event()
        def work():
            while not stop.is_set():
                step(a); other(a[:300])
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(8):
                assert np.isfinite(in_child(lambda: (step(a)[0], other(a)[0]))).all()
        finally:
            stop.set()
            thread.join()
        """,
    "children that multiply while another thread of their parent does": """
        v = ksym.Variable(rng.random((900, 1), dtype="float32") * 0.01)
        x = ksym.placeholder((None, 900))
        parents, childs = (
            ksym.function([x], ksym.tanh(x @ w + 1.0) @ v * factor) for factor in (1.0, 2.0)
        )
        parents(a), childs(a)
        stop = threading.Event()
        def work():
            while not stop.is_set():
                parents(a)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(40):
                in_child(lambda: childs(a))
        finally:
            stop.set()
            thread.join()
        """,
    "children that are forked while another thread makes variables and writes them": """
        counters = [ksym.Variable(np.zeros((50, 50), "float32")) for _ in range(4)]
        count = ksym.function([], [], [counter.assign_add(1.0) for counter in counters])
        stop = threading.Event()
        def work():
            while not stop.is_set():
                count(); ksym.Variable(np.ones(3)).get_value()
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(100):
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
        finally:
            stop.set()
            thread.join()
        assert len({counter.get_value()[0, 0] for counter in counters}) == 1
        """,
    "a child that is forked by a thread": """
        step(a)
        found = []
        thread = threading.Thread(
            target=lambda: (step(a), found.append(in_child(lambda: step(a)[0])))
        )
        thread.start()
        thread.join(60)
        np.testing.assert_allclose(found, [step(a)[0]], rtol=1e-6)
        """,
    "random numbers and names": """
        noise = ksym.function([], ksym.random_normal((5,)))
        noise()
        child = in_child(lambda: (noise(), ksym.Variable(0.0, name="n").name))
        np.testing.assert_array_equal(child[0], noise())
        assert child[1] == ksym.Variable(0.0, name="n").name
        """,
    "Keras trains with batches that other processes prepare with it": """
        os.environ["KERAS_BACKEND"] = "ksym.backend"
        import keras
        model = keras.Sequential([
            keras.layers.Dense(900, activation="tanh", input_shape=(900,)),
            keras.layers.Dense(1),
        ])
        model.compile("adam", "mse")
        model.train_on_batch(a, a[:, :1])
        class Batches(keras.utils.Sequence):
            def __len__(self):
                return 4
            def __getitem__(self, index):
                # One row: CPython's pool may not end while a worker sends what no pipe holds.
                return a[:1], model.predict_on_batch(a)[:1] * 0.5
        history = model.fit_generator(
            Batches(), epochs=2, verbose=0, workers=2, use_multiprocessing=True
        )
        assert np.isfinite(history.history["loss"]).all()
        """,
}


IN_USE = """
import ctypes
from ksym.runtime.library import find
ctypes.CDLL(str(find().path)).MXEngineSetBulkSize(0, ctypes.byref(ctypes.c_int()))
"""
ENGINES = {
    "NaiveEngine": ({}, ""),
    "threaded engine": ({"MXNET_ENGINE_TYPE": "ThreadedEnginePerDevice"}, ""),
    "MXNet in use before": ({}, IN_USE),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", STORIES)
def test_a_forked_process(name, engine):
    """Keras is not everywhere, and no engine may hang."""
    if "Keras" in name:
        pytest.importorskip("keras")
    chosen, before = ENGINES[engine]
    inherited = {k: v for k, v in os.environ.items() if k != "MXNET_ENGINE_TYPE"}
    code = f"{before}\n{BEGIN}\n{textwrap.dedent(STORIES[name])}"
    environment = {**inherited, "OMP_NUM_THREADS": "2", **chosen}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
