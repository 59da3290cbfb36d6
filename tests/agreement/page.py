"""docs/compatibility.md, written from what the comparison found and from the declared cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import exchange
import functions
import layers
import models

HEAD = """# Compatibility

Written by `tests/agreement/run.py --write` from what it found; not to be edited. Keras 2.3.1 on
ksym is compared with the same Keras on TensorFlow 2.15, and its models with the tf.keras of that
TensorFlow too, in float64 and in float32: **yes** says that values differ by at most 1e-5 of the
largest one. What is compared is declared in `tests/agreement`: functions in `functions.py`, layers
in `layers.py`, models in `models.py`. Keras's own tests have a list of their own,
`tests/keras_suite/not_passed.txt`, and its examples a page, [examples.md](examples.md).
"""

FUNCTIONS = """## Functions of the backend

*Gradients* are those of all operands that have some; a dash means whole numbers or truth values. In
the column *unknown shapes*, the function was called on tensors of which only the number of axes was
known.
"""

LAYERS = """## Layers

*Training* compares losses and weights after three steps of stochastic gradient descent; *saved*,
what a model predicts after it was saved and loaded.
"""

MODELS = """## Models

*Training* compares losses and weights after ten steps.
"""

FILES = """## Files

Models of `files.py`, saved with their optimizer by Keras on one backend and read on another:
predictions, and losses of three more steps, are those of the model that was saved.
"""

ROUTES = ("ksym to tensorflow", "tensorflow to ksym", "ksym to theano", "theano to ksym")

# By kind and case, the groups that agree everywhere they were compared, or do not somewhere.
Verdicts = Mapping[tuple[str, str, str], bool]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Return the lines of a table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def words(verdicts: Verdicts, kind: str, case: str, *groups: str) -> list[str]:
    """Return a word for each group of a case."""
    said = {True: "yes", False: "**no**", None: "-"}
    return [said[verdicts.get((kind, case, group))] for group in groups]


def page(verdicts: Verdicts) -> str:
    """Return the page as Markdown."""
    rows = []
    for name, call in sorted(functions.CALLS.items()):
        forward, gradients, unknown = words(
            verdicts, "functions", name, "forward", "gradients", "unknown"
        )
        rows.append([f"`{name}`", forward, gradients, call.needs_shapes or unknown])
    lines = [HEAD, FUNCTIONS, *table(["function", "value", "gradients", "unknown shapes"], rows)]
    lines += ["", "Functions that compute no tensor from tensors, and where they are tested:", ""]
    others = ([f"`{name}`", where] for name, where in sorted(functions.OTHERS.items()))
    lines += [*table(["function", "what it does: its tests"], others), "", LAYERS]
    groups = ("forward", "gradients", "training", "saved")
    rows = [
        [f"`{name}`", *words(verdicts, "layers", name, *groups)] for name in sorted(layers.CASES)
    ]
    lines += table(["layer", "value", "gradients", "training", "saved"], rows)
    lines += ["", "Names in `keras.layers` that are not here:", ""]
    lines += [f"- `{name}`: {reason}" for name, reason in sorted(layers.OTHERS.items())]
    rows = []
    for name, case in models.CASES.items():
        notes = [f"not against {side}: {why}" for side, why in case.apart.items()]
        notes += [
            f"{side}: {weight} is not compared: {why}"
            for side, (weight, why) in case.without.items()
        ]
        rows.append([name, *words(verdicts, "models", name, *groups[:3]), "; ".join(notes)])
    lines += ["", MODELS, *table(["model", "value", "gradients", "training", "but"], rows)]
    rows = []
    for case, apart in exchange.CASES.items():
        notes = [f"not on {side}: {why}" for side, why in apart.items()]
        rows.append([case, *words(verdicts, "files", case, *ROUTES), "; ".join(notes)])
    lines += ["", FILES, *table(["case", *ROUTES, "but"], rows)]
    return "\n".join(lines) + "\n"
