import json
import re
import shutil
import sys

import networkx
import numpy as np
import pytest
from drawing import grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.graph import topological_order
from ksym.inspection.drawing import HUB, _dot
from ksym.inspection.picture import CROWD, picture_of
from ksym.inspection.subject import subject_of
from ksym.ops.leaves import is_constant

NEEDS_DOT = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def picture(what, stage="built", **options):
    return picture_of(subject_of(what), stage, **options)


def data_of(page):
    return json.loads(re.search(r'id="graph">(.*?)</script>', page, re.DOTALL)[1])


def chain(length):
    x = ksym.placeholder((2,), name="x")
    for _ in range(length):
        x = ksym.sin(x)
    return x


@given(st.data())
def test_all_nodes_but_numbers_are_drawn_with_their_edges(data):
    x, w = ksym.placeholder((3, 3)), ksym.Variable(np.ones((3, 3), "float32"))
    outputs = grow(data, x, w)
    order = topological_order(outputs)
    drawn = picture(outputs)
    shown = [
        n for n in order if not (is_constant(n.outputs[0]) and n.outputs[0].shape in ((), (1,)))
    ]
    assert {n.outputs[0].name for n in shown} <= {n.name for n in drawn.nodes}
    read = {(t.node.outputs[0].name, n.outputs[0].name) for n in shown for t in n.inputs}
    found = {(drawn.nodes[e.source].name, drawn.nodes[e.target].name) for e in drawn.edges}
    assert found <= read
    assert {pair for pair in read if not pair[0].startswith("constant")} <= found
    assert all(e.source < e.target for e in drawn.edges)


def test_scopes_are_boxes_in_boxes_and_gradients_are_in_their_layers():
    x = ksym.placeholder((3,), name="x")
    with ksym.name_scope("outer"), ksym.name_scope("inner"):
        y = ksym.tanh(x)
    drawn = picture([y, ksym.gradients(ksym.sum(y), x)])
    paths = {n.operator: [drawn.boxes[b].name for b in n.path] for n in drawn.nodes if n.operator}
    assert paths["tanh"] == ["outer", "inner"]
    assert paths["subtract"] == ["outer", "inner", "gradient"]
    kinds = {n.operator: n.kind for n in drawn.nodes}
    assert (kinds["tanh"], kinds["subtract"], kinds["placeholder"]) == (
        *("forward", "gradient"),
        "leaf",
    )


@pytest.mark.parametrize("length", [0, CROWD - 1, CROWD + 1, CROWD * CROWD + 1, 5000])
def test_no_box_is_crowded(length):
    drawn = picture(chain(length))
    inside = {}
    for node in drawn.nodes:
        for depth in range(len(node.path) + 1):
            key = node.path[:depth]
            child = node.path[depth] if depth < len(node.path) else node.name
            inside.setdefault(key, set()).add(child)
    assert max(map(len, inside.values())) <= CROWD + 1
    assert len(drawn.nodes) == length + 1


def test_bodies_of_loops_are_boxes_with_dashed_edges_to_the_loop():
    x = ksym.placeholder((4,), name="x")

    def step(element, state):
        state = ksym.cond(state > 1.0, lambda: ksym.exp(state), lambda: state + element)
        return state, state

    drawn = picture(ksym.scan(step, x, 0.0).outputs)
    names = {box.name.partition("_")[0] for box in drawn.boxes}
    assert names == {"body of scan", "then of cond", "otherwise of cond"}
    exp = next(n for n in drawn.nodes if n.operator == "exp")
    assert len(exp.path) == 2
    assert sum(edge.dashed for edge in drawn.edges) >= 4
    assert next(n for n in drawn.nodes if n.operator == "scan").kind == "loop"
    graph = networkx.DiGraph([(e.source, e.target) for e in drawn.edges])
    assert networkx.is_directed_acyclic_graph(graph)


def test_nodes_have_shape_dtype_work_line_and_time():
    x = ksym.placeholder((4, 3), name="x")
    w = ksym.Variable(np.ones((3, 2), "float32"))
    f = ksym.function([x], ksym.tanh(x @ w), profile=True)
    f(np.ones((4, 3)))
    drawn = picture(f, "compiled")
    node = next(n for n in drawn.nodes if n.operator == "matmul")
    assert node.specs == ("float32 (4, 2)",)
    assert node.flops == 2 * 4 * 3 * 2
    assert node.traffic == 4 * (4 * 3 + 3 * 2 + 4 * 2)
    assert "test_drawing.py" in node.origin
    assert 0 < node.share < 1
    assert node.part.startswith("part 1")
    assert drawn.timed
    assert not picture(f).timed


def test_the_page_needs_nothing_else_and_takes_any_text(tmp_path):
    x = ksym.placeholder((2,), name="</script><script>alert(1)</script>")
    with ksym.name_scope('a "quoted" & <b>scope</b> --> \\'):
        y = ksym.tanh(x)
    ksym.draw(y, tmp_path / "graph.html")
    page = (tmp_path / "graph.html").read_text()
    assert "alert(1)</script>" not in page
    assert page.count("<script") == page.count("</script>") == 4
    data = data_of(page)
    assert {n["name"] for n in data["nodes"]} == {x.name, y.name}
    assert data["groups"][0]["name"].startswith('a "quoted"')
    # What is inside loads nothing: links are in comments and in the licences only.
    assert not re.search(r"<(?:link|img|iframe)|src=|@import|fetch\(\"", page.partition("<!--")[0])
    assert "Eclipse Public License" in page


def test_a_page_grows_as_the_graph_does(tmp_path):
    sizes = []
    for length in (500, 1000, 2000):
        ksym.draw(chain(length), tmp_path / "graph.html")
        sizes.append((tmp_path / "graph.html").stat().st_size)
    assert sizes[2] - sizes[1] < 2.2 * (sizes[1] - sizes[0])


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # pydot's of pyparsing
@pytest.mark.parametrize("fold", [True, False, None])
def test_a_dot_file_has_all_nodes_or_boxes(tmp_path, fold):
    pydot = pytest.importorskip("pydot")
    x = ksym.placeholder((2,), name='x "y" \\ z')
    with ksym.name_scope("layer"):
        y = ksym.tanh(ksym.exp(x))
    ksym.draw(y, tmp_path / "graph.dot", fold=fold)
    (graph,) = pydot.graph_from_dot_file(str(tmp_path / "graph.dot"))
    text = (tmp_path / "graph.dot").read_text()
    assert ("tanh" in text) != bool(fold)
    assert ("2 nodes" in text) == bool(fold)
    assert len(graph.get_edges()) >= 1


def test_of_what_leads_back_and_forth_one_edge_is_drawn_and_of_hubs_none():
    pytest.importorskip("pydot")
    x = ksym.placeholder((2,), name="x")
    w = [ksym.Variable(np.ones(2, "float32")) for _ in range(HUB + 3)]
    y = x
    for i, each in enumerate(w):
        with ksym.name_scope(f"layer{i}"):
            y = ksym.tanh(y * each)
    with ksym.name_scope("optimizer"):
        updates = [(v, v - 0.1 * g) for v, g in zip(w, ksym.gradients(ksym.sum(y), w), strict=True)]
    f = ksym.function([x], [], updates)
    dot = _dot(picture(f), True)
    labels = {n.get_name(): n.get_label() for n in dot.get_nodes()}
    (hub,) = [name for name, label in labels.items() if label and "linked with" in label]
    assert "optimizer" in labels[hub]
    edges = [(e.get_source(), e.get_destination()) for e in dot.get_edges()]
    assert not any(hub in edge for edge in edges)
    assert len({frozenset(edge) for edge in edges}) == len(edges)


@NEEDS_DOT
@pytest.mark.parametrize(
    ("suffix", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")]
)
def test_graphviz_draws_pictures(tmp_path, suffix, begin):
    pytest.importorskip("pydot")
    x = ksym.placeholder((None, 3), name="x")
    outputs = ksym.scan(lambda e, s: (ksym.tanh(e + s),) * 2, x, np.zeros(3, "float32")).outputs
    ksym.draw(outputs, tmp_path / f"graph.{suffix}")
    assert (tmp_path / f"graph.{suffix}").read_bytes().startswith(begin)


def test_models_of_keras_are_drawn_with_a_box_for_each_layer(tmp_path):
    keras = pytest.importorskip("keras")
    model = keras.Sequential(
        [
            keras.layers.Dense(4, input_shape=(3,), name="first"),
            keras.layers.Dense(2, name="second"),
        ]
    )
    model.compile("adam", "mse")
    ksym.draw(model, tmp_path / "model.html")
    names = [g["name"] for g in data_of((tmp_path / "model.html").read_text())["groups"]]
    assert {"first", "second"} <= set(names)
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    ksym.draw(model.train_function, tmp_path / "model.html", stage="compiled")
    groups = data_of((tmp_path / "model.html").read_text())["groups"]
    assert {"first", "second", "training", "gradient"} <= {g["name"] for g in groups}


def test_mistakes_leave_no_file(tmp_path, monkeypatch):
    x = ksym.placeholder((None,), name="x")
    y = ksym.exp(x)
    with pytest.raises(ksym.GraphError, match=r"\.html, \.svg"):
        ksym.draw(y, tmp_path / "graph.jpg")
    with pytest.raises(ksym.GraphError, match="no graph to look at"):
        ksym.draw(3, tmp_path / "graph.html")
    with pytest.raises(ksym.GraphError, match="no stage"):
        ksym.draw(y, tmp_path / "graph.html", stage="passes")
    with pytest.raises(ksym.GraphError, match="shapes="):
        ksym.draw(y, tmp_path / "graph.html", stage="compiled")
    monkeypatch.setitem(sys.modules, "pydot", None)
    with pytest.raises(ksym.MissingPackageError, match=r"pip install 'ksym\[draw\]'"):
        ksym.draw(y, tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ksym.OutputError, match=r"nowhere.*cannot be written"):
        ksym.draw(y, tmp_path / "nowhere" / "graph.html")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(OSError, match="cannot be written"):
        ksym.draw(y, tmp_path / "folder.html")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.html"]


def test_a_program_that_is_missing_is_named(tmp_path, monkeypatch):
    pytest.importorskip("pydot")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ksym.MissingPackageError, match="apt install graphviz"):
        ksym.draw(ksym.exp(ksym.placeholder((2,))), tmp_path / "graph.svg")
    assert not list(tmp_path.iterdir())
