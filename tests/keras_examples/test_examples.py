"""What counts as a passed example, and that the data are what Keras loads."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")
sys.path.insert(0, str(Path(__file__).parent))
import data
import run


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([[2.0, 1.0], [3.0, 3.5, 1.5], [4.0], []], ""),
        ([[2.0, 1.0], [1.0, 1.5]], "model 2 does not fall: 1 to 1.5"),
        ([[2.0, float("nan"), 1.0]], "model 1 is not finite"),
    ],
    ids=["fall", "rise", "nan"],
)
def test_losses_are_judged(losses, said):
    assert said in run.complaint(losses, run.Setting())
    assert bool(said) == bool(run.complaint(losses, run.Setting()))


def test_networks_that_train_against_each_other_need_not_get_better():
    setting = run.Setting(adversarial=True)
    assert not run.complaint([[1.0, 1.5]], setting)
    assert run.complaint([[1.0, float("inf")]], setting)


def test_settings_are_for_examples_that_follow_others_in_their_folder():
    after = {setting.after for setting in run.SETTINGS.values()} - {None}
    assert after == {"lstm_seq2seq"}


def test_keras_loads_the_data(tmp_path, monkeypatch):
    from keras import datasets
    from keras.utils import data_utils

    data.write(tmp_path / "datasets")
    data.write_mnist(tmp_path / "datasets" / "mnist.npz", 60)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(data_utils, "validate_file", lambda *args, **kwargs: True)
    (images, labels), (more, _) = datasets.mnist.load_data()
    assert images.shape == (60, 28, 28)
    assert len(more) == 10
    same = labels == labels[0]
    # Pictures of a class differ in their light only.
    assert len(np.unique(images[same] > 0, axis=0)) == 1
    (images, labels), (more, _) = datasets.cifar10.load_data()
    assert images.shape == (50000, 32, 32, 3)
    assert labels.shape == (50000, 1)
    assert len(more) == 100
    (texts, labels), _ = datasets.imdb.load_data(num_words=1000)
    assert len(texts) == len(labels) == 400
    (texts, labels), _ = datasets.reuters.load_data(num_words=1000)
    assert labels.max() == 45
    assert len(datasets.reuters.get_word_index()) == len(data.WORDS) * 30
