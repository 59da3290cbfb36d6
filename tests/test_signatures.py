"""Operators look to `help`, editors and messages like the functions that users call."""

import inspect
import pydoc

import pytest

import ksym
from ksym.graph import OPERATORS

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
PUBLIC = sorted(name for name, operator in OPERATORS.items() if not operator.internal)


@pytest.mark.parametrize("name", PUBLIC)
def test_an_operator_shows_the_users_signature_and_its_docstring(name):
    operator = getattr(ksym, name)
    signature = inspect.signature(operator)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    several = ("einsum", "meshgrid", "atleast_1d", "atleast_2d", "atleast_3d")
    assert inspect.Parameter.VAR_POSITIONAL not in kinds or name in several
    assert "self" not in signature.parameters
    assert "Tensor" in str(signature.return_annotation)
    assert "Spec" not in str(signature)
    assert inspect.isroutine(operator)
    text = pydoc.plain(pydoc.render_doc(operator))
    # Python 3.13 writes the parameters of a long signature on lines of their own.
    assert "".join(f"{name}{signature}".split()) in "".join(text.split())
    assert operator.__doc__.splitlines()[0] in text


@pytest.mark.parametrize("name", PUBLIC)
def test_a_misspelt_keyword_is_refused_with_the_signature(name):
    operator = getattr(ksym, name)
    arguments = [
        [1.0]
        for parameter in inspect.signature(operator).parameters.values()
        if parameter.default is parameter.empty and parameter.kind in POSITIONAL
    ]
    needed = {"length": 3} if name == "bincount" else {}
    with pytest.raises(ksym.ArgumentError) as caught:
        operator(*arguments, **needed, axess=0)
    message = str(caught.value)
    assert "axess" in message
    assert f"call it as {name}(" in message
    assert __file__ in message


def test_signatures_read_as_users_write_them():
    assert str(inspect.signature(ksym.relu)) == "(x) -> Tensor"
    assert str(inspect.signature(ksym.where)) == "(condition, x, y) -> Tensor"
    assert str(inspect.signature(ksym.cast)) == "(x, dtype) -> Tensor"
    assert "data_format: str" in str(inspect.signature(ksym.convolution))


def test_too_many_and_too_few_arguments():
    x = ksym.placeholder((2,))
    with pytest.raises(ksym.ArgumentError, match=r"relu: too many positional arguments"):
        ksym.relu(x, 1, 2)
    with pytest.raises(TypeError, match=r"relu: missing a required argument: 'x'"):
        ksym.relu()
