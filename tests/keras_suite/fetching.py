"""What the runs of Keras's tests and of its examples share: fetching, and waiting for a process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
PAIR = f"python{sys.version_info[0]}.{sys.version_info[1]}-numpy{np.__version__}"
"""Names the environment that packages are fetched for."""

KERAS = "2.3.1"

KERAS3 = BUILD / "keras3" / f"packages-{PAIR}"
"""The folder of Keras 3, which hides Keras 2.3.1 where it comes first on the path."""


def pip(*arguments: str) -> None:
    """Run pip quietly."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True)


def fetch_packages(
    requirements: Path, folder: Path, *others: str, dependencies: bool = False
) -> None:
    """Install what is required, and others, into a folder beside the environment.

    Nothing is done if it is there.  What these packages depend on is in the environment or listed,
    unless it is asked for too.
    """
    kept = folder / requirements.name
    if not kept.exists() or kept.read_text() != requirements.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        target = ("--target", str(folder), "--requirement", str(requirements))
        pip("install", *([] if dependencies else ["--no-deps"]), *target, *others)
        shutil.copy(requirements, kept)


def keras3() -> Path:
    """Return the folder of Keras 3 and of what else it needs, fetched unless it is there."""
    fetch_packages(ROOT / "tests" / "keras3" / "requirements.txt", KERAS3)
    return KERAS3


def fetch_keras(part: str, folder: Path, version: str = KERAS) -> None:
    """Put a part of Keras's source distribution into a folder, unless it is there."""
    if folder.exists():
        return
    archives = BUILD / "keras-sdist" / version
    if not list(archives.glob("*.tar.gz")):
        source = ("--no-deps", "--no-binary", ":all:", f"keras=={version}")
        pip("download", *source, "-d", str(archives))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as unpacked:
        with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
            archive.extractall(unpacked, filter="data")
        next(Path(unpacked).glob(f"*/{part}")).rename(folder)


class Used(NamedTuple):
    """What a process used.

    Attributes:
        seconds: Time on the clock.
        processor: Time of processors, in seconds, which other processes hardly change.
        memory: The peak of resident memory, in MiB.
        finished: Whether it ended by itself.
    """

    seconds: float
    processor: float
    memory: float
    finished: bool

    def __str__(self) -> str:
        return f"{self.seconds:5.0f} s {self.processor:5.0f} s {self.memory:5.0f} MiB"


def wait(process: subprocess.Popen[bytes], seconds: float) -> Used:
    """Wait for a process that has just been started, but not longer than so many seconds."""
    start = time.monotonic()
    finished = True
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            processor = usage.ru_utime + usage.ru_stime
            return Used(time.monotonic() - start, processor, usage.ru_maxrss / 1024, finished)
        if time.monotonic() - start > seconds and finished:
            finished = False
            process.kill()
        time.sleep(0.2)
