"""Where each Keras lives that is compared, and starting a script in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from contest import environments as peers  # noqa: E402

BUILD = ROOT / "build" / "reference"
TENSORFLOW = BUILD / "environment"
KERAS = BUILD / "keras"


def prepare() -> None:
    """Install TensorFlow, and Keras 2.3.1 beside it, unless they are there."""
    requirements = HERE / "requirements.txt"
    kept = BUILD / requirements.name
    if kept.exists() and kept.read_text() == requirements.read_text():
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(TENSORFLOW)], check=True)
    pip = [str(TENSORFLOW / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(requirements)], check=True)
    # TensorFlow brings a keras of its own, so this one has a folder of its own.
    old = ["keras==2.3.1", "keras-applications==1.0.8", "keras-preprocessing==1.1.2"]
    subprocess.run([*pip, "--target", str(KERAS), *old], check=True)
    shutil.copy(requirements, kept)


def prepare_theano() -> None:
    """Build the environment that the benchmarks have for Keras on Theano, unless it is there."""
    peers.build("theano", peers.FOLDER)


def start(side: str, script: str, *arguments: str) -> str:
    """Run one of the scripts with the Keras of a side; return what it printed.

    Raises:
        SystemExit: It failed; the message is what it printed.
    """
    python, own = _python(side)
    environment = {**os.environ, "KERAS_HOME": str(BUILD / "home"), "OMP_NUM_THREADS": "1", **own}
    command = [python, "-W", "ignore", str(HERE / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {side}:\n{done.stdout[-2000:]}{done.stderr[-6000:]}")
    return done.stdout


def _python(side: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter of a side, and the environment variables of its own."""
    if side == "ksym":
        return sys.executable, {"KERAS_BACKEND": "ksym.backend", "PYTHONPATH": str(ROOT)}
    if side == "theano":
        theano = peers.PEERS[side]
        own = theano.process_environment(peers.FOLDER, next(iter(theano.settings)))
        own["PYTHONPATH"] += os.pathsep + str(ROOT)
        return theano.python(peers.FOLDER), own
    return str(TENSORFLOW / "bin" / "python"), {
        "KERAS_2_3_1": str(KERAS),
        "KERAS_BACKEND": "tensorflow",
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTRAOP_THREADS": "1",
        # Of two, one raises Adam's step counter while the other reads it.
        "TF_NUM_INTEROP_THREADS": "1",
    }
