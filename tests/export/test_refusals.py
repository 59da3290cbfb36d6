"""What no other runtime can have, and files that cannot be written: an error, and no file."""

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812 - short in tables

import ksym
from ksym.errors import ArgumentError, FileError, GraphError

EXPORTS = {"MXNet": ksym.export_mxnet, "ONNX": ksym.export_onnx}

X = ksym.placeholder((None, 2), name="x")


def training():
    w = ksym.Variable(np.ones(2), name="w")
    return ksym.function(X, ksym.sum(X * w), updates=[w.assign_sub(0.1)])


REFUSED = {
    "training": (training, "(?s)changes variables.*leave out the updates"),
    "noise": (
        lambda: ksym.function(X, X + ksym.random_normal((2,))),
        "(?s)random numbers are drawn by ksym.*set_learning_phase",
    ),
    "NumPy": (
        lambda: ksym.function(X, ksym.as_op(lambda x: x)(np.sort)(X)),
        "(?s)computed by NumPy.*to do: compute it before or after",
    ),
    "nothing": (lambda: 3, "neither a function nor a Keras model"),
    "not built": (lambda: keras.Sequential([L.Dense(2)]), "(?s)neither.*model.build"),
}


@pytest.mark.parametrize("to", EXPORTS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exported_says_what_to_do_and_leaves_no_file(name, to, tmp_path):
    make, match = REFUSED[name]
    with pytest.raises(GraphError, match=match):
        EXPORTS[to](make(), str(tmp_path / "f"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layer", [L.GRU(4), L.LSTM(4, recurrent_activation="hard_sigmoid")])
def test_a_loop_of_unknown_length_is_refused_by_mxnet_alone(layer, tmp_path):
    """At once: it is not written out for one length after the other, to be compared."""
    model = keras.Sequential([L.InputLayer((None, 3)), layer])
    match = rf"(?s)number of steps is a size.*under '{layer.name}'.*length of their sequences"
    with pytest.raises(GraphError, match=match):
        ksym.export_mxnet(model, str(tmp_path / "f"))
    assert not list(tmp_path.iterdir())
    ksym.export_onnx(model, tmp_path / "f.onnx")


@pytest.mark.parametrize("to", EXPORTS)
@pytest.mark.parametrize("path", ["folder", "none/f"])
def test_a_path_that_cannot_be_written(to, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder-symbol.json"):
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match=r"(?s)cannot be written.*to do: give the name of a file"):
        EXPORTS[to](ksym.function(X, X * 2.0), path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("to", EXPORTS)
@pytest.mark.parametrize("path", [3, None, ["f"], object(), "", "a\0b"])
def test_what_is_no_path(to, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"(?s)is no path.*to do: give the name of a file"):
        EXPORTS[to](ksym.function(X, X * 2.0), path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("epoch", [-1, 10_000, "last", 1.5])
def test_a_number_of_parameters_that_mxnet_does_not_load(epoch, tmp_path):
    with pytest.raises(ArgumentError, match=r"(?s)epoch is .*from 0 to 9999"):
        ksym.export_mxnet(ksym.function(X, X * 2.0), str(tmp_path / "f"), epoch=epoch)
    assert not list(tmp_path.iterdir())
