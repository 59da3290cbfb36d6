"""``x[key]`` and changing parts of tensors, against NumPy."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import DTypeError, KsymError, ShapeError
from ksym.testing import verify_gradient

X = np.arange(60.0).reshape(3, 4, 5)
ROWS, COLUMNS = np.array([[0, 2], [1, -1]]), np.array([3, 0])

KEYS = [
    0,
    -1,
    (1, 2, 3),
    slice(None, None, -1),
    (slice(2, 0, -1), Ellipsis, slice(1, -1, 2)),
    (None, 1, Ellipsis, None),
    (Ellipsis, None, 2),
    ROWS,
    (slice(None), ROWS),
    (Ellipsis, COLUMNS),
    (ROWS, COLUMNS),
    (ROWS, COLUMNS, 1),
    (slice(None), ROWS, COLUMNS),
    (slice(None), COLUMNS, 4),
    (ROWS, slice(None), COLUMNS),
    (0, slice(None), COLUMNS),
    (None, ROWS, COLUMNS, slice(None, None, -2)),
    (ROWS, None, COLUMNS),
    (ROWS, COLUMNS, slice(0, 0)),
    (np.array(2), slice(1, 3)),
    np.zeros((0,), "int64"),
]


def read(x, key, shape=None):
    placeholder = ksym.placeholder(x.shape if shape is None else shape, x.dtype.name)
    return ksym.function([placeholder], placeholder[key])(x)


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("shape", [(3, 4, 5), (None, None, None)], ids=["known", "unknown"])
def test_a_key_means_what_it_means_in_numpy(key, shape):
    np.testing.assert_array_equal(read(X, key, shape), X[key])


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_keys_given_at_the_call(key):
    """Each array in the key is an input of the function."""
    items = key if isinstance(key, tuple) else (key,)
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    inputs = [ksym.placeholder(a.shape, "int64") for a in arrays]
    given_later = iter(inputs)
    symbolic = tuple(next(given_later) if isinstance(i, np.ndarray) else i for i in items)
    found = ksym.function(inputs, ksym.constant(X)[symbolic])(*arrays)
    np.testing.assert_array_equal(found, X[key])


@st.composite
def keys(draw, shape):
    items = []
    lead = draw(st.sampled_from([(), (2,), (2, 1)]))
    for side in shape[: draw(st.integers(0, len(shape)))]:
        kind = draw(st.sampled_from(["integer", "slice", "array", "slice"]))
        position = st.integers(-side, side - 1)
        if kind == "integer":
            items.append(draw(position))
        elif kind == "slice":
            bound = st.none() | st.integers(-side - 1, side + 1)
            step = draw(st.sampled_from([None, 1, 2, -1, -3]))
            items.append(slice(draw(bound), draw(bound), step))
        else:
            flat = [draw(position) for _ in range(int(np.prod(lead)))]
            items.append(np.array(flat, "int64").reshape(lead))
    if draw(st.booleans()):
        # Not before the last index of an axis, which would then be that of another axis.
        place = draw(st.integers(0, len(items))) if len(items) == len(shape) else len(items)
        items.insert(place, Ellipsis)
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), None)
    return tuple(items)


@given(data=st.data())
def test_drawn_keys(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    x = np.arange(np.prod(shape)).reshape(shape)
    key = data.draw(keys(shape))
    np.testing.assert_array_equal(read(x, key), x[key])


@given(data=st.data())
def test_changing_what_a_drawn_key_names(data):
    shape = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    x = np.arange(np.prod(shape), dtype="float64").reshape(shape)
    key = data.draw(keys(shape))
    value = 0.5 + np.arange(x[key].size).reshape(x[key].shape)
    added, updated = x.copy(), x.copy()
    np.add.at(added, key, value)
    updated[key] = value
    np.testing.assert_array_equal(ksym.evaluate(ksym.index_add(x, key, value)), added)
    np.testing.assert_array_equal(ksym.evaluate(ksym.index_update(x, key, value)), updated)


@pytest.mark.parametrize(("dtype", "value"), [("uint8", 0.5), ("bool", 1), ("bool", True)])
def test_what_a_dtype_cannot_hold_is_not_added(dtype, value):
    with pytest.raises(ksym.DTypeError, match=r"^index_add"):
        ksym.index_add(np.zeros(2, dtype), 0, value)


def test_gradients_of_every_order_through_keys_of_several_tensors():
    verify_gradient(lambda x: ksym.sin(x[ROWS, :, COLUMNS]) * x[0, 0, 0], [X / 60], order=3)


def test_gradients_where_an_update_names_a_place_twice():
    value = np.array([1.0, 2.0, 3.0])
    x = np.array([0.5, 0.7])

    def build(x, value):
        return ksym.sin(ksym.index_update(x, np.array([1, 1, 1]), value) * 0.3)

    verify_gradient(build, [x, value])


def test_positions_and_updates_given_at_the_call():
    positions = ksym.placeholder((None, 2), "int64")
    x = ksym.placeholder((None, None, None), "float64")
    gathered = ksym.gather_nd(x, positions)
    scattered = ksym.scatter_nd(positions, gathered, ksym.shape_of(x))
    where = np.array([[0, 1], [2, 3], [0, 1]])
    found, back = ksym.function([x, positions], [gathered, scattered])(X, where)
    np.testing.assert_array_equal(found, X[where[:, 0], where[:, 1]])
    expected = np.zeros_like(X)
    np.add.at(expected, (where[:, 0], where[:, 1]), found)
    np.testing.assert_array_equal(back, expected)


def test_what_is_sorted_is_stable_and_large(rng):
    x = rng.integers(0, 5, (3, 1000)).astype("float32")
    tensor = ksym.placeholder(x.shape)
    up, down = ksym.argsort(tensor), ksym.argsort(tensor, descending=True)
    found_up, found_down = ksym.function([tensor], [up, down])(x)
    np.testing.assert_array_equal(found_up, np.argsort(x, -1, kind="stable"))
    np.testing.assert_array_equal(found_down, np.argsort(-x, -1, kind="stable"))


def test_slices_unstacked_and_stacked_again():
    x = ksym.placeholder((3, 4), "float64")
    parts = ksym.unstack(x, axis=1)
    assert [part.shape for part in parts] == [(3,)] * 4
    value = X[:, :, 0]
    np.testing.assert_array_equal(ksym.function([x], ksym.stack(parts, 1))(value), value)


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_products_have_exact_gradients_where_factors_are_zero(zeros):
    x = np.array([0.7, -1.2, 0.4, 1.5])
    x[:zeros] = 0.0
    verify_gradient(ksym.prod, [x], order=3, tolerance=1e-5)
    verify_gradient(ksym.cumprod, [x], order=3, tolerance=1e-5)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ((0, 0, 0, 0), ShapeError),
        (3, ShapeError),
        (np.array([0, 4]), ShapeError),
        ((Ellipsis, Ellipsis), ShapeError),
        (1.5, DTypeError),
        (slice(None, None, 0), ShapeError),
    ],
)
def test_keys_that_mean_nothing(key, error):
    with pytest.raises(error, match=r"made at.*test_indexing"):
        ksym.placeholder((3, 4, 5))[key]


def test_indices_not_known_before_the_call_wrap_around():
    i = ksym.placeholder((2,), "int64")
    np.testing.assert_array_equal(
        ksym.function([i], ksym.constant(X)[i, i])([3, -4]), X[[0, 2], [3, 0]]
    )


W = np.arange(12.0).reshape(3, 2, 2)
MASKED = {
    "all axes": lambda x: x[x > 4],
    "two of three axes": lambda x: x[x[:, :, 0] > 4],
    "behind a slice": lambda x: x[:, x[0, :, 0] > 1],
    "behind an ellipsis": lambda x: x[..., x[0, 0] > 0],
    "with a number": lambda x: x[x[:, 0, 0] > 1, 0],
    "with a new axis and a slice": lambda x: x[None, x[:, 0, 0] > 1, 1:],
    "with an ellipsis": lambda x: x[x[:, 0, 0] > 1, ..., 1],
    "nothing": lambda x: x[x > 100],
    "a list": lambda x: x[[True, False, True]],
    "an array": lambda x: x[W > 4],
    "an array behind a slice": lambda x: x[:, np.array([False, True])],
}


@pytest.mark.parametrize("mode", ["native", "interpret"])
@pytest.mark.parametrize("pick", MASKED.values(), ids=MASKED)
@pytest.mark.parametrize("shape", [W.shape, (None, None, 2)])
def test_masks_are_keys(pick, shape, mode):
    x = ksym.placeholder(shape, "float64")
    picked = pick(x)
    slope = ksym.gradients(ksym.sum(picked**2), x)
    found, slopes = ksym.function([x], [picked, slope], mode=mode)(W)
    np.testing.assert_array_equal(found, pick(W))
    expected = np.zeros_like(W)
    expected.flat[found.astype(int)] = 2 * found  # each element of W is its own position
    np.testing.assert_array_equal(slopes, expected)


UPDATED = {
    "a number": (lambda x: x > 4, 0.5),
    "a row": (lambda x: x[:, :, 0] > 4, [0.5, -1.0]),
    "a row with its axis": (lambda x: x[:, :, 0] > 4, [[0.5, -1.0]]),
    "a value for each place": (lambda x: x > 9, [0.5, -1.0]),
    "in a tuple": (lambda x: (x > 4,), 0.5),
    "with a number behind": (lambda x: (x[:, 0, 0] > 1, 1), 0.5),
}


@pytest.mark.parametrize(("key", "value"), UPDATED.values(), ids=UPDATED)
@pytest.mark.parametrize("shape", [W.shape, (None, 2, None)])
def test_masks_are_keys_of_updates(key, value, shape):
    x = ksym.placeholder(shape, "float64")
    outputs = [update(x, key(x), value) for update in (ksym.index_update, ksym.index_add)]
    replaced, added = ksym.function([x], outputs)(W)
    expected = W.copy()
    expected[key(W)] = value
    np.testing.assert_array_equal(replaced, expected)
    expected = W.copy()
    expected[key(W)] += value
    np.testing.assert_array_equal(added, expected)


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (lambda x: x == 0, r"ksym\.equal"),
        (lambda x: x != 0, r"ksym\.not_equal"),
        (lambda x: ksym.sum(x) > 0, r"ksym\.where"),
        (lambda x: x[:1] > 0, "does not fit"),
        (lambda x: x, "a mask of booleans"),
    ],
)
def test_keys_that_are_no_masks(key, says):
    x = ksym.placeholder((3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ksym.KsymWarning)  # that `==` compares no elements
        given = key(x)
    for use in (lambda k: x[k], lambda k: ksym.index_update(x, k, 0.0)):
        with pytest.raises(KsymError, match=says):
            use(given)


def test_a_mask_of_another_shape_is_found_at_the_call():
    x, mask = ksym.placeholder((None, 2)), ksym.placeholder((None,), "bool")
    f = ksym.function([x, mask], x[mask])
    with pytest.raises(KsymError, match="does not fit"):
        f(np.ones((3, 2)), [True, False])
