"""Draws programs for an hour, and prints how many, what they cover, and where results differ.

    python tests/fuzz/run.py [--minutes 60] [--seed 0] [graphs] [state] [networks]

Each kind is a test of this folder, of which the tests run a sample.  A difference is shrunk by
hypothesis and printed with the graph and its values; the run goes on, and fails at its end.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import io
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [
    str(ROOT),
    str(ROOT / "tests"),
    *(str(ROOT / "tests" / n) for n in ("fuzz", "properties")),
]
os.environ["KERAS_BACKEND"] = "ksym.backend"
os.environ.setdefault("KSYM_DEVICE", "cpu")

import counting  # noqa: E402
import hypothesis  # noqa: E402
from hypothesis.internal.conjecture import engine  # noqa: E402

TESTS = {
    "graphs": "test_graphs_at_random",
    "state": "test_state_at_random",
    "networks": "test_networks_at_random",
}
ROUND = 200
"""The number of programs that are drawn from one seed."""

SHRINKING = 60
"""The seconds for which a program that shows a difference is made smaller."""


def place(error):
    """Return where an error comes from, by which differences are told apart."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if "/ksym/" in frame.filename] or frames
    last = inside[-1]
    operator = getattr(error, "operator", "") or ""
    return f"{type(error).__name__} {operator} at {Path(last.filename).name}:{last.name}"


def seeded(test):
    """Return a function that draws a round of a test's programs from a seed."""
    return lambda seed: hypothesis.seed(seed)(test)()


def once(test, seed):
    """Draw a round of programs; return an error that was raised, and what was printed of it."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test(seed)
    except Exception as error:  # noqa: BLE001 - reported below
        notes = "\n".join(getattr(error, "__notes__", []))
        return error, f"{notes}\n{printed.getvalue()}"
    return None, ""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", default=list(TESTS))
    options = parser.parse_args()
    # Of the five minutes that hypothesis takes; it has no public name for that.
    engine.MAX_SHRINKING_SECONDS = SHRINKING
    hypothesis.settings.register_profile(
        "fuzz",
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        report_multiple_bugs=False,
        max_examples=ROUND,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("fuzz")
    tests = {kind: seeded(importlib.import_module(TESTS[kind]).FUZZED) for kind in options.kinds}
    if "networks" in tests:
        tests["networks against TensorFlow"] = importlib.import_module(
            TESTS["networks"]
        ).against_tensorflow
    end, seed = time.monotonic() + 60 * options.minutes, options.seed
    found: collections.Counter[str] = collections.Counter()
    while time.monotonic() < end:
        for kind, test in tests.items():
            error, printed = once(test, seed)
            if error is None:
                continue
            where = f"{kind}: {place(error)}"
            found[where] += 1
            if found[where] <= 3:
                print(f"\n=== seed {seed}, {where}\n{error}\n{printed}", flush=True)
                traceback.print_exception(error, limit=-4, file=sys.stdout)
        seed += 1
        print(f"{seed - options.seed} rounds: {dict(counting.totals)}", flush=True)
    print(counting.report())
    for where, count in found.most_common():
        print(f"{count} x {where}")
    print(f"{sum(found.values())} differences")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
