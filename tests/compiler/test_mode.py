"""Turning passes off, and checking them."""

import numpy as np
import pytest

import ksym
from ksym.compiler import PIPELINE, mode
from ksym.compiler import compile as compiling
from ksym.compiler.codegen.nnvm import lower
from ksym.compiler.mode import mode_of
from ksym.compiler.passes.declaration import graph_pass
from ksym.errors import ExecutionError, GraphError

OVER_GRAPHS = [each for each in PIPELINE if each.stage == "graph"]


def test_the_names_are_those_of_the_passes(monkeypatch):
    monkeypatch.delenv("KSYM_FLAGS", raising=False)
    assert mode.names() == list(dict.fromkeys(p.name for p in PIPELINE if p.optional))
    assert {"fold", "fuse_updates", "fuse_loops"} < set(mode.names())
    assert mode_of("native").passes == OVER_GRAPHS
    assert mode_of("interpret").passes == []


def test_what_is_turned_off_is_left_out(monkeypatch):
    monkeypatch.setenv("KSYM_FLAGS", "merge=0, simplify=1")
    left = [p.name for p in mode_of("native", {"fuse_loops": False}).passes]
    assert left == [p.name for p in OVER_GRAPHS if p.name != "merge"]
    assert mode_of("native", "merge=1").passes == OVER_GRAPHS
    assert all(mode_of("native", f"{p.name}=0").runs(p) is False for p in PIPELINE if p.optional)
    assert {p.name for p in PIPELINE if mode_of("interpret").runs(p)} == {"merge_axes"}


def test_a_function_leaves_out_the_pass():
    x = ksym.placeholder((3,))
    outputs = [ksym.exp(x), ksym.exp(x)]
    merged, apart = ksym.function([x], outputs), ksym.function([x], outputs, flags="merge=0")
    for function, count in ((merged, 1), (apart, 2)):
        function([1, 2, 3])
        assert sum(n.operator is ksym.ops.exp for n in function.last_graph()) == count


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("mrege=0", "'mrege'.*no pass"),
        ({"mrege": False}, "'mrege'.*no pass"),
        ("merge", "'merge'"),
        ("merge=off", "'merge=off'"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_there_is(given, named):
    x = ksym.placeholder((3,))
    with pytest.raises(GraphError, match=named) as caught:
        ksym.function([x], x * 2.0, flags=given)
    assert "merge" in str(caught.value)


def test_the_environment_is_refused_too(monkeypatch):
    monkeypatch.setenv("KSYM_FLAGS", "everything=0")
    with pytest.raises(GraphError, match=r"KSYM_FLAGS names 'everything'(.|\n)*fuse_loops"):
        mode_of("native")


@graph_pass(sample=lambda: [ksym.placeholder((2,))] * 2)
def broken(outputs):
    """A pass that changes the second output."""
    return [outputs[0], outputs[1] + 0.25, *outputs[2:]]


def test_checking_names_the_pass_and_the_tensor(monkeypatch):
    monkeypatch.setattr(mode, "PIPELINE", (*PIPELINE[:2], broken, *PIPELINE[2:]))
    x = ksym.placeholder((2, 3), name="x")
    noise = ksym.ops.standard_uniform((2, 3))
    outputs = [x + noise, ksym.tanh(x)]
    quiet = ksym.function([x], outputs)(np.ones((2, 3)))
    np.testing.assert_allclose(quiet[1], np.tanh(1) + 0.25, rtol=1e-6)
    with pytest.raises(ExecutionError, match=r"pass broken changes tanh_\d+"):
        ksym.function([x], outputs, flags={"check": True})(np.ones((2, 3)))


def test_checking_changes_nothing():
    results = []
    for check in (False, True):
        ksym.seed(3)
        w = ksym.Variable(np.ones((3, 4), "float32"))
        x = ksym.placeholder((None, 3))
        noise = ksym.ops.standard_uniform((3, 4))
        loss = ksym.sum(ksym.tanh(x @ (w * noise)))
        update = w.assign_sub(0.1 * ksym.gradients(loss, w))
        step = ksym.function([x], loss, updates=[update], flags={"check": check})
        results.append([step(np.ones((2, 3))), step(np.ones((2, 3))), w.get_value()])
    for plain, checked in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, checked)


def test_what_is_run_is_checked_too(monkeypatch):
    def wrong(outputs, given, **options):
        return lower([-tensor for tensor in outputs], given, **options)

    x = ksym.placeholder((3,))
    monkeypatch.setattr(compiling, "lower", wrong)
    with pytest.raises(ExecutionError, match="what is run"):
        ksym.function([x], ksym.cumsum(x, 0), flags="check=1")([1, 2, 3])
