"""Random Keras models train as they do node by node, and as those of Keras on TensorFlow.

TensorFlow is asked by `make test-fuzz`, where `make test-agreement` has installed it.
"""

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import counting
import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from networks import Architecture, trained

from ksym.errors import KsymError

BOUNDS = {"float64": 1e-7, "float32": 1e-3}

TOO_LARGE = "does not fit into spatial axes"
"""What is said of a window that does not fit what earlier layers left, as TensorFlow says."""


def compare(found, expected, bound):
    """Raise an error if arrays differ by more than a bound, relative to the largest element."""
    assert found.keys() == expected.keys()
    for name, theirs in expected.items():
        mine = found[name]
        assert mine.shape == theirs.shape, name
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = max(finite.max(initial=0.0), 1e-3)
        np.testing.assert_allclose(mine, theirs, rtol=bound, atol=bound * scale, err_msg=name)


@given(data=st.data(), floatx=st.sampled_from(("float64", "float64", "float32")))
def test_models_train_as_interpreted(data, floatx):
    keras = pytest.importorskip("keras")
    from ksym.keras import execution

    network = Architecture(lambda options: data.draw(st.sampled_from(list(options)))).drawn()
    note(json.dumps(network))
    counting.add(models=1)
    stepwise = functools.partial(execution.compile_function, mode="interpret")
    try:
        with np.errstate(all="ignore"):
            try:
                found = trained(keras, network, floatx)
            except KsymError as error:  # which are ValueErrors too
                if TOO_LARGE not in str(error):
                    raise
                counting.add(refused=1)
                return
            except (ValueError, TypeError):  # Keras refuses what does not go together
                counting.add(refused=1)
                return
            with mock.patch.object(execution, "compile_function", stepwise):
                expected = trained(keras, network, floatx)
    finally:
        keras.backend.set_floatx("float32")
    compare(found, expected, BOUNDS[floatx])


def bound_of(network, predicted):
    """Return how much a model may differ from Keras on TensorFlow, None where nothing is said.

    That adds 1e-7 to probabilities before their logarithm, and clips them; ksym computes them from
    logits.
    """
    if not network["loss"].endswith(("crossentropy", "divergence")):
        return 1e-6
    return None if np.minimum(predicted, 1.0 - predicted).min() < 1e-5 else 1e-2


def against_tensorflow(seed, count=60):
    """Train drawn models with both, and raise an error that lists those that differ."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "agreement"))
    import environments

    if not environments.TENSORFLOW.exists():
        return
    rng = np.random.default_rng(seed)

    def choose(options):
        return list(options)[rng.integers(len(options))]

    networks = [Architecture(choose).drawn() for _ in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "networks.json"
        source.write_text(json.dumps(networks))
        found = {}
        for side in ("ksym", "tensorflow"):
            target = Path(folder) / f"{side}.npz"
            python, own = environments._python(side)
            environment = {**environments.os.environ, "OMP_NUM_THREADS": "1", **own}
            script = Path(__file__).with_name("networks.py")
            command = [python, "-W", "ignore", str(script), side, str(source), str(target)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-3000:]
            with np.load(target) as arrays:
                found[side] = dict(arrays)
    counting.add(models_against_tensorflow=count)
    different = []
    for number, network in enumerate(networks):
        mine, theirs = (
            {k: v for k, v in found[side].items() if k.startswith(f"{number}|")}
            for side in ("ksym", "tensorflow")
        )
        failed = any("error" in name for name in theirs)
        bound = None if failed else bound_of(network, theirs[f"{number}|predicted"])
        if bound is None:
            counting.add(refused=1)
            continue
        try:
            compare(mine, theirs, bound)
        except AssertionError as error:
            said = [str(value) for name, value in mine.items() if "error" in name]
            different.append(f"{json.dumps(network)}\n{error}\n{said}")
    assert not different, f"{len(different)} of {count} differ\n" + "\n\n".join(different)


FUZZED = test_models_train_as_interpreted
