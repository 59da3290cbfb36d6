"""The public names: each is said once, where it is defined."""

import importlib
import pkgutil

import pytest

import ksym
from ksym import ops
from ksym.graph import OPERATORS

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(ops.__path__, "ksym.ops.")
    if not found.ispkg
]


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_an_operator_is_offered_by_its_name_or_says_why_not(name):
    operator = OPERATORS[name]
    offered = getattr(ksym, name, None) is operator
    assert offered != bool(operator.internal)
    assert not operator.internal or len(operator.internal.split()) > 2, "a reason is a sentence"


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_what_a_module_offers_is_there(module):
    for name in getattr(module, "__all__", ()):
        assert getattr(ksym, name) is getattr(ops, name) is getattr(module, name)


def test_no_two_modules_offer_one_name():
    names = [name for module in MODULES for name in getattr(module, "__all__", ())]
    assert len(names) == len(set(names)) > 200
