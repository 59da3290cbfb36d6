"""What does not fit in loops and branches is refused, with the loop's name and the user's line."""

import numpy as np
import pytest

import ksym
from ksym.errors import DTypeError, GraphError, KsymError, ShapeError


def said(name, kind, match, make):
    with pytest.raises(kind, match=match) as caught:
        make()
    text = str(caught.value)
    assert text.startswith(f"{name}:"), text
    assert "test_mistakes.py" in text, text


X = ksym.placeholder((3, 2))


@pytest.mark.parametrize(
    ("kind", "match", "make"),
    [
        (ShapeError, "state 0", lambda: ksym.scan(lambda e, s: (e, e), X, 0.0)),
        (DTypeError, "state 0", lambda: ksym.scan(lambda e, s: (e, s > 0), X, 0.0)),
        (GraphError, "1 states for 2", lambda: ksym.scan(lambda e, s, t: (e, s), X, [0.0, 0.0])),
        (GraphError, "the body returned", lambda: ksym.scan(lambda e: e, X)),
        (GraphError, "no sequence", lambda: ksym.scan(lambda s: (s, s), (), 0.0)),
        (ShapeError, "scalar", lambda: ksym.scan(lambda e: (e, ()), ksym.placeholder(()))),
        (ShapeError, "scalar", lambda: ksym.map_fn(lambda e: e, 1.0)),
        (ShapeError, None, lambda: ksym.map_fn(lambda a, b: a, [X, ksym.placeholder((2,))])),
        (ShapeError, None, lambda: ksym.scan(lambda e: (e, ()), X, steps=4)),
        (ShapeError, None, lambda: ksym.scan(lambda s: (s, s), (), 0.0, steps=-1)),
        (KsymError, None, lambda: ksym.scan(lambda s: (s, s), (), 0.0, steps=1.5)),
        (KsymError, None, lambda: ksym.scan(lambda s: (s, s), (), 0.0, steps=[1, 2])),
        (ShapeError, "state 0", lambda: ksym.foldl(lambda a, e: a[0], X, X[0])),
    ],
)
def test_scan(kind, match, make):
    said("scan", kind, match, make)


@pytest.mark.parametrize(
    ("kind", "match", "make"),
    [
        (ShapeError, "not a scalar", lambda: ksym.cond(X > 0, lambda: X, lambda: X)),
        (ShapeError, "branch", lambda: ksym.cond(X[0, 0] > 0, lambda: X, lambda: X[0])),
        (ShapeError, "branch", lambda: ksym.cond(X[0, 0] > 0, lambda: X, lambda: X > 0)),
        (ShapeError, "branch", lambda: ksym.cond(X[0, 0] > 0, lambda: [X, X], lambda: [X])),
        (ShapeError, "branch", lambda: ksym.cond(X[0, 0] > 0, lambda: X, lambda: [X, X])),
    ],
)
def test_cond(kind, match, make):
    said("cond", kind, match, make)


@pytest.mark.parametrize(
    ("kind", "match", "make"),
    [
        (ShapeError, "state 0", lambda: ksym.while_loop(lambda s: s < 1, lambda s: X[0], 0.0)),
        (DTypeError, "state 0", lambda: ksym.while_loop(lambda s: s < 1, lambda s: s > 0, 0.0)),
        (ShapeError, "not a scalar", lambda: ksym.while_loop(lambda s: s > 0, lambda s: s, X)),
        (
            GraphError,
            "2 states for 1",
            lambda: ksym.while_loop(lambda s: s < 1, lambda s: [s, s], 0),
        ),
        (
            KsymError,
            "max_steps",
            lambda: ksym.while_loop(lambda s: s < 1, lambda s: s, 0, max_steps=-1),
        ),
    ],
)
def test_while_loop(kind, match, make):
    said("while_loop", kind, match, make)


def test_what_is_wrong_inside_a_body_names_the_operator_there():
    with pytest.raises(ShapeError, match="matmul") as caught:
        ksym.map_fn(lambda e: ksym.matmul(e, e[:1]), X)
    assert "test_mistakes.py" in str(caught.value)


def test_lengths_that_differ_only_at_the_call():
    a, b = ksym.placeholder((None,)), ksym.placeholder((None,))
    f = ksym.function([a, b], ksym.map_fn(lambda x, y: x * y, [a, b]))
    assert f([1.0, 2.0], [3.0, 4.0]).tolist() == [3, 8]
    said("scan", ShapeError, None, lambda: f([1.0, 2.0], [3.0]))
    assert f([2.0], [3.0]).tolist() == [6]


def test_a_state_that_changes_its_shape_only_at_the_call():
    x, s = ksym.placeholder((None, None)), ksym.placeholder((None,))
    f = ksym.function([x, s], ksym.scan(lambda e, t: (t, e + t), x, s).states)
    assert f(np.ones((2, 3)), np.zeros(3)).tolist() == [2, 2, 2]
    said("scan", ShapeError, "state 0", lambda: f(np.ones((2, 3)), np.zeros(1)))


def test_branches_that_differ_only_at_the_call():
    p, a, b = ksym.placeholder((), "bool"), ksym.placeholder((None,)), ksym.placeholder((None,))
    f = ksym.function([p, a, b], ksym.cond(p, lambda: a, lambda: b))
    assert f(True, [1.0], [2.0]).tolist() == [1]
    said("cond", ShapeError, "branch", lambda: f(True, [1.0], [2.0, 3.0]))
