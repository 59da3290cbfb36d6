"""What `export_mxnet` writes, loaded by MXNet without ksym."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import reference
from exported_models import MODELS
from operator_examples import example
from plain_mxnet import mxnet

import ksym
from ksym.errors import FileError, GraphError, ShapeError
from ksym.graph import OPERATORS
from ksym.ops.random.standard import Drawn

NAMES = sorted(set(OPERATORS) - set(reference.LEAVES))

# MXNet uses names that NumPy deprecates, and says of every graph that Gluon imports that it cannot
# tell the dtypes of its inputs, which are those of the first call.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Cannot decide type:UserWarning"),
    pytest.mark.filterwarnings("ignore:The .* input to HybridBlock is not used:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mxnet"),
]

REFUSED = {
    *(name for name, o in OPERATORS.items() if o.runs in ("cond", "while", "host", "collective")),
    *(name for name, o in OPERATORS.items() if isinstance(o, Drawn) or name.startswith("random_")),
    *("symbolic_gamma", "dropout", "argwhere", "boolean_mask", "unique", "batch_norm"),
    *("batch_norm_gradient", "max_pool_gradient", "recurrent_gradient"),
}
"""What MXNet's graphs do not have: values that decide what runs, drawn numbers, training."""


def by_gluon(files, arguments):
    with mxnet.util.np_shape(files.numpy_shapes):
        block = mxnet.gluon.SymbolBlock.imports(files.symbol, files.inputs, files.params)
        found = block(*(mxnet.nd.array(a, dtype=np.asarray(a).dtype) for a in arguments))
        return [a.asnumpy() for a in (found if isinstance(found, list | tuple) else [found])]


def by_module(files, arguments):
    symbol = mxnet.sym.load(files.symbol)
    module = mxnet.mod.Module(symbol, data_names=files.inputs, label_names=None)
    shapes = [(name, a.shape) for name, a in zip(files.inputs, arguments, strict=True)]
    module.bind(data_shapes=shapes, for_training=False)
    kept = dict(mxnet.nd.load(files.params) or {})
    given = [{n[4:]: a for n, a in kept.items() if n.startswith(k)} for k in ("arg:", "aux:")]
    module.set_params(*given)
    module.forward(mxnet.io.DataBatch([mxnet.nd.array(a) for a in arguments]), is_train=False)
    return [a.asnumpy() for a in module.get_outputs()]


def check(found, expected, tolerance=1e-5):
    expected = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max(initial=0))


@pytest.mark.parametrize("name", MODELS)
def test_models_are_equal_for_each_size_of_batch(name, tmp_path):
    model, draw = MODELS[name]()
    files = ksym.export_mxnet(model, tmp_path / "model", epoch=7)
    assert files.params.endswith("model-0007.params")
    for batch in (1, 2, 5):
        arguments = draw(batch)
        expected = model.predict(arguments)
        check(by_gluon(files, arguments), expected)
        check(by_module(files, arguments), expected)


def test_another_program_needs_no_ksym(tmp_path):
    model, draw = MODELS["layers of all kinds"]()
    files = ksym.export_mxnet(model, tmp_path / "model")
    (x,) = draw(3)
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys, mxnet, numpy as np\n"
        "block = mxnet.gluon.SymbolBlock.imports(sys.argv[1], [sys.argv[2]], sys.argv[3])\n"
        "np.save('y.npy', block(mxnet.nd.array(np.load('x.npy'))).asnumpy())\n"
        "assert 'ksym' not in sys.modules\n"
    )
    given = [files.symbol, files.inputs[0], files.params]
    subprocess.run([sys.executable, "-c", program, *given], check=True, cwd=tmp_path, timeout=120)
    check([np.load(tmp_path / "y.npy")], model.predict(x))


@pytest.mark.parametrize("name", NAMES)
def test_each_operator_is_equal_or_refused_by_its_name(name, tmp_path):
    function, values = example(name)
    if name in REFUSED:
        with pytest.raises(GraphError, match=name) as caught:
            ksym.export_mxnet(function, tmp_path / "f")
        assert caught.value.remedy
        assert not list(tmp_path.iterdir())
        return
    files = ksym.export_mxnet(function, tmp_path / "f")
    if values:
        check(by_gluon(files, values), function(*values))


@pytest.mark.parametrize(
    "of",
    [
        lambda x: ksym.mean(x, (0, 2)),
        lambda x: ksym.mean(x, 1),
        lambda x: ksym.var(x),
        lambda x: x[:, :-1] - x[:, 1:],
        lambda x: ksym.reshape(x, (-1, 3)),
        lambda x: ksym.reshape(ksym.reshape(x, (-1, 3)) @ ksym.ones((3, 2)), (-1, 4, 2)),
        lambda x: ksym.softmax(x, 1),
        lambda x: ksym.concatenate([x, ksym.zeros_like(x)], 2),
        lambda x: ksym.broadcast_to(ksym.sum(x, 0, keepdims=True), ksym.shape_of(x)),
        lambda x: ksym.stack([x, x * 2.0], 1),
        lambda x: ksym.tile(x, (1, 2, 1)),
        lambda x: x / ksym.cast(ksym.shape_of(x)[0], "float32"),
    ],
)
def test_what_depends_on_sizes(of, tmp_path):
    x = ksym.placeholder((None, 4, 3), name="x")
    function = ksym.function(x, of(x))
    files = ksym.export_mxnet(function, tmp_path / "f")
    for batch in (1, 2, 6):
        value = np.random.RandomState(batch).rand(batch, 4, 3).astype("float32")
        check(by_gluon(files, [value]), function(value))


def test_several_unknown_sizes(tmp_path):
    x, y = (ksym.placeholder((None, None), name=name) for name in "xy")
    # The sizes of inputs are their own...
    function = ksym.function([x, y], [x @ ksym.transpose(x), ksym.sum(y, 1)])
    files = ksym.export_mxnet(function, tmp_path / "f")
    values = [np.ones((2, 3), "float32"), np.ones((2, 5), "float32")]
    check(by_gluon(files, values), function(*values))
    # ... unless they have to be equal.
    files = ksym.export_mxnet(function := ksym.function([x, y], x + y), tmp_path / "g")
    values = [np.ones((4, 3), "float32"), np.ones((4, 3), "float32")]
    check(by_gluon(files, values), function(*values))
    z = ksym.placeholder((None, 3), name="z")
    with pytest.raises(ShapeError, match="sizes that fit each other"):
        ksym.export_mxnet(ksym.function([x, z], x @ z), tmp_path / "h")


def test_names_are_those_of_the_program(tmp_path):
    x, w = ksym.placeholder((None, 3), name="images"), ksym.Variable(np.ones((3, 2)), name="kernel")
    twice = ksym.Variable(np.ones(2), name="kernel")
    function = ksym.function(x, {"scores": x @ w + twice, "images": x})
    files = ksym.export_mxnet(function, tmp_path / "f")
    assert files.inputs == ["images"]
    assert files.outputs == ["scores", "images_output"]
    symbol = mxnet.sym.load(files.symbol)
    assert symbol.list_outputs() == ["scores_output", "images_output_output"]
    assert set(symbol.list_arguments()) == {"images", w.name, twice.name}
    assert set(mxnet.nd.load(files.params)) == {f"arg:{w.name}", f"arg:{twice.name}"}


def test_what_is_imported_can_be_trained(tmp_path):
    model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    files = ksym.export_mxnet(model, tmp_path / "f")
    block = mxnet.gluon.SymbolBlock.imports(files.symbol, files.inputs, files.params)
    with mxnet.autograd.record():
        loss = block(mxnet.nd.ones((4, 3))).sum()
    loss.backward()
    kernel = next(p for name, p in block.collect_params().items() if "kernel" in name)
    assert kernel.grad().asnumpy().tolist() == [[4, 4]] * 3


def test_what_other_runtimes_cannot_have_is_refused(tmp_path):
    x = ksym.placeholder((None, 3), name="x")
    w = ksym.Variable(np.ones(3, "float32"), name="w")
    phase = ksym.placeholder((), "bool", name="phase", static=True)
    drawn = ksym.random_uniform(ksym.shape_of(x))
    looped = ksym.while_loop(lambda s: ksym.sum(s) < 9.0, lambda s: s * 2.0, w)
    for function, problem in (
        (ksym.function(x, x * w, [w.assign_sub(ksym.sum(x, 0))]), r"changes variables \(w"),
        (ksym.function([x, phase], ksym.where(phase, x, x * 2.0)), "each value of its input phase"),
        (ksym.function(x, x + drawn), "random numbers are drawn"),
        (ksym.function(x, ksym.boolean_mask(x, x[:, 0] > 0)), "computed by NumPy"),
        (ksym.function(x, x * (looped[0] if isinstance(looped, list) else looped)), "on values"),
        (ksym.function(x, ksym.sort(x, 0)), "its values depend on a size that is not known"),
        (3, "neither a function nor a Keras model"),
        (keras.models.Sequential([keras.layers.Dense(2)]), "has been built"),
    ):
        with pytest.raises(GraphError, match=problem) as caught:
            ksym.export_mxnet(function, tmp_path / "f")
        assert caught.value.remedy
    x = ksym.placeholder((2000, 3))
    loop = ksym.scan(lambda e, s: (s * e, s * e), x, ksym.ones(3)).outputs
    with pytest.raises(GraphError, match="2000 steps is too long"):
        ksym.export_mxnet(ksym.function(x, loop), tmp_path / "f")
    with pytest.raises(FileError, match="cannot be written"):
        ksym.export_mxnet(ksym.function(x, x), tmp_path / "no" / "folder")
    assert not list(tmp_path.iterdir())


def test_a_fixed_learning_phase(tmp_path):
    model = keras.models.Sequential([keras.layers.Dropout(0.5, input_shape=(3,))])
    files = ksym.export_mxnet(model, tmp_path / "f")
    check(by_gluon(files, [np.ones((2, 3), "float32")]), np.ones((2, 3)))
    function = keras.backend.function([model.input], model.outputs)
    files = ksym.export_mxnet(function, tmp_path / "g")
    check(by_gluon(files, [np.ones((2, 3), "float32")]), np.ones((2, 3)))
