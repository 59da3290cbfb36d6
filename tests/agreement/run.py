"""Compare Keras on ksym with Keras on TensorFlow and with tf.keras.

    python tests/agreement/run.py [--write] [functions] [layers] [models] [files]

Three Kerases compute the same, each in a process of its own: Keras 2.3.1 on ksym, the same Keras on
TensorFlow 2.15, and the tf.keras of that TensorFlow.  TensorFlow is installed by pip into an
environment in build/reference.  Compared are all functions of the backend (`functions.py`), all
layers (`layers.py`) and some forty small models (`models.py`): values, gradients, losses and
weights after some steps of training, in float64 and float32.  Models saved by one are read by the
others, and by Keras 2.3.1 on Theano 1.0.5, whose environment is that of the benchmarks
(`exchange.py`).

``--write`` writes docs/compatibility.md from what was found; without it, the run fails where the
page says something else.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import compare
import exchange
import page
from environments import BUILD, ROOT, prepare, start

PAGE = ROOT / "docs" / "compatibility.md"
# In float32 the difference of two references is no smaller than that of ksym from one of them.
RUNS = [
    ("tensorflow", "float64"),
    ("tensorflow", "float32"),
    ("tf.keras", "float64"),
    ("ksym", "float64"),
    ("ksym", "float32"),
]


def main() -> int:
    """Compute, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    everything = [*compare.CASES, "files"]
    parser.add_argument("kinds", nargs="*", default=everything, help="what to compare")
    options = parser.parse_args()
    began = time.monotonic()
    prepare()
    installed = time.monotonic()
    (BUILD / "home").mkdir(exist_ok=True)

    def compute(side: str, floatx: str) -> tuple[tuple[str, str], compare.Found]:
        output = BUILD / f"{side}-{floatx}.npz"
        start(side, "side.py", side, floatx, str(output), *options.kinds)
        return (side, floatx), compare.read(output)

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(compute, side, floatx) for side, floatx in RUNS]
        found = dict(job.result() for job in jobs)
    failures, verdicts = compare.tables(found)
    if "files" in options.kinds:
        exchanged, different = exchange.run()
        verdicts |= exchanged
        failures += different
    seconds = time.monotonic() - installed
    print(f"\ninstalled in {installed - began:.0f} s, computed in {seconds:.0f} s")
    if len(options.kinds) == len(everything):
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
