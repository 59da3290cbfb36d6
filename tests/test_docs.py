"""The examples in docstrings and on pages run, and links lead somewhere."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pages
import pytest
import reference
from scripts import run_script

import ksym
from ksym.graph import OPERATORS
from ksym.operator.declaration import Operator

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
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


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def script_of(page):
    """The blocks of code of a page, each on the lines it has there; the rest is left out."""
    lines, is_code = [], False
    for line in page.read_text().splitlines():
        is_fence = line.startswith("```")
        lines.append(line if is_code and not is_fence else "")
        if is_fence:
            is_code = line == "```python"
    return "\n".join(lines)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, tmp_path):
    """From top to bottom, as typed into one file."""
    script = tmp_path / f"page_{page.stem}.py"  # keras.py would stand before Keras
    script.write_text(script_of(page))
    run_script(script, tmp_path)


def test_each_block_of_the_readme_stands_alone(capsys):
    blocks = blocks_of(ROOT / "README.md")
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "[" in capsys.readouterr().out


def test_the_page_on_extending_names_parts_that_there_are():
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "extending.md").read_text(), re.MULTILINE)
    parts = [part for row in rows for part in re.findall(r"`(\w+)`", row)]
    assert "infer" in parts
    assert [part for part in parts if not hasattr(Operator, part)] == []


def test_the_operators_of_the_page_on_extending_have_the_properties_of_all(tmp_path):
    """In a process of its own: a declaration is for the whole process."""
    blocks = "".join(blocks_of(ROOT / "docs" / "extending.md"))
    (tmp_path / "blocks.py").write_text(blocks)
    names = [*re.findall(r"^@composite.*\ndef (\w+)", blocks, re.MULTILINE)]
    names += re.findall(r"^(\w+) = _\w+\($", blocks, re.MULTILINE)
    assert len(names) == 2
    names.append("log_cosh")
    paths = [str(tmp_path), str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "blocks", "-p", "own_operator"),
            *("tests/properties", "-k", " or ".join(names)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    # Five properties of each; those on each element have more.
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 5 * len(names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_are_there(page):
    for name in re.findall(
        r"\b(?:benchmarks|docs|examples|tests|tools)/[\w/.-]+\w", page.read_text()
    ):
        assert (ROOT / name).exists(), name


def test_the_list_of_pages_is_complete():
    listed = re.findall(r"\]\((\w+\.md)\)", (ROOT / "docs" / "README.md").read_text())
    assert sorted([*listed, "README.md"]) == sorted(p.name for p in (ROOT / "docs").glob("*.md"))


def test_the_site_has_each_page_and_links_out_of_it():
    index = (ROOT / "docs" / "README.md").read_text()
    sections = pages.navigation(index)[1:]
    found = [page for section in sections for entries in section.values() for page in entries]
    listed = re.findall(r"\]\((\w+\.md)\)", index)
    assert [path for page in found for path in page.values()] == listed
    site = pages.Site(ROOT).pages
    assert set(listed) < set(site)
    assert site["README.md"].count("](repository/CONTRIBUTING.md)") == 1
    assert "(../extending.md)" in site["repository/CONTRIBUTING.md"]
    assert "```python\n" in site["repository/examples/serving.py.md"]
    for path, text in site.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", prose):
            if target.endswith(".svg"):
                picture = os.path.normpath(os.path.join(os.path.dirname(path), target))
                assert (ROOT / "docs" / picture).is_file(), target
                continue
            assert os.path.normpath(os.path.join(os.path.dirname(path), target)) in site, target


def test_the_page_of_operators_is_what_the_declarations_say():
    page = (ROOT / "docs" / "operators.md").read_text()
    assert page == reference.page(), "run `make docs`"


def rows_of(section):
    """The codes in the second column of the tables below a heading."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \| .*\|$", section, re.MULTILINE)
    return [code for _, here in rows for code in re.findall(r"^`(.+)`$", here)]


def test_each_name_on_the_page_from_theano_is_there(tmp_path, monkeypatch):
    """Each cell is an expression of the tensors of the block above the table."""
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "from_theano.md").read_text()
    section = page[page.index("## The hundred names") :]
    names = {"np": np, "ksym": ksym}
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], names)
    codes = rows_of(section)
    assert len(codes) >= 100
    for code in codes:
        eval(code, names)


def named(path):
    """The object that a dotted path from `ksym` leads to."""
    parts = path.split(".")
    found = importlib.import_module(parts[0])
    for position, part in enumerate(parts[1:], 2):
        module = ".".join(parts[:position])
        inside = vars(found).get(part)
        last = position == len(parts)
        # `ksym.function` is a function, and `ksym.function.function` goes through its module.
        if module in MODULES and not (last and inside is not None):
            found = importlib.import_module(module)
        else:
            found = getattr(found, part)
    return found


def test_each_public_name_is_on_a_page_of_the_reference():
    paths = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert len(paths) == len(set(paths))
    pytest.importorskip("keras")
    shown = [named(path) for path in paths]
    operators = (ROOT / "docs" / "operators.md").read_text()
    public = {n: o for n, o in vars(ksym).items() if n[0] != "_" and not isinstance(o, ModuleType)}
    assert len(public) > 300
    for name, value in public.items():
        if isinstance(value, Operator):
            assert f"| `{value.name}(" in operators
        else:
            assert any(value is other for other in shown), f"{name} is not in docs/api.md"


def test_names_on_pages_are_there():
    pytest.importorskip("keras")
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # it tells of names that are gone
            continue
        for path in re.findall(r"(?<![\w/.\"'-])ksym(?:\.[A-Za-z_]\w*)+", page.read_text()):
            try:
                named(path)
            except AttributeError as error:
                raise AssertionError(f"{page.name}: {path}: {error}") from None
