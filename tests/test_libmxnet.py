"""The distributions of MXNet's library: built here from a small wheel that stands for PyPI's."""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = ("libmxnet", "libmxnet-cu112")
LIBRARIES = {"libmxnet.so": b"one", "libopenblas.so.0": b"two" * 99, "libgfortran.so.3": b"three"}


def project(folder, name="libmxnet", sha256=None):
    """Copy a project, with the SHA-256 of another wheel if one is given."""
    copy = folder / "project"
    copy.mkdir()
    for path in (ROOT / name).iterdir():
        content = path.read_text() if path.is_file() else None
        if content is None:
            continue
        if path.name == "pyproject.toml" and sha256 is not None:
            content = re.sub('(manylinux2014_[^ ]+) = "[0-9a-f]{64}"', rf'\1 = "{sha256}"', content)
        (copy / path.name).write_text(content)
    return copy


@pytest.fixture
def offered(tmp_path):
    """Return a folder with a wheel of MXNet's name, and its SHA-256."""
    folder = tmp_path / "offered"
    folder.mkdir()
    path = folder / "mxnet-1.9.1-py3-none-manylinux2014_x86_64.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in LIBRARIES.items():
            wheel.writestr(f"mxnet/{name}", content)
        wheel.writestr("mxnet/__init__.py", "raise ImportError('not to be used')")
        metadata = "Metadata-Version: 2.1\nName: mxnet\nVersion: 1.9.1\nRequires-Dist: numpy<2\n"
        wheel.writestr("mxnet-1.9.1.dist-info/METADATA", metadata)
        wheel.writestr("mxnet-1.9.1.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    return folder, hashlib.sha256(path.read_bytes()).hexdigest()


def call(where, hook, *arguments, prelude="", wheels=None):
    """Call a hook of the backend as pip does: in a process whose folder is the project's."""
    lines = ["import platform, sys, sysconfig", "sys.path.insert(0, '.')", "import repack"]
    # A platform that is known, whatever the tests run on.
    lines += ["sysconfig.get_platform = lambda: 'linux-x86_64'"]
    lines += ["platform.libc_ver = lambda: ('glibc', '2.36')", prelude]
    lines += [f"print(repack.{hook}(*{arguments!r}))"]
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    environment["PIP_FIND_LINKS"] = str(wheels or "")
    return subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_has_the_libraries_and_needs_nothing(tmp_path, offered):
    wheels, sha256 = offered
    where = project(tmp_path, sha256=sha256)
    built = call(where, "build_wheel", str(tmp_path), wheels=wheels)
    assert built.returncode == 0, built.stderr
    name = built.stdout.split()[-1]
    assert name == "ksym_libmxnet-1.9.1-py3-none-manylinux2014_x86_64.whl"
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    offline = ["--no-index", "--target", str(target), str(tmp_path / name)]
    subprocess.run([*pip, *offline], check=True)  # pip compares the files with the record
    for library, content in LIBRARIES.items():
        assert (target / "ksym_libmxnet" / library).read_bytes() == content
    metadata = (target / "ksym_libmxnet-1.9.1.dist-info" / "METADATA").read_text()
    assert "Requires-Dist" not in metadata
    assert (target / "ksym_libmxnet-1.9.1.dist-info" / "licenses" / "NOTICE").is_file()
    assert not (target / "mxnet").exists()
    spec = importlib.util.spec_from_file_location(
        "ksym_libmxnet", target / "ksym_libmxnet" / "__init__.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.LIBRARY.read_bytes() == LIBRARIES["libmxnet.so"]
    again = tmp_path / "again"
    again.mkdir()
    call(where, "build_wheel", str(again), wheels=wheels)
    assert (again / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_file_that_is_not_pypis_is_refused(tmp_path, offered):
    wheels, sha256 = offered
    built = call(project(tmp_path), "build_wheel", str(tmp_path), wheels=wheels)
    assert built.returncode == 1
    assert "is not PyPI's file" in built.stderr
    assert sha256 in built.stderr
    assert "Traceback" not in built.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_what_pip_cannot_fetch_is_said(tmp_path):
    built = call(project(tmp_path), "build_wheel", str(tmp_path))
    assert built.returncode == 1
    assert "pip cannot download mxnet==1.9.1 for manylinux2014_x86_64" in built.stderr
    assert "Traceback" not in built.stderr


@pytest.mark.parametrize(
    ("prelude", "said"),
    [
        (
            "sysconfig.get_platform = lambda: 'macosx-14.0-arm64'",
            "no library for macosx-14.0-arm64;",
        ),
        ("sysconfig.get_platform = lambda: 'linux-riscv64'", "no library for linux-riscv64;"),
        ("platform.libc_ver = lambda: ('', '')", "no library for linux-x86_64 without glibc;"),
        ("sys.maxsize = 2**31 - 1", "no library for linux-x86_64 without 64 bits;"),
    ],
)
def test_a_platform_without_a_library_is_refused_before_anything_is_fetched(
    tmp_path, prelude, said
):
    asked = call(project(tmp_path), "get_requires_for_build_wheel", prelude=prelude)
    assert asked.returncode == 1
    assert said in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.parametrize("name", PROJECTS)
def test_an_archive_of_sources_has_what_builds_it(tmp_path, name):
    built = call(project(tmp_path, name), "build_sdist", str(tmp_path))
    assert built.returncode == 0, built.stderr
    with tarfile.open(tmp_path / built.stdout.split()[-1]) as archive:
        assert all(member.isfile() or member.isdir() for member in archive)
        archive.extractall(tmp_path / "unpacked", filter="data")
    (inside,) = (tmp_path / "unpacked").iterdir()
    prepared = call(inside, "prepare_metadata_for_build_wheel", str(tmp_path))
    assert prepared.returncode == 0, prepared.stderr
    settings = tomllib.loads((ROOT / name / "pyproject.toml").read_text())
    metadata = (tmp_path / prepared.stdout.split()[-1] / "METADATA").read_text()
    assert f"Name: {settings['project']['name']}\n" in metadata


@pytest.mark.parametrize("version", [(3, 8), (3, 10)])
def test_an_older_python_is_told_what_is_needed(version):
    code = f"import sys; sys.version_info = {version}; import repack"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "libmxnet", capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"need Python 3.11 or newer, and this is Python 3.{version[1]}." in done.stderr
    assert "Traceback" not in done.stderr
