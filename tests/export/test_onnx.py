"""What `export_onnx` writes, checked by ONNX and computed by onnxruntime."""

import builtins

import keras
import numpy as np
import pytest
import reference
from exported_models import MODELS
from operator_examples import example

import ksym
from ksym.errors import FileError, GraphError, KsymError
from ksym.export.onnx import export_onnx
from ksym.graph import OPERATORS
from ksym.ops.random.standard import Drawn

onnx = pytest.importorskip("onnx", reason="the extra ksym[onnx] is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
onnxruntime.set_default_logger_severity(4)

REFUSED = {
    *(name for name, o in OPERATORS.items() if o.runs in ("host", "collective")),
    *(name for name, o in OPERATORS.items() if isinstance(o, Drawn) or name.startswith("random_")),
    *("symbolic_gamma", "dropout", "argwhere", "boolean_mask", "unique"),
    "while_loop",  # of which the example reads the states before each step
    # ONNX has no factorisations of matrices...
    *("cholesky", "eigh", "inv", "pinv", "qr", "solve", "svd", "tall_qr", "triangular_solve"),
    # ... nor these functions, nor gradients of kernels.
    *("erfinv", "gamma", "gammaln", "average_pool_gradient", "max_pool_gradient"),
    *("batch_norm_gradient", "convolution_gradient", "recurrent_gradient"),
} - {"integer_matmul"}
"""What ONNX does not have."""


def computed(file, arguments):
    onnx.checker.check_model(file.path, full_check=True)
    session = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == file.inputs
    assert [o.name for o in session.get_outputs()] == file.outputs
    return session.run(None, dict(zip(file.inputs, arguments, strict=True)))


def check(found, expected):
    expected = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=0))


@pytest.mark.parametrize("name", MODELS)
def test_models_are_equal_for_each_size_of_batch(name, tmp_path):
    model, draw = MODELS[name]()
    file = export_onnx(model, tmp_path / "model.onnx")
    for batch in (1, 2, 5):
        arguments = draw(batch)
        check(computed(file, arguments), model.predict(arguments))


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - set(reference.LEAVES)))
def test_each_operator_is_equal_or_refused_by_its_name(name, tmp_path):
    function, arguments = example(name)
    path = tmp_path / "f.onnx"
    if name in REFUSED:
        with pytest.raises(GraphError, match=name) as caught:
            export_onnx(function, path)
        assert caught.value.remedy
        assert not path.exists()
    else:
        check(computed(export_onnx(function, path), arguments), function(*arguments))


X = [-np.inf, -100.0, -2.5, -1.0, -0.5, -1e-7, 0.0, 1e-7, 0.5, 1.0, 1.5, 2.5, 90.0, np.inf, np.nan]


@pytest.mark.parametrize(
    "name",
    [
        *("expm1", "log1p", "softplus", "sigmoid", "tanh", "relu", "sign", "rint", "trunc", "cbrt"),
        *("arctan", "sinh", "cosh", "exp", "log", "sqrt", "floor", "ceil", "abs", "isnan", "isinf"),
    ],
)
def test_functions_at_their_ends(name, tmp_path):
    x = ksym.placeholder((None,), name="x")
    function = ksym.function(x, OPERATORS[name](x))
    values = np.array(X, "float32")
    (found,) = computed(export_onnx(function, tmp_path / "f.onnx"), [values])
    np.testing.assert_allclose(found, function(values), rtol=1e-5, atol=1e-30)


def test_float64_is_computed_where_runtimes_have_float32_only(tmp_path):
    x = ksym.placeholder((None, 3), "float64", name="x")
    outputs = [
        of(x) for of in (ksym.erf, ksym.gelu, ksym.sin, ksym.arctan, ksym.softplus, ksym.std)
    ]
    function = ksym.function(x, outputs)
    value = np.random.RandomState(0).rand(2, 3)
    check(computed(export_onnx(function, tmp_path / "f.onnx"), [value]), function(value))


def _cumulated(x):
    loop = ksym.scan(lambda e, s: (s * e, ksym.tanh(s + e)), x, ksym.ones(3))
    return [loop.outputs, loop.states]


def _backwards(x):
    weights = ksym.Variable(np.eye(3, dtype="float32") * 0.5)

    def body(e, s, t):
        new = ksym.relu(s @ weights + e[::-1])
        return [new, t], [new, t + 1.0]

    loop = ksym.scan(body, x, [ksym.zeros(3), 0.0], reverse=True)
    return [*loop.outputs, *loop.states]


def _nested(x):
    return [ksym.map_fn(lambda row: ksym.foldl(lambda s, e: s * 0.5 + e, row, 0.0), x)]


def _without_sequences(x):
    count = ksym.shape_of(x)[0]
    return [ksym.scan(lambda s: (s, s * 2.0), states=1.0, steps=count).outputs]


def _gradient(x):
    loop = ksym.scan(lambda e, s: (s * e, ksym.tanh(s + e)), x, ksym.ones(3))
    return [ksym.gradients(ksym.sum(loop.outputs), x)]


@pytest.mark.parametrize("of", [_cumulated, _backwards, _nested, _without_sequences, _gradient])
def test_loops_of_any_length(of, tmp_path):
    x = ksym.placeholder((None, 3), name="x")
    function = ksym.function(x, of(x))
    file = export_onnx(function, tmp_path / "f.onnx")
    assert "Scan" in {node.op_type for node in onnx.load(file.path).graph.node}
    for steps in (1, 2, 7):
        value = np.random.RandomState(steps).rand(steps, 3).astype("float32")
        check(computed(file, [value]), function(value))


def test_branches_and_conditions_depend_on_values(tmp_path):
    x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(np.ones(3, "float32"), name="w")
    branch = ksym.cond(ksym.sum(x) > 0, lambda: x * w, lambda: ksym.zeros_like(x) - 1.0)
    doubled, steps = ksym.while_loop(
        lambda s, n: ksym.all(ksym.abs(s * w) < 100.0), lambda s, n: (s * 2.0, n + 1), [x, 0]
    )
    inside = ksym.map_fn(lambda row: ksym.cond(row[0] > 0, lambda: ksym.exp(row), lambda: row), x)
    function = ksym.function(x, [branch, doubled, steps, inside])
    file = export_onnx(function, tmp_path / "f.onnx")
    for value in (np.ones((2, 3)), -np.ones((1, 3)), np.full((4, 3), 200.0)):
        value = value.astype("float32")
        check(computed(file, [value]), function(value))


@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_layers_of_any_length(masked, tmp_path):
    layers = [keras.layers.Masking(input_shape=(None, 2))] if masked else []
    layers += [keras.layers.LSTM(3, recurrent_activation="hard_sigmoid", input_shape=(None, 2))]
    model = keras.models.Sequential(layers)
    file = export_onnx(model, tmp_path / "f.onnx")
    for batch, steps in ((1, 4), (3, 1), (2, 9)):
        x = np.random.RandomState(steps).rand(batch, steps, 2).astype("float32")
        x[0, steps // 2] = 0.0
        check(computed(file, [x]), model.predict(x))


@pytest.mark.parametrize("name", ["floor_divide", "mod", "fmod", "truncate_divide", "power"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "float32"])
def test_division_with_signs(name, dtype, tmp_path):
    x, y = (ksym.placeholder((None,), dtype, name=n) for n in "xy")
    function = ksym.function([x, y], OPERATORS[name](x, y))
    a, b = np.array([-7, -7, 7, 7, 6, 0, -6], dtype), np.array([2, -2, 2, -2, 3, 5, -3], dtype)
    if name == "power":
        a, b = np.abs(a), np.abs(b)
    check(computed(export_onnx(function, tmp_path / "f.onnx"), [a, b]), function(a, b))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: ksym.mean(x, (0, 2)),
        lambda x: ksym.var(x),
        lambda x: x[:, :-1] - x[:, 1:],
        lambda x: x[::-1],
        lambda x: x[-1],
        lambda x: ksym.reshape(ksym.reshape(x, (-1, 3)) @ ksym.ones((3, 2)), (-1, 4, 2)),
        lambda x: ksym.concatenate([x, ksym.zeros_like(x)], 2),
        lambda x: ksym.broadcast_to(ksym.sum(x, 0, keepdims=True), ksym.shape_of(x)),
        lambda x: ksym.tile(x, (2, 1, 1)),
        lambda x: ksym.sort(x, 0),
        lambda x: ksym.cumsum(x, 0),
        lambda x: x * ksym.cast(ksym.arange(ksym.shape_of(x)[0]), "float32")[:, None, None],
        lambda x: x / ksym.cast(ksym.shape_of(x)[0], "float32"),
        lambda x: ksym.shape_of(x),
        lambda x: ksym.pad(x, ((1, 2), (0, 0), (0, 0))),
        lambda x: ksym.einsum("bij,bkj->bik", x, x),
    ],
)
def test_what_depends_on_sizes(of, tmp_path):
    x = ksym.placeholder((None, 4, 3), name="x")
    function = ksym.function(x, of(x))
    file = export_onnx(function, tmp_path / "f.onnx")
    for batch in (1, 2, 6):
        value = np.random.RandomState(batch).rand(batch, 4, 3).astype("float32")
        check(computed(file, [value]), function(value))


def test_a_size_of_one_is_no_exception(tmp_path):
    """A graph for large sizes alone would be wrong for small ones, and silently so."""
    x = ksym.placeholder((None, 2), name="x")
    for y in (ksym.trace(x), x[:2], ksym.triu(x), ksym.eye(ksym.shape_of(x)[0]) @ x):
        with pytest.raises(GraphError, match=r"for a size of 1|not known"):
            export_onnx(ksym.function(x, y), tmp_path / "f.onnx")


def test_sizes_have_names(tmp_path):
    x, y = ksym.placeholder((None, None, 3), name="x"), ksym.placeholder((None, 5), name="y")
    function = ksym.function([x, y], {"sum": ksym.sum(x, 2), "y": y * 2.0})
    file = export_onnx(function, tmp_path / "f.onnx")
    graph = onnx.load(file.path).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "x": ["batch", "x_axis_1", 3],
        "y": ["batch", 5],
        "sum": ["batch", "x_axis_1"],
        "y_output": ["batch", 5],
    }


def test_a_part_of_a_model(tmp_path):
    layers = keras.layers
    model = keras.models.Sequential(
        [
            layers.Dense(3, activation="tanh", input_shape=(4,), name="code"),
            layers.Dropout(0.5),
            layers.Dense(4),
        ]
    )
    encoder = keras.models.Model(model.input, model.get_layer("code").output)
    file = export_onnx(encoder, tmp_path / "encoder.onnx")
    x = np.random.RandomState(0).rand(2, 4).astype("float32")
    check(computed(file, [x]), encoder.predict(x))
    assert len(onnx.load(file.path).graph.initializer) == 2
    head = ksym.function(model.layers[-1].input, model.output)
    code = encoder.predict(x)
    check(computed(export_onnx(head, tmp_path / "head.onnx"), [code]), model.predict(x))


def test_an_operator_of_the_user_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(ksym.graph, "OPERATORS", dict(ksym.graph.OPERATORS))

    class HardSign(ksym.ops.leaves.Operator):
        """Return the sign of x."""

        def infer(self, x):
            return x.spec

        def numpy(self, x):
            return np.sign(x)

    x = ksym.placeholder((None,), name="x")
    function = ksym.function(x, HardSign()(x))
    with pytest.raises(GraphError, match="hard_sign: ONNX has no operator for it") as caught:
        export_onnx(function, tmp_path / "f.onnx")
    assert __file__ in str(caught.value)
    HardSign.onnx = lambda self, emit, node, x: emit("Sign", x)
    found = computed(export_onnx(function, tmp_path / "f.onnx"), [np.float32([-2.0, 3.0])])
    assert found[0].tolist() == [-1, 1]


def test_what_onnx_cannot_have_is_refused(tmp_path, monkeypatch):
    x, w = ksym.placeholder((None, 3), name="x"), ksym.Variable(np.ones(3, "float32"), name="w")
    with pytest.raises(GraphError, match=r"changes variables \(w"):
        export_onnx(ksym.function(x, x * w, [w.assign_sub(ksym.sum(x, 0))]), tmp_path / "f")
    with pytest.raises(FileError, match="cannot be written"):
        export_onnx(ksym.function(x, x * w), tmp_path / "no" / "f")
    assert not list(tmp_path.iterdir())
    original = builtins.__import__

    def without_onnx(name, *given):
        if name == "onnx":
            raise ImportError(name)
        return original(name, *given)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(KsymError, match="onnx is not installed") as caught:
        export_onnx(ksym.function(x, x * w), tmp_path / "f")
    assert "ksym[onnx]" in str(caught.value)
