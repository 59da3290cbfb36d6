"""Draws the pictures of the pages by `ksym.draw`: `pictures.py FOLDER` writes the ``.svg`` files.

``docs/pictures`` has them, so that the pages have pictures in the repository too; drawing them
needs Graphviz.  The site has each graph also as a page to look around in, which `make docs` draws.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ksym

ROOT = Path(__file__).resolve().parents[1]


def training_step() -> Any:
    """Return a function that trains a network of two layers."""
    x = ksym.placeholder((None, 4), name="x")
    y = ksym.placeholder((None,), "int64", name="y")
    rng = np.random.default_rng(0)
    hidden = x
    weights = []
    for name, shape in (("hidden", (4, 16)), ("head", (16, 3))):
        with ksym.name_scope(name):
            w = ksym.Variable(rng.normal(size=shape).astype("float32"), name="w")
            hidden = hidden @ w
            hidden = ksym.tanh(hidden) if name == "hidden" else hidden
        weights.append(w)
    with ksym.name_scope("loss"):
        loss = ksym.mean(ksym.sparse_softmax_cross_entropy(y, hidden))
    with ksym.name_scope("update"):
        gradients = ksym.gradients(loss, weights)
        updates = [w.assign_sub(0.1 * g) for w, g in zip(weights, gradients, strict=True)]
    return ksym.function([x, y], loss, updates, name="train")


PICTURES: dict[str, Callable[[], Any]] = {"training_step": training_step}
"""The graph of each picture, by the name of its files."""


def draw(folder: Path, suffix: str) -> None:
    """Draw all pictures into a folder, which is made, with paths as in the repository."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PICTURES.items():
        file = folder / f"{name}{suffix}"
        ksym.draw(make(), file, fold=suffix == ".svg")
        file.write_text(file.read_text("utf-8").replace(f"{ROOT}/", ""), "utf-8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), ".svg")
