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

BUILD = Path(__file__).resolve().parents[2] / "build"
KERAS = "2.3.1"


def pip(*arguments: str) -> None:
    """Run pip quietly."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True)


def fetch_packages(requirements: Path, folder: Path) -> None:
    """Install what is required into a folder beside the environment, unless it is there."""
    kept = folder / requirements.name
    if not kept.exists() or kept.read_text() != requirements.read_text():
        shutil.rmtree(folder, ignore_errors=True)
        pip("install", "--no-deps", "--target", str(folder), "--requirement", str(requirements))
        shutil.copy(requirements, kept)


def fetch_keras(part: str, folder: Path) -> None:
    """Put a part of Keras's source distribution into a folder, unless it is there."""
    if folder.exists():
        return
    archives = BUILD / "keras-sdist"
    if not list(archives.glob("*.tar.gz")):
        pip("download", "--no-deps", "--no-binary", ":all:", f"keras=={KERAS}", "-d", str(archives))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as unpacked:
        with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
            archive.extractall(unpacked, filter="data")
        next(Path(unpacked).glob(f"*/{part}")).rename(folder)


def wait(process: subprocess.Popen[bytes], seconds: float) -> tuple[float, bool]:
    """Wait for a process; return its peak of resident memory in MiB, and whether it ended."""
    limit = time.monotonic() + seconds
    finished = True
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss / 1024, finished
        if time.monotonic() > limit and finished:
            finished = False
            process.kill()
        time.sleep(0.2)
