"""The rooms of the house import each other in the order of the table in docs/architecture.md."""

import ast
import re
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ksym"
PLAN = (ROOT / "docs" / "architecture.md").read_text()

ROOMS = [re.findall(r"`(.*?)`", row) for row in re.findall(r"^\| (`.*?) \|", PLAN, re.MULTILINE)]
"""The files and folders of each room, in the order in which they may import."""

SOURCES = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}


def room_of(file):
    """The number of a file's room: of the longest name in the table that it is, or lies in."""
    fitting = [
        (len(name), number)
        for number, names in enumerate(ROOMS)
        for name in names
        if file == name or (name.endswith("/") and file.startswith(name))
    ]
    return max(fitting)[1] if fitting else None


def runs(tree):
    """The nodes of a syntax tree, function bodies included, but what only type checkers read."""
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack += node.orelse
        else:
            stack += ast.iter_child_nodes(node)


def imported(text, files):
    """The files of the package that a module imports, wherever in it."""
    for node in runs(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, *parts = name.split(".")
            if package != "ksym":
                continue
            # The last part is a module, or something in the module or package before it.
            path, before = "/".join(parts), "/".join(parts[:-1])
            tried = (f"{path}.py", f"{path}/__init__.py", f"{before}.py", f"{before}/__init__.py")
            yield next((file for file in tried if file in files), "__init__.py")


def complaints(sources):
    """What is wrong with the imports of a package, given as the text of each file."""
    graph = networkx.DiGraph()
    for file, text in sources.items():
        for used in imported(text, sources):
            # Families of operators reach each other through their package, see the plan.
            if not (file.startswith("ops/") and used == "ops/__init__.py"):
                graph.add_edge(file, used)
    found = [f"{file} is in no room" for file in sources if room_of(file) is None]
    found += [
        f"{file} imports {used}, which lies below"
        for file, used in graph.edges
        if None not in (room_of(file), room_of(used)) and room_of(file) < room_of(used)
    ]
    for circle in networkx.strongly_connected_components(graph):
        if len(circle) > 1:
            found.append(f"{' and '.join(sorted(circle))} import each other")
    return found


def test_the_house_has_the_rooms_its_plan_shows():
    for names in ROOMS:
        for name in names:
            assert (PACKAGE / name).exists(), name


def test_rooms_import_only_from_rooms_above_them():
    assert not complaints(SOURCES)


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("graph.py", "from ksym.ops.leaves import constant", "ops/leaves.py, which lies below"),
        ("graph.py", "import ksym.autodiff", "autodiff.py, which lies below"),
        ("compiler/passes/fold.py", "from ksym.runtime import jit", "runtime/jit.py, which lies"),
        ("ops/arrays/shape.py", "from ksym.ops.nn import ctc", "ops/nn/ctc.py, which lies below"),
        ("ops/leaves.py", "from ksym import keras", "keras/__init__.py, which lies below"),
        ("loops/body.py", "from ksym.loops.api import scan", "import each other"),
        ("attic/chest.py", "import numpy", "attic/chest.py is in no room"),
    ],
)
@pytest.mark.parametrize("inside", ["", "def f():\n    ", "class C:\n    def f(self):\n        "])
def test_an_import_the_wrong_way_is_found_wherever_it_stands(file, line, complaint, inside):
    changed = {**SOURCES, file: f"{SOURCES.get(file, '')}\n{inside}{line}\n"}
    assert any(complaint in found for found in complaints(changed))


def test_an_import_for_type_checkers_is_none():
    line = "\nif TYPE_CHECKING:\n    from ksym.function import Function\n"
    assert not complaints({**SOURCES, "graph.py": SOURCES["graph.py"] + line})


def test_mxnets_python_package_is_imported_only_for_its_users():
    importing = r"^\s*(import|from) mxnet"
    found = {file for file, text in SOURCES.items() if re.search(importing, text, re.MULTILINE)}
    assert found == {"runtime/interop.py"}
