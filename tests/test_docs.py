"""The examples in docstrings and in the README run, and links lead somewhere."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import reference

import ksym
from ksym.graph import OPERATORS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    module.name
    for module in pkgutil.walk_packages(ksym.__path__, "ksym.")
    if module.name != "ksym.__main__"
]


@pytest.mark.parametrize("name", ["ksym", *MODULES])
def test_examples_of_modules(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(n for n, o in OPERATORS.items() if ">>>" in o.__doc__))
def test_examples_of_operators(name):
    example = doctest.DocTestParser().get_doctest(
        OPERATORS[name].__doc__, {**vars(ksym.ops), "ksym": ksym}, name, None, 0
    )
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_readmes_code_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "[" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_page_of_operators_is_what_the_declarations_say():
    page = (ROOT / "docs" / "operators.md").read_text()
    assert page == reference.page(), "run `make docs`"
