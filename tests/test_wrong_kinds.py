"""Arguments of a wrong kind: an error of ksym's that says what to give."""

import numpy as np
import pytest

import ksym
from ksym.errors import ArgumentError, KsymError

X = ksym.placeholder((None, 2), name="x")
F = ksym.function(X, X * 2.0, profile=True)

WRONG = {
    "outputs of a function": lambda: ksym.function(X, 3.0),
    "an output as text": lambda: ksym.function(X, "y"),
    "inputs": lambda: ksym.function(3, X),
    "updates": lambda: ksym.function(X, X, updates=3),
    "givens": lambda: ksym.function(X, X * 1.0, givens=3),
    "a given that is no pair": lambda: ksym.function(X, X * 1.0, givens=[3]),
    "a given for no tensor": lambda: ksym.function(X, X * 1.0, givens={"x": 3}),
    "flags": lambda: ksym.function(X, X, flags=3),
    "a number to evaluate": lambda: ksym.evaluate(3.0),
    "an object to evaluate": lambda: ksym.evaluate(object()),
    "values of placeholders": lambda: ksym.evaluate(X, 3),
    "pairs for placeholders": lambda: ksym.evaluate(X, [(X, [[1, 2]])]),
    "no list of variables": lambda: ksym.get_values(3),
    "numbers as variables": lambda: ksym.get_values([3]),
    "values of variables": lambda: ksym.set_values([3]),
    "values of numbers": lambda: ksym.set_values([(3, 4)]),
    "a file to print to": lambda: ksym.debugprint(F, file=3),
    "lines to print": lambda: ksym.debugprint(F, limit=1.5),
    "shapes": lambda: ksym.debugprint(F, stage="compiled", shapes=3),
    "a shape": lambda: ksym.debugprint(F, stage="compiled", shapes={X: "ab"}),
    "nothing to print": lambda: ksym.debugprint([]),
    "nothing to draw": lambda: ksym.draw({}, "graph.html"),
    "a path to draw to": lambda: ksym.draw(F, 3),
    "a path to save to": lambda: ksym.save(F, None),
    "a path to load from": lambda: ksym.load(3),
    "a path of a trace": lambda: F.profile.save_trace(3),
    "a path of a picture": lambda: F.profile.plot(None),
    "a table": lambda: F.profile.table("colour"),
    "a message": lambda: ksym.print_value(X, 3),
    "a condition": lambda: ksym.check_value(X, 1.0),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_refused_with_a_remedy(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KsymError) as caught:
        WRONG[name]()
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("array", [np.ones(2), np.zeros(())])
def test_an_array_is_no_tensor_of_a_graph(array):
    """But what can be one is taken: the elements of an array are numbers."""
    if array.ndim:
        assert ksym.evaluate(array) == [1.0, 1.0]
    else:
        with pytest.raises(ArgumentError):
            ksym.evaluate(array)


@pytest.mark.parametrize(
    "batch", ["text", 3, None, np.ones((2, 5)), (np.ones((2, 4)), np.ones((3, 3)))]
)
def test_a_batch_that_does_not_fit_the_model(batch):
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(4,))])
    model.compile("sgd", "mse")
    with pytest.raises(ksym.InputError, match=r"(?s)the batch.*to do: give"):
        ksym.inspect(model, batch)


def test_callbacks_refuse_what_they_cannot_use(tmp_path):
    keras = pytest.importorskip("keras")
    from ksym.keras.callbacks import ProfileTraining, TensorBoard

    with pytest.raises(ksym.InputError, match="batch 'a' on cannot be profiled"):
        ProfileTraining(first="a")
    with pytest.raises(ArgumentError, match="3 is no path"):
        TensorBoard(3)
    (tmp_path / "file").write_text("no folder")
    model = keras.Sequential([keras.layers.Dense(3, input_shape=(4,))])
    model.compile("sgd", "mse")
    with pytest.raises(ksym.FileError, match=r"(?s)no log can be written.*give a folder"):
        model.fit(
            np.ones((2, 4)), np.ones((2, 3)), verbose=0, callbacks=[TensorBoard(tmp_path / "file")]
        )
