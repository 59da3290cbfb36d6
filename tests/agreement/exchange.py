"""Models that go from one Keras to another in files, and go on there as they would have.

Keras 2.3.1 on ksym, on TensorFlow and on Theano train a model, save it with its optimizer, and read
what the others saved: predictions and the losses of further steps must be the writer's.  The
kernels of Theano's convolutions lie the other way round, and Keras turns them where a file says
which backend wrote it.
"""

from __future__ import annotations

import shutil

import environments
import files

SIDES = ("ksym", "tensorflow", "theano")
# By case of `files.py`, the sides that are left out, and why.
CASES: dict[str, dict[str, str]] = {
    "images-sgd": {},
    "images-rmsprop": {
        "theano": "Keras turns the kernels of a file round, but not what optimizers keep of them"
    },
    "series-rmsprop": {},
    "series-adam": {
        "tensorflow": "Adam's step counter is read before or after it is raised, as threads have it"
    },
}
FOLDER = environments.BUILD / "files"


def sides(case: str) -> list[str]:
    """Return those that write and read a case."""
    return [side for side in SIDES if side not in CASES[case]]


def run() -> tuple[dict[tuple[str, str, str], bool], list[str]]:
    """Write and read all files; print the differences.

    Returns:
        Whether each case agrees, by kind, case and group, and what does not, as lines.
    """
    environments.prepare_theano()
    shutil.rmtree(FOLDER, ignore_errors=True)
    verdicts, failures = {}, []
    for side in SIDES:
        environments.start(side, "files.py", "write", str(FOLDER), *_cases(side))
    print(f"\nfiles\n{'case':20}{'written on':>12}{'read on':>12}{'predicts':>12}{'trains on':>12}")
    found = {}
    for side in SIDES:
        printed = environments.start(side, "files.py", "check", str(FOLDER), *_cases(side))
        for line in printed.splitlines():
            case, writer, reader, predictions, losses = line.split()
            print(f"{case:20}{writer:>12}{reader:>12}{predictions:>12}{losses:>12}")
            found[case, writer, reader] = max(float(predictions), float(losses))
    for case in CASES:
        for writer in sides(case):
            for reader in sides(case):
                gap = found.get((case, writer, reader), float("inf"))
                agrees = gap <= files.TOLERANCE
                verdicts["files", case, f"{writer} to {reader}"] = agrees
                if not agrees:
                    failures.append(f"files, {case}, {writer} to {reader}: {gap:.1e}")
    return verdicts, failures


def _cases(side: str) -> list[str]:
    return [case for case in CASES if side in sides(case)]
