"""Unmodified Keras: building, training, saving, a story for each way to do so."""

import importlib.util

import numpy as np
import pytest

keras = pytest.importorskip("keras")
layers = keras.layers
K = keras.backend


def classes(n=96, features=6, count=3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(count, features)) * 3
    labels = rng.integers(0, count, n)
    return centres[labels] + rng.normal(size=(n, features)), labels


def mlp(count=3, features=6):
    return keras.Sequential(
        [
            layers.Dense(16, activation="relu", input_shape=(features,)),
            layers.Dense(count, activation="softmax"),
        ]
    )


def test_the_backend_is_ksym():
    assert K.backend() == "ksym.backend"


def test_training_reaches_high_accuracy_and_predicts_the_same_in_any_batch_size():
    x, y = classes()
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=60, batch_size=20, verbose=0, validation_split=0.25)
    assert history.history["loss"][-1] < history.history["loss"][0] / 2
    loss, accuracy = model.evaluate(x, y, batch_size=17, verbose=0)
    assert accuracy > 0.9
    whole = model.predict(x, batch_size=96)
    np.testing.assert_allclose(whole, model.predict(x, batch_size=7), rtol=1e-5, atol=1e-6)
    assert whole.argmax(1).tolist() == model.predict_classes(x).tolist()
    np.testing.assert_allclose(accuracy, (whole.argmax(1) == y).mean(), rtol=1e-6)
    picked = -np.log(whole[np.arange(len(y)), y])
    np.testing.assert_allclose(loss, picked.mean(), rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["SGD", "RMSprop", "Adagrad", "Adadelta", "Adam", "Adamax", "Nadam"]
)
@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.5}, {"clipvalue": 0.1}], ids=str)
def test_every_optimizer_lowers_the_loss(name, options):
    x, y = classes()
    model = mlp()
    optimizer = getattr(keras.optimizers, name)(**options)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    first = model.train_on_batch(x, y)
    for _ in range(30):
        last = model.train_on_batch(x, y)
    assert last < first
    assert K.get_value(optimizer.iterations) == 31


def test_momentum_and_decay():
    x, y = classes()
    model = mlp()
    optimizer = keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, decay=0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    losses = [model.train_on_batch(x, y) for _ in range(40)]
    assert losses[-1] < losses[0] / 3


def numpy_sgd_step(weights, x, y, rate, momentum, moments):
    """One step of a softmax regression with momentum, as Keras documents it."""
    w, b = weights
    z = x @ w + b
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.log(p[np.arange(len(y)), y]).mean()
    d = (p - np.eye(p.shape[1])[y]) / len(y)
    gradients = [x.T @ d, d.sum(0)]
    moments[:] = [momentum * m - rate * g for m, g in zip(moments, gradients, strict=True)]
    return loss, [v + m for v, m in zip(weights, moments, strict=True)]


@pytest.fixture
def in_float64():
    keras.backend.set_floatx("float64")
    yield
    keras.backend.set_floatx("float32")


# In float32 a probability near 1 is known to 6e-8 only, which is much of its difference from 1.
@pytest.mark.usefixtures("in_float64")
def test_losses_and_weights_follow_a_reference_in_numpy():
    x, y = classes()
    model = keras.Sequential([layers.Dense(3, activation="softmax", input_shape=(6,))])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    weights = model.get_weights()
    moments = [np.zeros_like(w) for w in weights]
    for _ in range(10):
        expected, weights = numpy_sgd_step(weights, x, y, 0.1, 0.9, moments)
        np.testing.assert_allclose(model.train_on_batch(x, y), expected, rtol=1e-6)
    # Keras keeps probabilities 1e-7 away from 0 and 1.
    for found, wanted in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_cnn_trains_as_in_gluon():
    if importlib.util.find_spec("mxnet") is None:
        pytest.skip("MXNet's Python package, which has gluon, is not installed")
    import agreement

    ours, theirs = agreement.ksym_losses(), agreement.gluon_losses()
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_convolutional_models_in_both_data_formats(data_format):
    shape = (8, 8, 2) if data_format == "channels_last" else (2, 8, 8)
    axis = -1 if data_format == "channels_last" else 1
    options = {"data_format": data_format}
    model = keras.Sequential(
        [
            layers.Conv2D(6, 3, padding="same", activation="relu", input_shape=shape, **options),
            layers.BatchNormalization(axis=axis),
            layers.DepthwiseConv2D(3, strides=2, padding="same", **options),
            layers.SeparableConv2D(5, 2, activation="elu", **options),
            layers.AveragePooling2D(2, padding="same", **options),
            layers.UpSampling2D(2, **options),
            layers.ZeroPadding2D(1, **options),
            layers.Conv2DTranspose(4, 2, strides=2, **options),
            layers.MaxPooling2D(2, **options),
            layers.Dropout(0.1),
            layers.GlobalAveragePooling2D(**options),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, *shape)).astype("float32")
    y = np.eye(2)[(x.mean(axis=(1, 2, 3)) > 0).astype(int)]
    history = model.fit(x, y, epochs=15, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert model.predict(x).shape == (24, 2)


def test_both_data_formats_compute_the_same():
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype("float32")

    def build(data_format):
        shape = (6, 6, 3) if data_format == "channels_last" else (3, 6, 6)
        options = {"data_format": data_format}
        inputs = layers.Input(shape)
        y = layers.Conv2D(4, 3, activation="tanh", strides=2, padding="same", **options)(inputs)
        y = layers.MaxPooling2D(2, **options)(y)
        outputs = layers.GlobalMaxPooling2D(**options)(y)
        return keras.Model(inputs, outputs)

    last, first = build("channels_last"), build("channels_first")
    first.set_weights(last.get_weights())
    np.testing.assert_allclose(
        last.predict(x), first.predict(x.transpose(0, 3, 1, 2)), rtol=1e-5, atol=1e-6
    )


def test_one_and_three_spatial_axes():
    line = keras.Sequential(
        [
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2, input_shape=(12, 2)),
            layers.MaxPooling1D(2),
            layers.SeparableConv1D(3, 2),
            layers.AveragePooling1D(2, padding="same"),
            layers.GlobalMaxPooling1D(),
        ]
    )
    volume = keras.Sequential(
        [
            layers.Conv3D(3, 2, activation="relu", input_shape=(5, 5, 5, 1)),
            layers.MaxPooling3D(2),
            layers.UpSampling3D(2),
            layers.ZeroPadding3D(1),
            layers.Conv3DTranspose(2, 2),
            layers.GlobalAveragePooling3D(),
        ]
    )
    for model, shape, width in ((line, (8, 12, 2), 3), (volume, (8, 5, 5, 5, 1), 2)):
        model.compile("adam", "mse")
        x = np.random.default_rng(0).normal(size=shape)
        history = model.fit(x, np.ones((8, width)), epochs=30, verbose=0)
        assert history.history["loss"][-1] < history.history["loss"][0]


def test_functional_models_with_several_inputs_and_outputs():
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(5, activation="tanh")
    left, right = shared(a), shared(b)
    merged = [
        layers.Add()([left, right]),
        layers.Subtract()([left, right]),
        layers.Multiply()([left, right]),
        layers.Maximum()([left, right]),
        layers.Minimum()([left, right]),
        layers.Average()([left, right]),
    ]
    joined = layers.Concatenate()([*merged, layers.Dot(axes=-1)([left, right])])
    model = keras.Model(
        [a, b],
        [
            layers.Dense(1, name="value")(joined),
            layers.Dense(2, activation="softmax", name="kind")(joined),
        ],
    )
    model.compile(
        "adam",
        {"value": "mse", "kind": "categorical_crossentropy"},
        loss_weights={"value": 1.0, "kind": 0.5},
        metrics={"kind": "accuracy"},
    )
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4)), rng.normal(size=(32, 4))
    targets = {"value": (x * y).sum(1), "kind": np.eye(2)[(x[:, 0] > 0).astype(int)]}
    history = model.fit({"a": x, "b": y}, targets, epochs=40, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert [p.shape for p in model.predict([x, y])] == [(32, 1), (32, 2)]
    assert len(model.evaluate([x, y], targets, verbose=0)) == 4


def test_embeddings_and_masks():
    model = keras.Sequential(
        [
            layers.Embedding(20, 8, mask_zero=True, input_length=6),
            layers.Lambda(lambda x: x * 2.0, mask=lambda inputs, mask: None),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x = rng.integers(0, 20, (40, 6))
    history = model.fit(x, (x[:, 0] > 10).astype(int), epochs=40, verbose=0)
    assert history.history["accuracy"][-1] > 0.9


@pytest.mark.parametrize(
    "layer",
    [
        layers.LeakyReLU(0.2),
        layers.PReLU(),
        layers.ELU(),
        layers.ThresholdedReLU(0.5),
        layers.Softmax(),
        layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
        layers.GaussianNoise(0.1),
        layers.GaussianDropout(0.1),
        layers.AlphaDropout(0.1),
        layers.SpatialDropout1D(0.1),
        layers.ActivityRegularization(0.1, 0.1),
        layers.Permute((2, 1)),
        layers.Cropping1D(1),
        layers.LocallyConnected1D(3, 2),
        *(
            layers.Activation(name)
            for name in ("selu", "softplus", "softsign", "hard_sigmoid", "exponential", "linear")
        ),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_train(layer):
    inputs = layers.Input((5, 4))
    outputs = layers.Dense(1)(layers.Flatten()(layer(layers.Dense(4)(inputs))))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(16, 5, 4))
    losses = [model.train_on_batch(x, x[:, 1:3, 0].sum(1)) for _ in range(40)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_a_lambda_without_output_shape_has_the_shape_it_computes():
    inputs = layers.Input((5, 4))
    averaged = layers.Lambda(lambda x: K.mean(x, axis=-1))(inputs)
    assert K.int_shape(averaged) == (None, 5)
    model = keras.Model(inputs, layers.Dense(2)(averaged))
    assert model.predict(np.ones((3, 5, 4))).shape == (3, 2)


def test_constraints_and_regularizers_and_initializers():
    model = keras.Sequential(
        [
            layers.Dense(
                4,
                input_shape=(6,),
                kernel_constraint=keras.constraints.MaxNorm(0.5),
                bias_constraint=keras.constraints.NonNeg(),
                kernel_regularizer=keras.regularizers.l1_l2(0.01, 0.01),
                activity_regularizer=keras.regularizers.l2(0.01),
                kernel_initializer="orthogonal",
                bias_initializer=keras.initializers.Constant(0.1),
            ),
            layers.Dense(
                3,
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.1, seed=3),
                kernel_constraint=keras.constraints.UnitNorm(),
                bias_constraint=keras.constraints.MinMaxNorm(0.1, 0.2),
            ),
        ]
    )
    model.compile("sgd", "mse")
    x, y = classes()
    for _ in range(5):
        model.train_on_batch(x, np.eye(3)[y] * 10)
    kernel, bias, unit, _ = model.get_weights()
    assert (np.linalg.norm(kernel, axis=0) <= 0.5 + 1e-5).all()
    assert (bias >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(unit, axis=0), 1, rtol=1e-4)


def test_seeded_initializers_repeat():
    initial = [
        layers.Dense(3, kernel_initializer=keras.initializers.glorot_normal(seed=5))
        for _ in range(2)
    ]
    for layer in initial:
        layer.build((None, 4))
    np.testing.assert_array_equal(initial[0].get_weights()[0], initial[1].get_weights()[0])


def test_numpys_seed_makes_a_whole_run_repeat_bit_for_bit():
    def run():
        np.random.seed(11)
        x, y = classes()
        model = keras.Sequential(
            [
                layers.Dense(16, activation="relu", input_shape=(6,)),
                layers.Dropout(0.3),
                layers.GaussianNoise(0.1),
                layers.Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        history = model.fit(x, y, epochs=5, batch_size=16, verbose=0)
        return history.history["loss"], model.get_weights()

    first, second = run(), run()
    assert first[0] == second[0]
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_batch_normalisation_learns_the_statistics_it_uses_for_inference():
    model = keras.Sequential([layers.BatchNormalization(momentum=0.5, input_shape=(3,))])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(5.0, 2.0, (64, 3))
    for _ in range(20):
        model.train_on_batch(x, np.zeros((64, 3)))
    _, _, mean, var = model.get_weights()
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-3)
    np.testing.assert_allclose(var, x.var(0, ddof=1), rtol=2e-2)
    assert abs(model.predict(x).mean()) < 0.5


def test_frozen_layers_stay_and_can_be_thawed():
    x, y = classes()
    model = mlp()
    model.layers[0].trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = model.layers[0].get_weights()
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(before[0], model.layers[0].get_weights()[0])
    model.layers[0].trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    assert not np.array_equal(before[0], model.layers[0].get_weights()[0])


def test_sample_and_class_weights():
    x, y = classes()
    model = mlp()
    model.compile("sgd", "sparse_categorical_crossentropy")
    weights = np.where(y == 0, 2.0, 0.5)
    weighted = model.evaluate(x, y, sample_weight=weights, verbose=0, batch_size=96)
    p = model.predict(x)[np.arange(len(y)), y]
    np.testing.assert_allclose(weighted, (-np.log(p) * weights).mean(), rtol=1e-4)
    model.fit(x, y, class_weight={0: 2.0, 1: 1.0, 2: 0.5}, verbose=0)


def test_a_gan_trains_two_models_over_shared_weights():
    generator = keras.Sequential([layers.Dense(2, input_shape=(3,))])
    critic = keras.Sequential(
        [
            layers.Dense(8, activation="relu", input_shape=(2,)),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    critic.compile("adam", "binary_crossentropy")
    critic.trainable = False
    noise = layers.Input((3,))
    gan = keras.Model(noise, critic(generator(noise)))
    gan.compile("adam", "binary_crossentropy")
    z = np.random.default_rng(0).normal(size=(16, 3))
    real = np.random.default_rng(1).normal(size=(16, 2)) + 3
    before = critic.get_weights()
    gan.train_on_batch(z, np.ones(16))
    for a, b in zip(before, critic.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    critic.train_on_batch(np.concatenate([real, generator.predict(z)]), [1] * 16 + [0] * 16)
    assert not np.array_equal(before[0], critic.get_weights()[0])


# --- callbacks ----------------------------------------------------------------------------------


def test_callbacks(tmp_path):
    x, y = classes()
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    rates = []
    callbacks = [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=100),
        keras.callbacks.ModelCheckpoint(str(tmp_path / "best.h5"), save_best_only=True),
        keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (epoch + 1)),
        keras.callbacks.ReduceLROnPlateau(patience=1),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: rates.append(K.get_value(model.optimizer.lr))
        ),
    ]
    model.fit(x, y, validation_data=(x, y), epochs=4, verbose=0, callbacks=callbacks)
    np.testing.assert_allclose(rates, [0.01, 0.005, 0.01 / 3, 0.0025], rtol=1e-5)
    assert (tmp_path / "log.csv").read_text().count("\n") == 5
    again = keras.models.load_model(str(tmp_path / "best.h5"))
    assert again.evaluate(x, y, verbose=0)[1] == pytest.approx(
        model.evaluate(x, y, verbose=0)[1], abs=0.1
    )


def test_early_stopping_stops_and_restores():
    x, y = classes()
    model = mlp()
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=2, restore_best_weights=True)
    history = model.fit(x, y, epochs=50, verbose=0, callbacks=[stop], shuffle=False)
    assert len(history.history["loss"]) <= 10


def test_generators():
    x, y = classes()

    def batches():
        while True:
            yield x[:32], y[:32]

    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit_generator(batches(), steps_per_epoch=3, epochs=2, verbose=0)
    assert np.isfinite(model.evaluate_generator(batches(), steps=2))
    assert model.predict_generator(batches(), steps=2).shape == (64, 3)


# --- saving ---------------------------------------------------------------------------------------


def test_a_saved_model_predicts_the_same_and_trains_on_as_if_never_saved(tmp_path):
    x, y = classes()
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, epochs=3, verbose=0)
    path = str(tmp_path / "model.h5")
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    for _ in range(3):
        assert model.train_on_batch(x, y) == again.train_on_batch(x, y)


def test_weights_alone_and_by_name(tmp_path):
    x, _ = classes()
    first, second = mlp(), mlp()
    path = str(tmp_path / "weights.h5")
    first.save_weights(path)
    second.load_weights(path)
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
    third = keras.Sequential(
        [layers.Dense(16, input_shape=(6,), name=first.layers[0].name), layers.Dense(2)]
    )
    third.load_weights(path, by_name=True)
    np.testing.assert_array_equal(third.get_weights()[0], first.get_weights()[0])


def test_models_are_copied_through_json_clones_and_pickles():
    import pickle

    x, y = classes()
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.train_on_batch(x, y)
    for copy in (keras.models.model_from_json(model.to_json()), keras.models.clone_model(model)):
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(copy.predict(x), model.predict(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(x), model.predict(x))


def test_a_model_is_saved_into_memory():
    import io

    model = mlp()
    buffer = io.BytesIO()
    model.save(buffer)
    buffer.seek(0)
    again = keras.models.load_model(buffer)
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])
