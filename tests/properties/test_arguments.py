"""Arguments of wrong kinds: each operator refuses them by an error of ksym's, or takes them.

Operators, their arguments and right values for these come from the declarations.
"""

import inspect

import numpy as np
import pytest
from drawing import HypothesisDraw
from hypothesis import given
from hypothesis import strategies as st

import ksym
from ksym.errors import KsymError
from ksym.graph import OPERATORS

LEAVES = {"placeholder", "variable", "failed"}  # no sample: they are given no tensors
PUBLIC = sorted(n for n, operator in OPERATORS.items() if not operator.internal and n not in LEAVES)

ODD = [
    *(1.5, -7, True, None, "a", b"a", 1j, float("nan"), float("inf"), 2**31, 2**40, 10**30),
    *(
        (),
        {},
        [0, 0],
        [1.5],
        [None],
        ("a",),
        [[1], [2, 3]],
        object(),
        lambda x: x,
        np.zeros((2, 2)),
    ),
]


def odd_values():
    """The odd values, and tensors of several kinds, made for one test."""
    shapes = [((2, 3), "float32"), ((), "float32"), ((), "int64"), ((None,), "int32")]
    return [*ODD, *(ksym.placeholder(shape, dtype) for shape, dtype in shapes)]


COUNT = len(odd_values())


def right_arguments(operator, sample):
    """The arguments of a right call, by the names of its signature."""
    seen = []

    def call(*args, **kwargs):
        seen.append((args, kwargs))
        return type(operator).call(operator, *args, **kwargs)

    operator.call = call
    try:
        operator.apply(*sample.operands, **sample.attributes)
    finally:
        del operator.call
    args, kwargs = seen[0]
    bound = operator.__signature__.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound


@pytest.mark.filterwarnings("ignore::ksym.KsymWarning")
@pytest.mark.filterwarnings("ignore:elementwise comparison failed:FutureWarning")
@pytest.mark.parametrize("name", PUBLIC)
@given(data=st.data())
def test_arguments_of_wrong_kinds_are_refused_by_name(name, data):
    operator = OPERATORS[name]
    bound = right_arguments(operator, operator.sample(HypothesisDraw(data)))
    kinds = {k: p.kind for k, p in operator.__signature__.parameters.items()}
    argument = data.draw(st.sampled_from(list(bound.arguments)))
    odd = odd_values()[data.draw(st.integers(0, COUNT - 1))]
    several = kinds[argument] is inspect.Parameter.VAR_POSITIONAL
    bound.arguments[argument] = (odd, *bound.arguments[argument][1:]) if several else odd
    try:
        operator(*bound.args, **bound.kwargs)
    except KsymError as error:
        text = str(error)
        called = text.startswith(f"{name}: ") or f"({name}): " in text
        assert called, f"{argument}={odd!r}: the operator is not named in: {text}"
        assert "made at" in text, f"{argument}={odd!r}: the place is not named in: {text}"
    except Exception as error:  # noqa: BLE001 - that there is none is tested
        pytest.fail(f"{argument}={odd!r}: a raw {type(error).__name__}: {error}")


def test_a_refusal_shows_the_arguments_and_the_signature():
    x = ksym.placeholder((2, 3))
    with pytest.raises(ksym.ArgumentError) as caught:
        ksym.celu(x, alpha="a")
    text = str(caught.value)
    assert "celu: the arguments alpha='a' are refused by Python" in text
    assert "call it as celu(x, alpha" in text
    assert __file__ in text
    for axis in (1.5, "a", {}, object()):
        with pytest.raises(ksym.ShapeError, match=r"sum: the axes"):
            ksym.sum(x, axis=axis)
    with pytest.raises(ksym.ShapeError, match=r"the sizes 1.5 are neither"):
        ksym.reshape(x, 1.5)


def test_an_exception_of_the_users_own_passes():
    class Broken:
        def __array__(self, dtype=None):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        ksym.sum(Broken())
    assert not isinstance(caught.value, KsymError)


@pytest.mark.parametrize("num", [65536, 65537, 70001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_linspace_is_numpys_to_the_bit(num, dtype):
    found = ksym.function([], ksym.linspace(ksym.constant(0.0, dtype), 1.0, num))()
    np.testing.assert_array_equal(found, np.linspace(0.0, 1.0, num).astype(dtype))


def test_no_constant_of_gigabytes_is_made_while_the_graph_is_built():
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = 2**30
    made = [
        *(
            ksym.linspace(0.0, 1.0, size),
            ksym.arange(size),
            ksym.full((size,), 1.5),
            ksym.eye(2**15),
        ),
        *(
            ksym.one_hot([1, 2], size // 2),
            ksym.tri(2**15),
            ksym.ones((size,)),
            ksym.zeros((size,)),
        ),
        *(ksym.tile(ksym.constant([1.0]), [size]), ksym.repeat(ksym.constant([1.0]), size)),
    ]
    assert all(np.prod(x.shape) == size for x in made)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
