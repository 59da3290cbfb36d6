"""The formula of every elementwise operator, compiled in a loop alone, against NumPy."""

import numpy as np
import pytest
from drawing import HypothesisDraw, build
from hypothesis import given
from hypothesis import strategies as st
from one_loop import flushed, run

import ksym
from ksym import dtypes, ops
from ksym.compiler.costs import DEFAULT
from ksym.compiler.fusion import formulas
from ksym.compiler.fusion.kernel import can_compile
from ksym.graph import OPERATORS
from ksym.operator.declaration import Operator

ELEMENTWISE = [o for _, o in sorted(OPERATORS.items()) if o.elementwise]
HAVING = [o for o in ELEMENTWISE if o.formula is not None]

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 88.6, -103.5, 1e30, -1e30, np.inf, -np.inf, np.nan]


class _KnownDraw(HypothesisDraw):
    """Draws the dtypes that loops have."""

    def __init__(self, data):
        super().__init__(data)
        self._float = self.choose(formulas.COMPILED_FLOATS)

    def dtype(self, *kinds):
        known = {
            "float": (self._float,),
            "integer": formulas.COMPILED_INTEGERS,
            "bool": ("bool",),
        }
        return self.choose([name for kind in kinds for name in known[kind]])


def numbers(dtype, rng, count=200):
    """Numbers of all sizes that a dtype has, and those that are special."""
    if dtype == "bool":
        return rng.integers(0, 2, count).astype(bool)
    if dtype in formulas.COMPILED_INTEGERS:
        ends = np.iinfo(dtype)
        special = [0, 1, -1, 2, -2, ends.min, ends.min + 1, ends.max]
        small = rng.integers(-9, 10, count // 2)
        large = rng.integers(ends.min, ends.max, count - count // 2 - len(special))
        with np.errstate(invalid="ignore"):
            drawn = np.concatenate([small, large, special]).astype(dtype)
    else:
        scales = rng.choice([1e-6, 1e-2, 1.0, 1.0, 10.0, 100.0], count - len(SPECIAL) - 1)
        drawn = np.concatenate([rng.normal(size=len(scales)) * scales, SPECIAL, [1e-40]])
        with np.errstate(all="ignore"):
            drawn = drawn.astype(dtype)
    return rng.permutation(drawn)


def meant(operator, values, attributes, dtype):
    """What NumPy gives in the dtype of the values, and in a wider one."""
    with np.errstate(all="ignore"):
        wide = [v.astype("longdouble") if v.dtype.kind == "f" else v for v in values]
        narrow = np.asarray(operator.numpy(*values, **attributes)).astype(dtype)
        if dtype not in formulas.COMPILED_FLOATS:
            return narrow, narrow
        if operator is ops.sigmoid:  # declared to the rounding of 1, not of its result
            return narrow, (1.0 / (1.0 + np.exp(-wide[0]))).astype(dtype)
        return narrow, np.asarray(operator.numpy(*wide, **attributes)).astype(dtype)


def assert_means(found, narrow, wide):
    """As NumPy's in the same dtype, or as its wider one but for some units in the last place."""
    if found.dtype.kind != "f":
        np.testing.assert_array_equal(found, narrow)
        return
    bounds = {"rtol": 8 * np.finfo(found.dtype).eps, "atol": np.finfo(found.dtype).tiny}
    same = (found == narrow) | np.isclose(found, wide, **bounds, equal_nan=True)
    np.testing.assert_allclose(found[~same], wide[~same], **bounds)


@pytest.mark.parametrize("operator", HAVING, ids=lambda operator: operator.name)
@given(data=st.data())
def test_a_formula_is_what_the_operator_means(operator, data):
    sample = operator.sample(_KnownDraw(data))
    node = build(operator.name, sample)[2][0].node
    if node.operator is not operator:  # such as a cast to the dtype that is there
        return
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    values = [flushed(numbers(tensor.dtype, rng)) for tensor in node.inputs]
    if node.outputs[0].dtype in formulas.COMPILED_INTEGERS and values[0].dtype.kind == "f":
        # What becomes of other floats is undefined, in C as in NumPy.
        with np.errstate(all="ignore"):
            kept = np.abs(values[0]) < 2**31 - 100
        values = [np.where(kept, values[0], values[0].dtype.type(7))]
    operands = [ksym.placeholder(v.shape, v.dtype.name) for v in values]
    result = operator.make(operands, node.attributes)
    stored = all(t.dtype in formulas.DTYPES for t in (*operands, result))
    # Integers have a power only where that is known, see below.
    known = stored and (operator is not ops.power or dtypes.is_float(result.dtype))
    assert can_compile(result.node, DEFAULT) == known
    if not known:
        return
    (found,) = run([result], dict(zip(operands, values, strict=True)))
    narrow, wide = meant(operator, values, node.attributes, result.dtype)
    if operator is ops.relu:  # whose NaN becomes zero in float32
        found, narrow, wide = (np.where(np.isnan(values[0]), 0, a) for a in (found, narrow, wide))
    assert_means(flushed(found), flushed(narrow), flushed(wide))


@pytest.mark.parametrize("dtype", formulas.COMPILED_INTEGERS)
@given(data=st.data())
def test_integers_are_raised_to_known_powers_by_products_that_wrap(dtype, data):
    exponent = data.draw(st.integers(0, 70))
    value = numbers(dtype, np.random.default_rng(exponent))
    x = ksym.placeholder(value.shape, dtype)
    result = ops.power(x, exponent)
    assert can_compile(result.node, DEFAULT)
    (found,) = run([result], {x: value})
    np.testing.assert_array_equal(found, ops.power.numpy(value, np.asarray(exponent, dtype)))


@pytest.mark.parametrize("operator", ELEMENTWISE, ids=lambda operator: operator.name)
def test_an_elementwise_operator_has_a_formula_or_says_why_not(operator):
    composed = type(operator).expand is not Operator.expand
    parts = (operator.formula is not None, composed, bool(operator.no_formula))
    assert parts.count(True) == 1
    assert not operator.no_formula or len(operator.no_formula.split()) > 3, "a reason is a sentence"


COMMUTATIVE = [o for _, o in sorted(OPERATORS.items()) if o.commutative]


@pytest.mark.parametrize("operator", COMMUTATIVE, ids=lambda operator: operator.name)
@given(data=st.data())
def test_operands_may_be_exchanged_where_the_declaration_says_so(operator, data):
    dtype = build(operator.name, operator.sample(_KnownDraw(data)))[2][0].node.inputs[0].dtype
    x, y = (numbers(dtype, np.random.default_rng(data.draw(st.integers(0, 99)))) for _ in "xy")
    with np.errstate(all="ignore"):
        one, other = operator.numpy(x, y), operator.numpy(y, x)
    np.testing.assert_array_equal(one, other)
