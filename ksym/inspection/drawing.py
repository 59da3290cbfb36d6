"""Drawing graphs: as a page for the browser, and as pictures by Graphviz.

The page has Graphviz inside (viz-js, compiled to WebAssembly), so it needs nothing else, not even
a network.  Pictures and ``.dot`` files are made by pydot and the program ``dot``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ksym.errors import GraphError, MissingPackageError
from ksym.extras import require
from ksym.graph import Tensor
from ksym.inspection.page import page_of
from ksym.inspection.picture import Box, Drawn, Picture, picture_of
from ksym.inspection.subject import subject_of
from ksym.output import path_text, write_file
from ksym.shapes import Shape

FOLDED_FROM = 150
"""The number of nodes from which on a picture has a box for each scope, unless the user says."""

HUB = 16
"""The number of neighbours from which on the edges of a box or a leaf are not drawn: those of an
optimizer, which is linked with every layer, would hide the network, and take Graphviz minutes."""

SUFFIXES = (".html", ".svg", ".png", ".pdf", ".dot")


def draw(
    what: Any,
    path: str | os.PathLike[str],
    *,
    stage: Literal["built", "compiled"] = "built",
    shapes: Mapping[Tensor, Shape] | None = None,
    fold: bool | None = None,
) -> None:
    """Draw a graph: as a page to look around in, or as a picture.

    A page (``.html``) is one file that needs nothing else.  It has a box for each name scope, which
    is a layer with Keras, and opens and closes them; it pans, zooms and searches; a click shows
    shape, dtype, attributes, the user's line, work, and time.

    Args:
        what: A tensor, an update, a list or mapping of these, a `ksym.function`, a function of
            Keras's backend, or a Keras model.
        path: The file to write: ``.html``; ``.svg``, ``.png``, ``.pdf`` or ``.dot``, which need
            ``pip install 'ksym[draw]'`` and, but for ``.dot``, Graphviz.
        stage: ``"built"`` for the graph as the user made it; ``"compiled"`` for the one that runs,
            with the times of a function that is profiled.
        shapes: The shapes of inputs to compile for.  By default those of the function's last call.
        fold: Whether scopes are drawn as one box each; by default if there are many nodes.  In a
            page, whether all boxes are closed at first.

    Raises:
        ArgumentError: The path is none, or `shapes` is no mapping to shapes.
        GraphError: `what` is no graph, there is no such kind of file, or it can be compiled for no
            shapes.
        InputError: `shapes` names what is no input, or a shape does not fit.
        MissingPackageError: pydot or Graphviz is not installed.
        FileError: The file cannot be written.

    >>> import ksym, tempfile
    >>> x = ksym.placeholder((2,), name="x")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ksym.draw(ksym.tanh(x) * x, f"{folder}/graph.html")
    """
    target = Path(path_text(path))
    if target.suffix not in SUFFIXES:
        raise GraphError(
            f"{target.name!r} is no kind of file that can be drawn",
            remedy=f"end its name in {', '.join(SUFFIXES)}",
        )
    picture = picture_of(subject_of(what), stage, shapes)
    folded = len(picture.nodes) > FOLDED_FROM if fold is None else fold
    if target.suffix == ".html":
        made = page_of(picture, folded).encode()
    else:
        made = _rendered(_dot(picture, folded), target.suffix[1:])
    write_file(target, made)


def _rendered(dot: Any, kind: str) -> bytes:
    """Return a picture, or the text of a ``.dot`` file.

    Raises:
        MissingPackageError: The program ``dot`` is not installed.
        GraphError: It fails.
    """
    if kind == "dot":
        return str(dot.to_string()).encode()
    try:
        return bytes(dot.create(format=kind))
    except FileNotFoundError as error:
        raise MissingPackageError(
            "Graphviz's program dot is not installed",
            remedy="install it (apt install graphviz), or draw an .html, which needs nothing",
        ) from error
    except AssertionError as error:
        raise GraphError(f"Graphviz failed: {error}", remedy="draw an .html, or a .dot") from error


COLOURS = {
    "leaf": "#e8e8e8",
    "variable": "#d5ead8",
    "forward": "#dbe7f6",
    "gradient": "#f8e3cc",
    "loop": "#e6dcf5",
}


def _dot(picture: Picture, folded: bool) -> Any:
    """Return a picture as a graph of pydot's."""
    pydot = require("pydot", "draw", "a picture of a graph")
    dot = pydot.Dot(graph_type="digraph", rankdir="TB", ranksep="0.35", nodesep="0.25")
    dot.set_node_defaults(fontname="sans-serif", fontsize="11", margin="0.14,0.05", color="#667788")
    dot.set_edge_defaults(color="#667788", arrowsize="0.6")
    clusters: dict[int, Any] = {}

    def inside(path: tuple[int, ...]) -> Any:
        current = dot
        for number in path:
            if number not in clusters:
                made = clusters[number] = pydot.Cluster(
                    str(number),
                    label=_quoted(picture.boxes[number].name),
                    style="rounded",
                    color="#8899bb",
                    labeljust="l",
                    fontname="sans-serif",
                )
                current.add_subgraph(made)
            current = clusters[number]
        return current

    names = [f"g{n.path[0]}" if folded and n.path else f"n{i}" for i, n in enumerate(picture.nodes)]
    edges = {
        (names[e.source], names[e.target]): e.dashed
        for e in picture.edges
        if names[e.source] != names[e.target]
    }
    neighbours = Counter(end for pair in {frozenset(pair) for pair in edges} for end in pair)
    kinds = {f"n{i}": node.kind for i, node in enumerate(picture.nodes)}
    hubs = {
        name
        for name, count in neighbours.items()
        if count > HUB and kinds.get(name, "leaf") == "leaf"  # a box has no kind
    }
    done: set[str] = set()
    for name, node in zip(names, picture.nodes, strict=True):
        if name in done:
            continue
        done.add(name)
        linked = neighbours[name] if name in hubs else 0
        if name.startswith("g"):
            dot.add_node(pydot.Node(name, **_box_attributes(picture.boxes[node.path[0]], linked)))
        else:
            inside(node.path).add_node(pydot.Node(name, **_node_attributes(node, linked)))
    for tail, head, style in _edges(edges, hubs):
        dot.add_edge(pydot.Edge(tail, head, **style))
    return dot


def _edges(
    edges: Mapping[tuple[str, str], bool], hubs: Collection[str]
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the edges to draw: of two that lead back and forth one, of a hub none."""
    for (tail, head), dashed in edges.items():
        if tail in hubs or head in hubs:
            continue
        style = {"style": "dashed"} if dashed else {}
        if (head, tail) in edges:
            if int(tail[1:]) > int(head[1:]):
                continue
            style["dir"] = "both"
        yield tail, head, style


def _box_attributes(box: Box, linked: int) -> dict[str, str]:
    colour = COLOURS["gradient" if box.gradient else "forward"]
    hub = f"\nlinked with {linked} others" if linked else ""
    label = _quoted(f"{box.name}\n{box.count} nodes{hub}")
    return {"label": label, "shape": "box3d", "style": "filled", "fillcolor": colour}


def _node_attributes(node: Drawn, linked: int) -> dict[str, str]:
    shape = {"variable": "cylinder", "leaf": "ellipse"}.get(node.kind, "box")
    style = "filled" if node.kind in ("variable", "leaf") else '"filled,rounded"'
    lines = [node.label, *node.specs[:2], *(["..."] if len(node.specs) > 2 else [])]
    if node.share is not None:
        lines.append(f"{node.share:.1%} of the time")
    if linked:
        lines.append(f"linked with {linked} others")
    return {
        "label": _quoted("\n".join(lines)),
        "shape": shape,
        "style": style,
        "fillcolor": COLOURS[node.kind],
        "tooltip": _quoted(node.origin),
    }


def _quoted(text: str) -> str:
    """Return a text as a quoted string of the DOT language."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
