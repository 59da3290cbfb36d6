"""Run the tests with every pair of Python and NumPy in `requirements`, and print what passed.

    python tests/versions.py [TARGET]

Each pair has an environment of its own, which `make` builds; TARGET is the part of the Makefile
that is run in it, by default all tests.  What the runs print is kept in build/versions.  A pair
whose Python is not there is named as not tried, and so is the next Python, for which there is no
pair yet.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "build" / "versions"
VERSIONS = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
PACKAGES = ("numpy", "keras", "h5py")
ROW = "{:8} {:8} {:8} {:8} {}"


def find_python(version: str) -> str:
    """Return the path of an interpreter, nothing if there is none."""
    command = ["sh", ROOT / "tools" / "find_python.sh", version]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def counts(text: str) -> str:
    """Return what pytest counted, from the last of its closing lines."""
    found = re.findall(r"^=* ?(\d+ (?:passed|failed|error).*?) in [\d.]+", text, re.MULTILINE)
    return found[-1] if found else "no test ran"


def run(python: str, numpy: str, target: str) -> tuple[str, bool]:
    """Run a part of the Makefile with a pair; return a row of the table, and whether it passed."""
    interpreter = find_python(python)
    if not interpreter:
        return ROW.format(python, numpy, "", "", "not tried: there is no such Python here"), True
    pair = f"python{python}-numpy{numpy}"
    environment = ROOT / ".venvs" / pair
    settings = [f"PYTHON={interpreter}", f"NUMPY={numpy}", f"VENV={environment}"]
    start = time.monotonic()
    with (OUTPUT / f"{pair}.txt").open("w+") as stream:
        done = subprocess.run(
            ["make", target, *settings],
            cwd=ROOT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
        stream.seek(0)
        said = counts(stream.read())
    asked = [environment / "bin" / "python", "-c", VERSIONS, *PACKAGES]
    there = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    seconds = f"{time.monotonic() - start:.0f} s"
    status = "" if done.returncode == 0 else f"; make: {done.returncode}, see {stream.name}"
    row = ROW.format(python, *(there or [numpy, "", ""]), f"{said}, {seconds}{status}")
    return row, done.returncode == 0


def main() -> int:
    """Run all pairs, print the table."""
    target = sys.argv[1] if len(sys.argv) > 1 else "test"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    names = [path.stem for path in (ROOT / "requirements").glob("*.txt")]
    pairs = [re.fullmatch(r"python(.*)-numpy(.*)", name).groups() for name in names]
    pairs.sort(key=lambda pair: [[int(n) for n in part.split(".")] for part in pair])
    print(ROW.format("Python", *PACKAGES, f"make {target}"), flush=True)
    passed = True
    for python, numpy in pairs:
        row, well = run(python, numpy, target)
        passed &= well
        print(row, flush=True)
    last = pairs[-1][0].split(".")
    following = f"{last[0]}.{int(last[1]) + 1}"
    why = (
        "requirements has no file for it"
        if find_python(following)
        else "there is no such Python here"
    )
    print(ROW.format(following, "", "", "", f"not tried: {why}"))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
