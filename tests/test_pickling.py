"""Functions and graphs in pickles, in new processes, and as deep copies."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from graphs_to_keep import GRAPHS, same_results

import ksym
from ksym.errors import GraphError
from ksym.graph import topological_order

ROUTES = {
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "pickle in Python": lambda x: pickle._loads(pickle._dumps(x)),
    "deepcopy": copy.deepcopy,
}


@pytest.fixture(params=ROUTES)
def again(request):
    return ROUTES[request.param]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_copy_computes_the_same_and_goes_on_the_same(name, again):
    function, arguments = GRAPHS[name]()
    function(*arguments)  # a function that has run has compiled parts, which stay behind
    twin = again(function)
    for _ in range(2):  # the second call sees what the first has updated and drawn
        same_results(twin(*arguments), function(*arguments))
    assert repr(twin) == repr(function)


def test_a_new_process_gives_the_same_results(tmp_path):
    made = {name: make() for name, make in GRAPHS.items()}
    with open(tmp_path / "kept", "wb") as file:
        pickle.dump(made, file)
    program = (
        "import pickle, sys\n"
        "made = pickle.load(open(sys.argv[1], 'rb'))\n"
        "found = {name: [f(*a), f(*a)] for name, (f, a) in made.items()}\n"
        "pickle.dump(found, open(sys.argv[2], 'wb'))\n"
    )
    paths = [str(tmp_path / "kept"), str(tmp_path / "found")]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=120)
    found = pickle.loads((tmp_path / "found").read_bytes())
    for name, (function, arguments) in made.items():
        for results in found[name]:
            same_results(results, function(*arguments))


def test_variables_and_tensors_of_one_pickle_stay_what_they_are_to_each_other(again):
    x, w = ksym.placeholder((3,), name="x"), ksym.Variable([1.0, 2.0, 3.0])
    h = ksym.tanh(x * w)
    y = ksym.sum(h)
    read, train = ksym.function([x], y), ksym.function([x], [], [w.assign_sub(0.5)])
    x2, h2, y2, w2, read2, train2 = again((x, h, y, w, read, train))
    assert w2 is not w
    assert topological_order([y2])[0:1] == topological_order([h2])[0:1]
    assert (ksym.function([h2], y2)([1, 2, 3]), ksym.evaluate(y2, {x2: [0, 0, 0]})) == (6, 0)
    (slope,) = [ksym.evaluate(ksym.gradients(y2, h2), {x2: [0.0, 0.0, 0.0]})]
    assert slope.tolist() == [1, 1, 1]
    train2([0, 0, 0])
    assert w2.get_value().tolist() == [0.5, 1.5, 2.5]
    assert w.get_value().tolist() == [1, 2, 3]
    assert read2([1, 0, 0]) == pytest.approx(np.tanh(0.5))
    assert read([1, 0, 0]) == pytest.approx(np.tanh(1.0))


def test_functions_that_are_pickled_apart_share_nothing():
    w = ksym.Variable(0.0)
    count, read = ksym.function([], [], [w.assign_add(1.0)]), ksym.function([], w)
    count2, read2 = (pickle.loads(pickle.dumps(f)) for f in (count, read))
    count2()
    assert (read2(), read()) == (0, 0)


def test_streams_of_one_pickle_are_shared(again):
    stream = ksym.RandomStream(3)
    first, second = (ksym.function([], ksym.random_uniform((4,), stream=stream)) for _ in range(2))
    first2, second2 = again((first, second))
    for f, g in ((first, first2), (second, second2), (first, first2)):
        same_results(f(), g())


def test_a_shallow_copy_keeps_variables():
    w = ksym.Variable(0.0)
    count = ksym.function([], w, [w.assign_add(1.0)])
    assert [copy.copy(count)(), count(), copy.copy(count)()] == [0, 1, 2]


def test_what_depends_on_no_variable_is_not_copied():
    x, w = ksym.placeholder((3,)), ksym.Variable(2.0)
    y = ksym.scan(lambda e, s: (e * s, s + e), x, 0.0).outputs
    assert copy.deepcopy({"y": [y]})["y"][0] is y
    z = copy.deepcopy([y * w, w])
    assert topological_order([z[0]])[0].outputs[0] is x
    assert z[1].node in topological_order([z[0]])
    for twin in (copy.copy(w), copy.deepcopy([w])[0]):
        assert twin is not w
        twin.set_value(3.0)
    assert w.get_value() == 2


def test_graphs_of_any_depth(again):
    x = y = ksym.placeholder((), name="x")
    for _ in range(20_000):
        y = y + 1.0
    y = y * ksym.Variable(1.0)
    kept = [x, y.node.inputs[0], y]
    x2, before, y2 = again(kept)
    assert y2.node.inputs[0] is before
    assert len(topological_order([y2])) == len(topological_order([y]))
    assert topological_order([y2])[0] is x2.node


def test_many_tensors_of_one_graph_take_the_room_of_one_graph():
    x = ksym.placeholder((2,))
    made = [x]
    for _ in range(300):
        made.append(ksym.tanh(made[-1]))
    alone = len(pickle.dumps(made[-1]))
    for order in (made, made[::-1]):
        assert len(pickle.dumps(order)) < 2 * alone
    assert len(pickle.dumps(x)) < 500  # what is computed from it stays behind


def test_a_pickler_that_lives_on_takes_a_graph_once():
    x = ksym.placeholder((2,))
    y = ksym.tanh(x)
    pickler = pickle.Pickler(file := io.BytesIO())
    pickler.dump(y)
    pickler.dump(y + x)
    unpickler = pickle.Unpickler(io.BytesIO(file.getvalue()))
    first, second = unpickler.load(), unpickler.load()
    assert second.node.inputs[0] is first
    assert second.node.inputs[1] is first.node.inputs[0]


def test_an_operator_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(ksym.tanh)) is ksym.tanh
    assert copy.deepcopy(ksym.tanh) is ksym.tanh
    text = pickle.dumps(ksym.tanh(ksym.placeholder(())), 0)
    with pytest.raises(GraphError, match="'tanz', which is not declared"):
        pickle.loads(text.replace(b"Vtanh", b"Vtanz"))


def test_nodes_and_what_is_known_of_tensors_are_pickled(again):
    x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(1.0, name="w")
    shape = ksym.shape_of(x)
    w2, shape2, node = again([w, shape, (x * w).node])
    assert repr(shape2.value) == repr(shape.value)
    assert ksym.reshape(x, shape2[1:]).shape == (3,)
    assert node.inputs[1] is w2
    assert again(w.node).outputs[0].get_value() == 1
