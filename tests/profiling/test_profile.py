"""Profiles: the times add up, the work is counted, and results stay what they are."""

import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from drawing import grow
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.profiling.profile import Profile
from ksym.profiling.program import kind_of

GROUPS = ("operator", "layer", "line", "part")


def step(**options):
    ksym.seed(0)
    x = ksym.placeholder((None, 8), name="x")
    w = ksym.Variable(np.full((8, 4), 0.1, "float32"), name="w")
    with ksym.name_scope("hidden"):
        y = ksym.tanh(ksym.dropout(x @ w, 0.5))
    loss = ksym.mean(ksym.square(y))
    updates = [w.assign_sub(0.1 * ksym.gradients(loss, w))]
    return w, ksym.function([x], loss, updates=updates, **options)


X = np.random.default_rng(0).standard_normal((16, 8))


@given(st.data())
def test_results_are_those_without_a_profile(data):
    x, w = ksym.placeholder((3, 3)), ksym.Variable(np.full((3, 3), 0.5, "float32"))
    outputs = grow(data, x, w)
    updates = [(w, outputs[-1])] if outputs[-1] is not w else []
    value = np.random.default_rng(0).standard_normal((3, 3)).astype("float32")
    found = []
    for profiled in (False, True):
        w.set_value(np.full((3, 3), 0.5))
        f = ksym.function([x], outputs, updates, profile=profiled, on_unused_input="ignore")
        found.append([a.tobytes() for a in [*f(value), w.get_value()]])
    assert found[0] == found[1]
    assert sum(r.seconds for r in f.profile.rows()) == pytest.approx(f.profile.seconds, rel=0.5)


@pytest.mark.parametrize("flags", ["", "fuse_loops=0", "fuse_updates=0", "nan=1", "check=1,nan=1"])
def test_times_add_up_to_those_of_the_calls_however_they_are_grouped(flags):
    w, plain = step(flags=flags)
    expected = [plain(X) for _ in range(3)]
    v, f = step(flags=flags, profile=True)
    assert [f(X) for _ in range(3)] == expected
    assert v.get_value().tobytes() == w.get_value().tobytes()
    profile = f.profile
    assert profile.calls == 3
    for by in GROUPS:
        rows = profile.rows(by)
        assert sum(row.seconds for row in rows) == pytest.approx(profile.seconds, rel=1e-6)
        assert [r.seconds for r in rows] == sorted((r.seconds for r in rows), reverse=True)
        assert sum(row.share for row in rows) == pytest.approx(1.0)
    work = [sum(row.flops for row in profile.rows(by)) for by in GROUPS]
    np.testing.assert_allclose(work, work[0])


@pytest.mark.host_access
def test_operators_layers_lines_and_parts_are_named():
    _, f = step(profile=True)
    f(X)
    names = {by: {row.name for row in f.profile.rows(by)} for by in GROUPS}
    assert {"matmul", "tanh", "square"} <= names["operator"]
    assert {"hidden", "hidden (gradient)"} <= names["layer"]
    assert any(re.search(r"test_profile.py:\d+$", name) for name in names["line"])
    assert any("product" in name for name in names["part"])
    assert "update 1: kernel" in " ".join(names["part"])
    assert "(random numbers)" in names["operator"]


def test_the_work_of_products_is_counted():
    a, b = ksym.placeholder((8, 16)), ksym.placeholder((16, 4))
    for flags in ("", "fuse_loops=0"):
        f = ksym.function([a, b], a @ b, profile=True, flags=flags)
        f(np.ones((8, 16)), np.ones((16, 4)))
        f(np.ones((8, 16)), np.ones((16, 4)))
        (row,) = [row for row in f.profile.rows() if row.name == "matmul"]
        assert row.flops == 2 * 2 * 8 * 16 * 4
        assert row.traffic == 2 * 4 * (8 * 16 + 16 * 4 + 8 * 4)
        assert row.memory == 4 * 8 * 4


@pytest.mark.parametrize("flags", ["", "fuse_loops=0"])
def test_native_graphs_and_kernels_are_broken_down(flags):
    x, w = ksym.placeholder((2, 3, 8, 8)), ksym.Variable(np.ones((4, 3, 3, 3), "float32"))
    y = ksym.max_pool(ksym.relu(ksym.convolution(x, w)), (2, 2))
    f = ksym.function([x], [y, ksym.gradients(ksym.sum(y * y), w)], profile=True, flags=flags)
    f(np.ones((2, 3, 8, 8)))
    rows = {row.name: row for row in f.profile.rows()}
    for name in ("convolution", "convolution_gradient", "max_pool"):
        assert rows[name].seconds > 0
    assert rows["convolution"].flops == 2 * 2 * 6 * 6 * 4 * 3 * 9
    assert re.search(r"variables 432 B, inside of native graphs \d", str(f.profile))


@pytest.mark.parametrize("flags", ["", "fuse_loops=0"])
def test_loops_and_branches_are_broken_down(flags):
    x, w = ksym.placeholder((6, 4, 8)), ksym.Variable(np.full((8, 8), 0.1, "float32"))

    def body(element, state):
        state = ksym.tanh(element + state @ w)
        return state, state

    loop = ksym.scan(body, x, np.zeros((4, 8), "float32")).outputs
    f = ksym.function([x], [loop, ksym.gradients(ksym.sum(loop), w)], profile=True, flags=flags)
    f(np.ones((6, 4, 8)))
    rows = {row.name: row for row in f.profile.rows()}
    assert rows["tanh"].flops == 6 * 4 * 8
    assert rows["matmul"].seconds > 0
    assert rows["matmul"].flops >= 6 * 2 * 4 * 8 * 8

    n = ksym.placeholder((), "int64")
    inner = ksym.cond(n > 2, lambda: ksym.exp(x), lambda: x)
    power = ksym.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, ksym.sin(a)), (0, inner))[1]
    f = ksym.function([n, x], power, profile=True, flags=flags)
    f(5, np.ones((6, 4, 8)))
    rows = {row.name: row for row in f.profile.rows()}
    assert rows["sin"].flops == 5 * 6 * 4 * 8
    assert rows["exp"].flops == 6 * 4 * 8


def test_a_report_neither_prints_nor_draws(capsys):
    def drawn(report):
        stream = ksym.RandomStream(1)

        def body(i, total):
            noise = ksym.print_value(ksym.random_uniform((), stream=stream), "noise")
            return i + 1, ksym.cond(total < 9.0, lambda: total + noise, lambda: total)

        loop = ksym.while_loop(lambda i, _: i < 3, body, (0, ksym.constant(0.0)))[1]
        silent = ksym.while_loop(
            lambda i, _: i < 3,
            lambda i, s: (i + 1, s + ksym.random_uniform((), stream=stream)),
            (0, ksym.constant(0.0)),
        )[1]
        f = ksym.function([], [loop, silent], profile=True)
        values = [f()]
        if report:
            assert "random" not in f.profile.table("line")
        return [*values, f()]

    def flat(results):
        return [float(value) for both in results for value in both]

    plain, text = flat(drawn(False)), capsys.readouterr().out
    assert flat(drawn(True)) == plain
    assert capsys.readouterr().out == text
    assert text.count("noise") == 6


def test_several_shapes_dynamic_results_and_the_interpreter_are_profiled():
    x = ksym.placeholder((None,))
    kept = ksym.boolean_mask(x, x > 0.0)
    f = ksym.function([x], ksym.sum(ksym.exp(kept)), profile=True)
    f([1, -1])
    f([1, 2, -1])
    assert f.profile.calls == 2
    assert {"exp", "greater"} <= {row.name for row in f.profile.rows()}
    f = ksym.function([x], ksym.exp(x), profile=True, mode="interpret")
    f([1, -1])
    assert "exp" in str(f.profile)


def test_a_profile_begins_and_ends_where_it_is_asked_for():
    w, f = step()
    assert f.profile is None
    f(X)
    profile = f.start_profile()
    f(X)
    assert f.stop_profile() is profile
    f(X)
    assert f.profile is None
    assert profile.calls == 1
    other, g = step()
    for _ in range(3):
        g(X)
    assert other.get_value().tobytes() == w.get_value().tobytes()


def test_without_a_profile_the_program_is_the_plain_one():
    from ksym.runtime.program import Program

    assert kind_of(False, False, False) is Program
    _, f = step()
    f(X)
    assert type(f._programs.last[1]) is Program


def test_the_trace_is_what_chrome_reads(tmp_path):
    _, f = step(profile=True)
    for _ in range(3):
        f(X)
    f.profile.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    calls = [e for e in slices if e["cat"] == "call"]
    assert len(calls) == 3
    for event in slices:
        assert {"name", "ts", "dur", "pid", "tid"} <= event.keys()
        around = [c for c in calls if c["ts"] - 1 <= event["ts"] <= c["ts"] + c["dur"] + 1]
        assert around, event
    (product, *_) = [e for e in slices if e["name"] == "matmul"]
    assert product["args"]["layer"] == "hidden"
    assert product["args"]["flops"] == 2 * 16 * 8 * 4


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    _, f = step(profile=True)
    f(X)
    f.profile.plot(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")


def test_a_package_that_is_missing_is_named_with_what_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, f = step(profile=True)
    f(X)
    with pytest.raises(ksym.MissingPackageError, match=r"pip install 'ksym\[draw\]'"):
        f.profile.plot(tmp_path / "profile.png")
    assert not list(tmp_path.iterdir())


def test_mistakes_say_what_to_do(monkeypatch):
    _, f = step(profile=True)
    assert "no calls yet" in str(f.profile)
    with pytest.raises(ksym.GraphError, match="operator, layer, line, part"):
        f.profile.rows("node")
    f(X)
    with pytest.raises(ksym.FileError, match="cannot be written"):
        f.profile.save_trace("/nowhere/trace.json")
    monkeypatch.setenv("KSYM_PROFILE", "yes")
    with pytest.raises(ksym.GraphError, match="KSYM_PROFILE=1"):
        step()


def test_a_table_is_cut_where_the_limit_says():
    _, f = step(profile=True)
    f(X)
    assert "more; limit=None" in f.profile.table(limit=2)
    assert "more; limit=None" not in f.profile.table(limit=None)
    assert isinstance(f.profile, Profile)


def test_the_environment_profiles_all_functions_and_shows_them_at_the_end():
    program = (
        "import ksym\n"
        "x = ksym.placeholder((3,))\n"
        "for i in range(7):\n"
        "    ksym.function([x], ksym.exp(x) * float(i), name=f'f{i}')([1, 2, 3])\n"
        "print('done')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "KSYM_PROFILE": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "done\n"
    assert run.stderr.count("time/call") == 5
    assert "2 more functions were called" in run.stderr


def test_batches_of_keras_are_profiled(tmp_path):
    keras = pytest.importorskip("keras")
    from ksym.keras.callbacks import ProfileTraining

    def fitted(callbacks):
        ksym.seed(1)
        np.random.seed(1)
        model = keras.Sequential([keras.layers.Dense(3, input_shape=(8,), name="head")])
        model.compile("adam", "mse")
        model.fit(X, np.ones((16, 3)), 4, epochs=2, verbose=0, shuffle=False, callbacks=callbacks)
        return model.get_weights()

    out = io.StringIO()
    callback = ProfileTraining(first=2, batches=3, trace=tmp_path / "trace.json", file=out)
    for a, b in zip(fitted([]), fitted([callback]), strict=True):
        assert np.array_equal(a, b)
    assert callback.profile.calls == 3
    assert "head (gradient)" in out.getvalue()
    assert (tmp_path / "trace.json").exists()
    callback = ProfileTraining(first=6, batches=30, file=out)
    fitted([callback])
    assert callback.profile.calls == 2
    with pytest.raises(ksym.InputError, match="batches"):
        ProfileTraining(batches=0)
