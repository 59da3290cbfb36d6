"""Compare Keras 3 on ksym with Keras 3 on JAX: ``python tests/keras3/agreement.py``.

Twenty models of all kinds (`models.py`) take ten steps from the same weights, on each backend in an
environment of its own.  Compared are the losses, the weights after the steps, and the outputs: the
largest difference, relative to the largest number.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "keras_suite"))

import fetching  # noqa: E402

BOUND = 1e-5
JAX = fetching.BUILD / "keras3" / f"jax-{fetching.PAIR}"


def run(backend: str, *folders: Path) -> dict[str, np.ndarray]:
    """Return what the models give with a backend."""
    output = fetching.BUILD / "keras3" / f"{backend}.npz"
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
    }
    command = [sys.executable, "-W", "ignore", str(HERE / "models.py"), backend, str(output)]
    subprocess.run(command, env=environment, check=True)
    with np.load(output) as found:
        return dict(found)


def main() -> int:
    """Train on both backends, print the differences, return whether one is too large."""
    keras = fetching.keras3()
    fetching.fetch_packages(HERE / "requirements-jax.txt", JAX)
    ours, theirs = run("ksym", keras, fetching.ROOT), run("jax", JAX, keras)
    failures = 0
    kinds = ("losses", "weights", "outputs")
    print(f"{'model':20}" + "".join(f"{kind:>10}" for kind in kinds))
    for name in dict.fromkeys(key.split()[0] for key in ours):
        line = f"{name:20}"
        for kind in kinds:
            a, b = ours[f"{name} {kind}"], theirs[f"{name} {kind}"]
            difference = np.abs(a - b).max() / np.abs(b).max()
            failures += not difference <= BOUND
            line += f"{difference:10.1e}"
        print(line)
    print(f"{failures} differences above {BOUND:.0e}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
