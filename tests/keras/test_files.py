"""Models that Keras wrote on other backends, and text as both generations of h5py return it."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from ksym.keras import shims

keras = pytest.importorskip("keras")
FILES = sorted((Path(__file__).parent / "files").glob("*/*.h5"))
NAMES = [f"{path.parent.name}-{path.stem}" for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_model_of_another_backend_predicts_the_same_and_trains_on_the_same(path):
    import files

    gaps = files.difference(keras.models.load_model(str(path)), str(path))
    assert max(gaps) <= files.TOLERANCE


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_weights_of_another_backend_alone(path):
    import files

    model = files.build(keras, path.parent.name)
    model.load_weights(str(path))
    found = model.predict(files.batch()[0])
    with np.load(path.with_suffix(".npz")) as expected:
        np.testing.assert_allclose(found[0], expected["kind"], atol=1e-5)


def shapes(group, names):
    return [group[name].shape for name in group.attrs[names]]


def test_ksym_writes_weights_in_the_order_and_the_types_of_keras_on_tensorflow(tmp_path):
    import files

    model = files.build(keras, "images-adam")
    model.train_on_batch(*files.batch())
    model.save(str(tmp_path / "ksym.h5"))
    theirs = next(path for path in FILES if path.stem == "tensorflow")
    with h5py.File(tmp_path / "ksym.h5", "r") as mine, h5py.File(theirs, "r") as other:
        state = [shapes(file["optimizer_weights"], "weight_names") for file in (mine, other)]
        assert state[0] == state[1]
        mine, other = mine["model_weights"], other["model_weights"]
        assert list(mine.attrs["layer_names"]) == list(other.attrs["layer_names"])
        for name in other.attrs["layer_names"]:
            assert shapes(mine[name], "weight_names") == shapes(other[name], "weight_names")
            # Fixed lengths: h5py 2 reads them as bytes, which Keras decodes.
            types = [file[name].attrs["weight_names"].dtype.kind for file in (mine, other)]
            assert types[0] == types[1] or not len(other[name].attrs["weight_names"])


@pytest.mark.parametrize("save", ["save", "save_weights"])
def test_files_name_a_backend_whose_kernels_are_like_these(save, tmp_path):
    import files

    model = files.build(keras, "images-sgd")
    path = str(tmp_path / "ksym.h5")
    getattr(model, save)(path)
    with h5py.File(path, "r") as file:
        group = file["model_weights"] if save == "save" else file
        assert group.attrs["backend"].decode("utf8") == "tensorflow"
    # Read here the kernels stay as they are.
    other = files.build(keras, "images-sgd")
    other.load_weights(path)
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


class Attributes:
    """The part of h5py that the shims change, as h5py 3 or as h5py 2 behaves."""

    def __init__(self, values):
        self.values = values

    def __getitem__(self, name):
        return self.values[name]


@pytest.mark.parametrize("value", ["text", b"text"], ids=["h5py 3", "h5py 2"])
def test_text_can_be_decoded_whichever_h5py_returned_it(value):
    class Module:
        AttributeManager = type("AttributeManager", (Attributes,), {})

    shims._decode_attributes(Module)
    shims._decode_attributes(Module)  # once more changes nothing
    found = Module.AttributeManager({"name": value, "names": np.array([value] * 2, object)})
    assert found["name"].decode("utf-8") == "text"
    assert [item.decode("utf-8") for item in found["names"]] == ["text", "text"]


def test_h5py_2_is_left_alone(monkeypatch):
    changed = []
    monkeypatch.setattr(h5py, "__version__", "2.10.0")
    monkeypatch.setattr(shims, "_decode_attributes", changed.append)
    monkeypatch.setattr(shims, "_adapt_files", changed.append)
    shims.install()
    assert not changed


def test_the_names_of_no_weights_are_an_empty_list(tmp_path):
    from keras.utils import io_utils

    with io_utils.H5Dict(str(tmp_path / "model.h5"), mode="w") as file:
        file["weight_names"] = []
        file["others"] = [b"kernel", b"bias"]
        assert not file["weight_names"]
        assert list(file["others"]) == [b"kernel", b"bias"]
