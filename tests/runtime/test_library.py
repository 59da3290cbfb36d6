"""Where MXNet's C library is found, and what is said of one that is missing or does not load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ksym.errors import MissingMXNetError
from ksym.runtime import library, loading, settings

ROOT = Path(__file__).parents[2]
ASK = "import ksym; print(ksym.evaluate(ksym.constant(1.0)))"


def run(code, *folders, **environment):
    """Run code in a fresh process that finds the modules in folders first."""
    path = os.pathsep.join(str(folder) for folder in (*folders, ROOT))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def package(folder, name="mxnet", content="no library"):
    """Make a package whose folder has a file in the place of the library."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise RuntimeError('this package is imported')\n")
    (folder / name / library.FILE).write_text(content)
    return folder / name / library.FILE


@pytest.fixture
def nothing(monkeypatch):
    """A process in which no library is installed or named."""
    for name in library.PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delenv("MXNET_LIBRARY_PATH", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    return monkeypatch


def installed(monkeypatch, folder, name):
    """Make a package one that can be found."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, name)


def test_the_library_of_the_installed_mxnet_is_found_without_importing_it(nothing, tmp_path):
    assert library.find() is None
    own = package(tmp_path, "ksym_libmxnet")
    installed(nothing, tmp_path, "ksym_libmxnet")
    assert library.find().path == own
    gpus = package(tmp_path, "ksym_libmxnet_cu112")
    installed(nothing, tmp_path, "ksym_libmxnet_cu112")
    assert library.find().path == gpus  # who has both wants it
    users = package(tmp_path, "mxnet")
    installed(nothing, tmp_path, "mxnet")
    assert library.find().path == users  # the user's own import shares it


def test_the_variables_that_mxnets_package_reads_come_before_its_folder(nothing, tmp_path):
    package(tmp_path, "mxnet")
    installed(nothing, tmp_path, "mxnet")
    searched, named = tmp_path / library.FILE, tmp_path / "own.so"
    searched.touch()
    nothing.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path}")
    assert library.find().path == searched
    nothing.setenv("MXNET_LIBRARY_PATH", str(named))
    assert library.find().path == searched  # the named one does not exist yet
    named.touch()
    assert library.find() == (str(named), library.UNKNOWN, named)


def test_a_loaded_mxnet_is_asked_for_its_library(nothing, tmp_path):
    module = type(sys)("mxnet")
    module.base = type(sys)("mxnet.base")
    file = tmp_path / "loaded.so"
    file.touch()
    module.base._LIB = type("Library", (), {"_name": str(file)})
    nothing.setitem(sys.modules, "mxnet", module)
    assert library.find().path == file


@pytest.mark.parametrize(
    ("name", "cuda"),
    [("mxnet", False), ("mxnet-cu112", True), ("ksym-libmxnet", False), ("my-cute-mxnet", False)],
)
def test_a_cuda_build_is_known_by_the_name_of_its_distribution(name, cuda):
    assert library.Installation(name, "1.9.1", Path("x")).has_cuda is cuda


def test_a_cuda_build_of_no_distribution_is_known_by_what_it_is_linked_to(tmp_path):
    file = tmp_path / "own-cu112.so"
    for content, cuda in ((b"\0libopenblas.so.0\0", False), (b"\0libcudart.so.11.0\0", True)):
        file.write_bytes(content)
        assert library.Installation(str(file), library.UNKNOWN, file).has_cuda is cuda


def test_a_missing_mxnet_is_said_plainly(nothing):
    nothing.setattr(loading, "_loaded", None)
    with pytest.raises(MissingMXNetError, match=r"not installed(.|\n)*pip install \./libmxnet"):
        loading.library()
    assert not isinstance(MissingMXNetError("x"), ImportError)


def test_a_package_without_a_library_is_named(tmp_path):
    (tmp_path / "mxnet").mkdir()
    (tmp_path / "mxnet" / "__init__.py").touch()
    hidden = [f"import sys; sys.modules[{name!r}] = None" for name in library.PACKAGES]
    ask = "\n".join([*hidden[1:], ASK])
    assert f"{tmp_path}/mxnet has no libmxnet.so" in run(ask, tmp_path).stderr


def test_a_broken_library_gives_the_reason_of_the_linker(tmp_path):
    package(tmp_path)
    message = run(ASK, tmp_path).stderr
    assert "MissingMXNetError" in message
    assert "cannot be loaded" in message
    assert "file too short" in message
    assert "check the installation" in message


def test_a_library_that_is_not_mxnets_is_refused(tmp_path):
    import _ctypes

    message = run(ASK, MXNET_LIBRARY_PATH=_ctypes.__file__).stderr
    assert "MissingMXNetError" in message
    assert "undefined symbol: MXListAllOpNames" in message


def test_a_library_that_is_named_and_not_there_is_warned_of():
    message = run(ASK, MXNET_LIBRARY_PATH="/nowhere/libmxnet.so")
    assert message.stdout == "1.0\n"
    assert "MXNET_LIBRARY_PATH is '/nowhere/libmxnet.so'" in message.stderr


def test_an_engine_that_does_not_exist_is_named():
    message = run(ASK, MXNET_ENGINE_TYPE="Diesel").stderr
    assert "MissingMXNetError: MXNet has no engine 'Diesel'" in message
    assert "unset MXNET_ENGINE_TYPE" in message


@pytest.mark.skipif(settings.blas_core() is None, reason="the processor has no AVX2")
def test_slow_kernels_of_an_openblas_that_is_loaded_already_are_warned_of():
    before = "import ctypes; from ksym.runtime.library import find; ctypes.CDLL(str(find().path))"
    chosen = (
        "import os; os.environ['OPENBLAS_CORETYPE'] = {!r}\n{}\ndel os.environ['OPENBLAS_CORETYPE']"
    )
    slow = run(f"{chosen.format('Nehalem', before)}\n{ASK}")
    assert slow.stdout == "1.0\n"
    assert "takes this processor for a Nehalem" in slow.stderr
    assert f"set OPENBLAS_CORETYPE={settings.blas_core()}" in slow.stderr
    assert not run(f"{chosen.format(settings.blas_core(), before)}\n{ASK}").stderr


def test_a_missing_driver_has_its_own_remedy():
    assert "NVIDIA's driver" in loading.remedy_for("libcuda.so.1: cannot open shared object file")


def test_cuda_libraries_are_looked_for_in_nvidias_wheels(tmp_path, monkeypatch):
    file = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.8"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = library.cuda_libraries()
    assert found["libcudnn.so.8"] == str(file)
    assert found["libcublas.so.11"] is None
