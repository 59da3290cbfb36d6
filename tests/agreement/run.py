"""Compare Keras on ksym with Keras on TensorFlow and with tf.keras.

    python tests/agreement/run.py [--write] [functions] [layers] [models]

Three Kerases compute the same, each in a process of its own: Keras 2.3.1 on ksym, the same Keras on
TensorFlow 2.15, and the tf.keras of that TensorFlow.  TensorFlow is installed by pip into an
environment in build/reference.  Compared are all functions of the backend (`functions.py`), all
layers (`layers.py`) and some forty small models (`models.py`): values, gradients, losses and
weights after some steps of training, in float64 and float32.

``--write`` writes docs/compatibility.md from what was found; without it, the run fails where the
page says something else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import compare
import page

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "reference"
REFERENCE = BUILD / "environment"
KERAS = BUILD / "keras"
PAGE = ROOT / "docs" / "compatibility.md"
# In float32 the difference of two references is no smaller than that of ksym from one of them.
RUNS = [
    ("tensorflow", "float64"),
    ("tensorflow", "float32"),
    ("tf.keras", "float64"),
    ("ksym", "float64"),
    ("ksym", "float32"),
]


def prepare() -> None:
    """Install TensorFlow, and Keras 2.3.1 beside it, unless they are there."""
    requirements = HERE / "requirements.txt"
    kept = BUILD / requirements.name
    if kept.exists() and kept.read_text() == requirements.read_text():
        return
    shutil.rmtree(BUILD, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(REFERENCE)], check=True)
    pip = [str(REFERENCE / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    pip += ["--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(requirements)], check=True)
    # TensorFlow brings a keras of its own, so this one has a folder of its own.
    old = ["keras==2.3.1", "keras-applications==1.0.8", "keras-preprocessing==1.1.2"]
    subprocess.run([*pip, "--target", str(KERAS), *old], check=True)
    shutil.copy(requirements, kept)


def start(side: str, script: str, *arguments: str) -> None:
    """Run one of the scripts with the Keras of a side; what it prints is shown if it fails."""
    python = sys.executable if side == "ksym" else str(REFERENCE / "bin" / "python")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT) if side == "ksym" else "",
        "KERAS_2_3_1": str(KERAS),
        "KERAS_HOME": str(BUILD / "home"),
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    command = [python, "-W", "ignore", str(HERE / script), side, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} {side}:\n{done.stdout[-2000:]}{done.stderr[-6000:]}")


def main() -> int:
    """Compute, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    parser.add_argument("kinds", nargs="*", default=list(compare.CASES), help="what to compare")
    options = parser.parse_args()
    began = time.monotonic()
    prepare()
    installed = time.monotonic()
    (BUILD / "home").mkdir(exist_ok=True)

    def compute(side: str, floatx: str) -> tuple[tuple[str, str], compare.Found]:
        output = BUILD / f"{side}-{floatx}.npz"
        start(side, "side.py", floatx, str(output), *options.kinds)
        return (side, floatx), compare.read(output)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(compute, side, floatx) for side, floatx in RUNS]
        found = dict(job.result() for job in jobs)
    failures, verdicts = compare.tables(found)
    seconds = time.monotonic() - installed
    print(f"\ninstalled in {installed - began:.0f} s, computed in {seconds:.0f} s")
    if len(options.kinds) == len(compare.CASES):
        written = page.page(verdicts)
        if options.write:
            PAGE.write_text(written)
        elif not PAGE.exists() or PAGE.read_text() != written:
            failures.append(f"{PAGE.relative_to(ROOT)} says something else: --write writes it anew")
    for line in failures:
        print(line)
    print(f"{len(failures)} disagreements")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
