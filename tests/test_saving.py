"""Files of functions: what is saved is loaded, and what is no such file is refused."""

import contextlib
import copy
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from random import Random

import numpy as np
import pytest
import reference
from graphs_to_keep import GRAPHS, same_results
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_examples import applied

import ksym
from ksym.errors import FileError, GraphError
from ksym.graph import OPERATORS
from ksym.operator.composite import Composite
from ksym.saving import container
from ksym.saving.encoding import MOST_NESTED


class _Content(bytes):
    """The bytes of a file, which messages of tests leave out."""

    def __repr__(self):
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """For each function the bytes of its file."""
    path = tmp_path_factory.mktemp("saved") / "file"
    found = {}
    for name, make in GRAPHS.items():
        ksym.save(make()[0], path)
        found[name] = _Content(path.read_bytes())
    return found


def taken_apart(content):
    """The header of a file, and the bytes of its arrays."""
    (length,) = struct.unpack("<Q", content[44:52])
    behind = 52 + length
    return json.loads(content[52:behind]), content[behind + -behind % container.ALIGNMENT :]


def put_together(header, arrays):
    """A file with a header, its arrays moved to where they have to be, and the right checksum."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    body = struct.pack("<Q", len(text)) + text
    body += bytes(-(44 + len(body)) % container.ALIGNMENT) + arrays
    return container.MAGIC + struct.pack("<I", 1) + hashlib.sha256(body).digest() + body


def refused(tmp_path, content, match):
    (tmp_path / "refused").write_bytes(content)
    with pytest.raises(FileError, match=match) as caught:
        ksym.load(tmp_path / "refused")
    assert len(str(caught.value)) < 2000
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_loaded_computes_the_same_and_goes_on_the_same(name, tmp_path):
    function, arguments = GRAPHS[name]()
    function(*arguments)
    ksym.save(function, tmp_path / "f.ksym")
    again = ksym.load(str(tmp_path / "f.ksym"))
    for _ in range(2):
        same_results(again(*arguments), function(*arguments))
    assert repr(again) == repr(function)
    ksym.save(again, tmp_path / "g.ksym")
    first, second = (taken_apart((tmp_path / f).read_bytes()) for f in ("f.ksym", "g.ksym"))
    assert len(first[0]["nodes"]) == len(second[0]["nodes"])


def test_a_new_process_loads_it(tmp_path):
    made = {name: make() for name, make in GRAPHS.items()}
    ksym.save({name: f for name, (f, _) in made.items()}, tmp_path / "all.ksym")
    np.savez(tmp_path / "arguments", **{n: np.array(a, object) for n, (_, a) in made.items()})
    program = (
        "import sys, pickle, numpy as np, ksym\n"
        "given = np.load(sys.argv[2], allow_pickle=True)\n"
        "made = ksym.load(sys.argv[1])\n"
        "found = {n: [f(*given[n]), f(*given[n])] for n, f in made.items()}\n"
        "pickle.dump(found, sys.stdout.buffer)\n"
    )
    paths = [tmp_path / "all.ksym", tmp_path / "arguments.npz"]
    run = subprocess.run(
        [sys.executable, "-c", program, *paths], check=True, timeout=120, stdout=subprocess.PIPE
    )
    found = pickle.loads(run.stdout)
    assert list(found) == list(GRAPHS)
    for name, (function, arguments) in made.items():
        for results in found[name]:
            same_results(results, function(*arguments))


def test_functions_of_one_file_share_variables_and_streams(tmp_path):
    w, stream = ksym.Variable(0.0, name="w", trainable=False), ksym.RandomStream(2)
    count = ksym.function([], [], [w.assign_add(1.0)], name="count")
    noise = [ksym.function([], w + ksym.random_uniform((2,), stream=stream)) for _ in range(2)]
    ksym.save({"count": count, "a": noise[0], "b": noise[1]}, tmp_path / "f")
    again = ksym.load(tmp_path / "f")
    again["count"](), count()
    for name, function in (("a", noise[0]), ("b", noise[1])):
        same_results(again[name](), function())
    (v,) = (t for t in again["a"]._graph[0].node.inputs if isinstance(t, ksym.Variable))
    assert (v.trainable, v.name.startswith("w")) == (False, True)


def test_values_are_those_of_one_moment(tmp_path):
    """A call on another thread is in the file as a whole, or not at all."""
    a, b = (ksym.Variable(np.zeros(1000, "float32")) for _ in range(2))
    both = ksym.function([], [a[0], b[0]], [a.assign_add(1.0), b.assign_add(1.0)])
    stop = threading.Event()

    def train():
        while not stop.is_set():
            both()

    thread = threading.Thread(target=train)
    thread.start()
    try:
        for _ in range(20):
            ksym.save(both, tmp_path / "f")
            first, second = ksym.load(tmp_path / "f")()
            assert first == second
    finally:
        stop.set()
        thread.join()


def test_a_file_of_any_depth(tmp_path):
    x = y = ksym.placeholder(())
    for _ in range(20_000):
        y = y + 1.0
    ksym.save(ksym.function(x, y), tmp_path / "f")
    nodes = taken_apart((tmp_path / "f").read_bytes())[0]["nodes"]
    assert len(ksym.load(tmp_path / "f")._graph) == 1
    assert len(nodes) == 20_001 + len({id(n) for n in nodes if n[0] == "constant"})


NODES = sorted(
    name
    for name, operator in OPERATORS.items()
    if not isinstance(operator, Composite)
    and name not in reference.LEAVES
    and name != "call_python"  # files hold no code: tests/ops/test_python_functions.py
)


@pytest.mark.parametrize("name", NODES)
def test_each_operator_and_its_gradient_is_saved(name, tmp_path):
    """What is loaded is made as calls make it, so each node has to be one that a call gives."""
    inputs, values, outputs = applied(name)
    floats = [t for t in inputs if t.dtype == "float32"]
    losses = [t for t in outputs if t.dtype == "float32"]
    if losses and floats:
        slopes = ksym.gradients(losses, floats, disconnected="none")
        outputs += [slope for slope in slopes if slope is not None]
    function = ksym.function(inputs, outputs, on_unused_input="ignore")
    ksym.save(function, tmp_path / "f")
    same_results(ksym.load(tmp_path / "f")(*values), function(*values))


# --- what cannot be saved ------------------------------------------------------------------------


def test_what_is_no_function_is_refused(tmp_path):
    for given_ in (3, ksym.placeholder(()), [], {}, {"f": None}, {1: GRAPHS["loop"]()[0]}):
        with pytest.raises(GraphError):
            ksym.save(given_, tmp_path / "f")
    assert not list(tmp_path.iterdir())


class Custom(ksym.ops.leaves.Operator):
    """Return x; an operator with an attribute that files do not hold."""

    def infer(self, x, extra):
        return x.spec

    def numpy(self, x, extra):
        return x


def test_an_attribute_that_files_do_not_hold_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ksym.graph, "OPERATORS", dict(ksym.graph.OPERATORS))
    made = Custom()(ksym.placeholder((2,), name="x"), extra=frozenset({1}))
    function = ksym.function(made.node.inputs[0], made)
    with pytest.raises(GraphError, match="custom: a frozenset is not kept in files") as caught:
        ksym.save(function, tmp_path / "f")
    assert __file__ in str(caught.value)
    assert "attribute: extra" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["no/folder/f", ".", "full"])
def test_a_path_that_cannot_be_written_is_refused_and_nothing_is_left(place, tmp_path, monkeypatch):
    path = tmp_path / place
    if place == "full":
        path.write_bytes(b"before")

        def no_room(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_room)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FileError, match="cannot be written"):
        ksym.save(GRAPHS["training"]()[0], path)
    assert sorted(tmp_path.rglob("*")) == before
    assert place != "full" or path.read_bytes() == b"before"


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    ksym.save(GRAPHS["training"]()[0], tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert ksym.load(tmp_path / "target")


# --- what is no file of ksym's -------------------------------------------------------------------


def test_each_fault_has_its_message(tmp_path, saved):
    content = saved["training"]
    refused(tmp_path, b"", "is no file of ksym's")
    refused(tmp_path, b"PK\3\4" + content, "is no file of ksym's")
    refused(tmp_path, content.replace(b"\r\n", b"\n", 1), "is no file of ksym's")
    refused(tmp_path, content[:20], "is damaged: it ends after 20 bytes")
    refused(tmp_path, content[:60], "of which there are 8")
    refused(tmp_path, content[:-1], "is damaged: an array takes")
    refused(tmp_path, content + b"\0", r"1 byte\(s\) follow")
    newer = content[:8] + struct.pack("<I", 2) + content[12:]
    assert "install a newer ksym" in str(refused(tmp_path, newer, "has version 2 of the format"))
    changed = bytearray(content)
    changed[-1] ^= 1
    refused(tmp_path, bytes(changed), "its checksum is another one")
    for text, problem in (
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"\xff", "no JSON"),
        (b'{"arrays": NaN}', "no JSON"),
        (b"{}", "no list of arrays"),
    ):
        refused(tmp_path, put_together(text, b""), problem)
    with pytest.raises(FileError, match="cannot be read: No such file"):
        ksym.load(tmp_path / "none")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        ksym.load(tmp_path)
    with pytest.raises(FileError, match="no regular file"):
        ksym.load("/dev/zero")


@pytest.mark.parametrize(
    ("described", "problem"),
    [
        (["float32", [2**31]], "described as"),
        (["float32", [2**30, 2**30, 0]], "too many elements"),
        (["float32", [2**30]], "an array takes 4294967296 bytes"),
        (["float32", [1] * 33], "described as"),
        (["float32", [-1]], "described as"),
        (["float32", [True]], "described as"),
        (["object", [1]], "has the dtype 'object'"),
        (["<U4", [1]], "has the dtype"),
        ([["float32"], [1]], "has the dtype"),
        (None, "described as"),
    ],
)
def test_arrays_that_cannot_be_are_refused(described, problem, tmp_path, saved):
    header, arrays = taken_apart(saved["training"])
    refused(tmp_path, put_together({**header, "arrays": [described]}, arrays), problem)


def test_a_truth_value_is_zero_or_one(tmp_path):
    ksym.save(ksym.function([], ksym.Variable(np.array([True, False]))), tmp_path / "f")
    header, arrays = taken_apart((tmp_path / "f").read_bytes())
    refused(tmp_path, put_together(header, arrays[:-1] + b"\2"), "neither 0 nor 1")


def test_graphs_that_no_program_makes_are_refused(tmp_path, saved):
    def changed(name, change):
        header, arrays = taken_apart(saved[name])
        nodes = header["nodes"]
        change(header, {node[0]: (i, node) for i, node in enumerate(nodes)})
        return put_together(header, arrays)

    def at(operator, part, value):
        def change(header, nodes):
            nodes[operator][1][part] = value

        return change

    def forward(header, nodes):
        i, node = nodes["tanh"]
        node[1] = [[i, 0]]

    def twice(header, nodes):
        header["nodes"].append(copy.deepcopy(nodes["constant"][1]))

    def open_body(header, nodes):
        nodes["scan"][1][2]["body"]["body"][0].pop()

    for name, change, problem in (
        ("training", at("tanh", 0, "tanz"), "'tanz', which is not declared"),
        ("training", forward, "the node of a reference is"),
        ("training", at("tanh", 3, [[[2, 2], "float32"]]), "the results are others"),
        ("training", at("tanh", 2, {"x": 1}), "x"),
        ("training", at("tanh", 4, 10**6), "its origin is"),
        ("training", at("placeholder", 3, [[[1] * 40, "float32"]]), "a shape is"),
        ("training", at("variable", 2, {"variable": 9}), "its variable is 9"),
        ("training", twice, "is used twice"),
        ("loop", open_body, "a body reads a placeholder"),
        ("noise", at("standard_uniform", 2, {"stream": {"stream": 7}}), "a stream is 7"),
    ):
        error = refused(tmp_path, changed(name, change), "does not hold a function")
        assert problem in str(error), (name, problem)


def test_loops_within_loops_without_end_are_refused(tmp_path):
    x = ksym.placeholder((1,) * (MOST_NESTED + 1))

    def nested(depth):
        def go(t, left):
            return t * 2.0 if not left else ksym.map_fn(lambda e: go(e, left - 1), t)

        return ksym.function(x, go(x, depth))

    ksym.save(nested(MOST_NESTED), tmp_path / "f")
    ksym.load(tmp_path / "f")
    x = ksym.placeholder((1,) * (MOST_NESTED + 2))
    ksym.save(nested(MOST_NESTED + 1), tmp_path / "f")
    with pytest.raises(FileError, match="too much work"):
        ksym.load(tmp_path / "f")


def places(value, at=()):
    """The way to each place in plain data."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


ODD = [
    *(None, True, False, -1, 0, 1, 2, 32, 2**31, 2**40, 2**63, -(2**64), 10**30, 1e308, -0.0, ""),
    *("float32", "bool", "scan", "constant", "slice", "variable", "failed", [], {}, [[]], [0, 0]),
    *({"array": 0}, {"array": 9}, {"stream": 0}, {"body": [[], []]}, {"float": "nan"}, [2**31] * 9),
    {"spec": [[2], "bool"]},
]


def found_at(value, place):
    for key in place:
        value = value[key]
    return value


def changed(header, random):
    """The header with one place or a few that are something else."""
    for _ in range(random.randint(1, 3)):
        every = list(places(header))[1:]
        *before, key = random.choice(every)
        parent, how = found_at(header, before), random.randrange(5)
        if how == 0:
            parent[key] = copy.deepcopy(random.choice(ODD))
        elif how == 1:
            parent[key] = copy.deepcopy(found_at(header, random.choice(every)))
        elif how == 2:
            del parent[key]
        elif how == 3 and isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        elif how == 4 and type(parent[key]) is int:
            parent[key] += random.choice([-1, 1, 1000])
    return header


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(GRAPHS)), seed=st.integers(0, 2**32 - 1))
def test_a_file_that_was_made_up_is_refused_or_means_something(name, seed, tmp_path, saved):
    """With the right checksum, so that all the other checks are reached."""
    random = Random(seed)
    content = saved[name]
    header, arrays = taken_apart(content)
    if random.randrange(3):
        content = put_together(changed(header, random), arrays)
    else:
        cut = random.randrange(44, len(content))
        content = content[:cut] + random.randbytes(9) + content[cut + random.randrange(19) :]
        content = content[:12] + hashlib.sha256(content[44:]).digest() + content[44:]
    (tmp_path / "f").write_bytes(content)
    with contextlib.suppress(FileError):
        found = ksym.load(tmp_path / "f")
        for function in found.values() if isinstance(found, dict) else [found]:
            assert isinstance(function, ksym.Function)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_that_changed_on_the_way_is_refused(data, tmp_path, saved):
    content = bytearray(saved[data.draw(st.sampled_from(sorted(saved)))])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    refused(tmp_path, bytes(content), "is damaged|no file of ksym's|has version")


AUDITED = """
import sys
import numpy as np
import ksym

x, w = ksym.placeholder((None, 3)), ksym.Variable(np.ones((3, 2)))
ksym.save(ksym.function(x, ksym.tanh(x @ w), [w.assign(w * 0.5)]), sys.argv[1])
ksym.load(sys.argv[1])  # whatever is imported at first is now
run = ("compile", "exec", "import", "marshal.loads", "pickle.find_class", "subprocess.Popen")
seen = []
sys.addaudithook(lambda event, _: seen.append(event) if event in run else None)
loaded = ksym.load(sys.argv[1])
print(sorted(set(seen)))
exec("")
print(sorted(set(seen)))
"""


def test_loading_a_file_runs_no_code(tmp_path):
    command = [sys.executable, "-c", AUDITED, str(tmp_path / "f.ksym")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    none, something = result.stdout.splitlines() or [result.stderr, ""]
    assert none == "[]"
    assert "exec" in something  # the hook sees what is run
