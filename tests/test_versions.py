"""Which versions are needed: the same everywhere, and what is said of others."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from versions import find_python

import ksym
from ksym import versions
from ksym.errors import MissingMXNetError, UnsupportedVersionError
from ksym.runtime import library, loading

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAIRS = [path.stem.split("-") for path in (ROOT / "requirements").glob("*.txt")]


def text(numbers):
    return ".".join(map(str, numbers))


def test_what_is_checked_is_what_pip_is_told():
    needed = {f"{name}>={text(numbers)}" for name, numbers in versions.NEEDED.items()}
    assert set(PROJECT["dependencies"]) == needed
    assert PROJECT["requires-python"] == f">={text(versions.PYTHON)}"
    (keras,) = (line for line in PROJECT["optional-dependencies"]["keras"] if "keras" in line)
    numbers = tuple(map(int, keras.removeprefix("keras==").split(".")))
    assert versions.KERAS[0] <= numbers[:2] <= versions.KERAS[1]


def test_the_pythons_that_are_named_are_those_that_are_tested():
    found = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert set(found) == {python.removeprefix("python") for python, _ in PAIRS}
    assert f"numpy{text(versions.NEEDED['numpy'])}" in {numpy for _, numpy in PAIRS}


@pytest.mark.parametrize("name", versions.NEEDED)
@pytest.mark.parametrize("found", ["0.4.9", None])
def test_a_package_that_is_too_old_or_missing_is_named_with_the_line_for_pip(
    name, found, monkeypatch
):
    there = {other: text(needed) for other, needed in versions.NEEDED.items()} | {name: found}
    monkeypatch.setattr(versions, "installed", there.get)
    said = "it is not installed" if found is None else "0.4.9 is installed"
    needed = text(versions.NEEDED[name])
    message = rf"ksym needs {name} {needed} or newer, and {said}\n.*pip install '{name}>={needed}'"
    with pytest.raises(UnsupportedVersionError, match=message):
        versions.check()


@pytest.mark.parametrize("found", ["1.23.0rc1", "2.0.0", "10.1"])
def test_newer_versions_are_not_refused(found, monkeypatch):
    monkeypatch.setattr(versions, "installed", lambda name: found if name == "numpy" else "99.0")
    versions.check()


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(versions, "PYTHON", (9, 1))
    with pytest.raises(UnsupportedVersionError, match=r"needs Python 9\.1 or newer, and this is"):
        versions.check()


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_an_old_python_gets_as_far_as_the_message(version):
    python = find_python(version)
    if not python:
        pytest.skip(f"there is no Python {version} here")
    done = subprocess.run(
        [python, "-c", "import ksym"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert re.search(rf"needs Python 3\.11 or newer, and this is Python {version}\.", done.stderr)
    assert "python3.13 -m venv" in done.stderr


@pytest.mark.parametrize("found", ["3.15.1", "2.4.3", "2.15.0", "2.1.6", "1.2.2"])
def test_other_kerases_are_refused(found, monkeypatch):
    monkeypatch.setattr(versions, "installed", {"keras": found}.get)
    with pytest.raises(UnsupportedVersionError, match=rf"Keras {found} (.|\n)*keras==2\.3\.1"):
        versions.check_keras()


@pytest.mark.parametrize("found", ["2.2.4", "2.3.1", None])
def test_these_kerases_are_taken(found, monkeypatch):
    monkeypatch.setattr(versions, "installed", {"keras": found}.get)
    versions.check_keras()


def installed(folder, name, version):
    """Make what pip writes about a package that it has installed."""
    about = folder / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version", "imported", "said"),
    [
        ("numpy", "1.22.4", "ksym", "ksym needs numpy 1.23 or newer, and 1.22.4 is installed"),
        ("llvmlite", "0.44.0", "ksym", "ksym needs llvmlite 0.45 or newer, and 0.44.0 is"),
        ("keras", "3.15.1", "ksym.backend", "a backend of Keras 2.2 to 2.3, and Keras 3.15.1 is"),
        # Keras makes "Unable to import backend" of any ImportError.
        ("numpy", "1.22.4", "keras", "ksym needs numpy 1.23 or newer, and 1.22.4 is installed"),
    ],
)
def test_importing_says_so_in_a_sentence(name, version, imported, said, tmp_path):
    if imported != "ksym":
        pytest.importorskip("keras")
    installed(tmp_path, name, version)
    done = subprocess.run(
        [sys.executable, "-c", f"import {imported}"],
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            "KERAS_BACKEND": "ksym.backend",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "to do: pip install " in done.stderr
    assert "Unable to import backend :" not in done.stderr


def test_another_mxnet_is_refused():
    class Library:
        @staticmethod
        def MXGetVersion(reference):  # noqa: N802 - MXNet's name
            reference._obj.value = 10800
            return 0

    found = library.Installation("mxnet", "1.8.0", Path("/there/libmxnet.so"))
    with pytest.raises(
        MissingMXNetError, match=r"needs MXNet 1\.9\.1, and /there/.* is MXNet 1\.8"
    ):
        loading._check_version(Library, found)
    loading._check_version(loading.library(), library.find())


def test_the_errors_are_public():
    assert ksym.UnsupportedVersionError is UnsupportedVersionError
