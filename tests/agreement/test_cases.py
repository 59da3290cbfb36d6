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
