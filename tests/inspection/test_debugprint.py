import io
import re

import numpy as np
import pytest
from drawing import grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.graph import topological_order


def text(what, **options):
    return ksym.debugprint(what, file="str", **options)


def names_in(listing):
    """The name at the begin of each line of a node, and how often it stands there."""
    return re.findall(r"^ +(?:\(\d+\) )?(\S+) \S+ \(", listing, re.MULTILINE)


@pytest.fixture
def step():
    x = ksym.placeholder((None, 3), name="x")
    w = ksym.Variable(np.ones((3, 2), "float32"), name="w")
    loss = ksym.mean(ksym.square(ksym.tanh(x @ w)))
    return x, ksym.function([x], loss, updates=[w.assign_sub(0.1 * ksym.gradients(loss, w))])


@given(st.data())
def test_each_node_is_described_once(data):
    outputs = grow(data, ksym.placeholder((3, 3)), ksym.Variable(np.ones((3, 3), "float32")))
    listing = text(outputs, limit=None)
    described = [line for line in listing.splitlines() if not line.endswith("above")]
    inner = set(names_in("\n".join(described)))
    for node in topological_order(outputs):
        assert inner & {t.name for t in node.outputs}, node


def test_a_shared_node_is_marked_and_its_operands_are_printed_once():
    x = ksym.placeholder((2,), name="x")
    y = ksym.tanh(ksym.exp(x))
    listing = text(y * y)
    assert f"{y.name} float32 (2,) #1 " in listing
    assert f"{y.name} float32 (2,) #1 above" in listing
    assert listing.count("exp_") == 1


def test_lines_say_attributes_the_users_line_the_scope_and_gradients():
    x = ksym.placeholder((2, None), name="x")
    with ksym.name_scope("head"):
        y = ksym.sum(x, axis=1)
    listing = text([y, ksym.gradients(ksym.sum(y * y), x)])
    assert re.search(
        r"sum_\d+ float32 \(2,\) .*axis=\(1,\).* test_debugprint.py:\d+ head$", listing, re.M
    )
    assert "head (gradient)" in listing
    assert "x float32 (2, ?) placeholder" in listing


def test_each_node_is_one_line_whatever_its_name():
    x = ksym.placeholder((2,), name="first\nsecond")
    assert len(text(x * 2.0).splitlines()) == 2 + 3


def test_outputs_and_updates_have_their_names(step):
    _, f = step
    assert re.search("^output 0:$", text(f), re.MULTILINE)
    assert re.search("^update of w(_[0-9]+)?:$", text(f), re.MULTILINE)
    x = ksym.placeholder((), name="x")
    assert re.search("^loss:$", text({"loss": x + 1.0}), re.MULTILINE)
    w = ksym.Variable(0.0)
    assert f"update of {w.name}:" in text(w.assign_add(1.0))


def test_results_of_one_name_are_all_printed():
    x = ksym.placeholder((), name="x")
    v, w = ksym.Variable(1.0, name="twice"), ksym.Variable(1.0, name="twice")
    w._name = v.name  # as after K.clear_session
    f = ksym.function([x], {1: x + 1.0, "1": x + 2.0}, [(v, x * 3.0), (w, x * 4.0)])
    for listing in (text(f), text(f, stage="compiled"), text([v.assign(x), w.assign(x)])):
        titles = re.findall(r"^\S.*:$", listing, re.MULTILINE)
        assert len(set(titles)) == len(titles) >= 2
    assert len(f.results) == 4


def test_a_graph_is_cut_where_the_limit_says_and_the_last_line_counts_the_rest():
    x = ksym.placeholder((2,))
    y = x
    for _ in range(50):
        y = ksym.sin(y)
    lines = text(y, limit=10).splitlines()
    assert len(lines) == 1 + 10 + 1
    # The title, a line for the output, and nine nodes of fifty-one.
    assert lines[-1] == "... 42 more nodes; limit=None prints all"
    assert "more nodes" not in text(y, limit=None)


@pytest.mark.parametrize("stage", ["built", "compiled", "passes"])
def test_the_text_grows_as_the_graph_does(stage):
    def size(length):
        x = ksym.placeholder((2,))
        y = x
        for _ in range(length):
            y = ksym.sin(y) + y  # as a tree it would be 2 ** length
        return len(text(y, limit=None, stage=stage))

    assert size(400) < 2.3 * size(200)


def test_bodies_of_loops_and_branches_are_printed_too():
    x = ksym.placeholder((4,), name="x")

    def step(element, state):
        new = ksym.cond(state > 1.0, lambda: ksym.exp(state), lambda: state + element)
        return new, new

    listing = text(ksym.scan(step, x, 0.0).outputs)
    assert "body of scan_" in listing
    assert "then of cond_" in listing
    assert "otherwise of cond_" in listing
    assert listing.index("scan_") < listing.index("exp_")


def test_what_is_compiled_is_printed_with_the_part_that_computes_it(step):
    x, f = step
    f(np.ones((4, 3)))
    listing = text(f, stage="compiled")
    assert "float32 (4, 3)" in listing
    parts = {int(n) for n in re.findall(r"part (\d+)$", listing, re.MULTILINE)}
    assert parts == set(range(1, len(f.last_plan().parts) + 1))
    assert "float32 (7, 3)" in text(f, stage="compiled", shapes={x: (7, 3)})


@pytest.mark.host_access
def test_each_pass_is_printed_as_a_difference(step):
    x, _ = step
    y = ksym.exp(x * 1.0) + ksym.exp(x)
    listing = text(y, stage="passes", shapes={x: (2, 3)})
    assert re.search(r"^simplify: \d+ removed", listing, re.MULTILINE)
    assert re.search(r"^  - multiply\(float32 \(2, 3\), float32 \(\)\) -> ", listing, re.MULTILINE)
    assert re.search(r"^merge: 1 removed, 0 added\n  - exp\(", listing, re.MULTILINE)
    assert "part 1: kernel over (2, 3)" in listing


def test_nothing_is_run_and_no_variable_changes(step):
    x, f = step
    before = ksym.get_values(list(f.frozen().variables))
    for stage in ("built", "compiled", "passes"):
        text(f, stage=stage, shapes={x: (2, 3)})
    assert f.cache_info().misses == 0
    for a, b in zip(before, ksym.get_values(list(f.frozen().variables)), strict=True):
        assert np.array_equal(a, b)


def test_dynamic_results_and_static_inputs_are_compiled():
    x = ksym.placeholder((5,), name="x")
    listing = text(ksym.sum(ksym.boolean_mask(x, x > 0.0)), stage="compiled")
    assert "the rest is compiled when" in listing
    n = ksym.placeholder((), "int64", static=True, default=2)
    f = ksym.function([x, n], ksym.sum(x) * ksym.cast(n, "float32"))
    assert "sum_" in text(f, stage="compiled")


def test_a_file_gets_the_text(step, capsys):
    _, f = step
    file = io.StringIO()
    assert ksym.debugprint(f, file=file) is None
    ksym.debugprint(f)
    assert file.getvalue() == capsys.readouterr().out == text(f) + "\n"


def test_functions_and_models_of_keras_are_printed():
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Dense(2, input_shape=(3,), name="head")])
    model.compile("sgd", "mse")
    assert " head" in text(model)
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    listing = text(model.train_function, stage="compiled", limit=None)
    assert "float32 (4, 3)" in listing
    assert " head (gradient)" in listing
    with pytest.raises(ksym.GraphError, match="not built"):
        text(keras.Sequential([keras.layers.Dense(2)]))


@pytest.mark.parametrize("what", [3, "x", [1.0], None, np.ones(3), object()])
def test_what_is_no_graph_is_refused(what):
    with pytest.raises(ksym.GraphError, match="no graph to look at"):
        text(what)


def test_mistakes_say_what_to_do(step):
    x, f = step
    with pytest.raises(ksym.GraphError, match=r"shapes=\{x"):
        text(f, stage="compiled")
    with pytest.raises(ksym.GraphError, match="there is no stage"):
        text(f, stage="after")
    with pytest.raises(ksym.GraphError, match="limit is 0"):
        text(f, limit=0)
    with pytest.raises(ksym.InputError, match="no input"):
        text(f, stage="compiled", shapes={ksym.placeholder(()): ()})
    with pytest.raises(ksym.InputError, match="given the shape"):
        text(f, stage="compiled", shapes={x: (2, 4)})
