"""Run Keras's own tests on ksym, and compare what comes of them with a list.

    python tests/keras_suite/run.py [--write] [--keras 2.2.4] [--alone] [FILE ...]

The tests come from Keras's distributions on PyPI, by pip: those of Keras 2 from the source
distribution, those of Keras 3 from the package itself; they and what they need besides
ksym's own environment stay in build/keras-suite.  Each file runs in a process of its own, as many
at once as there are cores, each with one thread: so sums are made in the same order everywhere, and
a run can be repeated to the last digit.  `not_passed.txt` lists the tests that do not pass and why.
The run fails if a listed test passes, or if one that is not listed does not.

FILE is a path inside Keras's tests, such as keras/layers/core_test.py; by default all run.
``--write`` brings the list up to date: known reasons are kept, new ones are pytest's and are to be
edited.  ``--keras`` takes another version of Keras and its tests, which has a list of its own.
``--alone`` takes Keras 3 without TensorFlow and JAX, which some of its tests import.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import fetching
import listing

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TIME_LIMIT = 3600  # seconds for a file


class Suite(NamedTuple):
    """The tests of a version of Keras.

    Attributes:
        version: Which one.
        build: The folder of all that is fetched and made.
        folder: Where the plugin, the list of packages and the list of tests are.
        alone: Whether Keras 3 is there without the libraries that only its tests import.
    """

    version: str
    build: Path
    folder: Path
    alone: bool = False

    @classmethod
    def of(cls, version: str, alone: bool = False) -> Suite:
        """Return the suite of a version."""
        mark = "" if version == fetching.KERAS else f"-{version}"
        third = version.startswith("3.")
        folder = HERE.parent / "keras3_suite" if third else HERE
        return cls(version, fetching.BUILD / f"keras-suite{mark}", folder, alone)

    @property
    def third(self) -> bool:
        """Whether it is a version of Keras 3."""
        return self.folder != HERE

    @property
    def list(self) -> Path:
        """What does not pass, and why."""
        mark = "" if self.third or self.version == fetching.KERAS else f"-{self.version}"
        return self.folder / f"not_passed{mark}.txt"

    @property
    def tests(self) -> Path:
        """The folder of the tests."""
        folder = self.packages if self.third else self.build / "tests"
        return folder.resolve()  # pytest's ids start at the folder, which may be a link

    @property
    def packages(self) -> Path:
        """The folder of what they use besides ksym's environment."""
        return fetching.KERAS3 if self.alone else self.build / f"packages-{fetching.PAIR}"

    @property
    def options(self) -> Sequence[str]:
        """The options of pytest that the versions differ in."""
        return () if self.third else ("-p", "flaky.flaky_pytest_plugin", "--no-flaky-report")

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the environment that the versions differ in."""
        if not self.third:
            return {"KERAS_BACKEND": "ksym.backend"}
        return {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def prepare(self) -> None:
        """Fetch the tests, and the packages they use, unless they are there."""
        required = self.folder / "requirements.txt"
        if self.alone:
            fetching.keras3()
        elif self.third:
            keras = f"keras=={self.version}"
            fetching.fetch_packages(required, self.packages, keras, dependencies=True)
        else:
            others = [] if self.version == fetching.KERAS else [f"keras=={self.version}"]
            fetching.fetch_packages(required, self.packages, *others)
            fetching.fetch_keras("tests", self.tests, self.version)
        (self.build / "output").mkdir(parents=True, exist_ok=True)


OF_OTHERS = tuple(
    f"keras/src/backend/{name}/" for name in ("jax", "openvino", "tensorflow", "torch")
)
"""The folders of tests that are about another backend."""


def test_files(suite: Suite) -> list[str]:
    """Return all files with tests, also those that pytest does not find by their names."""
    found = sorted(
        str(path.relative_to(suite.tests))
        for path in (suite.tests / ("keras/src" if suite.third else "")).rglob("*.py")
        if path.stem.startswith("test_") or path.stem.endswith(("_test", "_tests"))
        if path.stem not in ("test_utils", "test_case")
    )
    return [file for file in found if not file.startswith(OF_OTHERS)]


def run_file(suite: Suite, file: str, skip: list[str]) -> tuple[dict[str, listing.Result], str]:
    """Run a file, return what came of its tests, and its time and memory as text."""
    name = file.removesuffix(".py").replace("/", "-")
    output, report = (suite.build / "output" / f"{name}.{kind}" for kind in ("txt", "jsonl"))
    report.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as home, output.open("w") as stream:
        paths = [suite.packages, *{suite.folder: 0, HERE: 0}, ROOT]
        environment = {
            **os.environ,
            **suite.environment,
            "KERAS_HOME": home,
            "KERAS_SUITE_REPORT": str(report),
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        }
        command = [sys.executable, "-m", "pytest", "-p", "plugin", *suite.options]
        command += ["-p", "no:cacheprovider", "--rootdir", str(suite.tests)]
        command += ["-c", os.devnull, "--durations=5", "--tb=short"]
        command += [f"--deselect={identity}" for identity in skip]
        process = subprocess.Popen(
            [*command, file],
            cwd=suite.tests,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
        used = fetching.wait(process, TIME_LIMIT)
    results = {}
    if report.exists():
        for line in report.read_text().splitlines():
            item = json.loads(line)
            results[item["id"]] = listing.Result(item["outcome"], item["reason"])
    # A plugin or a Keras that cannot be imported also ends pytest with 1, before any test.
    explained = any(result.outcome == "failed" for result in results.values())
    if not used.finished or process.returncode not in ((0, 1, 2, 5) if explained else (0, 5)):
        said = f"exit status {process.returncode}" if used.finished else f"over {TIME_LIMIT} s"
        results[file] = listing.Result("failed", f"the process ended early: {said}")
    return results, str(used)


def main() -> int:
    """Run files, print totals, compare with the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--write", action="store_true", help="bring the list up to date")
    parser.add_argument("--keras", default=fetching.KERAS, metavar="VERSION")
    parser.add_argument("--alone", action="store_true", help="without TensorFlow and JAX")
    options = parser.parse_args()
    suite = Suite.of(options.keras, options.alone)
    suite.prepare()
    entries = listing.read(suite.list)
    unknown = set(options.files) - set(test_files(suite))
    if unknown:
        parser.error(f"not among Keras's tests: {', '.join(sorted(unknown))}")
    files = options.files or test_files(suite)
    left_out = [name for name, entry in entries.items() if entry.outcome == "not run"]
    results: dict[str, listing.Result] = {}
    start = time.monotonic()
    print(f"{'file':52} passed failed skipped    time processor  memory", flush=True)

    def run(file: str) -> tuple[dict[str, listing.Result], str]:
        if file in left_out:
            return {}, f"not run: {entries[file].reason}"
        inside = [name for name in left_out if name.startswith(f"{file}::")]
        found, used = run_file(suite, file, inside)
        return found, f"{_counts(found)} {used}"

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for file, (found, said) in zip(files, pool.map(run, files), strict=True):
            results.update(found)
            print(f"{file:52} {said}", flush=True)
    seconds = time.monotonic() - start
    print(f"{'total':52} {_counts(results)} {seconds:6.0f} s", flush=True)
    return listing.settled(suite.list, entries, results, set(files), anew=options.write)


def _counts(results: dict[str, listing.Result]) -> str:
    count = Counter(result.outcome for result in results.values())
    return f"{count['passed']:6} {count['failed']:6} {count['skipped']:7}"


if __name__ == "__main__":
    sys.exit(main())
