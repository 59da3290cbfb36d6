"""Keras models that are exported: for each the model, and a function that draws a batch."""

import numpy as np
from keras import layers as L  # noqa: N812 - short in tables
from keras.models import Model, Sequential


def _of(shape, *layers, integers=None):
    def make():
        if callable(layers[0]):
            inputs = [L.Input(s) for s in shape]
            model = Model(inputs, layers[0](*inputs))
        else:
            model = Sequential([L.InputLayer(shape), *(kind(*given) for kind, *given in layers)])
        random = np.random.RandomState(0)
        for w in model.weights:
            low = 0.5 if "variance" in w.name else -0.5
            w.set_value(random.uniform(low, 1.0, w.shape))
        shapes = shape if callable(layers[0]) else [shape]

        def draw(batch):
            sides = [[7 + i if s is None else s for i, s in enumerate(one)] for one in shapes]
            if integers:
                return [random.randint(0, integers, (batch, *s)).astype("float32") for s in sides]
            return [random.randn(batch, *s).astype("float32") for s in sides]

        return model, draw

    return make


def _made(layer, **options):
    def make(*given):
        return layer(*given, **options)

    return make


_RELU = _made(L.Dense, activation="relu")
_SIMPLE = _made(L.SimpleRNN, activation="relu")
_IMAGE = (12, 12, 3)
_LSTM_HARD = _made(L.LSTM, recurrent_activation="hard_sigmoid")
_GRU = _made(L.GRU, return_sequences=True)
_GRU_AFTER = _made(L.GRU, reset_after=True, recurrent_activation="sigmoid")
_SAME = _made(L.Conv2D, padding="same", activation="relu")


def _residual(x):
    y = L.BatchNormalization()(_SAME(4, 3)(x))
    y = L.Add()([y, L.Conv2D(4, 1)(x)])
    return L.GlobalAveragePooling2D()(L.Activation("elu")(y))


def _two(x, y):
    return [L.Dot(1)([x, y]), L.Multiply()([x, y]), L.Dense(2)(L.Concatenate()([x, y]))]


def _up(x):
    a = _made(L.Conv2DTranspose, strides=2, padding="same")(2, 3)(x)
    return L.Concatenate()([a, L.UpSampling2D()(L.Conv2D(2, 1)(x))])


def _masked(x):
    return L.LSTM(4)(L.Embedding(20, 5, mask_zero=True)(x))


def _attention(x):
    scores = L.Softmax(axis=2)(L.Dot(2)([L.Dense(4)(x), L.Dense(4)(x)]))
    return L.Dot([2, 1])([scores, L.TimeDistributed(L.Dense(3))(x)])


MODELS = {
    "layers of all kinds": _of(
        (6,),
        (_RELU, 8),
        (L.BatchNormalization,),
        (L.Dropout, 0.3),
        (L.Dense, 4),
    ),
    "convolutions": _of(
        _IMAGE,
        (_SAME, 4, 3),
        (L.MaxPooling2D,),
        (L.BatchNormalization,),
        (L.Flatten,),
        (L.Dense, 3),
    ),
    "a residual block": _of([_IMAGE], _residual),
    "images of any size": _of(
        (None, None, 3), (L.SeparableConv2D, 4, 3), (L.GlobalAveragePooling2D,), (L.Dense, 2)
    ),
    "padded at one end": _of(
        _IMAGE,
        (L.ZeroPadding2D, ((0, 1), (0, 1))),
        (_made(L.DepthwiseConv2D, strides=2), 3),
        (L.ReLU, 6.0),
        (L.GlobalAveragePooling2D,),
    ),
    "causal, of any length": _of(
        (None, 3), (_made(L.Conv1D, padding="causal", dilation_rate=2), 4, 3), (L.GlobalMaxPool1D,)
    ),
    "convolutions in a loop": _of((3, 5, 5, 2), (L.ConvLSTM2D, 3, 3), (L.Flatten,)),
    "transposed": _of([(4, 4, 3)], _up),
    "words": _of((9,), (L.Embedding, 20, 5), (L.LSTM, 6), (L.Dense, 2), integers=20),
    "masked words": _of([(9,)], _masked, integers=20),
    "default GRU": _of((7, 3), (_GRU, 6), (L.Lambda, lambda x: x * 2.0)),
    "GRU by a kernel": _of((7, 3), (_GRU_AFTER, 6)),
    "hard LSTM": _of((7, 3), (_LSTM_HARD, 4)),
    "both directions": _of((7, 3), (L.Bidirectional, L.LSTM(4))),
    "simple": _of((7, 3), (_SIMPLE, 4)),
    "sequences of any length": _of(
        (None, 3), (_made(L.LSTM, return_sequences=True), 6), (L.Conv1D, 4, 3), (L.GlobalMaxPool1D,)
    ),
    "attention": _of([(5, 3)], _attention),
    "attention of any length": _of([(None, 3)], _attention),
    "two inputs": _of([(5,), (5,)], _two),
}
