"""Logs for TensorBoard, read back by its own reader; and Keras's own drawing of models."""

import shutil
import sys

import numpy as np
import pytest

import ksym

keras = pytest.importorskip("keras")

X = np.random.default_rng(0).standard_normal((16, 3)).astype("float32")
Y = np.eye(2)[np.arange(16) % 2]


def classifier():
    keras.backend.clear_session()  # so that weights have the same names in each test
    model = keras.Sequential(
        [
            keras.layers.Dense(4, activation="relu", input_shape=(3,), name="hidden"),
            keras.layers.Dense(2, activation="softmax", name="head"),
        ]
    )
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture
def logged(tmp_path):
    """Trains with the callback, and reads what it wrote."""
    pytest.importorskip("tensorboardX")
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from ksym.keras.callbacks import TensorBoard

    def run(model, epochs=2, **options):
        callback = TensorBoard(tmp_path / "logs", **options)
        history = model.fit(
            X, Y, 4, epochs=epochs, verbose=0, validation_data=(X, Y), callbacks=[callback]
        )
        guide = {"scalars": 0, "histograms": 0, "graph": 1}
        found = EventAccumulator(str(tmp_path / "logs"), size_guidance=guide)
        return found.Reload(), history.history

    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard's own packages
def test_scalars_of_epochs_and_batches_are_read_back(logged):
    found, history = logged(classifier(), update_freq=3)
    assert set(found.Tags()["scalars"]) == {
        *("epoch_loss", "epoch_accuracy", "epoch_val_loss", "epoch_val_accuracy"),
        *("batch_loss", "batch_accuracy"),
    }
    read = [(event.step, event.value) for event in found.Scalars("epoch_val_loss")]
    expected = list(enumerate(history["val_loss"]))
    np.testing.assert_allclose(read, expected, rtol=1e-6)
    # Four batches in each of two epochs.
    assert [event.step for event in found.Scalars("batch_loss")] == [3, 6]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_histograms_of_weights_activations_and_gradients_are_read_back(logged):
    model = classifier()
    found, _ = logged(model, epochs=3, histogram_freq=2, batch=(X, Y))
    tags = set(found.Tags()["histograms"])
    assert {"hidden/kernel", "hidden/kernel_gradient", "head/bias_update"} <= tags
    assert {"hidden/activations", "hidden/activations_gradient"} <= tags
    events = found.Histograms("hidden/kernel")
    assert [event.step for event in events] == [0, 2]
    kernel = model.layers[0].get_weights()[0]
    last = events[-1].histogram_value
    assert last.num == sum(last.bucket) == kernel.size
    assert (last.min, last.max) == pytest.approx((kernel.min(), kernel.max()), rel=1e-5)
    assert last.sum == pytest.approx(kernel.sum(), rel=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_graph_is_read_back_with_its_scopes_and_shapes(logged):
    found, _ = logged(classifier(), histogram_freq=1)
    graph = found.Graph()
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names)
    by_name = {node.name: node for node in graph.node}
    for node in graph.node:
        for read in node.input:
            assert read.partition(":")[0] in by_name
    product = next(n for n in graph.node if n.op == "contraction" and n.name.startswith("hidden/"))
    (shape,) = product.attr["_output_shapes"].list.shape
    assert [side.size for side in shape.dim] == [-1, 4]
    assert b"test_callbacks.py" in product.attr["made_at"].s
    assert any("hidden/gradient/" in name for name in names)


def test_training_with_the_callback_gives_the_same_weights(logged):
    def weights(train):
        ksym.seed(2)
        np.random.seed(2)
        model = classifier()
        train(model)
        return model.get_weights()

    plain = weights(lambda m: m.fit(X, Y, 4, epochs=2, verbose=0, validation_data=(X, Y)))
    found = weights(lambda m: logged(m, histogram_freq=1, batch=(X, Y), update_freq="batch"))
    for a, b in zip(plain, found, strict=True):
        assert np.array_equal(a, b)


def test_mistakes_and_a_missing_package_are_named(monkeypatch, tmp_path):
    from ksym.keras.callbacks import TensorBoard

    for wrong in ("step", 0, -1, 1.5):
        with pytest.raises(ksym.InputError, match="update_freq"):
            TensorBoard(tmp_path, update_freq=wrong)
    with pytest.raises(ksym.InputError, match="histogram_freq"):
        TensorBoard(tmp_path, histogram_freq=-1)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ksym.MissingPackageError, match=r"pip install 'ksym\[tensorboard\]'"):
        TensorBoard(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_plot_model_draws_the_layers(tmp_path):
    pytest.importorskip("pydot")
    keras.utils.plot_model(classifier(), str(tmp_path / "model.png"), show_shapes=True)
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")
    dot = keras.utils.vis_utils.model_to_dot(classifier(), show_shapes=True).to_string()
    assert "hidden: Dense" in dot
    assert "(None, 4)" in dot
