"""Run the examples of Keras 2.3.1 on ksym, and compare what comes of them with a list.

    python tests/keras_examples/run.py [--write] [EXAMPLE ...]

The examples come from Keras's source distribution on PyPI, by pip.  They run unmodified, each in a
process and a folder of its own, on small generated files in the formats of their data sets
(`data.py`), and train for a short time (`shorten.py`).  An example passes that runs to its end with
finite losses which are lower at the end than at the beginning.  `not_passed.txt` lists those that
do not pass and why; the run fails if the list and the facts differ.

EXAMPLE is a name such as mnist_cnn; by default all run.  ``--write`` brings the list up to date,
and writes docs/examples.md: what came of each example the last time it ran here.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import data

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "keras_suite"))

import fetching  # noqa: E402
import listing  # noqa: E402

BUILD = fetching.BUILD / "keras-examples"
EXAMPLES = BUILD / "examples"
PACKAGES = BUILD / f"packages-{fetching.PAIR}"
DATA = BUILD / "datasets"
LIST = HERE / "not_passed.txt"
OUTCOMES = BUILD / "outcomes"
PAGE = ROOT / "docs" / "examples.md"
TIME_LIMIT = 1800  # seconds for an example, the longest of which takes 400 on an idle machine


class Setting(NamedTuple):
    """What an example needs that most do not.

    Attributes:
        arguments: Its command line.
        options: For `shorten.py`.
        images: How many images of MNIST there are to train on.
        after: The example that must run before it in the same folder.
        adversarial: Whether networks train against each other, so that losses need not fall.
    """

    arguments: tuple[str, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})
    images: int = 1200
    after: str | None = None
    adversarial: bool = False


# An epoch of a few batches is not enough where the learning rate is very small, and too much where
# a network is large.
SETTINGS = {
    "addition_rnn": Setting(options={"batches": 1}),
    "antirectifier": Setting(images=60000),
    "cifar10_cnn": Setting(options={"batches": 40}),
    "cifar10_resnet": Setting(options={"batches": 4, "epochs": 2}),
    "class_activation_maps": Setting(("content.png",), {"weights": "ResNet50"}),
    "conv_lstm": Setting(options={"batches": 2, "epochs": 2}),
    "deep_dream": Setting(("content.png", "dream"), {"weights": "InceptionV3"}),
    # Its second training starts from what the first saved after epoch 20; then words get longer.
    "image_ocr": Setting(options={"batches": 1, "epochs": 20, "until": 21}),
    "lstm_seq2seq_restore": Setting(after="lstm_seq2seq"),
    # An epoch, at whose end it draws 400 images, and a batch.
    "mnist_acgan": Setting(options={"own_batches": 10}, images=400, adversarial=True),
    "mnist_denoising_autoencoder": Setting(images=1800),  # it draws 300 of the test images
    "mnist_mlp": Setting(images=60000),
    "neural_doodle": Setting(
        (
            "--nlabels=2",
            "--style-image=style.png",
            "--style-mask=mask.png",
            "--target-mask=mask.png",
            "--target-image-prefix=doodle",
        ),
        {"weights": "VGG19"},
    ),
    "neural_style_transfer": Setting(
        ("content.png", "style.png", "styled", "--iter=2"), {"weights": "VGG19"}
    ),
    "reuters_mlp_relu_vs_selu": Setting(options={"epochs": 40}),
}


class Outcome(NamedTuple):
    """What came of an example."""

    result: listing.Result
    used: fetching.Used
    losses: list[list[float]]


def names() -> list[str]:
    """Return the names of all examples."""
    return sorted(path.stem for path in EXAMPLES.glob("*.py"))


def prepare() -> None:
    """Fetch the examples and the packages they use, and write their data, unless they are there."""
    fetching.fetch_packages(HERE / "requirements.txt", PACKAGES)
    fetching.fetch_keras("examples", EXAMPLES)
    _write(DATA)
    for images in {setting.images for setting in (Setting(), *SETTINGS.values())}:
        _write(_mnist(images), str(images))


def _mnist(images: int) -> Path:
    return BUILD / f"mnist-{images}.npz"


def _write(path: Path, *arguments: str) -> None:
    """Write data unless they are there; in a process of its own, whose memory goes with it."""
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=BUILD) as unfinished:
            new = Path(unfinished) / path.name
            command = [sys.executable, str(HERE / "data.py"), str(new), *arguments]
            subprocess.run(command, check=True)
            new.rename(path)


def _link_data(folder: Path, images: int) -> None:
    folder.mkdir(parents=True)
    for path in DATA.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "mnist.npz").symlink_to(_mnist(images))


def run(name: str) -> Outcome:
    """Run an example, and the one it comes after, in a new folder."""
    setting = SETTINGS.get(name, Setting())
    output = BUILD / "output" / f"{name}.txt"
    with tempfile.TemporaryDirectory() as folder, output.open("w") as stream:
        here = Path(folder)
        data.write_here(here)
        _link_data(here / "home" / "datasets", setting.images)
        if setting.after is not None:
            earlier = SETTINGS.get(setting.after, Setting())
            _start(setting.after, earlier, here, stream).wait(TIME_LIMIT)
        process = _start(name, setting, here, stream)
        used = fetching.wait(process, TIME_LIMIT)
        report = here / "report.json"
        losses = json.loads(report.read_text()) if report.exists() else []
    if not used.finished:
        said = f"over {TIME_LIMIT} s"
    elif process.returncode:
        said = output.read_text().strip().splitlines()[-1]
    else:
        said = complaint(losses, setting)
    return Outcome(listing.Result("failed" if said else "passed", said), used, losses)


def _start(name: str, setting: Setting, here: Path, stream: Any) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "KERAS_BACKEND": "ksym.backend",
        "KERAS_HOME": str(here / "home"),
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (PACKAGES, ROOT))),
    }
    command = [sys.executable, str(HERE / "shorten.py"), json.dumps(dict(setting.options))]
    command += [str(here / "report.json"), str(EXAMPLES / f"{name}.py"), *setting.arguments]
    return subprocess.Popen(
        command, cwd=here, env=environment, stdout=stream, stderr=subprocess.STDOUT
    )


def complaint(losses: list[list[float]], setting: Setting) -> str:
    """Say what is wrong with the losses of an example, nothing if all is well."""
    for number, values in enumerate(losses, 1):
        if not all(map(math.isfinite, values)):
            return f"a loss of model {number} is not finite"
        if not setting.adversarial and len(values) > 1 and values[-1] >= values[0]:
            return f"the loss of model {number} does not fall: {_shown([values])}"
    return ""


HEAD = """# Keras's examples

Written by `tests/keras_examples/run.py --write` from what it found; not to be edited. The examples
of Keras 2.3.1, unmodified, each with one thread, on small generated files in the formats of their
data sets and with a shortened training. Losses are the first and the last of each model that is
trained; time is that of the processor.

| example | outcome | losses | time | memory |
| --- | --- | --- | --- | --- |
"""


def keep(name: str, outcome: Outcome) -> None:
    """Note what came of an example, for the page."""
    OUTCOMES.mkdir(exist_ok=True)
    said = outcome.result.reason or _shown(outcome.losses) or "trains nothing"
    used = f"{outcome.used.processor:.0f} s", f"{outcome.used.memory:.0f} MiB"
    (OUTCOMES / f"{name}.json").write_text(json.dumps([outcome.result.outcome, said, *used]))


def page(entries: Mapping[str, listing.Entry]) -> str:
    """Return the page as Markdown.

    Raises:
        SystemExit: An example has never run here.
    """
    rows = []
    for name in names():
        entry = entries.get(name)
        kept = OUTCOMES / f"{name}.json"
        if entry is not None and entry.outcome == "not run":
            row = ["not run", entry.reason, "-", "-"]
        elif not kept.exists():
            raise SystemExit(f"{name} has not run yet, which the page needs")
        else:
            row = json.loads(kept.read_text())
            row[1] = row[1] if entry is None else entry.reason
        rows.append(f"| `{name}` | " + " | ".join(row) + " |\n")
    return HEAD + "".join(rows)


def _shown(losses: list[list[float]]) -> str:
    shown = [f"{values[0]:.4g} to {values[-1]:.4g}" for values in losses if values]
    rest = [f"and of {len(shown) - 4} more models"] if len(shown) > 4 else []
    return ", ".join(shown[:4] + rest)


def main() -> int:
    """Run examples, print a table, compare with the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("examples", nargs="*", metavar="EXAMPLE")
    parser.add_argument("--write", action="store_true", help="bring list and page up to date")
    options = parser.parse_args()
    prepare()
    (BUILD / "output").mkdir(exist_ok=True)
    entries = listing.read(LIST)
    unknown = set(options.examples) - set(names())
    if unknown:
        parser.error(f"not among Keras's examples: {', '.join(sorted(unknown))}")
    chosen = options.examples or names()
    left_out = [name for name in chosen if name in entries and entries[name].outcome == "not run"]
    results: dict[str, listing.Result] = {}
    start = time.monotonic()
    print(f"{'example':29} outcome     time processor memory  losses", flush=True)
    for name in left_out:
        print(f"{name:29} not run: {entries[name].reason}", flush=True)
    running = [name for name in chosen if name not in left_out]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = {pool.submit(run, name): name for name in running}
        for job in as_completed(jobs):
            name, outcome = jobs[job], job.result()
            results[name] = outcome.result
            keep(name, outcome)
            said = outcome.result.reason or _shown(outcome.losses)
            print(f"{name:29} {outcome.result.outcome:7} {outcome.used}  {said}", flush=True)
    counts = Counter(result.outcome for result in results.values())
    total = f"{counts['passed']} passed, {counts['failed']} failed, {len(left_out)} not run"
    print(f"{total}, {time.monotonic() - start:.0f} s")
    status = listing.settled(LIST, entries, results, set(chosen), anew=options.write)
    if options.write:
        PAGE.write_text(page(listing.read(LIST)))
    return status


if __name__ == "__main__":
    sys.exit(main())
