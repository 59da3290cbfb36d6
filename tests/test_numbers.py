"""Numbers of the host go to the dtype that waits for them: rounded once, or refused."""

import numpy as np
import pytest

import ksym
from ksym.errors import DTypeError

# On the way through float32 it is rounded to the middle between two numbers of float16.
WITNESS = 1 + 2**-11 + 2**-30
WAYS = [{}, {"flags": "fuse_loops=0"}, {"mode": "interpret"}]


def _called(value, dtype, **options):
    x = ksym.placeholder((), dtype)
    return ksym.function([x], ksym.copy(x), **options)(value)


def _set(value, dtype):
    variable = ksym.Variable(0, dtype)
    variable.set_value(value)
    return variable.get_value()


def _set_together(value, dtype):
    variable = ksym.Variable(0, dtype)
    ksym.set_values([(variable, value)])
    return variable.get_value()


def _updated(value, dtype):
    variable = ksym.Variable(0, dtype)
    ksym.function([], [], updates=[(variable, value)])()
    return variable.get_value()


def _given(value, dtype):
    x = ksym.placeholder((), dtype)
    return ksym.function([], ksym.copy(x), givens={x: value})()


def _fed(value, dtype):
    x = ksym.placeholder((), dtype)
    return ksym.evaluate(ksym.copy(x), {x: value})


def _static(value, dtype):
    x = ksym.placeholder((), dtype, static=True)
    return ksym.function([x], ksym.copy(x))(value)


def _operand(apply):
    """What an operator does with a number next to a tensor."""

    def entry(value, dtype):
        x = ksym.placeholder((2,), dtype)
        return ksym.function([x], apply(x, value))(np.zeros(2, dtype))

    return entry


ENTRIES = {
    "argument": _called,
    "static": _static,
    "feed": _fed,
    "givens": _given,
    "default": lambda v, d: ksym.evaluate(ksym.copy(ksym.placeholder((), d, default=v))),
    "Variable": lambda v, d: ksym.Variable(v, d).get_value(),
    "set_value": _set,
    "set_values": _set_together,
    "updates": _updated,
    "assign": lambda v, d: ksym.evaluate(ksym.Variable(0, d).assign(v)),
    "assign_add": lambda v, d: ksym.evaluate(ksym.Variable(0, d).assign_add(v)),
    "constant": lambda v, d: ksym.evaluate(ksym.constant(v, d)),
    "full": lambda v, d: ksym.evaluate(ksym.full((1,), v, d))[0],
    "index_add": _operand(lambda x, v: ksym.index_add(x, 0, v)[0]),
    "pad": _operand(lambda x, v: ksym.pad(x, [(1, 0)], constant_values=v)[0]),
    "scan": _operand(lambda x, v: ksym.scan(lambda e, s: ((), v), x, x[0]).states),
    "while_loop": _operand(
        lambda x, v: ksym.while_loop(lambda n, s: n < 1, lambda n, s: (n + 1, v), (0, x[0]))[1]
    ),
}
FLOAT_ENTRIES = {
    "cast": lambda v, d: ksym.evaluate(ksym.cast(v, d)),
    "index_update": _operand(lambda x, v: ksym.index_update(x, 0, v)[0]),
    "cond": _operand(lambda x, v: ksym.cond(x[0] > 0, lambda: x[0], lambda: v)),
    "clip": _operand(lambda x, v: ksym.clip(v, x[0], x[0] + np.inf)),
}


def test_a_cast_of_a_constant_that_has_no_integer_is_made_without_a_word():
    found = ksym.evaluate(ksym.cast(ksym.constant([np.nan, 1e20, 3.7]), "int32"))
    assert found.dtype == "int32"
    assert found[2] == 3


def rounded(values, dtype):
    with np.errstate(over="ignore"):  # too large ones are infinities
        return np.array(values, "float64").astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("entry", [*ENTRIES, *FLOAT_ENTRIES])
def test_floats_are_rounded_once(entry, dtype):
    give = {**ENTRIES, **FLOAT_ENTRIES}[entry]
    for value in (0.1, WITNESS, np.float64(WITNESS), np.array(WITNESS), 2**70, 1):
        found = np.asarray(give(value, dtype))
        assert found.dtype == dtype
        assert found == rounded(float(value), dtype), (value, found)


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_sequences_of_floats_are_rounded_once(dtype, options):
    x = ksym.placeholder((None,), dtype)
    f = ksym.function([x], x * 1.0, **options)
    for values in ([0.1, 1e300], (WITNESS, 1), [np.float64(WITNESS)], [np.float32(0.1)], [2**70]):
        expected = rounded([float(v) for v in values], dtype)
        np.testing.assert_array_equal(f(values), expected)
        np.testing.assert_array_equal(ksym.Variable(values, dtype).get_value(), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_numbers_next_to_tensors_are_not_rounded_before(dtype):
    x = ksym.placeholder((2,), dtype)
    results = [
        ksym.searchsorted(x, 0.1),
        ksym.equal(x, 0.1),
        ksym.dot(x, [0.1, 0]),
        ksym.trapz(ksym.ones_like(x), [0.0, 0.1]),
    ]
    f = ksym.function([x], results)
    a = np.array([0.1, 1.0], dtype)
    place, equal, product, area = f(a)
    assert place == 0
    assert equal.tolist() == [True, False]
    assert product == a[0] * np.array(0.1, dtype)
    assert area == np.array(0.1, dtype)


def test_a_range_is_computed_from_bounds_that_are_not_rounded():
    found = ksym.evaluate(ksym.arange(0.1, 0.9, 0.1, dtype="float64"))
    np.testing.assert_array_equal(found, np.arange(0.1, 0.9, 0.1))


def test_initial_states_take_the_precision_of_what_the_loop_is_given():
    x = ksym.placeholder((None,), "float64")
    results = [
        ksym.scan(lambda e, s: ((), s + e), x, 0.1).states,
        ksym.foldl(lambda s, e: s + e, x, 0.1),
        ksym.foldr(lambda s, e: s + e, x, 0.1),
        ksym.while_loop(lambda a, b: a < 1.0, lambda a, b: (a + 1.0, a + b), (x[0], 0.1))[1],
    ]
    assert [float(r) for r in ksym.function([x], results)([0.0])] == [0.1] * 4
    half = ksym.placeholder((None,), "float16")  # sums stay wider than what is summed
    assert ksym.scan(lambda e, s: ((), s + e), half, 0.0).states.dtype == "float32"


UNFIT = {
    "uint8": [256, -1, 0.5],
    "int8": [200, -129, 200.0],
    "int32": [2**32 + 1, 2**31, -(2**31) - 1, 1.5, np.nan],
    "int64": [2**63, -(2**63) - 1, 2**70, 2.0**63, np.inf],
}


@pytest.mark.parametrize("dtype", UNFIT)
@pytest.mark.parametrize("entry", ENTRIES)
def test_integers_that_do_not_fit_are_refused(entry, dtype):
    for value in UNFIT[dtype]:
        for given in [value, np.array(value)]:
            with pytest.raises(DTypeError) as caught:
                ENTRIES[entry](given, dtype)
            text = str(caught.value)
            assert dtype in text or "does not fit into int64" in text
            assert "to do: " in text
            assert "test_numbers.py" in text, "the user's line"


@pytest.mark.parametrize("dtype", UNFIT)
@pytest.mark.parametrize("entry", ENTRIES)
def test_integers_at_the_limits_are_taken(entry, dtype):
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max, np.int64(3), True):
        found = np.asarray(ENTRIES[entry](value, dtype))
        assert (found.dtype, int(found)) == (dtype, int(value))


def test_values_are_checked_at_each_call():
    x = ksym.placeholder((None,), "int32", name="count")
    f = ksym.function([x], x + 1)
    for _ in range(2):
        assert f(np.array([1, 2])).tolist() == [2, 3]
        assert f(np.array([1.0, 2.0])).tolist() == [2, 3]
    with pytest.raises(DTypeError, match=r"\(count\).*4294967297 does not fit into int32"):
        f(np.array([1, 2**32 + 1]))
    with pytest.raises(DTypeError, match="fractions"):
        f(np.array([1, 2.5]))
    assert f([]).tolist() == []


def test_anything_is_a_boolean():
    x = ksym.placeholder((None,), "bool")
    f = ksym.function([x], x)
    for given in ([2**70, 0], [0.5, 0], np.array([256, 0]), np.array([np.nan, 0])):
        assert f(given).tolist() == [True, False]


def test_large_integers_next_to_floats_are_floats():
    x = ksym.placeholder((), "float64")
    assert ksym.function([x], x * 2**70)(1) == 2.0**70
    with pytest.raises(DTypeError, match="int64"):
        ksym.constant(2**70)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [("int32", 1.5), ("int64", np.float32(1)), ("int32", 1.0), ("bool", 1), ("uint8", "tensor")],
)
def test_updates_of_a_higher_kind_are_refused(dtype, value):
    if value == "tensor":
        value = ksym.Variable(0.5)
    variable = ksym.Variable(1, dtype, name="counter")
    for update in (variable.assign, lambda v: ksym.function([], [], updates=[(variable, v)])):
        with pytest.raises(DTypeError) as caught:
            update(value)
        text = str(caught.value)
        for word in ("counter", dtype, "ksym.cast(value", "test_numbers.py"):
            assert word in text
    remedy = variable.assign(ksym.cast(value, dtype))
    assert ksym.evaluate(remedy) == np.asarray(
        value.get_value() if isinstance(value, ksym.Variable) else value
    ).astype(dtype)


def test_updates_of_a_lower_kind_or_another_width_are_cast():
    x = ksym.placeholder((), "float64")
    n = ksym.placeholder((), "int64")
    single, small = ksym.Variable(0.0), ksym.Variable(0, "int32")
    ksym.function([x, n], [], updates=[(single, x), (small, n)])(0.1, 7)
    assert single.get_value() == np.float32(0.1)
    assert small.get_value() == 7
    ksym.function([n], [], updates=[(single, n)])(3)
    assert single.get_value() == 3.0
