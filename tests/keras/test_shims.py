"""Names that newer versions of Python and NumPy took away, as modules of Keras see them."""

import ast
import importlib
import importlib.util
import random
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from ksym.keras import shims

keras = pytest.importorskip("keras")

# Keras's own backends are not loaded; callbacks.py lies behind the package of the same name.
OTHERS = {"tensorflow_backend", "theano_backend", "cntk_backend"}
ROOTS = ("keras", "keras_applications", "keras_preprocessing")


def sources():
    """Yield the name and the syntax of each module of Keras."""
    for root in ROOTS:
        folder = Path(importlib.util.find_spec(root).origin).parent
        for path in sorted(folder.rglob("*.py")):
            if path.stem not in OTHERS and not path.with_suffix("").is_dir():
                name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
                yield name.removesuffix(".__init__"), ast.parse(path.read_text())


def lacks(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return not hasattr(importlib.import_module(module), name)


def gone(tree):
    """Return the names that a module asks of NumPy and collections, and that are not there."""
    aliases, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                if item.name in ("numpy", "collections"):
                    aliases[item.asname or item.name] = item.name
        elif isinstance(node, ast.ImportFrom) and node.module in ("numpy", "collections"):
            found |= {("", item.name) for item in node.names if lacks(node.module, item.name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            alias = node.value.id
            if alias in aliases and lacks(aliases[alias], node.attr):
                found.add((alias, node.attr))
    return found


MODULES = dict(sources())


def listed(name):
    """Return the names that the shims have for a module, and that are not there."""
    found = {("", key) for key in shims.IMPORTED.get(name, {}) if lacks("collections", key)}
    for alias, values in shims.GONE.get(name, {}).items():
        module = "numpy" if alias == "np" else alias
        found |= {(alias, key) for key in values if lacks(module, key)}
    return found


def test_every_name_that_is_gone_has_a_shim_and_no_other_name():
    asked = {name: gone(tree) for name, tree in MODULES.items()}
    assert {name: names for name, names in asked.items() if names} == {
        # a package here, a module in Keras 2.2.4
        name: listed(name)
        for name in {*shims.GONE, *shims.IMPORTED} - {"keras.callbacks"}
        if listed(name)
    }


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # `is 1` in Keras, where pip compiled nothing
@pytest.mark.parametrize("name", [n for n in shims.GONE if n != "keras.callbacks"])
def test_a_module_of_keras_sees_the_names_and_nobody_else(name):
    module = importlib.import_module(name)
    for alias, values in shims.GONE[name].items():
        for key, value in values.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert getattr(vars(module)[alias], key) in (value, bool)  # bool: NumPy 1.23
        missing = [key for alias_, key in listed(name) if alias_ == alias]
        assert isinstance(vars(module)[alias], shims.Namespace) == bool(missing)
        assert vars(module)[alias].__name__ == ("numpy" if alias == "np" else alias)
    assert vars(module).get("np", np).asarray is np.asarray


RUN = """
import sys
sys.path[:0] = {path!r}
{before}
import collections
import ksym.backend
import keras
names = ("Container", "Iterable", "Mapping", "Sequence")
print([name for name in names if hasattr(collections, name)])
"""


def fresh(before=""):
    return subprocess.run(
        [sys.executable, "-c", RUN.format(path=sys.path, before=before)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_collections_stay_as_they_are():
    done = fresh()
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_shims_can_be_switched_off():
    done = fresh(f"import os; os.environ[{shims.ENVIRONMENT!r}] = '0'")
    assert done.returncode == 1
    assert "cannot import name 'Iterable' from 'collections'" in done.stderr


def test_callbacks_and_sequences_before_any_model(tmp_path):
    callbacks = keras.callbacks
    stopping = callbacks.EarlyStopping(monitor="loss", mode="min")
    stopping.on_train_begin()
    assert stopping.best == np.inf
    assert callbacks.ModelCheckpoint(str(tmp_path / "a.h5"), mode="max").best == -np.inf
    assert callbacks.ReduceLROnPlateau(mode="min").best == np.inf
    padded = keras.preprocessing.sequence.pad_sequences([["a"], ["b", "c"]], dtype=object, value="")
    assert padded.tolist() == [["", "a"], ["b", "c"]]


def test_skipgrams_are_drawn():
    couples, labels = keras.preprocessing.sequence.skipgrams(
        [1, 2, 3], vocabulary_size=4, seed=None
    )
    assert len(couples) == len(labels) > 0
    assert random.randint is vars(random)["randint"]  # others see Python's own
    with pytest.raises((TypeError, DeprecationWarning)):
        random.randint(0, 10e6)  # others see Python's own


class Locked:
    """An iterator that several threads may ask."""

    def __init__(self, iterator):
        self.iterator, self.lock = iterator, threading.Lock()

    def __next__(self):
        with self.lock:
            return next(self.iterator)


@pytest.fixture
def threads_run_until_they_wait():
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_run_until_they_wait")
def test_tasks_start_in_their_order():
    for _ in range(30):
        started = []
        pool = keras.utils.data_utils.ThreadPool(3)
        tasks = [pool.apply_async(started.append, (k,)) for k in range(20)]
        pool.close()
        pool.join()
        assert started == list(range(20))
        assert all(task.successful() for task in tasks)


@pytest.mark.usefixtures("threads_run_until_they_wait")
def test_the_error_of_a_generator_reaches_the_user():
    def broken():
        yield np.zeros(1)
        raise OSError("the third file is not there")

    for _ in range(30):
        queue = keras.utils.GeneratorEnqueuer(Locked(broken()))
        queue.start(workers=3, max_queue_size=10)
        batches = queue.get()
        next(batches)
        with pytest.raises(OSError, match="third file"):
            next(batches)


def test_tasks_get_arguments_and_raise_errors():
    pool = keras.utils.data_utils.ThreadPool(2)
    heard = []
    done = pool.apply_async(sorted, ([2, 3, 1],), {"reverse": True}, heard.append)
    failed = pool.apply_async(int, ("x",), error_callback=heard.append)
    pool.close()
    pool.join()
    assert done.get() == [3, 2, 1]
    with pytest.raises(ValueError, match="invalid literal"):
        failed.get()
    assert heard[0] == [3, 2, 1]
    assert isinstance(heard[1], ValueError)
    with pytest.raises(ValueError, match="not running"):
        pool.apply_async(int)
