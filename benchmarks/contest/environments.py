"""The peers: where each lives, what it needs, and the settings under which it may be fastest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = Path(os.environ.get("KSYM_BENCH", ROOT / ".bench")).resolve()
"""Where the environments are, unless the command says otherwise."""
CORES = len(os.sched_getaffinity(0))
Variables = dict[str, str]


def _threads(count: int) -> Variables:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return dict.fromkeys(names, str(count))


def _settings(make: Callable[[int], Variables] = _threads) -> dict[str, Variables]:
    """One setting with a thread, one with a thread for each core."""
    return {f"{count} thread{'s' * (count > 1)}": make(count) for count in sorted({1, CORES})}


def _tensorflow(count: int) -> Variables:
    return {
        **_threads(count),
        "TF_NUM_INTRAOP_THREADS": str(count),
        "TF_NUM_INTEROP_THREADS": str(count),
    }


def _jax(count: int) -> Variables:
    # XLA takes the size of its thread pool from NPROC.
    parallel = str(count > 1).lower()
    return {"NPROC": str(count), "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={parallel}"}


def _engine(name: str, count: int) -> Variables:
    return {**_threads(count), "MXNET_ENGINE_TYPE": name}


@dataclass(frozen=True)
class Peer:
    """A way to run Keras.

    Attributes:
        title: What it is, with versions.
        settings: Environment variables of each setting that is tried; the best one counts.
        driver: Which driver of `worker.py` works for it.
        environment: Its own environment's folder and file of requirements; none is this one.
        variables: Environment variables it needs; ``{folder}`` is the folder of all environments.
        old: It is older than Python 3.11 and needs what that took away.
        tools: What its requirements need installed before them, because they build with it.
        caches: It keeps compiled code on disk, which a run that does not count fills first.
        checkout: The folder whose ksym it uses.
        hiding: It runs in this environment, behind the packages of a file of requirements, which
            hide others of the same names: Keras 3 hides Keras 2.3.1.
    """

    title: str
    settings: dict[str, Variables]
    driver: str = "keras"
    environment: str | None = None
    variables: Variables = field(default_factory=dict)
    old: bool = False
    tools: tuple[str, ...] = ()
    caches: bool = False
    checkout: Path = ROOT
    hiding: Path | None = None

    def python(self, folder: Path) -> str:
        """Return the Python of its environment."""
        if self.environment is None:
            return sys.executable
        return str(folder / self.environment / "bin" / "python")

    def process_environment(self, folder: Path, setting: str) -> Variables:
        """Return the variables of a process of it."""
        path = [str(HERE.parent)]
        if self.environment is None:
            path.append(str(self.checkout))
        if self.old:
            path.append(str(HERE / "shims"))
        if self.hiding is not None:
            path.insert(0, str(folder / self.driver))
        own = {name: value.format(folder=folder) for name, value in self.variables.items()}
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(path),
            "KERAS_HOME": str(folder / "keras" / (self.environment or "ksym")),
            "TF_CPP_MIN_LOG_LEVEL": "2",
            **own,
            **self.settings[setting],
        }


_OLD_TOOLS = ("setuptools==65.7.0", "wheel==0.41.3", "numpy==1.23.5", "scipy==1.11.4")
# SciPy 1.11's wheel brings an OpenBLAS whose names are the plain ones.
_OPENBLAS = "{folder}/theano/lib/python3.11/site-packages/scipy.libs"
PEERS = {
    "ksym": Peer(
        "Keras 2.3.1 on ksym", _settings(), "ksym", variables={"KERAS_BACKEND": "ksym.backend"}
    ),
    "ksym3": Peer(
        "Keras 3 on ksym",
        _settings(),
        "ksym3",
        hiding=ROOT / "tests" / "keras3" / "requirements.txt",
    ),
    "tensorflow": Peer("tf.keras 2.15", _settings(_tensorflow), "tensorflow", "tensorflow"),
    "jax": Peer("Keras 3 on JAX", _settings(_jax), "jax", "jax", {"KERAS_BACKEND": "jax"}),
    "torch": Peer("Keras 3 on torch", _settings(), "keras", "torch", {"KERAS_BACKEND": "torch"}),
    "theano": Peer(
        "Keras 2.3.1 on Theano 1.0.5",
        _settings(),
        "keras",
        "theano",
        {
            "KERAS_BACKEND": "theano",
            "THEANO_FLAGS": "device=cpu,floatX=float32,base_compiledir={folder}/theano-compiled,"
            f"blas.ldflags=-L{_OPENBLAS} -lopenblas",
            "LD_LIBRARY_PATH": _OPENBLAS,
        },
        old=True,
        tools=_OLD_TOOLS,
        caches=True,
    ),
    "mxnet": Peer(
        "keras-mxnet 2.2.4.3",
        {
            **_settings(),
            f"synchronous engine, {CORES} threads": _engine("NaiveEngine", CORES),
        },
        "mxnet",
        "mxnet",
        {"KERAS_BACKEND": "mxnet"},
        old=True,
        tools=_OLD_TOOLS,
    ),
    "plaidml": Peer(
        "PlaidML-Keras 0.7.0",
        {"its own threads": {}},
        "keras",
        "plaidml",
        {
            "KERAS_BACKEND": "plaidml.keras.backend",
            "PLAIDML_EXPERIMENTAL": "1",
            "PLAIDML_DEVICE_IDS": "llvm_cpu.0",
        },
        old=True,
        tools=_OLD_TOOLS,
    ),
    "floor": Peer(
        "floor: native kernels alone", _settings(lambda n: _engine("NaiveEngine", n)), "floor"
    ),
}


def build(name: str, folder: Path) -> None:
    """Build the environment of a peer unless what it needs is there already."""
    peer = PEERS[name]
    if peer.environment is None and peer.hiding is None:
        return
    requirements = peer.hiding or HERE / "requirements" / f"{peer.environment}.txt"
    home, wanted = folder / (peer.environment or peer.driver), requirements.read_text()
    ready = home / ".ready"
    if ready.exists() and ready.read_text() == wanted:
        return
    print(f"building the environment of {peer.title} in {home}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    if peer.hiding is not None:
        target = ["--quiet", "--no-deps", "--target", str(home), "--requirement", str(requirements)]
        subprocess.run([sys.executable, "-m", "pip", "install", *target], check=True)
        ready.write_text(wanted)
        return
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    install = [
        peer.python(folder),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    if peer.tools:
        subprocess.run([*install, *peer.tools], check=True)
        install.append("--no-build-isolation")
    subprocess.run([*install, "--requirement", str(requirements)], check=True)
    if name == "theano":
        _repair_theano(home)
    ready.write_text(wanted)


def _repair_theano(home: Path) -> None:
    """Make Theano 1.0.5 work on Python 3.11, and give OpenBLAS a name without its version."""
    packages = home / "lib" / "python3.11" / "site-packages"
    # Made by a Cython that does not know Python 3.11; without it Theano's loop in Python is used.
    (packages / "theano" / "scan_module" / "c_code" / "scan_perform.c").unlink()
    libraries = packages / "scipy.libs"
    library = next(libraries.glob("libopenblasp-*.so"))
    (libraries / "libopenblas.so").symlink_to(library.name)
