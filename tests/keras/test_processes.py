"""Models fed by other processes, and used by other threads and processes."""

import multiprocessing
import subprocess
import sys
import threading

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers


class Batches(keras.utils.Sequence):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return np.full((4, 3), index / 10), np.zeros((4, 2))


@pytest.fixture
def model():
    network = keras.Sequential(
        [layers.Dense(5, activation="tanh", input_shape=(3,)), layers.Dense(2)]
    )
    network.compile("adam", "mse")
    network.train_on_batch(np.ones((4, 3)), np.zeros((4, 2)))
    return network


def test_worker_processes_prepare_batches(model):
    options = {"workers": 2, "use_multiprocessing": True}
    losses = model.fit_generator(Batches(), epochs=8, verbose=0, **options).history["loss"]
    assert losses[-1] < losses[0]
    direct = np.concatenate([model.predict(x) for x, _ in (Batches()[i] for i in range(6))])
    fed = model.predict_generator(Batches(), **options)
    np.testing.assert_allclose(fed, direct, rtol=1e-6)


FED = """
import multiprocessing, os, pickle, sys

os.environ["KERAS_BACKEND"] = "ksym.backend"
import keras
import numpy as np
from ksym.errors import GraphError


class Batches(keras.utils.Sequence):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.full((4, 3), index / 10), np.zeros((4, 2))


def generate():
    while True:
        yield Batches()[1]


def predicted(pickled):
    return pickle.loads(pickled).predict(np.ones((2, 3)))


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    model.compile("sgd", "mse")
    options = {"workers": 2, "use_multiprocessing": True}
    model.fit_generator(Batches(), epochs=2, verbose=0, **options)
    fed = model.predict_generator(Batches(), **options)
    direct = np.concatenate([model.predict(Batches()[i][0]) for i in range(4)])
    np.testing.assert_allclose(fed, direct, rtol=1e-6)
    with multiprocessing.Pool(2) as pool:
        (found,) = pool.map(predicted, [pickle.dumps(model)])
    np.testing.assert_allclose(found, model.predict(np.ones((2, 3))), rtol=1e-6)
    try:
        model.fit_generator(generate(), steps_per_epoch=3, verbose=0, **options)
        print("a generator works", flush=True)
    except GraphError as error:
        print(str(error).splitlines()[0], flush=True)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes_however_they_are_started(method, tmp_path):
    script = tmp_path / "fed.py"
    script.write_text(FED)
    command = [sys.executable, "-W", "ignore", str(script), method]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    last = result.stdout.splitlines()[-1:] or [result.stderr]
    if method == "fork":
        assert last == ["a generator works"]
    else:  # as Keras says itself on Windows
        assert "cannot be used: TypeError: cannot pickle 'generator' object" in last[0]


def test_threads_share_a_model(model):
    x = np.random.rand(8, 3)
    expected = model.predict(x)
    results = []
    threads = [threading.Thread(target=lambda: results.append(model.predict(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)
    assert len(results) == 4


def test_a_forked_process_predicts(model):
    x = np.random.rand(8, 3)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=lambda: queue.put(model.predict(x)))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), model.predict(x))
    child.join()
