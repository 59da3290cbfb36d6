"""The networks that come with Keras: each family is built, predicts and takes a training step."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

# The smallest images that each takes.
NETWORKS = {
    "VGG16": 32,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "NASNetMobile": 32,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_predicts_and_learns(name):
    side = NETWORKS[name]
    network = getattr(keras.applications, name)(
        weights=None, include_top=False, pooling="avg", input_shape=(side, side, 3)
    )
    x = np.random.rand(2, side, side, 3)
    features = network.predict(x)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(network.predict(x, batch_size=1), features, rtol=1e-3, atol=1e-4)
    network.compile(keras.optimizers.SGD(1e-4), "mse")
    target = np.zeros_like(features)
    first = network.train_on_batch(x, target)
    assert np.isfinite([first, network.train_on_batch(x, target)]).all()
