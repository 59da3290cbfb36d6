import itertools

import numpy as np
import pytest

from ksym import dtypes
from ksym.errors import DTypeError


@pytest.mark.parametrize("pair", list(itertools.product(dtypes.SUPPORTED, repeat=2)), ids=str)
def test_promotion_is_numpys_widened_to_what_mxnet_stores(pair):
    exact = np.promote_types(*pair)
    found = dtypes.promote(*pair)
    assert found in dtypes.SUPPORTED
    assert np.can_cast(exact, found, "safe")
    assert found == exact.name or exact.name not in dtypes.SUPPORTED


def test_canonical_names():
    assert dtypes.canonical(np.float32) == "float32"
    assert dtypes.canonical(np.dtype("int64")) == "int64"
    with pytest.raises(DTypeError, match="int32"):
        dtypes.canonical("int16")
    with pytest.raises(DTypeError, match="no_such_type"):
        dtypes.canonical("no_such_type")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"),
        ([1.0, 2.0], "float32"),
        (np.float64(1.5), "float64"),
        (np.array([1.0]), "float64"),
        (True, "bool"),
        (3, "int64"),
        (np.array([1], "int16"), "int32"),
        (np.array([1], "uint32"), "int64"),
    ],
)
def test_what_values_are_stored_as(value, dtype):
    array = dtypes.storable(value)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([None, 1]),
        np.array(["a"]),
        np.array([1j]),
        [[1, 2], [3]],
        np.array([2**63], "uint64"),
    ],
    ids=str,
)
def test_what_has_no_numeric_value_is_refused(value):
    with pytest.raises(DTypeError):
        dtypes.storable(value)
