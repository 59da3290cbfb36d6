"""That everything of Keras is among what is compared with TensorFlow, or named with its reason."""

import re
from pathlib import Path

import exchange
import functions
import layers
import models
import numpy as np
import page
import pytest
import side

import ksym.backend

keras = pytest.importorskip("keras")
PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def public(module, wanted):
    return {name for name, value in vars(module).items() if name[0] != "_" and wanted(value)}


def test_every_function_is_compared_or_says_where_it_is_tested():
    names = public(ksym.backend, callable)
    assert names == {*functions.CALLS, *functions.OTHERS}
    assert not set(functions.CALLS) & set(functions.OTHERS)


def test_every_layer_is_compared_or_says_why_not():
    found = {name: value for name, value in vars(keras.layers).items() if isinstance(value, type)}
    # Keras puts these there as soon as a model is read from a file.
    found = {n: v for n, v in found.items() if not issubclass(v, keras.models.Model)}
    names = {name for name, value in found.items() if value.__name__ == name}
    # Other names of the same class.
    assert {found[name].__name__ for name in set(found) - names} <= names
    assert names == {*layers.CASES, *layers.OTHERS}


@pytest.mark.parametrize("name", functions.CALLS)
def test_functions_do_the_same_for_unknown_shapes(name):
    call = functions.CALLS[name]
    arrays = side.run_function(keras, "ksym", call, "float32")
    np.testing.assert_allclose(arrays["unknown|0"], arrays["forward|0"], rtol=1e-6, atol=1e-6)
    gradients = [array for key, array in arrays.items() if key.startswith("gradients")]
    assert len(gradients) == len(call.differentiable)
    assert all(np.isfinite(array).all() for array in gradients)


# Where a list is several tensors, or the call does with a list what Python does with it.
LISTS_MEAN_MORE = {"stop_gradient", "map_fn", "gradients"}
LISTS_ARE_MULTIPLIED = {
    "switch",
    "in_train_phase",
    "in_test_phase",
    "rnn",
    "update_add",
    "update_sub",
}


@pytest.mark.parametrize(
    "name", [n for n in functions.CALLS if n not in LISTS_MEAN_MORE | LISTS_ARE_MULTIPLIED]
)
def test_functions_take_lists_of_tensors_for_tensors(name):
    K, call = keras.backend, functions.CALLS[name]
    values = [array.astype("float32") for array in call.arrays]
    for position, array in enumerate(values):
        if not array.ndim:
            continue
        inputs = [K.placeholder(value.shape) for value in values]
        expected = call.make(K, *inputs)
        rows = [inputs[position][i] for i in range(len(array))]
        elements = [[row[j] for j in range(row.shape[0])] if row.rank else row for row in rows]
        for given in (rows, elements):
            got = call.make(K, *inputs[:position], given, *inputs[position + 1 :])
            both = K.function([*inputs, K.learning_phase()], [got, expected])([*values, 1.0])
            np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-6)
            assert len({value.dtype for value in both}) == len({value.shape for value in both}) == 1


def test_the_page_says_what_is_declared_and_that_all_of_it_agrees():
    agreed = {
        (kind, name, group): True
        for kind, cases, groups in (
            ("functions", functions.CALLS, ("forward", "gradients", "unknown")),
            ("layers", layers.CASES, ("forward", "gradients", "training", "saved")),
            ("models", models.CASES, ("forward", "gradients", "training")),
        )
        for name, case in cases.items()
        for group in groups
        if kind != "functions" or group != "gradients" or case.differentiable
    }
    agreed.update(
        (("files", case, f"{writer} to {reader}"), True)
        for case in exchange.CASES
        for writer in exchange.sides(case)
        for reader in exchange.sides(case)
    )
    assert PAGE.read_text() == page.page(agreed)


def test_the_page_shows_what_does_not_agree():
    said = page.page(
        {("functions", "exp", "forward"): True, ("functions", "exp", "unknown"): False}
    )
    assert re.search(r"\| `exp` \| yes \| - \| \*\*no\*\* \|", said)
