"""Files: a model goes on where it was, with the state of its optimizer."""

import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers


def make(optimizer="adam"):
    inputs = layers.Input((4,))
    hidden = layers.Dense(8, "relu", name="hidden")(inputs)
    hidden = layers.BatchNormalization()(hidden)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.compile(optimizer, keras.losses.MeanSquaredError(), metrics=["mae"])
    return model


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adamw", "ftrl"])
def test_a_model_goes_on_where_it_was(rows, tmp_path, optimizer):
    x, y = rows
    model = make(optimizer)
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert loaded.optimizer.iterations == 4
    losses = [
        m.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"] for m in (model, loaded)
    ]
    assert losses[0] == losses[1]


def test_a_model_in_the_older_format_predicts_the_same(rows, tmp_path):
    """Keras 3.15 does not train it on, with any backend: its optimizer knows no weights."""
    x, y = rows
    model = make()
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "m.h5")
    loaded = keras.saving.load_model(tmp_path / "m.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


@pytest.mark.parametrize("version", ["2.3.1", "3.15.1"])
def test_a_file_of_a_keras_2_model_that_cannot_be_read_says_what_can_be_done(
    rows, tmp_path, version
):
    x, _ = rows
    path = tmp_path / "m.h5"
    model = make()
    model.compile("adam", "mse")  # Keras 3 does not find the loss of this name in the file
    model.save(path)
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = version
    with pytest.raises(ValueError, match="mse") as caught:
        keras.saving.load_model(path)
    notes = getattr(caught.value, "__notes__", [])
    assert len(notes) == (version == "2.3.1")
    assert all("Keras 2.3.1" in n and "compile=False" in n and "load_weights" in n for n in notes)
    loaded = keras.saving.load_model(path, compile=False)  # what it says to do
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    other = make()
    other.load_weights(path)
    np.testing.assert_array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))
    with pytest.raises((OSError, ValueError)) as caught:
        keras.saving.load_model(tmp_path / "absent.h5")
    assert not hasattr(caught.value, "__notes__")


def test_weights_are_written_and_read(rows, tmp_path):
    x, y = rows
    model, other = make(), make()
    model.train_on_batch(x, y)
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(model.predict(x, verbose=0), other.predict(x, verbose=0))


def test_the_file_is_one_of_keras_and_names_no_backend(tmp_path):
    make().save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        assert {"config.json", "metadata.json", "model.weights.h5"} <= set(archive.namelist())
        for name in ("config.json", "metadata.json"):
            assert b"ksym" not in archive.read(name)
        archive.extract("model.weights.h5", tmp_path)
    with h5py.File(tmp_path / "model.weights.h5") as file:
        assert file["layers/dense/vars/0"].shape == (4, 8)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_models_of_other_precisions_are_kept(rows, tmp_path, policy):
    x, y = rows
    keras.mixed_precision.set_dtype_policy(policy)
    model = make()
    model.train_on_batch(x, y)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.layers[1].compute_dtype == model.layers[1].compute_dtype
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_a_model_of_the_users_own_class_is_loaded_by_its_name(rows, tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Scaled(layers.Layer):
        def __init__(self, by=2.0, **kwargs):
            super().__init__(**kwargs)
            self.by = by

        def call(self, x):
            return x * self.by

        def get_config(self):
            return {**super().get_config(), "by": self.by}

    x, _ = rows
    model = keras.Sequential([layers.Input((4,)), Scaled(3.0)])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), 3.0 * x)
