"""Run the tests of keras_ksym beside Keras 3: ``python tests/keras3/run.py [argument of pytest]``.

Keras 3 comes from PyPI, by pip, and stays in build/keras3; everything else is that of the
environment, in which Keras 2.3.1 is hidden by it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "keras_suite"))

import fetching  # noqa: E402


def main() -> int:
    """Fetch Keras, run pytest, return its exit status."""
    path = os.pathsep.join(map(str, (fetching.keras3(), fetching.ROOT)))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, "-m", "pytest", *(sys.argv[1:] or ["--numprocesses", "2"])]
    given = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not any(Path(argument.split("::")[0]).exists() for argument in given):
        command.append(str(HERE))
    return subprocess.run(command, cwd=fetching.ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
