"""How Keras is given its backend, and what is said where it cannot be."""

import ast
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

import keras_ksym
import ksym
from keras_ksym import hook
from ksym import versions

ROOT = Path(__file__).resolve().parents[2]


def run(code, *options, **changes):
    """Run a program in a fresh process; its output, or the last line of its traceback."""
    command = [sys.executable, *options] + (["-c", code] if code else [])
    done = subprocess.run(command, capture_output=True, text=True, check=False, **changes)
    return (done.stdout if not done.returncode else done.stderr).strip()


def test_keras_says_ksym():
    assert keras.config.backend() == "ksym"
    assert keras.backend.backend() == "ksym"
    assert keras_ksym.__doc__


def test_the_backend_is_chosen_by_the_import_alone():
    for before in ("", "import os; os.environ['KERAS_BACKEND'] = 'jax'\n"):
        assert run(f"{before}import keras_ksym, keras; print(keras.config.backend())") == "ksym"


def test_a_program_is_run_by_the_module(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("import sys, keras\nprint(keras.config.backend(), __name__, sys.argv[1:])\n")
    assert run("", "-m", "keras_ksym", str(program), "a", "-b") == "ksym __main__ ['a', '-b']"
    assert "usage: python -m keras_ksym program.py" in run("", "-m", "keras_ksym")


def test_an_import_that_comes_too_late_is_refused():
    code = """
import sys, types
loaded = sys.modules["keras"] = types.ModuleType("keras")
loaded.config = types.SimpleNamespace(backend=lambda: "numpy")
import keras_ksym
"""
    said = run(code)
    assert "Keras is imported already, with the backend 'numpy'" in said
    assert "To do: import keras_ksym before Keras." in said


def test_an_import_of_keras_that_fails_leaves_the_right_name():
    code = """
import keras_ksym, sys
sys.modules["rich"] = None
try:
    import keras
except ImportError:
    from keras.src.backend import config
    print(config.backend())
"""
    assert run(code) == "ksym"


def test_a_function_that_keras_has_and_ksym_has_not_says_its_name_when_it_is_called():
    from keras.src import backend

    absent = backend.numpy.function_of_a_later_keras
    with pytest.raises(NotImplementedError, match=r"no function numpy\.function_of_a_later_keras"):
        absent(1)


def test_what_the_versions_say_is_what_pip_is_told():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (line,) = (x for x in project["optional-dependencies"]["keras3"] if x.startswith("keras"))
    first, second = versions.KERAS3
    assert line == f"keras>={first}.{second},<{first}.{second + 1}"
    assert keras.__version__.startswith(f"{first}.{second}.")


@pytest.mark.parametrize("found", ["2.3.1", "3.14.0", None])
def test_a_keras_that_the_hook_cannot_enter_is_refused(found, monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda name: found)
    there = "it is not installed" if found is None else f"Keras {found} is installed"
    with pytest.raises(ksym.errors.UnsupportedVersionError, match=rf"{there}\n.*'ksym\[keras3\]'"):
        versions.check_keras3()


def test_a_newer_keras_is_used_with_a_warning(monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda name: "3.16.2")
    with pytest.warns(
        ksym.errors.KsymWarning, match=r"(?s)3\.16\.2.*tested with Keras 3\.15.*<3\.16"
    ):
        versions.check_keras3()


def test_every_module_of_the_backend_has_the_names_that_keras_calls():
    """Each ``backend.x`` and ``backend.module.x`` of Keras's own code is there."""
    from keras.src import backend

    modules = {name for name in hook.PLACES if name}
    missing = set()
    folder = Path(keras.__file__).parent / "src"
    for path in (folder / "ops").glob("*.py"):
        if path.stem.endswith("_test"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute):
                continue
            names = ast.unparse(node).split(".")
            if names[0] != "backend" or len(names) < 3 or names[1] not in modules:
                continue
            module = getattr(backend, names[1])
            if names[2] not in vars(module):
                missing.add(".".join(names[1:3]))
    assert missing == {"math.histogram"}  # Keras's own mistake: no backend has it there
    assert importlib.metadata.version("keras") == keras.__version__
