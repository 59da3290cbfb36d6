"""What is particular about single functions of the backend, of which there are 200."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse

import ksym

keras = pytest.importorskip("keras")
K = keras.backend
ROOT = Path(__file__).parents[2]


def fresh(code, **environment):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS", "KSYM"))}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# --- tensors ------------------------------------------------------------------------------------


def test_the_declared_shape_only_fills_in_what_is_not_known():
    x = K.placeholder((None, 4))
    x._keras_shape = (7, 9)
    assert K.int_shape(x) == (7, 4)
    assert x._keras_shape == (7, 4)


def test_keras_tensors_are_told_from_others():
    assert K.is_keras_tensor(keras.layers.Input((2,)))
    assert K.is_keras_tensor(K.placeholder((2,))) is False
    with pytest.raises(ValueError, match="symbolic tensor"):
        K.is_keras_tensor(np.zeros(2))
    assert not K.is_variable(None)
    assert K.is_variable(K.zeros((2,)))
    assert K.is_placeholder(K.placeholder((2,)))


def test_floatx_is_read_when_it_is_needed():
    K.set_floatx("float64")
    try:
        assert K.dtype(K.zeros((2,))) == "float64"
        assert K.dtype(K.placeholder((2,))) == "float64"
        assert K.dtype(K.random_uniform((2,))) == "float64"
    finally:
        K.set_floatx("float32")
    assert K.dtype(K.zeros((2,))) == "float32"


def test_variables_have_unique_names_under_their_scope():
    with K.name_scope("layer"):
        names = [K.variable(0.0, name="kernel").name for _ in range(2)]
    assert len(set(names)) == 2
    assert all(name.startswith("layer") for name in names)


def test_a_symbolic_initial_value_is_evaluated():
    v = K.variable(K.random_uniform((3, 2), 1.0, 2.0))
    assert ((v.get_value() >= 1) & (v.get_value() < 2)).all()


def test_unknown_names_are_answered_with_what_may_have_been_meant():
    with pytest.raises(AttributeError, match=r"did you mean.*softmax"):
        K.sofmax  # noqa: B018
    assert not hasattr(K, "no_such_function_at_all")
    with pytest.raises(AttributeError, match="has no 'zzz'"):
        K.zzz  # noqa: B018


# --- phase and choice -----------------------------------------------------------------------------


def test_the_learning_phase_is_zero_unless_it_is_given_or_set():
    y = K.in_train_phase(K.constant(1.0), K.constant(2.0))
    assert y._uses_learning_phase
    assert K.eval(y) == 2
    f = K.function([K.learning_phase()], [y])
    assert f([1]) == [1]
    assert f([0.0]) == [2]
    K.set_learning_phase(1)
    try:
        assert K.learning_phase() == 1
        assert K.eval(K.in_train_phase(K.constant(1.0), K.constant(2.0))) == 1
        with pytest.raises(ValueError, match="0 or 1"):
            K.set_learning_phase(2)
    finally:
        K.clear_session()


def test_models_made_before_the_session_is_cleared_still_know_training():
    x = keras.layers.Input((50,))
    model = keras.Model(x, keras.layers.Dropout(0.5)(x))
    K.clear_session()
    model.compile("sgd", "mse")
    assert model.train_on_batch(np.ones((4, 50)), np.ones((4, 50))) > 0.5
    assert model.test_on_batch(np.ones((4, 50)), np.ones((4, 50))) == 0


def test_a_session_runs_tensors_and_updates():
    session = K.get_session()
    assert session is K.get_session()
    x, v = K.placeholder((2,)), K.variable([1.0, 2.0])
    y = K.in_train_phase(x + v, x)
    both, one = session.run([(y, v), {"twice": y * 2.0}], {x: [3, 4], K.learning_phase(): 1})
    assert [part.tolist() for part in both] == [[4, 6], [1, 2]]
    assert one["twice"].tolist() == [8, 12]
    assert session.run(y, feed_dict={x: [3, 4]}).tolist() == [3, 4]
    assert session.run(y * 2.0, {y: [5, 6]}).tolist() == [10, 12]
    for expected in ([2, 3], [3, 4]):
        assert session.run(K.update_add(v, 1)).tolist() == expected
    K.set_learning_phase(1)
    try:
        assert session.run(K.in_train_phase(x + 1.0, x), {x: [1, 2], K.learning_phase(): 1})[0] == 2
    finally:
        K.clear_session()
    K.manual_variable_initialization(True)
    assert K.get_value(K.variable(5.0)) == 5


def test_what_a_session_computed_is_let_go():
    x = K.placeholder((2,))
    K.get_session().run(x + 1.0, {x: [1, 2]})
    alive = weakref.ref(x)
    del x
    K.clear_session()
    gc.collect()
    assert alive() is None


def test_inputs_may_be_variables_and_computed_tensors():
    x = K.placeholder((2,))
    f, v = K.function([x], [x * 2.0]), K.variable([1.0, 2.0])
    assert f([v])[0].tolist() == [2, 4]
    assert f([v + 1.0])[0].tolist() == [4, 6]


def test_a_static_phase_returns_the_choice_itself():
    x, alt = K.constant(1.0), K.constant(2.0)
    assert K.in_train_phase(x, alt, training=True) is x
    assert K.in_train_phase(x, lambda: alt, training=0) is alt
    assert K.in_test_phase(x, alt, training=1) is alt


def test_a_training_step_holds_nothing_of_the_inference_branch():
    x = K.placeholder((None, 3))
    y = K.in_train_phase(K.exp(x), K.log(x))
    f = K.function([x, K.learning_phase()], [y])
    f([np.ones((2, 3)), 1])
    assert "log" not in {n.operator.name for n in f.compiled.last_graph()}


def test_switch_chooses_all_rows_or_elements():
    x, y = np.ones((2, 3)), np.zeros((2, 3))
    assert K.eval(K.switch(K.constant(1), K.constant(x), K.constant(y))).all()
    rows = K.eval(K.switch(K.constant([1, 0], dtype="bool"), K.constant(x), K.constant(y)))
    assert rows.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert (
        K.eval(K.switch(K.greater(np.array(2.0), 1), lambda: K.constant(5.0), K.constant(6.0))) == 5
    )
    with pytest.raises(ValueError, match="Rank of `condition`"):
        K.switch(K.constant([[True]], dtype="bool"), K.constant(1.0), K.constant(2.0))


# --- updates and metrics --------------------------------------------------------------------------


def test_updates_see_old_values_and_are_evaluated_alone():
    v = K.variable(1.0)
    assert K.eval(K.update_add(v, 2)) == 3
    assert K.eval(K.update_sub(v, 0.5)) == 2.5
    assert K.eval(K.update(v, 7)) == 7
    assert K.eval(K.moving_average_update(v, 1.0, 0.5)) == 4
    assert K.get_value(v) == 4


def test_a_layer_used_twice_moves_its_average_twice():
    v = K.variable(0.0)
    f = K.function([], [], updates=[K.update_add(v, 1.0), K.update_add(v, 10.0)])
    f([])
    assert K.get_value(v) == 11
    first = K.function([], [], updates=[K.update(v, 5.0), K.update(v, 6.0), None, 0])
    first([])
    assert K.get_value(v) == 5


def test_what_depends_on_updates_sees_them_and_all_else_does_not():
    total = K.variable(1.0)
    update = K.update_add(total, 2.0)
    with K.control_dependencies([update]):
        after = K.identity(total * 10.0)
    before = K.identity(total * 10.0)
    f = K.function([], [after, before], updates=[update])
    assert f([]) == [30, 10]
    assert f([]) == [50, 30]
    assert K.eval(after) == 70  # evaluating it carries the update out
    assert K.get_value(total) == 7


def test_metrics_are_read_after_the_updates_of_their_call():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile("sgd", "mse", metrics=["mae"])
    x, y = np.ones((4, 2)), np.ones(4)
    expected = np.abs(model.predict(x)[:, 0] - y).mean()
    _, found = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(TypeError, match="list or tuple"):
        model.predict_function(x)


def test_a_metric_object_called_directly():
    metric = keras.metrics.Mean()
    assert K.eval(metric(K.constant([1.0, 3.0]))) == 2
    assert K.eval(metric(K.constant([5.0]))) == 3


def test_gradients_are_lists_with_none_for_what_is_not_connected():
    v, w = K.variable(2.0), K.variable(3.0)
    found = K.gradients(v * v, [v, w])
    assert K.eval(found[0]) == 4
    assert found[1] is None
    assert K.eval(K.gradients(v * v, v)[0]) == 4
    assert K.gradients(v, []) == []
    assert K.eval(K.stop_gradient([v])[0]) == 2


def test_function_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="no_such_option"):
        K.function([], [K.constant(1.0)], no_such_option=1)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [None, 1, (1, 2), (2, 1)])
def test_batch_dot_against_numpy(axes):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3, 3)), rng.normal(size=(4, 3, 3))
    a, b = {None: (2, 1), 1: (1, 1)}.get(axes, axes)
    expected = np.stack([np.tensordot(p, q, (a - 1, b - 1)) for p, q in zip(x, y, strict=True)])
    found = K.eval(K.batch_dot(K.constant(x), K.constant(y), axes))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_batch_dot_keeps_two_axes_and_refuses_what_does_not_fit():
    x = K.placeholder((None, 3))
    assert K.int_shape(K.batch_dot(x, x)) == (None, 1)
    for bad in ((K.placeholder((4,)), x), (x, K.placeholder((None, 4)))):
        with pytest.raises(ValueError, match="batch_dot"):
            K.batch_dot(*bad)
    with pytest.raises(ValueError, match="axis 0"):
        K.batch_dot(x, x, axes=0)


def test_mean_of_booleans_and_shapes_in_lists():
    assert K.eval(K.mean(K.equal(K.constant([1.0, 2.0]), [1.0, 3.0]))) == 0.5
    x = K.placeholder((None, 3))
    f = K.function([x], [K.prod([K.shape(x)[0], K.shape(x)[1]])])
    assert f([np.zeros((4, 3))]) == [12]


def test_cross_entropies_against_their_definitions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(5, 4))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = rng.integers(0, 4, 5)
    expected = -np.log(p[np.arange(5), labels])
    for output, from_logits in ((p, False), (logits, True)):
        sparse = K.sparse_categorical_crossentropy(
            K.constant(labels), K.constant(output), from_logits
        )
        dense = K.categorical_crossentropy(
            K.constant(np.eye(4)[labels]), K.constant(output), from_logits
        )
        np.testing.assert_allclose(K.eval(sparse), expected, rtol=1e-4)
        np.testing.assert_allclose(K.eval(dense), expected, rtol=1e-4)
    q, z = rng.uniform(0.1, 0.9, (3, 2)), rng.integers(0, 2, (3, 2))
    expected = -(z * np.log(q) + (1 - z) * np.log(1 - q))
    for output, from_logits in ((q, False), (np.log(q / (1 - q)), True)):
        found = K.binary_crossentropy(K.constant(z), K.constant(output), from_logits)
        np.testing.assert_allclose(K.eval(found), expected, rtol=1e-4)


@pytest.mark.parametrize("logits", [True, False], ids=["logits", "sigmoid"])
def test_binary_cross_entropy_is_finite_and_smooth_in_its_logits(logits):
    x = K.variable([-200.0, -20.0, 0.0, 0.0, 20.0, 200.0])
    t = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    loss = K.binary_crossentropy(K.constant(t), x if logits else K.sigmoid(x), from_logits=logits)
    z = x.get_value().astype("float64")
    expected = np.logaddexp(0, np.where(t == 1, -z, z))
    # MXNet's softplus of -20 is off by 2e-6.
    np.testing.assert_allclose(K.eval(loss), expected, rtol=1e-6, atol=3e-6)
    slope = K.eval(K.gradients(K.sum(loss), x)[0])
    np.testing.assert_allclose(slope, 1 / (1 + np.exp(-z)) - t, rtol=1e-5, atol=1e-7)


def test_cross_entropy_on_another_axis():
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 4)).transpose(0, 2, 1)
    labels = np.array([[0, 1, 2, 0], [2, 2, 1, 0]])
    found = K.sparse_categorical_crossentropy(K.constant(labels), K.constant(p), axis=1)
    expected = -np.log(np.take_along_axis(p, labels[:, None], 1))[:, 0]
    np.testing.assert_allclose(K.eval(found), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="channels axis"):
        K.categorical_crossentropy(K.constant(p), K.constant(p), axis=5)


def test_in_top_k_counts_the_first_of_equals():
    scores = K.constant([[0.1, 0.5, 0.5], [0.3, 0.3, 0.4]])
    targets = K.constant([2, 0], dtype="int32")
    assert K.eval(K.in_top_k(scores, targets, 1)).tolist() == [False, False]
    assert K.eval(K.in_top_k(scores, targets, 2)).tolist() == [True, True]


def test_bilinear_resizing_of_a_ramp():
    x = np.arange(4.0).reshape(1, 2, 2, 1)
    found = K.eval(K.resize_images(K.constant(x), 2, 2, "channels_last", "bilinear"))[0, :, :, 0]
    assert found.tolist() == [[0, 0.5, 1, 1], [1, 1.5, 2, 2], [2, 2.5, 3, 3], [2, 2.5, 3, 3]]
    with pytest.raises(ValueError, match="interpolation"):
        K.resize_images(K.constant(x), 2, 2, "channels_last", "cubic")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: K.conv2d(x, K.ones((2, 2, 3, 4)), data_format="channels_middle"),
        lambda x: K.conv2d(x, K.ones((2, 2, 3, 4)), padding="full"),
        lambda x: K.pool2d(x, (2, 2), pool_mode="median"),
        lambda x: K.dropout(x, 1.0),
        lambda x: K.slice(x, [0], [1]),
        lambda x: K.resize_volumes(x, 2, 2, 2, "channels_middle"),
        lambda x: K.bias_add(x, K.ones((2, 2))),
    ],
)
def test_bad_arguments_are_value_errors(call):
    with pytest.raises(ValueError, match=r".+"):
        call(K.placeholder((None, 4, 4, 3)))


def test_a_layer_of_the_wrong_shape_names_the_users_line():
    inputs = keras.layers.Input((4,))
    with pytest.raises(ksym.ShapeError) as caught:
        keras.layers.Lambda(lambda x: x + np.ones((2, 7), "float32"))(inputs)
    assert caught.value.origin.filename == __file__


def test_print_tensor_prints_when_a_function_has_run(capsys):
    x = K.placeholder((None, 2))
    y = K.print_tensor(x * 2.0, "doubled:") + 1.0
    f = K.function([x], [y, K.sum(y)])
    assert [v.tolist() for v in f([[[1, 2]]])] == [[[3, 5]], 8]
    assert capsys.readouterr().out == "doubled: [[2. 4.]]\n"
    K.function([x], [x * 3.0])([[[1, 2]]])
    K.function([y], [y * 3.0])([[[1, 2]]])
    assert not capsys.readouterr().out
    K.eval(K.print_tensor(K.constant([1.5])))
    assert capsys.readouterr().out == " [1.5]\n"


def test_print_tensor_in_a_step_prints_at_each_step(capsys):
    x = K.placeholder((1, 3, 1))

    def step(element, states):
        state = K.print_tensor(states[0] + element, "sum")
        return state, [state]

    last, _, _ = K.rnn(step, x, [K.zeros((1, 1))])
    assert K.function([x], [last])([[[[1], [2], [3]]]])[0].tolist() == [[6.0]]
    assert capsys.readouterr().out == "sum [[1.]]\nsum [[3.]]\nsum [[6.]]\n"


def test_print_tensor_inside_of_a_model(capsys):
    x = keras.layers.Input((2,))
    seen = keras.layers.Lambda(lambda t: K.print_tensor(t, "seen"))(x)
    model = keras.Model(x, keras.layers.Dense(1)(seen))
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((1, 2)), np.ones((1, 1)))
    assert capsys.readouterr().out == "seen [[1. 1.]]\n"


def test_sparse_matrices_are_variables_inputs_and_batches():
    matrix = scipy.sparse.random(9, 6, 0.4, format="csr", random_state=0)
    v = K.variable(matrix)
    assert K.is_sparse(v)
    assert not K.is_sparse(K.to_dense(v))
    np.testing.assert_allclose(K.eval(v), matrix.toarray(), rtol=1e-6)
    assert K.is_sparse(K.concatenate([v, v]))
    assert not K.is_sparse(K.concatenate([v, K.to_dense(v)]))
    assert not K.is_sparse(K.dot(v, K.ones((6, 2))))
    x = keras.layers.Input((6,), sparse=True)
    assert K.is_sparse(x)
    model = keras.Model(x, keras.layers.Dense(2)(x))
    model.compile("sgd", "mse")
    np.testing.assert_array_equal(model.predict(matrix), model.predict(matrix.toarray()))
    losses = model.fit(matrix, np.zeros((9, 2)), batch_size=4, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(("floatx", "epsilon"), [("float64", 1e-7), ("float16", 1e-4)])
def test_models_are_of_the_float_dtype_that_is_set(floatx, epsilon):
    before = K.epsilon()
    K.set_floatx(floatx)
    K.set_epsilon(epsilon)
    try:
        model = keras.Sequential(
            [
                keras.layers.Conv2D(4, 3, activation="relu", input_shape=(6, 6, 1)),
                keras.layers.BatchNormalization(),
                keras.layers.Flatten(),
                keras.layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        x, y = np.random.rand(12, 6, 6, 1), np.eye(3)[np.arange(12) % 3]
        losses = model.fit(x, y, epochs=10, verbose=0).history["loss"]
        assert losses[-1] < losses[0]
        assert model.predict(x).dtype == floatx
        assert {w.dtype for w in model.weights} == {floatx}
    finally:
        K.set_floatx("float32")
        K.set_epsilon(before)


# --- the process --------------------------------------------------------------------------------

TRAIN = """
import numpy as np
model = keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])
model.compile('sgd', 'mse')
model.fit(np.ones((4, 2)), np.ones(4), verbose=0)
print(keras.backend.backend())
"""


@pytest.mark.parametrize(
    ("first", "environment"),
    [
        ("import keras", {"KERAS_BACKEND": "ksym.backend"}),
        ("import ksym; import keras", {"KERAS_BACKEND": "ksym.backend"}),
        ("import ksym.backend; import keras", {"KERAS_BACKEND": "ksym.backend"}),
        ("import ksym.backend; import keras", {}),
    ],
)
def test_any_order_of_imports(first, environment, tmp_path):
    assert fresh(f"{first}\n{TRAIN}", KERAS_HOME=str(tmp_path), **environment) == "ksym.backend"


def test_names_that_keras_does_not_hand_on():
    K.clear_session()
    assert K.get_variable_shape(K.zeros((2, 3))) == (2, 3)
    assert K.get_uid("thing") == 1
    assert K.get_uid("thing") == 2
    K.reset_uids()
    assert K.get_uid("thing") == 1


def test_a_deleted_model_is_freed():
    model = keras.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 4)))
    watched = [weakref.ref(model), weakref.ref(model.layers[0].kernel)]
    del model
    gc.collect()
    assert [ref() for ref in watched] == [None, None]


def test_text_attributes_are_text_for_everyone_and_decode_for_keras(tmp_path):
    import pickle

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["name"] = "plain"
        file.attrs["names"] = ["a", "b"]
        value = file.attrs["name"]
        assert value == "plain"
        assert isinstance(value, str)
        assert value.decode("utf-8") == "plain"
        assert type(pickle.loads(pickle.dumps(value))) is str
        assert [item.decode() for item in file.attrs["names"]] == ["a", "b"]


# --- cross entropies behind a softmax ------------------------------------------------------------

BEHIND = {  # what makes probabilities of logits (2, 3)
    "softmax": K.softmax,
    "identity": lambda x: K.identity(K.softmax(x)),
    "flat": lambda x: K.reshape(K.softmax(K.reshape(x, (2, 1, 3))), (2, 3)),
    "layer": lambda x: keras.layers.Activation("softmax")(x),
}


@pytest.mark.parametrize("flags", ["", "fuse_loops=0"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("behind", BEHIND)
def test_a_confident_and_wrong_softmax_learns(behind, sparse, flags, monkeypatch):
    monkeypatch.setenv("KSYM_FLAGS", flags)
    x = K.placeholder((2, 3))
    if behind == "layer":
        x = keras.layers.Input(batch_shape=(2, 3))
    p = BEHIND[behind](x)
    if sparse:
        loss = K.sparse_categorical_crossentropy(K.constant([[1], [0]]), p)
    else:
        loss = K.categorical_crossentropy(K.constant([[0, 1, 0], [1, 0, 0]]), p)
    value, slope = K.function([x], [loss, K.gradients(K.sum(loss), [x])[0]])(
        [np.array([[50.0, 0.0, 0.0], [-np.inf, 0.0, 0.0]])]
    )
    np.testing.assert_allclose(value, [50.0, np.inf], rtol=1e-5)
    np.testing.assert_allclose(slope, [[1, -1, 0], [-1, 0.5, 0.5]], atol=1e-5)


def test_an_axis_of_classes_in_the_middle_is_found_behind_a_softmax():
    x = K.placeholder((1, 3, 2))
    p = K.softmax(x, 1)
    target = np.zeros((1, 3, 2))
    target[0, 1] = 1.0
    logits = np.zeros((1, 3, 2))
    logits[0, 0] = 50.0
    for loss in (
        K.categorical_crossentropy(K.constant(target), p, axis=1),
        K.sparse_categorical_crossentropy(K.constant(np.ones((1, 2))), p, axis=1),
    ):
        np.testing.assert_allclose(K.function([x], [loss])([logits])[0], [[50.0, 50.0]], rtol=1e-6)


def test_probabilities_along_another_axis_are_taken_as_they_are():
    x = K.placeholder((3, 3))
    logits = np.zeros((3, 3))
    logits[:, 0] = 50.0
    loss = K.categorical_crossentropy(K.constant(np.eye(3)), K.softmax(x, 0), axis=-1)
    (found,) = K.function([x], [loss])([logits])
    np.testing.assert_allclose(found, np.log(np.full(3, 3.0)), rtol=1e-5)


@pytest.mark.parametrize("loss", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_a_network_that_was_sure_of_the_wrong_class_is_trained(loss):
    layers = keras.layers
    model = keras.Sequential([layers.Dense(3, activation="softmax", input_shape=(1,))])
    model.set_weights([np.array([[60.0, 0.0, 0.0]]), np.zeros(3)])
    model.compile(keras.optimizers.SGD(10.0), loss)
    y = np.array([[0, 1, 0]]) if loss.startswith("cat") else np.array([[1]])
    losses = [model.train_on_batch(np.ones((1, 1)), y) for _ in range(3)]
    np.testing.assert_allclose(losses, [60.0, 20.0, 0.0], atol=1e-4)


def test_the_loss_of_a_network_that_has_nan_is_nan():
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    weights = model.get_weights()
    weights[0][0, 0, 0, 0] = np.nan
    model.set_weights(weights)
    stop = keras.callbacks.TerminateOnNaN()
    x, y = np.random.random((8, 6, 6, 1)), np.zeros((8, 1))
    history = model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[stop]).history
    assert np.isnan(history["loss"]).all()
    assert np.isnan(model.predict(x)).all()


@pytest.mark.parametrize(("limit", "slope"), [(6.0, [0, 1, 0, 0]), (5.0, [0, 1, 0, 0])])
def test_a_limited_relu_has_the_gradients_of_tensorflows(limit, slope):
    x = K.variable([-1.0, 3.0, 6.0, 7.0])
    y = K.relu(x, max_value=limit)
    assert K.eval(y).tolist() == [0, 3, min(6.0, limit), limit]
    assert K.eval(K.gradients(K.sum(y), [x])[0]).tolist() == slope
