"""What Python and NumPy ask of a tensor: what works, and what is refused with what to write."""

import operator

import numpy as np
import pytest

import ksym
from ksym.errors import GraphError, KsymWarning, SymbolicError

X = np.array([[1.5, -2.0, 3.0], [0.25, 5.0, -6.5]])

FUNCTIONS = {
    "exp": lambda x: np.exp(x),
    "sum": lambda x: np.sum(x),
    "sum along an axis": lambda x: np.sum(x, axis=0, keepdims=True),
    "maximum": lambda x: np.maximum(x, 0.0),
    "maximum, on the right": lambda x: np.maximum(0.0, x),
    "abs": lambda x: np.abs(x),
    "true_divide": lambda x: np.true_divide(x, 2.0),
    "concatenate": lambda x: np.concatenate([x, X]),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "clip": lambda x: np.clip(x, -1.0, 1.0),
    "linalg.norm": lambda x: np.linalg.norm(x, axis=1),
    "mean": lambda x: np.mean(x, -1),
    "zeros_like": lambda x: np.zeros_like(x),
    "around": lambda x: np.around(x),
    "round": lambda x: np.round(x, 1),
    "trunc": lambda x: np.trunc(x),
    "amax": lambda x: np.amax(x, 0),
    "equal": lambda x: np.equal(x, 3.0),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "shape": lambda x: x * np.shape(x)[1],
    "ndim": lambda x: x * np.ndim(x),
    "matmul": lambda x: np.matmul(X.T, x),
    "an array before": lambda x: X + x * X - np.float64(2.0) * x,
    "an array in place": lambda x: operator.iadd(X.copy(), x),
    "an array compared": lambda x: x >= X,
    "method sum": lambda x: x.sum(axis=1, keepdims=True),
    "method mean": lambda x: x.mean(0),
    "method max": lambda x: x.max(),
    "method reshape": lambda x: x.reshape(3, -1),
    "method reshape to a tuple": lambda x: x.reshape((3, -1)),
    "method transpose": lambda x: x.transpose(1, 0),
    "method transpose of all": lambda x: x.transpose(),
    "method astype": lambda x: x.astype("int32"),
    "method dot": lambda x: x.dot(X.T),
    "method flatten": lambda x: x.flatten(),
    "method clip": lambda x: x.clip(0.0),
    "method clip by name": lambda x: x.clip(max=1.0),
    "method round": lambda x: x.round(1),
    "method argmax": lambda x: x.argmax(-1),
    "method std": lambda x: x.std(),
    "method squeeze": lambda x: x[None].squeeze(0),
    "attribute T": lambda x: x.T,
    "attribute ndim": lambda x: x * x.ndim,
    "divmod of Python": lambda x: sum(divmod(x, 2.0)) + divmod(7.0, x)[1],
    "round of Python": lambda x: round(x[0, 0], 1),
}

if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
    FUNCTIONS |= {
        "trapezoid": lambda x: np.trapezoid(x, dx=0.5),
        "astype": lambda x: np.astype(x, "int32"),
        "linalg.trace": lambda x: np.linalg.trace(matrices(x), offset=1),
        "linalg.diagonal": lambda x: np.linalg.diagonal(matrices(x)),
        "linalg.matrix_transpose": lambda x: np.linalg.matrix_transpose(x),
        "linalg.outer": lambda x: np.linalg.outer(x[0], x[1]),
        "concat": lambda x: np.concat([x, X]),
        "permute_dims": lambda x: np.permute_dims(x, (1, 0)),
        "pow": lambda x: np.pow(x, 2.0),
    }


def matrices(x):
    """Three matrices, of which the first two axes differ from the last two."""
    return np.stack([x, 2.0 * x, x * x])


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_numpys_functions_and_methods_are_ksyms(function):
    x = ksym.placeholder((2, 3), "float64")
    result = function(x)
    assert isinstance(result, ksym.Tensor)
    expected = function(X)
    np.testing.assert_allclose(ksym.function([x], result)(X), expected, rtol=1e-12)
    assert ksym.function([x], result)(X).shape == np.shape(expected)


def test_every_method_of_an_array_is_there_or_says_why_not():
    x = ksym.placeholder((2, 3))
    for name in dir(np.ndarray):
        if not name.startswith("_") and not hasattr(x, name):
            with pytest.raises(AttributeError, match=name) as caught:
                getattr(x, name)
            assert "ksym." in str(caught.value), name
    assert not hasattr(x, "_keras_history")
    with pytest.raises(AttributeError, match=r"use ksym\.tanh\(x\)"):
        x.tanh  # noqa: B018


def _setitem(x):
    x[0] = 1.0


def _delitem(x):
    del x[0]


REFUSED = {
    "setitem": (_setitem, r"ksym\.index_update"),
    "delitem": (_delitem, "immutable"),
    "float": (float, r"ksym\.evaluate"),
    "int": (int, r"ksym\.cast"),
    "complex": (complex, "symbolic"),
    "range": (lambda x: range(x.astype("int32")[0]), r"ksym\.arange"),
    "range of a float": (range, "cast it to an integer"),
    "len": (len, r"ksym\.shape_of\(x\)\[0\]"),
    "iter": (list, r"ksym\.scan"),
    "bool": (bool, r"ksym\.where"),
    "in": (lambda x: 3.0 in x, r"ksym\.any"),
    "asarray": (np.asarray, r"ksym\.evaluate"),
    "a function that ksym has not": (lambda x: np.interp(x, [0.0], [1.0]), "numpy.interp"),
    "a function that means something else": (lambda x: np.linalg.svd(x), "numpy.svd"),
    "reduce": (lambda x: np.add.reduce(x), r"ksym\.sum"),
    "out": (lambda x: np.add(x, 1.0, out=np.zeros(2)), "leave out `out`"),
}


@pytest.mark.parametrize(("ask", "says"), REFUSED.values(), ids=REFUSED)
def test_what_a_tensor_cannot_answer_is_refused_with_what_to_write(ask, says):
    x = ksym.placeholder((None,), name="x")
    with pytest.raises(GraphError, match=says) as caught:
        ask(x)
    assert str(caught.value).startswith("<Tensor ")
    assert __file__ in str(caught.value) or ask in (float, int, complex, range, len, list, bool)
    assert not isinstance(caught.value, SymbolicError) or isinstance(caught.value, TypeError)


def test_what_is_known_is_a_number():
    sides = ksym.shape_of(ksym.placeholder((3, None)))
    assert list(range(sides[0])) == [0, 1, 2]
    assert int(ksym.constant(4)) == 4
    assert float(ksym.constant(2.5)) == 2.5
    assert len(ksym.placeholder((3, None))) == 3
    with pytest.raises(SymbolicError):
        int(sides[1])


def test_comparing_with_a_number_by_identity_is_warned_of():
    x = ksym.placeholder((2,))
    for other in (0, 1.0, np.float32(0), np.zeros(2)):
        with pytest.warns(KsymWarning, match=r"ksym\.equal") as caught:
            assert (x == other) is False
        assert caught[0].filename == __file__
        with pytest.warns(KsymWarning):
            assert (x != other) is True
    assert x == x
    assert x != ksym.placeholder((2,))
    assert x in [ksym.placeholder(()), x]
    assert {x: 1}[x] == 1
    assert (x == None) is False  # noqa: E711
    assert (x == "x") is False


@pytest.mark.parametrize("value", [False, True, np.bool_(False)])
@pytest.mark.parametrize(
    "use",
    [
        lambda x, c: ksym.where(c, x, 0.0),
        lambda x, c: ksym.cond(c, lambda: x, lambda: -x),
        lambda x, c: ksym.boolean_mask(x, c),
        lambda x, c: x[c],
        lambda x, c: ksym.while_loop(lambda s: c, lambda s: s + 1.0, x),
        lambda x, c: np.where(c, x, 0.0),
    ],
)
def test_a_truth_value_of_python_is_no_condition(use, value):
    with pytest.raises(ksym.DTypeError, match=r"ksym\.equal"):
        use(ksym.placeholder((2,)), value)


def test_a_branch_is_a_function():
    x = ksym.placeholder(())
    with pytest.raises(GraphError, match="lambda:"):
        ksym.cond(x > 0, x, -x)
